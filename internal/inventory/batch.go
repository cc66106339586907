package inventory

import (
	"bytes"
	"fmt"
	"runtime/debug"
)

// State is the rows that a batch works on. A store loads them, and [Decide] changes them.
type State struct {
	Now          Time  // the one clock reading of the batch
	Seq          int64 // of the last event before the batch
	Epochs       Epochs
	Products     map[string]*Product
	Reservations map[ID]*Reservation
	Orders       map[ID]*Order
	Receipts     map[[16]byte]*Receipt
	Records      map[RecordKey]*Record       // nil: none was loaded
	Ranges       map[RecordRange][]RecordKey // the ranges that were asked for; their records are among Records
	// Overdue are the ACTIVE reservations past their deadline that take units from a stock row, oldest deadline first.
	// They are loaded with the rows of all their lines.
	Overdue map[StockKey][]ID
	// MoreOverdue marks the stock rows that have more of them than were loaded.
	MoreOverdue map[StockKey]bool
}

// NewState makes an empty state, for a store to load rows into. The sequence is that of the last event before the
// batch.
func NewState(now Time, seq int64, epochs Epochs) *State {
	return &State{
		Now: now, Seq: seq, Epochs: epochs,
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
	Epoch        Epoch // the epoch that begins with this batch; zero: the present one goes on
}

// Empty reports whether there is nothing to write.
func (c *Changes) Empty() bool {
	return c.EventCount == 0 && len(c.Receipts) == 0 && len(c.Records) == 0 && c.Epoch == Epoch{}
}

// Poison is the error of a batch in which deciding a command panicked. Nothing of the batch may be written.
type Poison struct {
	Index     int // of the request
	Operation int // of its group, -1 where it has none
	Value     any // of the panic
	Stack     []byte
}

func (p *Poison) Error() string {
	return fmt.Sprintf("deciding command %d: panic: %v", p.Index, p.Value)
}

// Decide runs the requests in order on the rows of state, and returns an outcome for each and what has to be written. A
// refused request leaves no trace on its neighbours (I10). Only the expiries that had fallen due stand: they are time's
// effect.
//
// The error is a [Poison] or nil. After an error the state is spoilt: load it anew, and decide without the request that
// panicked.
func Decide(state *State, requests []*Request) (outcomes []Outcome, changes *Changes, err error) {
	b := newBatch(state, len(requests))
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

// batch is a state with everything that was changed of it so far.
type batch struct {
	*State
	seq    int64
	actor  *Actor // of the request that is being decided
	events []byte
	count  int
	tally  Tally

	movements []Movement // of the event that is being made

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
	undos     []func() // each takes one change since the savepoint back, the latest last
	lapsed    []ID     // holds that time has ended since
	// lapsedBytes is what ending them wrote.
	lapsedBytes int

	unloaded StockKey // the stock row for which more overdue holds have to be loaded
}

// newBatch begins a batch, with room for what it is likely to change: the reservations that were loaded, and one more for
// each request.
func newBatch(state *State, requests int) *batch {
	const likelyEventBytes = 192
	likely := requests + len(state.Reservations)
	b := &batch{State: state, seq: state.Seq, operation: noOperation}
	b.events = make([]byte, 0, likely*likelyEventBytes)
	b.reservations = touched[ID, Reservation]{make([]ID, 0, likely), make(map[ID]*Reservation, likely)}
	if len(state.Reservations) == 0 {
		state.Reservations = make(map[ID]*Reservation, requests)
	}
	return b
}

// noOperation is the position of the operation while no group is decided.
const noOperation = -1

// bytes is about how many bytes the batch writes so far.
func (b *batch) bytes() int { return len(b.events) + b.receiptBytes + b.recordBytes }

// touched remembers rows as they were before the batch, in the order of their first change.
type touched[K comparable, T any] struct {
	keys   []K
	before map[K]*T
}

// add remembers a row. It reports false if the row was remembered before.
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

// has reports whether the row is there.
func (t *touched[K, T]) has(key K) bool {
	_, found := t.before[key]
	return found
}

// drop forgets the row that was added last.
func (t *touched[K, T]) drop(key K) {
	delete(t.before, key)
	t.keys = t.keys[:len(t.keys)-1]
}

func (b *batch) run(request *Request) Outcome {
	b.actor = request.Actor
	return b.answer(request)
}

// answer decides a request, or gives the stored answer if there is a receipt for its key.
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
	c := &Changes{Receipts: b.receipts, Events: clipped(b.events), EventCount: b.count, Tally: b.tally}
	c.Stock = make([]StockChange, 0, len(b.stock.keys))
	c.Reservations = make([]Change[Reservation], 0, len(b.reservations.keys))
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

// clipped returns bytes without the room behind them where that is more than themselves: events stay in memory for long,
// and of a thousand requests that were refused only a few have one.
func clipped(b []byte) []byte {
	if cap(b) > 2*len(b) {
		return bytes.Clone(b)
	}
	return b
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

// next takes the sequence of the next event. Whoever takes one must emit its event before another one is taken.
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
