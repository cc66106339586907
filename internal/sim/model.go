package sim

import (
	"maps"
	"slices"

	"github.com/holdfast/holdfast/internal/inventory"
)

// model is what the contract says a Holdfast must be after each event, written from the contract alone. Rows are never
// changed in place, so a clone is cheap and an answer may keep a row.
type model struct {
	now          inventory.Time // of the batch that is being followed
	seq          int64
	products     map[string]*inventory.Product
	reservations map[inventory.ID]*inventory.Reservation
	orders       map[inventory.ID]*inventory.Order
	receipts     map[[16]byte]receipt
	journal      []inventory.Event
}

// receipt is what a key was used for, and the answer that it must give from then on.
type receipt struct {
	fingerprint [16]byte
	outcome     inventory.Outcome
}

func newModel() *model {
	return &model{
		products: map[string]*inventory.Product{}, reservations: map[inventory.ID]*inventory.Reservation{},
		orders: map[inventory.ID]*inventory.Order{}, receipts: map[[16]byte]receipt{},
	}
}

func (m *model) clone() *model {
	return &model{
		now: m.now, seq: m.seq,
		products: maps.Clone(m.products), reservations: maps.Clone(m.reservations),
		orders: maps.Clone(m.orders), receipts: maps.Clone(m.receipts),
		journal: slices.Clip(m.journal),
	}
}

// knowing is the model with these receipts as well.
func (m *model) knowing(written []keyed) *model {
	informed := *m
	informed.receipts = maps.Clone(m.receipts)
	for _, r := range written {
		informed.receipts[r.id.Key] = receipt{r.id.Fingerprint, r.outcome}
	}
	return &informed
}

// apply makes an event part of history.
func (m *model) apply(e *inventory.Event) {
	m.seq = e.Seq
	if e.Product != nil && (e.Type == inventory.EventProductCreated || e.Type == inventory.EventProductUpdated) {
		p := *e.Product
		if before := m.products[p.ID]; before != nil {
			p.Stock = before.Stock
		}
		m.products[p.ID] = p.Clone()
	}
	if a := e.Adjustment; a != nil && m.products[a.ProductID].At(a.Location) == nil {
		p := m.products[a.ProductID].Clone()
		p.Put(inventory.Stock{Location: a.Location, Seq: e.Seq})
		m.products[p.ID] = p
	}
	if e.Reservation != nil {
		m.reservations[e.Reservation.ID] = e.Reservation
	}
	if e.Order != nil {
		m.orders[e.Order.ID] = e.Order
	}
	for i := range e.Movements {
		moved := &e.Movements[i]
		p := m.products[moved.ProductID].Clone()
		p.Put(inventory.Stock{Location: moved.Location, Buckets: moved.After, Seq: e.Seq})
		m.products[p.ID] = p
	}
	m.journal = append(m.journal, *e)
}

// buckets are the units of a stock row; a row that does not exist has none.
func (m *model) buckets(key inventory.StockKey) (b inventory.Buckets) {
	if p := m.products[key.ProductID]; p != nil {
		if s := p.At(key.Location); s != nil {
			b = s.Buckets
		}
	}
	return b
}

// overdue is how many units of a row are in holds whose deadline has come and that nobody has expired yet.
func (m *model) overdue(key inventory.StockKey) (units int64) {
	for _, r := range m.reservations {
		if !m.isOverdue(r) {
			continue
		}
		for _, l := range r.Lines {
			if l.ProductID == key.ProductID && l.Location == key.Location {
				units += l.Quantity
			}
		}
	}
	return units
}

func (m *model) isOverdue(r *inventory.Reservation) bool {
	return r.Status == inventory.ReservationActive && m.now >= r.ExpiresAt
}

// expired is a reservation as time ends it.
func (m *model) expired(r *inventory.Reservation) *inventory.Reservation {
	ended := *r
	ended.Status, ended.EndedAt, ended.UpdatedAt = inventory.ReservationExpired, r.ExpiresAt, r.ExpiresAt
	ended.Version++
	ended.Seq = m.seq + 1
	return &ended
}

// expiry is the event that ends an overdue reservation, or nil where that may not end.
func (m *model) expiry(id inventory.ID) *inventory.Event {
	r := m.reservations[id]
	if r == nil || !m.isOverdue(r) {
		return nil
	}
	e := m.event(inventory.EventReservationExpired)
	e.Reservation = m.expired(r)
	e.Movements = m.movements(r.Lines, inventory.Buckets{Available: 1, Reserved: -1})
	return e
}

// expires is what an event must be that nobody has asked for, or nil where time does nothing of the kind.
func (m *model) expires(e *inventory.Event) *inventory.Event {
	if e.Reservation == nil {
		return nil
	}
	want := m.expiry(e.Reservation.ID)
	if want != nil {
		want.Actor = e.Actor
	}
	return want
}

// event begins the next event.
func (m *model) event(of inventory.EventType) *inventory.Event {
	return &inventory.Event{Seq: m.seq + 1, Type: of, Time: m.now}
}

// movements are those of all lines, where one unit moves like per. Lines of one row are added up.
func (m *model) movements(lines []inventory.Line, per inventory.Buckets) (list []inventory.Movement) {
	for _, l := range lines {
		key := inventory.StockKey{ProductID: l.ProductID, Location: l.Location}
		i := slices.IndexFunc(list, func(moved inventory.Movement) bool { return moved.StockKey == key })
		if i < 0 {
			i = len(list)
			list = append(list, inventory.Movement{StockKey: key, After: m.buckets(key)})
		}
		d := inventory.Buckets{
			Available: per.Available * l.Quantity, Reserved: per.Reserved * l.Quantity,
			Committed: per.Committed * l.Quantity,
		}
		list[i].Delta = list[i].Delta.Add(d)
		list[i].After = list[i].After.Add(d)
	}
	return list
}

// sums holds the buckets of every row against the holds and orders that there are (I1, I2).
func (m *model) sums() (wrong string) {
	held, owed := map[inventory.StockKey]int64{}, map[inventory.StockKey]int64{}
	for _, r := range m.reservations {
		if r.Status == inventory.ReservationActive {
			add(held, r.Lines)
		}
	}
	for _, o := range m.orders {
		if o.Status == inventory.OrderConfirmed {
			add(owed, o.Lines)
		}
	}
	for id, p := range m.products {
		for _, s := range p.Stock {
			key := inventory.StockKey{ProductID: id, Location: s.Location}
			if s.Available < 0 || s.Reserved != held[key] || s.Committed != owed[key] {
				wrong = id + " at " + s.Location + " has other buckets than its holds and orders say"
			}
		}
	}
	return wrong
}

func add(sums map[inventory.StockKey]int64, lines []inventory.Line) {
	for _, l := range lines {
		sums[inventory.StockKey{ProductID: l.ProductID, Location: l.Location}] += l.Quantity
	}
}
