package sim

import (
	"math/big"

	"github.com/holdfast/holdfast/internal/inventory"
)

// decision is what a command must come to at one point of history. Without events it has no effect.
type decision struct {
	outcome inventory.Outcome
	events  []*inventory.Event
	panics  bool
}

func refused(code inventory.Code, current *inventory.Current) decision {
	return decision{outcome: inventory.Outcome{Refusal: &inventory.Refusal{Code: code, Current: current}}}
}

// request decides a request that is no group, with its key.
func (m *model) request(r *inventory.Request) decision {
	if r.Receipt != nil {
		if known, used := m.receipts[r.Receipt.Key]; used {
			return replayed(known, r.Receipt)
		}
	}
	d := m.command(r)
	for _, e := range d.events {
		e.Actor = r.Actor
	}
	return d
}

func replayed(known receipt, r *inventory.ReceiptID) decision {
	if known.fingerprint != r.Fingerprint {
		return refused(inventory.RefusedIdempotencyKeyReused, nil)
	}
	d := decision{outcome: known.outcome}
	d.outcome.Replayed = true
	return d
}

func (m *model) command(r *inventory.Request) decision {
	switch c := r.Command.(type) {
	case *inventory.CreateProduct:
		return m.create(c, r.Salt)
	case *inventory.UpdateProduct:
		return m.update(c)
	case *inventory.Adjust:
		return m.adjust(c, r.Salt)
	case *inventory.Reserve:
		return m.reserve(c, r.Salt)
	case *inventory.Cancel:
		return m.cancel(c)
	case *inventory.Extend:
		return m.extend(c)
	case *inventory.Confirm:
		return m.confirm(c, r.Salt)
	case *inventory.Fulfill:
		return m.endOrder(c.ID, inventory.OrderFulfilled, "")
	case *inventory.CancelOrder:
		return m.endOrder(c.ID, inventory.OrderCancelled, c.Reason)
	}
	return decision{panics: true}
}

func (m *model) create(c *inventory.CreateProduct, salt uint32) decision {
	if m.products[c.ID] != nil {
		return refused(inventory.RefusedProductExists, nil)
	}
	e := m.event(inventory.EventProductCreated)
	p := &inventory.Product{
		ID: c.ID, Name: c.Name, Price: c.Price, Metadata: c.Metadata, Version: 1,
		CreatedAt: m.now, UpdatedAt: m.now, Seq: e.Seq,
	}
	if p.ID == "" {
		p.ID = inventory.NewID(m.now, e.Seq, salt).Text(inventory.ProductPrefix)
	}
	p.Put(inventory.Stock{Location: inventory.MainLocation, Seq: e.Seq})
	units := inventory.Buckets{Available: c.TotalStock}
	p.Put(inventory.Stock{Location: c.Location, Buckets: units, Seq: e.Seq})
	if c.TotalStock > 0 {
		key := inventory.StockKey{ProductID: p.ID, Location: c.Location}
		e.Movements = []inventory.Movement{{StockKey: key, Delta: units, After: units}}
	}
	e.Product = p
	return decision{
		outcome: inventory.Outcome{Created: true, Product: p, Seq: e.Seq}, events: []*inventory.Event{e},
	}
}

// update knows the changes that the simulation draws: a name, an amount, and metadata that is set.
func (m *model) update(c *inventory.UpdateProduct) decision {
	p := m.products[c.ID]
	switch {
	case p == nil:
		return refused(inventory.RefusedProductNotFound, nil)
	case c.IfMatch != nil && c.IfMatch[0] != p.LastSeq():
		return refused(inventory.RefusedPreconditionFailed, &inventory.Current{Version: p.Version})
	case c.Version != 0 && c.Version != p.Version:
		return refused(inventory.RefusedVersionMismatch, &inventory.Current{Version: p.Version})
	case *c.Name == p.Name && *c.Amount == p.Price.Amount:
		return decision{outcome: inventory.Outcome{Product: p, Seq: p.LastSeq()}}
	}
	e := m.event(inventory.EventProductUpdated)
	changed := p.Clone()
	changed.Name, changed.Price.Amount = *c.Name, *c.Amount
	changed.Version++
	changed.UpdatedAt, changed.Seq = m.now, e.Seq
	e.Product = changed
	return decision{outcome: inventory.Outcome{Product: changed, Seq: e.Seq}, events: []*inventory.Event{e}}
}

func (m *model) adjust(c *inventory.Adjust, salt uint32) decision {
	p := m.products[c.ProductID]
	key := inventory.StockKey{ProductID: c.ProductID, Location: c.Location}
	switch {
	case p == nil:
		return refused(inventory.RefusedProductNotFound, nil)
	case c.Delta > 0 && p.Totals().Total()+c.Delta > inventory.MaxStock:
		return refused(inventory.RefusedStockLimit, nil)
	case c.Delta < 0 && m.buckets(key).Available+m.overdue(key) < -c.Delta:
		d := refused(inventory.RefusedInsufficientStock, nil)
		d.outcome.Refusal.Shortages = []inventory.Shortage{m.shortage(key, -c.Delta)}
		return d
	}
	e := m.event(inventory.EventStockAdjusted)
	e.Adjustment = &inventory.Adjustment{
		ID: inventory.NewID(m.now, e.Seq, salt), ProductID: c.ProductID, Location: c.Location, Delta: c.Delta,
		Reason: c.Reason, Reference: c.Reference, CreatedAt: m.now,
	}
	units := inventory.Buckets{Available: c.Delta}
	after := m.buckets(key).Add(units)
	changed := p.Clone()
	changed.Put(inventory.Stock{Location: c.Location, Buckets: after, Seq: e.Seq})
	e.Product = changed
	e.Movements = []inventory.Movement{{StockKey: key, Delta: units, After: after}}
	outcome := inventory.Outcome{Created: true, Adjustment: e.Adjustment, Product: changed, Seq: e.Seq}
	return decision{outcome: outcome, events: []*inventory.Event{e}}
}

// shortage is a row as it is once its overdue holds are expired: they count no more (I8).
func (m *model) shortage(key inventory.StockKey, requested int64) inventory.Shortage {
	b, overdue := m.buckets(key), m.overdue(key)
	return inventory.Shortage{
		StockKey: key, Requested: requested, Available: b.Available + overdue, Reserved: b.Reserved - overdue,
	}
}

func (m *model) reserve(c *inventory.Reserve, salt uint32) decision {
	if c.Lines[0].Quantity < 0 {
		return decision{panics: true}
	}
	lines, d := m.priced(c)
	if d != nil {
		return *d
	}
	total, ok := sum(lines)
	if !ok {
		return refused(inventory.RefusedTotalTooLarge, nil)
	}
	var shortages []inventory.Shortage
	moves := m.movements(lines, inventory.Buckets{Available: -1, Reserved: 1})
	for i := range moves {
		wanted := moves[i].Delta.Reserved
		if m.buckets(moves[i].StockKey).Available+m.overdue(moves[i].StockKey) < wanted {
			shortages = append(shortages, m.shortage(moves[i].StockKey, wanted))
		}
	}
	if shortages != nil {
		d := refused(inventory.RefusedInsufficientStock, nil)
		d.outcome.Refusal.Shortages = shortages
		return d
	}
	e := m.event(inventory.EventReservationCreated)
	e.Reservation = &inventory.Reservation{
		ID: inventory.NewID(m.now, e.Seq, salt), Status: inventory.ReservationActive, Lines: lines, Total: total,
		CustomerID: c.CustomerID, Metadata: c.Metadata, CreatedAt: m.now, UpdatedAt: m.now,
		ExpiresAt: m.now + inventory.Time(c.TTL), Version: 1, Seq: e.Seq,
	}
	e.Movements = moves
	return decision{
		outcome: inventory.Outcome{Created: true, Reservation: e.Reservation, Seq: e.Seq},
		events:  []*inventory.Event{e},
	}
}

// priced gives each line the price of the caller or else that of the catalogue.
func (m *model) priced(c *inventory.Reserve) (lines []inventory.Line, refusal *decision) {
	var missing, mixed []int
	for i, l := range c.Lines {
		line := inventory.Line{ProductID: l.ProductID, Location: l.Location, Quantity: l.Quantity}
		if p := m.products[l.ProductID]; p != nil {
			line.UnitPrice = p.Price
		} else {
			missing = append(missing, i)
		}
		if l.UnitPrice != nil {
			line.UnitPrice = *l.UnitPrice
		}
		lines = append(lines, line)
		if line.UnitPrice.Currency != lines[0].UnitPrice.Currency {
			mixed = append(mixed, i)
		}
	}
	d := refused(inventory.RefusedProductNotFound, nil)
	d.outcome.Refusal.Lines = missing
	if missing == nil {
		d.outcome.Refusal.Code, d.outcome.Refusal.Lines = inventory.RefusedMixedCurrencies, mixed
	}
	if missing != nil || mixed != nil {
		return nil, &d
	}
	return lines, nil
}

func sum(lines []inventory.Line) (inventory.Money, bool) {
	total := new(big.Int)
	for _, l := range lines {
		total.Add(total, new(big.Int).Mul(big.NewInt(l.Quantity), big.NewInt(l.UnitPrice.Amount)))
	}
	money := inventory.Money{Amount: total.Int64(), Currency: lines[0].UnitPrice.Currency}
	return money, total.Cmp(big.NewInt(1<<53-1)) <= 0
}

// active is a reservation that may still be turned, or the refusal of one that may not.
func (m *model) active(id inventory.ID) (*inventory.Reservation, decision) {
	r := m.reservations[id]
	if r == nil {
		return nil, refused(inventory.RefusedReservationNotFound, nil)
	}
	if m.isOverdue(r) {
		r = m.expired(r)
	}
	code := map[inventory.ReservationStatus]inventory.Code{
		inventory.ReservationExpired:   inventory.RefusedReservationExpired,
		inventory.ReservationCancelled: inventory.RefusedReservationCancelled,
		inventory.ReservationConfirmed: inventory.RefusedReservationConfirmed,
	}[r.Status]
	return r, refused(code, stateOf(r))
}

func stateOf(r *inventory.Reservation) *inventory.Current {
	return &inventory.Current{
		Status: r.Status.String(), ExpiresAt: r.ExpiresAt, EndedAt: r.EndedAt, OrderID: r.OrderID,
	}
}

func (m *model) cancel(c *inventory.Cancel) decision {
	r, refusal := m.active(c.ID)
	switch {
	case r == nil || r.Status == inventory.ReservationExpired || r.Status == inventory.ReservationConfirmed:
		return refusal
	case r.Status == inventory.ReservationCancelled:
		return decision{outcome: inventory.Outcome{Reservation: r, Seq: r.Seq}}
	}
	e := m.turned(r, inventory.EventReservationCancelled, inventory.ReservationCancelled)
	e.Reservation.CancelReason = c.Reason
	e.Movements = m.movements(r.Lines, inventory.Buckets{Available: 1, Reserved: -1})
	return decision{
		outcome: inventory.Outcome{Reservation: e.Reservation, Seq: e.Seq}, events: []*inventory.Event{e},
	}
}

// turned begins the event that ends an active reservation now.
func (m *model) turned(
	r *inventory.Reservation, of inventory.EventType, status inventory.ReservationStatus,
) *inventory.Event {
	e := m.event(of)
	ended := *r
	ended.Status, ended.EndedAt, ended.UpdatedAt, ended.Seq = status, m.now, m.now, e.Seq
	ended.Version++
	e.Reservation = &ended
	return e
}

func (m *model) extend(c *inventory.Extend) decision {
	r, refusal := m.active(c.ID)
	if r == nil || r.Status != inventory.ReservationActive {
		return refusal
	}
	deadline := m.now + inventory.Time(c.TTL)
	switch {
	case deadline <= r.ExpiresAt:
		return decision{outcome: inventory.Outcome{Reservation: r, Seq: r.Seq}}
	case deadline > r.CreatedAt+inventory.Time(c.MaxHold):
		return refused(inventory.RefusedHoldLimitReached, stateOf(r))
	}
	e := m.event(inventory.EventReservationExtended)
	extended := *r
	extended.ExpiresAt, extended.UpdatedAt, extended.Seq = deadline, m.now, e.Seq
	extended.Version++
	e.Reservation = &extended
	return decision{outcome: inventory.Outcome{Reservation: &extended, Seq: e.Seq}, events: []*inventory.Event{e}}
}

func (m *model) confirm(c *inventory.Confirm, salt uint32) decision {
	r, refusal := m.active(c.ReservationID)
	switch {
	case r == nil || r.Status == inventory.ReservationExpired || r.Status == inventory.ReservationCancelled:
		return refusal
	case r.Status == inventory.ReservationConfirmed:
		return m.confirmAgain(c, r)
	}
	e := m.turned(r, inventory.EventReservationConfirmed, inventory.ReservationConfirmed)
	e.Reservation.OrderID = inventory.NewID(m.now, e.Seq+1, salt)
	e.Movements = m.movements(r.Lines, inventory.Buckets{Reserved: -1, Committed: 1})
	created := m.event(inventory.EventOrderCreated)
	created.Seq++
	created.Order = &inventory.Order{
		ID: e.Reservation.OrderID, ReservationID: r.ID, Reference: c.Reference, Status: inventory.OrderConfirmed,
		Lines: r.Lines, Total: r.Total, CustomerID: r.CustomerID, Metadata: c.Metadata,
		CreatedAt: m.now, UpdatedAt: m.now, Version: 1, Seq: created.Seq,
	}
	return decision{
		outcome: inventory.Outcome{Created: true, Order: created.Order, Seq: created.Seq},
		events:  []*inventory.Event{e, created},
	}
}

// confirmAgain gives the one order that there is (I4).
func (m *model) confirmAgain(c *inventory.Confirm, r *inventory.Reservation) decision {
	o := m.orders[r.OrderID]
	switch {
	case o.Status == inventory.OrderCancelled:
		return refused(inventory.RefusedOrderCancelled, stateOf(r))
	case c.Reference != "" && o.Reference != "" && c.Reference != o.Reference:
		return refused(inventory.RefusedReservationConfirmed, stateOf(r))
	}
	return decision{outcome: inventory.Outcome{Order: o, Seq: o.Seq}}
}

func (m *model) endOrder(id inventory.ID, status inventory.OrderStatus, reason string) decision {
	o := m.orders[id]
	switch {
	case o == nil:
		return refused(inventory.RefusedOrderNotFound, nil)
	case o.Status == status:
		return decision{outcome: inventory.Outcome{Order: o, Seq: o.Seq}}
	case o.Status != inventory.OrderConfirmed:
		return refusedOrder(o)
	}
	ended := *o
	ended.Status, ended.UpdatedAt, ended.CancelReason, ended.Seq = status, m.now, reason, m.seq+1
	ended.Version++
	e, per := m.event(inventory.EventOrderFulfilled), inventory.Buckets{Committed: -1}
	if status == inventory.OrderCancelled {
		e, per = m.event(inventory.EventOrderCancelled), inventory.Buckets{Available: 1, Committed: -1}
		ended.CancelledAt = m.now
	} else {
		ended.FulfilledAt = m.now
	}
	e.Order, e.Movements = &ended, m.movements(o.Lines, per)
	return decision{outcome: inventory.Outcome{Order: &ended, Seq: e.Seq}, events: []*inventory.Event{e}}
}

func refusedOrder(o *inventory.Order) decision {
	current := &inventory.Current{Status: o.Status.String(), EndedAt: o.FulfilledAt, OrderID: o.ID}
	if o.Status == inventory.OrderCancelled {
		current.EndedAt = o.CancelledAt
		return refused(inventory.RefusedOrderCancelled, current)
	}
	return refused(inventory.RefusedOrderFulfilled, current)
}
