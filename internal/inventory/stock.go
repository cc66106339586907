package inventory

import "fmt"

// Adjust receives units (Delta > 0) or takes available ones (Delta < 0).
type Adjust struct {
	ProductID string
	Location  string
	Delta     int64 // not 0, ±MaxStock
	Reason    string
	Reference string
}

func (c *Adjust) addKeys(k *Keys) {
	k.product(c.ProductID)
	if c.Delta < 0 {
		k.demand(StockKey{c.ProductID, c.Location}, -c.Delta)
	}
}

func (c *Adjust) about(o *Outcome) referring {
	named := *c
	named.ProductID = o.productID()
	return &named
}

func (c *Adjust) size() int { return len(c.Reason) + len(c.Reference) }

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
			return Outcome{Refusal: &Refusal{
				Code: RefusedInsufficientStock, Shortages: []Shortage{b.shortage(key, -c.Delta)},
			}}
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

// Shortage is one stock row that has too little.
type Shortage struct {
	StockKey
	Requested, Available, Reserved int64
}

// What one unit does at each transition.
var (
	perReserve     = Buckets{Available: -1, Reserved: 1}
	perRelease     = Buckets{Available: 1, Reserved: -1}
	perConfirm     = Buckets{Reserved: -1, Committed: 1}
	perFulfill     = Buckets{Committed: -1}
	perCancelOrder = Buckets{Available: 1, Committed: -1}
)

// open adds an empty stock row, on behalf of the event whose sequence was taken last.
func (b *batch) open(p *Product, location string) {
	touch(b, &b.stock, StockKey{p.ID, location}, nil)
	p.Put(Stock{Location: location, Seq: b.seq})
	if b.saved {
		b.note(func() { p.remove(location) })
	}
}

// move changes the buckets of one stock row, on behalf of the event whose sequence was taken last. Callers have checked
// that the units are there: a bucket that would be negative is a bug, and panics (I1).
func (b *batch) move(key StockKey, delta Buckets) Movement {
	stock := b.Stock(key)
	if stock == nil {
		panic(fmt.Sprintf("stock of %s at %s was not loaded", key.ProductID, key.Location))
	}
	before := *stock
	touch(b, &b.stock, key, &before)
	if b.saved {
		b.note(func() { *b.Stock(key) = before })
	}
	stock.Buckets = stock.Add(delta)
	stock.Seq = b.seq
	if !stock.Valid() {
		panic(fmt.Sprintf("stock of %s at %s would become %+v", key.ProductID, key.Location, stock.Buckets))
	}
	return Movement{key, delta, stock.Buckets}
}

// moveLines moves the units of all lines. Each unit moves as per says.
func (b *batch) moveLines(lines []Line, per Buckets) []Movement {
	sums := needs(lines)
	movements := make([]Movement, len(sums))
	for i, n := range sums {
		movements[i] = b.move(n.StockKey, per.times(n.Quantity))
	}
	return movements
}

// room says whether a stock row has the units that somebody wants.
type room int

const (
	fits room = iota
	short
	unknown // more overdue holds are left than were loaded, or than a batch may write
)

// makeRoom expires overdue holds of the row, oldest deadline first, until the units are available or no such hold is
// left (I8).
func (b *batch) makeRoom(key StockKey, quantity int64) room {
	stock := b.Stock(key)
	if stock == nil {
		return short
	}
	for stock.Available < quantity {
		overdue := b.Overdue[key]
		if len(overdue) == 0 {
			if b.MoreOverdue[key] {
				b.unloaded = key
				return unknown
			}
			return short
		}
		b.takeOverdue(key)
		if r := b.Reservations[overdue[0]]; r.Due(b.Now) {
			b.expire(r)
		}
		if b.bytes() >= MaxBatchBytes && stock.Available < quantity {
			b.unloaded = key
			return unknown // what was expired is written with this batch, and the next goes on
		}
	}
	return fits
}

// takeOverdue takes the first off the list of overdue holds.
func (b *batch) takeOverdue(key StockKey) {
	overdue := b.Overdue[key]
	b.Overdue[key] = overdue[1:]
	if b.saved {
		b.note(func() { b.Overdue[key] = overdue })
	}
}

func (b *batch) shortage(key StockKey, requested int64) Shortage {
	s := Shortage{StockKey: key, Requested: requested}
	if stock := b.Stock(key); stock != nil {
		s.Available, s.Reserved = stock.Available, stock.Reserved
	}
	return s
}
