package audit_test

import (
	"context"
	"slices"
	"testing"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// fake is a view that shows whatever a test has put into it. An audit needs no other methods than those below.
type fake struct {
	store.View
	keys map[string]int64 // of [shop.fill]

	head         store.Head
	entries      []store.Entry
	batches      [][]inventory.Event // the events of the entries
	products     []*inventory.Product
	reservations []*inventory.Reservation // newest first
	orders       []*inventory.Order
	receipts     []*inventory.Receipt
	records      []*inventory.Record
	strays       []string
	broken       error // of Reservations

	// The rows that cannot be used come before all others.
	badProduct, badReservation, badRecord bool
}

// newFake makes a fake of a filled shop, with which everything is right.
func newFake(t *testing.T) *fake {
	clock := storetest.NewClock()
	s := shopOn(t, clock, memory.Open(memory.Options{Now: clock.Now}))
	f := &fake{keys: s.fill()}
	err := s.store.View(t.Context(), func(v store.View) error { return f.copy(t.Context(), v) })
	if err != nil {
		t.Fatal(err)
	}
	f.chain()
	return f
}

func (f *fake) copy(ctx context.Context, v store.View) (err error) {
	if f.head, err = v.Head(ctx); err != nil {
		return err
	}
	if f.entries, err = v.Journal(ctx, store.JournalPosition{BatchNo: 1}, 1000, 1<<30); err != nil {
		return err
	}
	for i := range f.entries {
		events, err := inventory.DecodeEvents(f.entries[i].First, f.entries[i].At, f.entries[i].Events)
		if err != nil {
			return err
		}
		f.batches = append(f.batches, events)
	}
	products, _, err := v.Products(ctx, store.ProductQuery{Limit: 1000})
	for _, p := range products {
		f.products = append(f.products, p.Clone())
	}
	if err != nil {
		return err
	}
	reservations, _, err := v.Reservations(ctx, store.ReservationQuery{Limit: 1000})
	for _, r := range reservations {
		f.reservations = append(f.reservations, cloneReservation(r))
	}
	if err != nil {
		return err
	}
	orders, _, err := v.Orders(ctx, store.OrderQuery{Limit: 1000})
	for _, o := range orders {
		f.orders = append(f.orders, cloneOrder(o))
	}
	if err != nil {
		return err
	}
	f.receipts, _, err = v.(store.Lister).Receipts(ctx, store.ReceiptCursor{}, 1000)
	return err
}

func cloneReservation(r *inventory.Reservation) *inventory.Reservation {
	c := *r
	c.Lines = slices.Clone(r.Lines)
	return &c
}

func cloneOrder(o *inventory.Order) *inventory.Order {
	c := *o
	c.Lines = slices.Clone(o.Lines)
	return &c
}

// chain encodes the batches anew and makes a chain of them, from their times and batch ids on, with its head.
func (f *fake) chain() {
	head := store.Head{Store: f.head.Store, Format: f.head.Format}
	for i, events := range f.batches {
		changes := &inventory.Changes{EventCount: len(events)}
		for j := range events {
			changes.Events = inventory.AppendEvent(changes.Events, &events[j])
		}
		f.entries[i] = head.Next(f.entries[i].BatchID, f.entries[i].At, changes)
		head = head.After(&f.entries[i])
	}
	f.head = head
}

// link gives the entries, as they are, a chain and a head.
func (f *fake) link() {
	before := [32]byte{}
	for i := range f.entries {
		e := &f.entries[i]
		e.Checksum = e.Chain(before)
		before = e.Checksum
	}
	last := &f.entries[len(f.entries)-1]
	f.head.Seq, f.head.At, f.head.Chain = last.First+int64(last.Count)-1, last.At, last.Checksum
}

// event finds the first event of a type about the resource that an event made.
func (f *fake) event(of inventory.EventType, key int64) *inventory.Event {
	for _, events := range f.batches {
		for i := range events {
			if e := &events[i]; e.Type == of && (key == 0 || e.Reservation != nil && e.Reservation.ID.Sequence() == key ||
				e.Order != nil && e.Order.ID.Sequence() == key) {
				return e
			}
		}
	}
	panic("there is no such event")
}

func (f *fake) reservation(name string) *inventory.Reservation {
	return f.reservations[slices.IndexFunc(f.reservations, func(r *inventory.Reservation) bool {
		return r.ID.Sequence() == f.keys[name]
	})]
}

func (f *fake) order(name string) *inventory.Order {
	return f.orders[slices.IndexFunc(f.orders, func(o *inventory.Order) bool {
		return o.ID.Sequence() == f.keys[name]
	})]
}

func (f *fake) product(id string) *inventory.Product {
	return f.products[slices.IndexFunc(f.products, func(p *inventory.Product) bool { return p.ID == id })]
}

// everyReservation changes a reservation in its row and in every event about it.
func (f *fake) everyReservation(name string, change func(*inventory.Reservation)) {
	change(f.reservation(name))
	for _, events := range f.batches {
		for i := range events {
			if r := events[i].Reservation; r != nil && r.ID.Sequence() == f.keys[name] {
				change(r)
			}
		}
	}
}

func (f *fake) everyOrder(name string, change func(*inventory.Order)) {
	change(f.order(name))
	for _, events := range f.batches {
		for i := range events {
			if o := events[i].Order; o != nil && o.ID.Sequence() == f.keys[name] {
				change(o)
			}
		}
	}
}

func (f *fake) drop(name string) {
	f.reservations = slices.DeleteFunc(f.reservations, func(r *inventory.Reservation) bool {
		return r.ID.Sequence() == f.keys[name]
	})
	f.orders = slices.DeleteFunc(f.orders, func(o *inventory.Order) bool { return o.ID.Sequence() == f.keys[name] })
}

// add writes one more batch.
func (f *fake) add(events ...inventory.Event) {
	f.entries = append(f.entries, store.Entry{At: f.head.At, BatchID: [16]byte{1}})
	f.batches = append(f.batches, events)
}

// split makes two batches of one: its first event, and the others.
func (f *fake) split(i int) {
	f.batches = slices.Insert(f.batches, i+1, f.batches[i][1:])
	f.batches[i] = f.batches[i][:1]
	f.entries = slices.Insert(f.entries, i+1, f.entries[i])
}

// fakeStore is a store of which an audit sees one view.
type fakeStore struct {
	store.Store
	view store.View
}

func (s fakeStore) View(_ context.Context, read func(store.View) error) error { return read(s.view) }

func (f *fake) Head(context.Context) (store.Head, error) { return f.head, nil }

func (f *fake) Journal(_ context.Context, from store.JournalPosition, limit, maxBytes int) ([]store.Entry, error) {
	var page []store.Entry
	bytes := 0
	for i := range f.entries {
		e := &f.entries[i]
		if from.BatchNo > e.BatchNo || (from.BatchNo == 0 && from.Seq >= e.First+int64(e.Count)) {
			continue
		}
		if len(page) < limit && bytes < maxBytes {
			page = append(page, *e)
			bytes += len(e.Events)
		}
	}
	return page, nil
}

func (f *fake) Products(_ context.Context, q store.ProductQuery) (page []*inventory.Product, next string, err error) {
	if f.badProduct && q.IDs == nil && q.After == "" {
		return nil, "", &store.CorruptRow{Row: "product row 9", Key: "a", Detail: "torn"}
	}
	for _, p := range f.products {
		if q.IDs == nil || slices.Contains(q.IDs, p.ID) {
			page = append(page, p)
		}
	}
	return page, "", nil
}

func (f *fake) Reservations(
	_ context.Context, q store.ReservationQuery,
) (page []*inventory.Reservation, next inventory.ID, err error) {
	if f.badReservation && q.IDs == nil && q.Before.IsZero() {
		return nil, next, &store.CorruptRow{Row: "reservation row 9", ID: inventory.NewID(1, 999, 1), Detail: "torn"}
	}
	for _, r := range f.reservations {
		if slices.Contains(q.IDs, r.ID) || (q.IDs == nil && q.Matches(r)) {
			page = append(page, r)
		}
	}
	return page, next, f.broken
}

func (f *fake) Orders(_ context.Context, q store.OrderQuery) (page []*inventory.Order, next inventory.ID, err error) {
	for _, o := range f.orders {
		if slices.Contains(q.IDs, o.ID) || (q.IDs == nil && q.Matches(o)) {
			page = append(page, o)
		}
	}
	return page, next, nil
}

func (f *fake) Receipts(
	context.Context, store.ReceiptCursor, int,
) (page []*inventory.Receipt, next store.ReceiptCursor, err error) {
	return f.receipts, next, nil
}

func (f *fake) AllRecords(
	context.Context, inventory.RecordKey, int,
) (page []*inventory.Record, next inventory.RecordKey, err error) {
	if f.badRecord {
		return f.records, next, &store.CorruptRow{Row: "record row 9", Detail: "torn"}
	}
	return f.records, next, nil
}

func (f *fake) Strays(context.Context, int) ([]string, error) { return f.strays, nil }
