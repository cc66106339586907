package inventory

import (
	"fmt"
	"runtime/debug"
)

// State is the rows that a batch works on, as the store loaded them. Decide changes it.
type State struct {
	Now          Time  // the batch's one clock reading
	Seq          int64 // of the last event before the batch
	Products     map[string]*Product
	Reservations map[ID]*Reservation
	Orders       map[ID]*Order
	Receipts     map[[16]byte]*Receipt
	// Overdue are ACTIVE reservations past their deadline, loaded with the rows they hold, oldest deadline first.
	Overdue map[StockKey][]ID
	// MoreOverdue marks the stock rows that have more of them than were loaded.
	MoreOverdue map[StockKey]bool
}

// NewState makes an empty state for a store to load.
func NewState(now Time, seq int64) *State {
	return &State{
		Now: now, Seq: seq,
		Products:     map[string]*Product{},
		Reservations: map[ID]*Reservation{},
		Orders:       map[ID]*Order{},
		Receipts:     map[[16]byte]*Receipt{},
		Overdue:      map[StockKey][]ID{},
		MoreOverdue:  map[StockKey]bool{},
	}
}

// Stock finds a stock row among the loaded ones, or nil.
func (s *State) Stock(key StockKey) *Stock {
	if p := s.Products[key.ProductID]; p != nil {
		return p.At(key.Location)
	}
	return nil
}

// Change is a row before and after a batch. Before is nil for a new row.
type Change[T any] struct{ Before, After *T }

// StockChange is a stock row before and after a batch.
type StockChange struct {
	StockKey
	Change[Stock]
}

// Changes is what a batch writes, in one transaction: the last state of each row, the receipts and the events.
type Changes struct {
	Products     []Change[Product] // the catalogue part; Stock is to be ignored
	Stock        []StockChange
	Reservations []Change[Reservation]
	Orders       []Change[Order]
	Receipts     []*Receipt
	Events       []byte // in sequence order, for [DecodeEvents]
	EventCount   int
	Tally        Tally
}

// Empty reports whether there is nothing to write.
func (c *Changes) Empty() bool { return c.EventCount == 0 && len(c.Receipts) == 0 }

// Poison is the error of a batch in which one command panicked. Nothing of the batch may be written.
type Poison struct {
	Index int // of the request
	Value any // of the panic
	Stack []byte
}

func (p *Poison) Error() string {
	return fmt.Sprintf("deciding command %d: panic: %v", p.Index, p.Value)
}

// Decide runs the requests in order on the rows of state and returns an outcome for each, with what has to be written. A refused
// request leaves no trace on its neighbours (I10), except for expiries that had fallen due: they are time's effect and stand.
//
// The error is a [Poison] or nil. After an error the state is spoilt: load it anew, and decide without the poisonous request.
func Decide(state *State, requests []*Request) (outcomes []Outcome, changes *Changes, err error) {
	b := &batch{State: state, seq: state.Seq}
	index := 0
	defer func() {
		if value := recover(); value != nil {
			outcomes, changes, err = nil, nil, &Poison{index, value, debug.Stack()}
		}
	}()
	outcomes = make([]Outcome, len(requests))
	for index = range requests {
		if len(b.events)+b.receiptBytes >= MaxBatchBytes {
			outcomes[index] = Outcome{Deferred: true}
			continue
		}
		outcomes[index] = b.run(requests[index])
	}
	return outcomes, b.changes(), nil
}

// batch is a state on its way from before to after.
type batch struct {
	*State
	seq    int64
	events []byte
	count  int
	tally  Tally

	receipts     []*Receipt
	receiptBytes int
	products     touched[string, Product]
	stock        touched[StockKey, Stock]
	reservations touched[ID, Reservation]
	orders       touched[ID, Order]
}

// touched remembers rows as they were before the batch, in the order in which they were first changed.
type touched[K comparable, T any] struct {
	keys   []K
	before map[K]*T
}

func (t *touched[K, T]) touch(key K, before *T) {
	if _, found := t.before[key]; found {
		return
	}
	if t.before == nil {
		t.before = map[K]*T{}
	}
	t.before[key] = before
	t.keys = append(t.keys, key)
}

func (b *batch) run(request *Request) Outcome {
	if request.Receipt == nil {
		return request.Command.decide(b, request)
	}
	if receipt := b.Receipts[request.Receipt.Key]; receipt != nil {
		return replay(receipt, request.Receipt)
	}
	outcome := request.Command.decide(b, request)
	if outcome.Refusal == nil && !outcome.Deferred {
		receipt := &Receipt{*request.Receipt, AppendOutcome(nil, &outcome)}
		b.Receipts[receipt.Key] = receipt
		b.receipts = append(b.receipts, receipt)
		b.receiptBytes += len(receipt.Answer)
	}
	return outcome
}

func replay(receipt *Receipt, id *ReceiptID) Outcome {
	if receipt.Fingerprint != id.Fingerprint {
		return refuse(RefusedIdempotencyKeyReused)
	}
	outcome, err := DecodeOutcome(receipt.Answer)
	if err != nil {
		panic(fmt.Errorf("receipt: %w", err))
	}
	outcome.Replayed = true
	return outcome
}

func refuse(code Code) Outcome { return Outcome{Refusal: &Refusal{Code: code}} }

func (b *batch) changes() *Changes {
	c := &Changes{Receipts: b.receipts, Events: b.events, EventCount: b.count, Tally: b.tally}
	for _, id := range b.products.keys {
		c.Products = append(c.Products, Change[Product]{b.products.before[id], b.Products[id]})
	}
	for _, key := range b.stock.keys {
		c.Stock = append(c.Stock, StockChange{key, Change[Stock]{b.stock.before[key], b.Stock(key)}})
	}
	for _, id := range b.reservations.keys {
		c.Reservations = append(c.Reservations, Change[Reservation]{b.reservations.before[id], b.Reservations[id]})
	}
	for _, id := range b.orders.keys {
		c.Orders = append(c.Orders, Change[Order]{b.orders.before[id], b.Orders[id]})
	}
	return c
}

func (b *batch) putProduct(before, after *Product) {
	b.products.touch(after.ID, before)
	b.Products[after.ID] = after
}

func (b *batch) putReservation(before, after *Reservation) {
	b.reservations.touch(after.ID, before)
	b.Reservations[after.ID] = after
}

func (b *batch) putOrder(before, after *Order) {
	b.orders.touch(after.ID, before)
	b.Orders[after.ID] = after
}

// next is the sequence of the next event. Whoever takes it must emit that event before another is taken.
func (b *batch) next() int64 {
	if b.seq == maxSequence {
		panic("the event sequence is used up")
	}
	b.seq++
	return b.seq
}

func (b *batch) emit(event *Event) {
	event.Seq = b.seq
	b.events = appendEvent(b.events, event)
	b.count++
	b.tally[event.Type]++
}

// open adds an empty stock row.
func (b *batch) open(p *Product, location string) {
	b.stock.touch(StockKey{p.ID, location}, nil)
	p.Put(Stock{Location: location, Seq: b.seq})
}

// move changes the buckets of one stock row under the event that was just begun. A negative bucket is a bug, not a refusal:
// whoever calls has checked, so it poisons the command (I1).
func (b *batch) move(key StockKey, delta Buckets) Movement {
	stock := b.Stock(key)
	if stock == nil {
		panic(fmt.Sprintf("stock of %s at %s was not loaded", key.ProductID, key.Location))
	}
	before := *stock
	b.stock.touch(key, &before)
	stock.Buckets = stock.Add(delta)
	stock.Seq = b.seq
	if !stock.Valid() {
		panic(fmt.Sprintf("stock of %s at %s would become %+v", key.ProductID, key.Location, stock.Buckets))
	}
	return Movement{key, delta, stock.Buckets}
}

// moveLines moves the units of all lines: per is the movement of one unit.
func (b *batch) moveLines(lines []Line, per Buckets) []Movement {
	sums := needs(lines)
	movements := make([]Movement, len(sums))
	for i, n := range sums {
		movements[i] = b.move(n.StockKey, Buckets{per.Available * n.Quantity, per.Reserved * n.Quantity, per.Committed * n.Quantity})
	}
	return movements
}

// What one unit does at each transition.
var (
	perReserve     = Buckets{Available: -1, Reserved: 1}
	perRelease     = Buckets{Available: 1, Reserved: -1}
	perConfirm     = Buckets{Reserved: -1, Committed: 1}
	perFulfill     = Buckets{Committed: -1}
	perCancelOrder = Buckets{Available: 1, Committed: -1}
)

// room says whether a stock row has the units that somebody wants.
type room int

const (
	fits room = iota
	short
	unknown // more overdue holds are left than were loaded
)

// makeRoom expires overdue holds of the row, oldest deadline first, until the units are there or none is left (I8).
func (b *batch) makeRoom(key StockKey, quantity int64) room {
	stock := b.Stock(key)
	if stock == nil {
		return short
	}
	for stock.Available < quantity {
		overdue := b.Overdue[key]
		if len(overdue) == 0 {
			if b.MoreOverdue[key] {
				return unknown
			}
			return short
		}
		b.Overdue[key] = overdue[1:]
		if r := b.Reservations[overdue[0]]; r.Due(b.Now) {
			b.expire(r)
		}
	}
	return fits
}

func (b *batch) shortage(key StockKey, requested int64) Shortage {
	s := Shortage{StockKey: key, Requested: requested}
	if stock := b.Stock(key); stock != nil {
		s.Available, s.Reserved = stock.Available, stock.Reserved
	}
	return s
}

func (c *CreateProduct) decide(b *batch, request *Request) Outcome {
	id := c.ID
	if b.Products[id] != nil {
		return refuse(RefusedProductExists)
	}
	seq := b.next()
	if id == "" {
		id = NewID(b.Now, seq, request.Salt).Text(ProductPrefix)
	}
	p := &Product{
		ID: id, Name: c.Name, Price: c.Price, Metadata: c.Metadata,
		Version: 1, CreatedAt: b.Now, UpdatedAt: b.Now, Seq: seq,
	}
	b.putProduct(nil, p)
	b.open(p, MainLocation)
	if c.Location != MainLocation {
		b.open(p, c.Location)
	}
	var movements []Movement
	if c.TotalStock > 0 {
		movements = []Movement{b.move(StockKey{id, c.Location}, Buckets{Available: c.TotalStock})}
	}
	b.emit(&Event{Type: EventProductCreated, Product: p, Movements: movements})
	return Outcome{Created: true, Product: p.Clone(), Seq: seq}
}

func (c *UpdateProduct) decide(b *batch, _ *Request) Outcome {
	p := b.Products[c.ID]
	if p == nil {
		return refuse(RefusedProductNotFound)
	}
	changed := *p
	if c.Name != nil {
		changed.Name = *c.Name
	}
	if c.Amount != nil {
		changed.Price.Amount = *c.Amount
	}
	if c.Currency != nil {
		changed.Price.Currency = *c.Currency
	}
	changed.Metadata = c.Metadata.apply(p.Metadata)
	current := &Current{Version: p.Version}
	switch {
	case len(changed.Metadata) > MaxMetadata:
		return refuse(RefusedMetadataTooLarge)
	case c.IfMatch != nil && !contains(c.IfMatch, p.LastSeq()):
		return Outcome{Refusal: &Refusal{Code: RefusedPreconditionFailed, Current: current}}
	case c.Version != 0 && c.Version != p.Version:
		return Outcome{Refusal: &Refusal{Code: RefusedVersionMismatch, Current: current}}
	case changed.Name == p.Name && changed.Price == p.Price && changed.Metadata.equal(p.Metadata):
		return Outcome{Product: p.Clone(), Seq: p.LastSeq()}
	}
	changed.Version++
	changed.UpdatedAt = b.Now
	changed.Seq = b.next()
	b.putProduct(p, &changed)
	b.emit(&Event{Type: EventProductUpdated, Product: &changed})
	return Outcome{Product: changed.Clone(), Seq: changed.Seq}
}

func contains(list []int64, value int64) bool {
	for _, v := range list {
		if v == value {
			return true
		}
	}
	return false
}

// apply merges the patch into metadata as RFC 7396 says. The original stays as it is.
func (p *MetadataPatch) apply(m Metadata) Metadata {
	if p == nil {
		return m
	}
	merged := map[string]string{}
	if !p.Clear {
		for _, member := range m {
			merged[member.Name] = member.Value
		}
	}
	for name, value := range p.Set {
		if value == nil {
			delete(merged, name)
		} else {
			merged[name] = *value
		}
	}
	return NewMetadata(merged)
}

func (c *Adjust) decide(b *batch, request *Request) Outcome {
	p := b.Products[c.ProductID]
	if p == nil {
		return refuse(RefusedProductNotFound)
	}
	key := StockKey{c.ProductID, c.Location}
	isNew := p.At(c.Location) == nil
	if c.Delta > 0 {
		if (isNew && len(p.Stock) >= MaxLocations) || p.Totals().Total() > MaxStock-c.Delta {
			return refuse(RefusedStockLimit)
		}
	} else {
		switch b.makeRoom(key, -c.Delta) {
		case unknown:
			return Outcome{Deferred: true}
		case short:
			return Outcome{Refusal: &Refusal{Code: RefusedInsufficientStock, Shortages: []Shortage{b.shortage(key, -c.Delta)}}}
		}
	}
	seq := b.next()
	if isNew {
		b.open(p, c.Location)
	}
	a := &Adjustment{
		ID: NewID(b.Now, seq, request.Salt), ProductID: c.ProductID, Location: c.Location,
		Delta: c.Delta, Reason: c.Reason, Reference: c.Reference, CreatedAt: b.Now,
	}
	movement := b.move(key, Buckets{Available: c.Delta})
	b.emit(&Event{Type: EventStockAdjusted, Adjustment: a, Product: p, Movements: []Movement{movement}})
	return Outcome{Created: true, Adjustment: a, Product: p.Clone(), Seq: seq}
}

func (c *Reserve) decide(b *batch, request *Request) Outcome {
	lines, refusal := c.priced(b)
	if refusal != nil {
		return Outcome{Refusal: refusal}
	}
	total, ok := Total(lines)
	if !ok {
		return refuse(RefusedTotalTooLarge)
	}
	var shortages []Shortage
	for _, n := range needs(lines) {
		switch b.makeRoom(n.StockKey, n.Quantity) {
		case unknown:
			return Outcome{Deferred: true}
		case short:
			shortages = append(shortages, b.shortage(n.StockKey, n.Quantity))
		}
	}
	if shortages != nil {
		return Outcome{Refusal: &Refusal{Code: RefusedInsufficientStock, Shortages: shortages}}
	}
	seq := b.next()
	r := &Reservation{
		ID: NewID(b.Now, seq, request.Salt), Status: ReservationActive, Lines: lines, Total: total,
		CustomerID: c.CustomerID, Metadata: c.Metadata,
		CreatedAt: b.Now, UpdatedAt: b.Now, ExpiresAt: b.Now + Time(c.TTL), Version: 1, Seq: seq,
	}
	movements := b.moveLines(lines, perReserve)
	b.putReservation(nil, r)
	b.emit(&Event{Type: EventReservationCreated, Reservation: r, Movements: movements})
	return Outcome{Created: true, Reservation: r, Seq: seq}
}

// priced gives every line its price, in one currency.
func (c *Reserve) priced(b *batch) ([]Line, *Refusal) {
	lines := make([]Line, len(c.Lines))
	var missing, mixed []int
	for i := range c.Lines {
		l := &c.Lines[i]
		p := b.Products[l.ProductID]
		if p == nil {
			missing = append(missing, i)
			continue
		}
		lines[i] = Line{p.ID, l.Location, l.Quantity, p.Price}
		if l.UnitPrice != nil {
			lines[i].UnitPrice = *l.UnitPrice
		}
		if lines[i].UnitPrice.Currency != lines[0].UnitPrice.Currency {
			mixed = append(mixed, i)
		}
	}
	if missing != nil {
		return nil, &Refusal{Code: RefusedProductNotFound, Lines: missing}
	}
	if mixed != nil {
		return nil, &Refusal{Code: RefusedMixedCurrencies, Lines: mixed}
	}
	return lines, nil
}

// end turns an ACTIVE reservation into an ending.
func (b *batch) end(r *Reservation, status ReservationStatus, at Time, eventType EventType, per Buckets, more func(*Reservation)) *Reservation {
	seq := b.next()
	ended := *r
	ended.Status = status
	ended.EndedAt = at
	ended.UpdatedAt = at
	ended.Version++
	ended.Seq = seq
	if more != nil {
		more(&ended)
	}
	movements := b.moveLines(r.Lines, per)
	b.putReservation(r, &ended)
	b.emit(&Event{Type: eventType, Reservation: &ended, Movements: movements})
	return &ended
}

func (b *batch) expire(r *Reservation) *Reservation {
	return b.end(r, ReservationExpired, r.ExpiresAt, EventReservationExpired, perRelease, nil)
}

// active finds a reservation that may still be changed. A hold whose deadline has come is expired on the spot: nobody is ever
// told that it might still be turned (I3, I7).
func (b *batch) active(id ID) (*Reservation, *Refusal) {
	r := b.Reservations[id]
	if r == nil {
		return nil, &Refusal{Code: RefusedReservationNotFound}
	}
	if r.Due(b.Now) {
		r = b.expire(r)
	}
	switch r.Status {
	case ReservationExpired:
		return r, refuseReservation(RefusedReservationExpired, r)
	case ReservationCancelled:
		return r, refuseReservation(RefusedReservationCancelled, r)
	case ReservationConfirmed:
		return r, refuseReservation(RefusedReservationConfirmed, r)
	}
	return r, nil
}

func refuseReservation(code Code, r *Reservation) *Refusal {
	return &Refusal{Code: code, Current: &Current{
		Status: r.Status.String(), ExpiresAt: r.ExpiresAt, EndedAt: r.EndedAt, OrderID: r.OrderID,
	}}
}

func (c *Cancel) decide(b *batch, _ *Request) Outcome {
	r, refusal := b.active(c.ID)
	if refusal != nil {
		if refusal.Code == RefusedReservationCancelled {
			return Outcome{Reservation: r, Seq: r.Seq}
		}
		return Outcome{Refusal: refusal}
	}
	r = b.end(r, ReservationCancelled, b.Now, EventReservationCancelled, perRelease, func(r *Reservation) { r.CancelReason = c.Reason })
	return Outcome{Reservation: r, Seq: r.Seq}
}

func (c *Extend) decide(b *batch, _ *Request) Outcome {
	r, refusal := b.active(c.ID)
	if refusal != nil {
		return Outcome{Refusal: refusal}
	}
	deadline := b.Now + Time(c.TTL)
	if deadline <= r.ExpiresAt {
		return Outcome{Reservation: r, Seq: r.Seq}
	}
	if deadline > r.CreatedAt+Time(c.MaxHold) {
		return Outcome{Refusal: refuseReservation(RefusedHoldLimitReached, r)}
	}
	extended := *r
	extended.ExpiresAt = deadline
	extended.UpdatedAt = b.Now
	extended.Version++
	extended.Seq = b.next()
	b.putReservation(r, &extended)
	b.emit(&Event{Type: EventReservationExtended, Reservation: &extended})
	return Outcome{Reservation: &extended, Seq: extended.Seq}
}

func (c *Confirm) decide(b *batch, request *Request) Outcome {
	r, refusal := b.active(c.ReservationID)
	if refusal != nil {
		if refusal.Code == RefusedReservationConfirmed {
			return c.again(b, r, refusal)
		}
		return Outcome{Refusal: refusal}
	}
	orderID := NewID(b.Now, b.seq+2, request.Salt) // reservation.confirmed comes right before its order.created
	r = b.end(r, ReservationConfirmed, b.Now, EventReservationConfirmed, perConfirm, func(r *Reservation) { r.OrderID = orderID })
	o := &Order{
		ID: orderID, ReservationID: r.ID, Reference: c.Reference, Status: OrderConfirmed,
		Lines: r.Lines, Total: r.Total, CustomerID: r.CustomerID, Metadata: c.Metadata,
		CreatedAt: b.Now, UpdatedAt: b.Now, Version: 1, Seq: b.next(),
	}
	b.putOrder(nil, o)
	b.emit(&Event{Type: EventOrderCreated, Order: o})
	return Outcome{Created: true, Order: o, Seq: o.Seq}
}

// again answers a repeated confirm with the order that there is (I4).
func (c *Confirm) again(b *batch, r *Reservation, refusal *Refusal) Outcome {
	o := b.Orders[r.OrderID]
	switch {
	case o.Status == OrderCancelled:
		refusal.Code = RefusedOrderCancelled
		return Outcome{Refusal: refusal}
	case c.Reference != "" && o.Reference != "" && c.Reference != o.Reference: // somebody paid twice
		return Outcome{Refusal: refusal}
	}
	return Outcome{Order: o, Seq: o.Seq}
}

func (c *Fulfill) decide(b *batch, _ *Request) Outcome {
	return b.endOrder(c.ID, OrderFulfilled, EventOrderFulfilled, perFulfill, func(o *Order) { o.FulfilledAt = b.Now })
}

func (c *CancelOrder) decide(b *batch, _ *Request) Outcome {
	return b.endOrder(c.ID, OrderCancelled, EventOrderCancelled, perCancelOrder, func(o *Order) {
		o.CancelledAt = b.Now
		o.CancelReason = c.Reason
	})
}

func (b *batch) endOrder(id ID, status OrderStatus, eventType EventType, per Buckets, more func(*Order)) Outcome {
	o := b.Orders[id]
	switch {
	case o == nil:
		return refuse(RefusedOrderNotFound)
	case o.Status == status:
		return Outcome{Order: o, Seq: o.Seq}
	case o.Status != OrderConfirmed:
		code := RefusedOrderFulfilled
		if o.Status == OrderCancelled {
			code = RefusedOrderCancelled
		}
		return Outcome{Refusal: &Refusal{Code: code, Current: &Current{
			Status: o.Status.String(), EndedAt: max(o.FulfilledAt, o.CancelledAt), OrderID: o.ID,
		}}}
	}
	ended := *o
	ended.Status = status
	ended.UpdatedAt = b.Now
	ended.Version++
	ended.Seq = b.next()
	more(&ended)
	movements := b.moveLines(o.Lines, per)
	b.putOrder(o, &ended)
	b.emit(&Event{Type: eventType, Order: &ended, Movements: movements})
	return Outcome{Order: &ended, Seq: ended.Seq}
}

func (c *Expire) decide(b *batch, _ *Request) Outcome {
	expired := 0
	for _, id := range c.IDs {
		if r := b.Reservations[id]; r != nil && r.Due(b.Now) {
			b.expire(r)
			expired++
		}
	}
	return Outcome{Expired: expired, Seq: b.seq}
}
