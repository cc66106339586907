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
	Records      map[RecordKey]*Record       // nil: none
	Ranges       map[RecordRange][]RecordKey // the ranges that were asked for; their records are among Records
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
	Records      []RecordChange
	Events       []byte // in sequence order, for [DecodeEvents]
	EventCount   int
	Tally        Tally
}

// Empty reports whether there is nothing to write.
func (c *Changes) Empty() bool {
	return c.EventCount == 0 && len(c.Receipts) == 0 && len(c.Records) == 0
}

// Poison is the error of a batch in which one command panicked. Nothing of the batch may be written.
type Poison struct {
	Index     int // of the request
	Operation int // of its group, -1 where it has none
	Value     any // of the panic
	Stack     []byte
}

func (p *Poison) Error() string {
	return fmt.Sprintf("deciding command %d: panic: %v", p.Index, p.Value)
}

// Decide runs the requests in order on the rows of state and returns an outcome for each, with what has to be written. A refused
// request leaves no trace on its neighbours (I10), except for expiries that had fallen due: they are time's effect and stand.
//
// The error is a [Poison] or nil. After an error the state is spoilt: load it anew, and decide without the poisonous request.
func Decide(state *State, requests []*Request) (outcomes []Outcome, changes *Changes, err error) {
	b := &batch{State: state, seq: state.Seq, operation: noOperation}
	index := 0
	defer func() {
		if value := recover(); value != nil {
			outcomes, changes, err = nil, nil, &Poison{index, b.operation, value, debug.Stack()}
		}
	}()
	outcomes = make([]Outcome, len(requests))
	for index = range requests {
		if b.bytes() >= MaxBatchBytes {
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
	actor  *Actor // of the request that is being decided
	events []byte
	count  int
	tally  Tally

	receipts     []*Receipt
	receiptBytes int
	products     touched[string, Product]
	stock        touched[StockKey, Stock]
	reservations touched[ID, Reservation]
	orders       touched[ID, Order]
	records      touched[RecordKey, Record]
	recordBytes  int

	operation int      // of the group that is being decided
	saved     bool     // there is a savepoint
	undos     []func() // how to get back to it, the latest last
	lapsed    []ID     // holds that time has ended since
	// lapsedBytes is what ending them wrote.
	lapsedBytes int

	unloaded StockKey // the stock row for which more overdue holds have to be loaded
}

// noOperation stands for the position of an operation where there is no group.
const noOperation = -1

// bytes is about how much the batch writes so far.
func (b *batch) bytes() int { return len(b.events) + b.receiptBytes + b.recordBytes }

// touched remembers rows as they were before the batch, in the order in which they were first changed.
type touched[K comparable, T any] struct {
	keys   []K
	before map[K]*T
}

// add reports false for a row that is there already.
func (t *touched[K, T]) add(key K, before *T) bool {
	if _, found := t.before[key]; found {
		return false
	}
	if t.before == nil {
		t.before = map[K]*T{}
	}
	t.before[key] = before
	t.keys = append(t.keys, key)
	return true
}

// drop takes the row out that was added last.
func (t *touched[K, T]) drop(key K) {
	delete(t.before, key)
	t.keys = t.keys[:len(t.keys)-1]
}

func (b *batch) run(request *Request) Outcome {
	b.actor = request.Actor
	return b.answer(request)
}

// answer decides a request, unless its receipt has the answer.
func (b *batch) answer(request *Request) Outcome {
	if request.Receipt == nil {
		return request.Command.decide(b, request)
	}
	if receipt := b.Receipts[request.Receipt.Key]; receipt != nil {
		return replay(receipt, request.Receipt)
	}
	outcome := request.Command.decide(b, request)
	if outcome.Refusal == nil && !outcome.Deferred {
		receipt := &Receipt{*request.Receipt, AppendOutcome(nil, &outcome)}
		put(b, b.Receipts, receipt.Key, receipt)
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
	c.Records = b.recordChanges()
	return c
}

func (b *batch) putProduct(before, after *Product) {
	touch(b, &b.products, after.ID, before)
	put(b, b.Products, after.ID, after)
}

func (b *batch) putReservation(before, after *Reservation) {
	touch(b, &b.reservations, after.ID, before)
	put(b, b.Reservations, after.ID, after)
}

func (b *batch) putOrder(before, after *Order) {
	touch(b, &b.orders, after.ID, before)
	put(b, b.Orders, after.ID, after)
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
	event.Seq, event.Actor = b.seq, b.actor
	b.events = AppendEvent(b.events, event)
	b.count++
	b.tally[event.Type]++
}
