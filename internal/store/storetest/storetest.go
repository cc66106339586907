// Package storetest is the one conformance suite of all stores: every sentence of the contract in package store has a test here.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Backend says how to get a kind of store, and in what it differs from the others.
type Backend struct {
	// Open makes an empty store that reads this clock. The suite closes it.
	Open func(t testing.TB, now func() time.Time) store.Store
	// Reopen closes a store and opens it again; nil where nothing is kept.
	Reopen func(t testing.TB, s store.Store, now func() time.Time) store.Store
	// Share opens another store on the database of one, as another process would; nil where that cannot be.
	Share func(t testing.TB, s store.Store, now func() time.Time) store.Store
	// Enforces says that the store itself refuses a negative bucket, the second wall of I1.
	Enforces bool
}

// Start is the time at which the suite's clocks begin.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Clock is a clock that tests move.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock makes a clock that stands at [Start].
func NewClock() *Clock { return &Clock{now: Start} }

// Now reads the clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock, back where d is negative.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fixture is a fresh store with its clock.
type fixture struct {
	testing.TB
	store.Store
	*Clock
	backend Backend
}

func (b Backend) fixture(t testing.TB) *fixture {
	clock := NewClock()
	f := &fixture{TB: t, Store: b.Open(t, clock.Now), Clock: clock, backend: b}
	t.Cleanup(func() { f.Store.Close() })
	return f
}

// Run runs the suite.
func Run(t *testing.T, b Backend) {
	tests := map[string]func(*fixture){
		"Empty": empty, "Commit": commits, "NothingToWrite": nothingToWrite, "DecideError": decideError, "DecidedAgain": decidedAgain,
		"RefusedNeighbour": refusedNeighbour, "NegativeBucket": negativeBucket, "AfterClose": afterClose, "CancelledContext": cancelledContext, "CancelledInside": cancelledInside,
		"CaseOfIDs": caseOfIDs, "WrongSalt": wrongSalt, "Precision": precision, "ClockJumps": clockJumps, "ConcurrentWriters": concurrentWriters,
		"Receipts": receipts, "OverdueIsLoaded": overdueIsLoaded, "OverdueIsBounded": overdueIsBounded, "OverdueCart": overdueCart,
		"ListReservations": listReservations, "ListOrders": listOrders, "ListProducts": listProducts, "Due": due, "Journal": journal,
		"Locations": locations, "Reopen": reopen, "WholeLife": wholeLife, "SnapshotIsOne": snapshotIsOne,
		"ViewClock": viewClock, "SharedByProcesses": sharedByProcesses,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(b.fixture(t))
		})
	}
}

// do commits requests as one batch.
func (f *fixture) do(commands ...inventory.Command) []inventory.Outcome {
	f.Helper()
	requests := make([]*inventory.Request, len(commands))
	for i, c := range commands {
		requests[i] = &inventory.Request{Command: c, Salt: uint32(i)}
	}
	return f.requests(requests...)
}

func (f *fixture) requests(requests ...*inventory.Request) []inventory.Outcome {
	f.Helper()
	outcomes, err := f.try(context.Background(), requests...)
	if err != nil {
		f.Fatalf("Commit: %v", err)
	}
	return outcomes
}

func (f *fixture) try(ctx context.Context, requests ...*inventory.Request) (outcomes []inventory.Outcome, err error) {
	return Commit(ctx, f.Store, requests...)
}

func (f *fixture) view(read func(store.View) error) {
	f.Helper()
	if err := f.View(f.Context(), read); err != nil {
		f.Fatalf("View: %v", err)
	}
}

func (f *fixture) head() (head store.Head) {
	f.Helper()
	f.view(func(v store.View) (err error) {
		head, err = v.Head(f.Context())
		return err
	})
	return head
}

func (f *fixture) product(id string) (p *inventory.Product) {
	f.Helper()
	f.view(func(v store.View) error {
		page, _, err := v.Products(f.Context(), store.ProductQuery{IDs: []string{id}})
		if len(page) == 1 {
			p = page[0]
		}
		return err
	})
	return p
}

func (f *fixture) reservation(id inventory.ID) (r *inventory.Reservation) {
	f.Helper()
	f.view(func(v store.View) error {
		page, _, err := v.Reservations(f.Context(), store.ReservationQuery{IDs: []inventory.ID{id}})
		if len(page) == 1 {
			r = page[0]
		}
		return err
	})
	return r
}

func (f *fixture) stock(id string, want inventory.Buckets) {
	f.Helper()
	if got := f.product(id).At(inventory.MainLocation).Buckets; got != want {
		f.Fatalf("stock of %s is %+v, want %+v", id, got, want)
	}
}

func newProduct(id string, units int64) *inventory.CreateProduct {
	return &inventory.CreateProduct{ID: id, Name: "Product " + id, Price: inventory.Money{Amount: 250, Currency: "EUR"}, TotalStock: units, Location: inventory.MainLocation}
}

func reserve(id string, quantity int64, ttl time.Duration) *inventory.Reserve {
	return &inventory.Reserve{Lines: []inventory.ReserveLine{{ProductID: id, Location: inventory.MainLocation, Quantity: quantity}}, TTL: ttl.Milliseconds()}
}

func (f *fixture) hold(id string, quantity int64, ttl time.Duration) *inventory.Reservation {
	f.Helper()
	o := f.do(reserve(id, quantity, ttl))[0]
	if o.Refusal != nil {
		f.Fatalf("refused: %+v", o.Refusal)
	}
	return o.Reservation
}

func empty(f *fixture) {
	head := f.head()
	if head.Store == "" || head.Format != store.Format || head.BatchNo != 0 || head.Seq != 0 {
		f.Fatalf("head of an empty store: %+v", head)
	}
	f.view(func(v store.View) error {
		products, _, err1 := v.Products(f.Context(), store.ProductQuery{Limit: 10})
		reservations, next, err2 := v.Reservations(f.Context(), store.ReservationQuery{Limit: 10})
		entries, err3 := v.Journal(f.Context(), store.JournalPosition{BatchNo: 1}, 10, 1<<20)
		deadlines, err4 := v.Due(f.Context(), inventory.Time(Start.Add(time.Hour).UnixMilli()), 10)
		strays, err5 := v.Strays(f.Context(), 10)
		if len(products)+len(reservations)+len(entries)+len(deadlines)+len(strays) != 0 || !next.IsZero() {
			f.Fatal("an empty store has rows")
		}
		return errors.Join(err1, err2, err3, err4, err5)
	})
}

func commits(f *fixture) {
	before := f.head()
	f.do(newProduct("mug", 5), reserve("mug", 2, time.Minute))
	head := f.head()
	if head.BatchNo != before.BatchNo+1 || head.Seq != before.Seq+2 || head.BatchID == before.BatchID || head.At != inventory.Time(Start.UnixMilli()) {
		f.Fatalf("head %+v after %+v", head, before)
	}
	f.stock("mug", inventory.Buckets{Available: 3, Reserved: 2})
}

func nothingToWrite(f *fixture) {
	f.do(newProduct("mug", 1))
	before := f.head()
	if o := f.do(reserve("mug", 2, time.Minute))[0]; o.Refusal == nil {
		f.Fatal("2 of 1 were reserved")
	}
	if after := f.head(); after != before {
		f.Fatalf("a refusal wrote: %+v after %+v", after, before)
	}
}

func decideError(f *fixture) {
	f.do(newProduct("mug", 1))
	before := f.head()
	wrong := errors.New("no")
	err := f.Commit(context.Background(), inventory.KeysOf(nil), func(*inventory.State) (*inventory.Changes, error) { return nil, wrong })
	if !errors.Is(err, wrong) {
		f.Fatalf("got %v", err)
	}
	if after := f.head(); after != before {
		f.Fatal("a failed decision wrote")
	}
	f.hold("mug", 1, time.Minute) // and the store goes on
}

// decidedAgain: a batch that was given up is loaded anew, so deciding it again gives the same.
func decidedAgain(f *fixture) {
	f.do(newProduct("mug", 1))
	requests := []*inventory.Request{{Command: reserve("mug", 1, time.Minute), Salt: 7}}
	var first inventory.ID
	err := f.Commit(context.Background(), inventory.KeysOf(requests), func(state *inventory.State) (*inventory.Changes, error) {
		outcomes, _, err := inventory.Decide(state, requests)
		first = outcomes[0].Reservation.ID
		return nil, errors.Join(err, errors.New("once more"))
	})
	if err == nil {
		f.Fatal("an error was swallowed")
	}
	if again := f.requests(requests...)[0]; again.Refusal != nil || again.Reservation.ID != first {
		f.Fatalf("decided again: %+v", again)
	}
	f.stock("mug", inventory.Buckets{Reserved: 1})
}

func refusedNeighbour(f *fixture) {
	outcomes := f.do(newProduct("mug", 3), reserve("mug", 2, time.Minute), reserve("mug", 2, time.Minute), reserve("none", 1, time.Minute), reserve("mug", 1, time.Minute))
	for i, refused := range []bool{false, false, true, true, false} {
		if (outcomes[i].Refusal != nil) != refused {
			f.Fatalf("command %d: %+v", i, outcomes[i])
		}
	}
	f.stock("mug", inventory.Buckets{Reserved: 3})
}

func negativeBucket(f *fixture) {
	if !f.backend.Enforces {
		f.Skip("declared: this store does not check buckets itself")
	}
	f.do(newProduct("mug", 1))
	before := f.head()
	requests := []*inventory.Request{{Command: reserve("mug", 1, time.Minute)}}
	err := f.Commit(context.Background(), inventory.KeysOf(requests), func(state *inventory.State) (*inventory.Changes, error) {
		_, changes, err := inventory.Decide(state, requests)
		changes.Stock[0].After.Available = -1
		return changes, err
	})
	if err == nil || errors.Is(err, store.ErrBroken) || errors.Is(err, store.ErrUnavailable) {
		f.Fatalf("a negative bucket: %v", err)
	}
	if f.head() != before {
		f.Fatal("a refused batch wrote")
	}
	f.hold("mug", 1, time.Minute)
}

func afterClose(f *fixture) {
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		f.Fatal(err)
	}
	if _, err := f.try(context.Background(), &inventory.Request{Command: newProduct("mug", 1)}); !errors.Is(err, store.ErrClosed) {
		f.Fatalf("Commit after Close: %v", err)
	}
	if err := f.View(context.Background(), func(store.View) error { return nil }); !errors.Is(err, store.ErrClosed) {
		f.Fatalf("View after Close: %v", err)
	}
}

func cancelledContext(f *fixture) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.try(ctx, &inventory.Request{Command: newProduct("mug", 1)}); !errors.Is(err, context.Canceled) {
		f.Fatalf("Commit: %v", err)
	}
	if f.product("mug") != nil {
		f.Fatal("a cancelled commit wrote")
	}
	if err := f.View(ctx, func(store.View) error { return nil }); !errors.Is(err, context.Canceled) {
		f.Fatalf("View: %v", err)
	}
}

// cancelledInside: a method of a view heeds the context that it is given, which may end before that of View.
func cancelledInside(f *fixture) {
	f.do(newProduct("mug", 1))
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	methods := map[string]func(v store.View) error{
		"Head":         func(v store.View) error { return second(v.Head(ctx)) },
		"Now":          func(v store.View) error { return second(v.Now(ctx)) },
		"Products":     func(v store.View) error { return third(v.Products(ctx, store.ProductQuery{Limit: 1})) },
		"Reservations": func(v store.View) error { return third(v.Reservations(ctx, store.ReservationQuery{Limit: 1})) },
		"Orders":       func(v store.View) error { return third(v.Orders(ctx, store.OrderQuery{Limit: 1})) },
		"Journal":      func(v store.View) error { return second(v.Journal(ctx, store.JournalPosition{BatchNo: 1}, 1, 1)) },
		"Due":          func(v store.View) error { return second(v.Due(ctx, 1, 1)) },
		"Strays":       func(v store.View) error { return second(v.Strays(ctx, 1)) },
	}
	for name, method := range methods {
		f.view(func(v store.View) error {
			if err := method(v); !errors.Is(err, context.Canceled) {
				f.Errorf("%s: %v", name, err)
			}
			return nil
		})
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

func caseOfIDs(f *fixture) {
	f.do(newProduct("a", 1), newProduct("A", 2))
	if f.product("a").Totals().Total() != 1 || f.product("A").Totals().Total() != 2 {
		f.Fatal("ids that differ by case are mixed up")
	}
}

// wrongSalt: an id that has the right sequence and another salt is another id.
func wrongSalt(f *fixture) {
	f.do(newProduct("mug", 1))
	r := f.hold("mug", 1, time.Minute)
	other := inventory.NewID(r.CreatedAt, r.ID.Sequence(), 99)
	if f.reservation(other) != nil {
		f.Fatal("found by a guessed id")
	}
	if o := f.do(&inventory.Cancel{ID: other})[0]; o.Refusal == nil || o.Refusal.Code != inventory.RefusedReservationNotFound {
		f.Fatalf("cancelled by a guessed id: %+v", o)
	}
}

func precision(f *fixture) {
	f.Advance(123*time.Millisecond + 999*time.Microsecond)
	f.do(newProduct("mug", 1))
	r := f.reservation(f.hold("mug", 1, 1500*time.Millisecond).ID)
	now := inventory.Time(Start.UnixMilli() + 123)
	if r.CreatedAt != now || r.ExpiresAt != now+1500 {
		f.Fatalf("created %d, expires %d, now %d", r.CreatedAt, r.ExpiresAt, now)
	}
}

func clockJumps(f *fixture) {
	f.do(newProduct("mug", 9))
	at := f.head().At
	f.Advance(-3 * time.Second)
	if r := f.hold("mug", 1, time.Minute); r.CreatedAt != at {
		f.Fatalf("a little behind, time must stand still: %d, not %d", r.CreatedAt, at)
	}
	f.Advance(-10 * time.Second)
	before := f.head()
	if _, err := f.try(context.Background(), &inventory.Request{Command: reserve("mug", 1, time.Minute)}); !errors.Is(err, store.ErrClockBehind) {
		f.Fatalf("far behind: %v", err)
	}
	if f.head() != before {
		f.Fatal("a refused clock wrote")
	}
	f.Advance(time.Hour)
	if r := f.hold("mug", 1, time.Minute); r.CreatedAt != inventory.Time(f.Now().UnixMilli()) {
		f.Fatal("a jump ahead must be followed")
	}
}

func concurrentWriters(f *fixture) {
	f.do(newProduct("mug", 1000))
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 25 {
				if _, err := f.try(context.Background(), &inventory.Request{Command: reserve("mug", 1, time.Minute)}); err != nil {
					f.Error(err)
				}
			}
		})
	}
	writers.Wait()
	f.stock("mug", inventory.Buckets{Available: 800, Reserved: 200})
	f.checkJournal(201)
}

// checkJournal requires n events in order, without a gap, under an unbroken chain of checksums.
func (f *fixture) checkJournal(n int64) {
	f.Helper()
	var last store.Entry
	seq := int64(0)
	f.view(func(v store.View) error {
		entries, err := v.Journal(f.Context(), store.JournalPosition{BatchNo: 1}, 1<<20, 1<<30)
		for i := range entries {
			e := &entries[i]
			events, err := inventory.DecodeEvents(e.First, e.At, e.Events)
			if err != nil || len(events) != e.Count || e.BatchNo != last.BatchNo+1 || e.First != seq+1 || e.Chain(last.Checksum) != e.Checksum || e.At < last.At {
				f.Fatalf("entry %d after %d: %+v (%v)", e.BatchNo, last.BatchNo, e, err)
			}
			seq += int64(e.Count)
			last = *e
		}
		head, err2 := v.Head(f.Context())
		if head.Seq != seq || head.Chain != last.Checksum || head.BatchNo != last.BatchNo || head.BatchID != last.BatchID {
			f.Fatalf("head %+v, last entry %+v", head, last)
		}
		return errors.Join(err, err2)
	})
	if seq != n {
		f.Fatalf("%d events, want %d", seq, n)
	}
}

func keyed(key string, command inventory.Command) *inventory.Request {
	r := &inventory.Request{Command: command, Receipt: &inventory.ReceiptID{}}
	copy(r.Receipt.Key[:], key)
	copy(r.Receipt.Fingerprint[:], "f"+key)
	return r
}

func receipts(f *fixture) {
	f.do(newProduct("mug", 2))
	first := f.requests(keyed("k", reserve("mug", 2, time.Minute)))[0]
	f.Advance(23*time.Hour + 59*time.Minute)
	if f.backend.Reopen != nil {
		f.Store = f.backend.Reopen(f, f.Store, f.Now)
	}
	again := f.requests(keyed("k", reserve("mug", 2, time.Minute)), keyed("free", reserve("mug", 9, time.Minute)))
	if !again[0].Replayed || again[0].Reservation.ID != first.Reservation.ID || again[0].Seq != first.Seq || again[0].Reservation.Status != inventory.ReservationActive {
		f.Fatalf("replayed: %+v", again[0])
	}
	if again[1].Refusal == nil || again[1].Refusal.Code != inventory.RefusedInsufficientStock {
		f.Fatalf("%+v", again[1])
	}
	other := keyed("k", reserve("mug", 1, time.Minute))
	other.Receipt.Fingerprint[0] ^= 1
	if o := f.requests(other)[0]; o.Refusal == nil || o.Refusal.Code != inventory.RefusedIdempotencyKeyReused {
		f.Fatalf("the key with another request: %+v", o)
	}
}

func overdueIsLoaded(f *fixture) {
	f.do(newProduct("mug", 3), newProduct("cup", 3))
	late, early := f.hold("mug", 1, 2*time.Second), f.hold("mug", 1, time.Second)
	other := f.hold("cup", 3, time.Second)
	f.hold("mug", 1, time.Hour)
	f.Advance(5 * time.Second)
	f.do(reserve("mug", 1, time.Minute))
	for id, want := range map[inventory.ID]inventory.ReservationStatus{early.ID: inventory.ReservationExpired, late.ID: inventory.ReservationActive, other.ID: inventory.ReservationActive} {
		if got := f.reservation(id); got.Status != want {
			f.Errorf("%v is %v, want %v", id, got.Status, want)
		}
	}
	if r := f.reservation(early.ID); r.EndedAt != r.ExpiresAt {
		f.Error("an expired hold ends at its deadline")
	}
	f.stock("mug", inventory.Buckets{Reserved: 3})
}

func overdueIsBounded(f *fixture) {
	const holds = inventory.MaxOverdueLoaded + 200
	f.do(newProduct("mug", holds))
	batch := make([]inventory.Command, holds)
	for i := range batch {
		batch[i] = reserve("mug", 1, time.Second)
	}
	f.do(batch...)
	f.Advance(time.Second)
	all := reserve("mug", holds, time.Minute)
	if o := f.do(all)[0]; !o.Deferred {
		f.Fatalf("with more overdue holds left than a batch loads: %+v", o)
	}
	f.stock("mug", inventory.Buckets{Available: inventory.MaxOverdueLoaded, Reserved: 200})
	if o := f.do(all)[0]; o.Refusal != nil || o.Deferred {
		f.Fatalf("in the next batch: %+v", o)
	}
}

// overdueCart: an overdue hold is loaded with all its stock rows, not only the one that is wanted.
func overdueCart(f *fixture) {
	f.do(newProduct("mug", 1), newProduct("cup", 1))
	f.do(&inventory.Reserve{TTL: 1000, Lines: []inventory.ReserveLine{
		{ProductID: "mug", Location: inventory.MainLocation, Quantity: 1}, {ProductID: "cup", Location: inventory.MainLocation, Quantity: 1},
	}})
	f.Advance(time.Second)
	f.hold("cup", 1, time.Minute)
	f.stock("mug", inventory.Buckets{Available: 1})
	f.stock("cup", inventory.Buckets{Reserved: 1})
}

func (f *fixture) listReservations(q store.ReservationQuery) (ids []inventory.ID) {
	f.Helper()
	for {
		var page []*inventory.Reservation
		f.view(func(v store.View) (err error) {
			page, q.Before, err = v.Reservations(f.Context(), q)
			return err
		})
		if len(page) > q.Limit {
			f.Fatalf("a page of %d with limit %d", len(page), q.Limit)
		}
		for _, r := range page {
			ids = append(ids, r.ID)
		}
		if q.Before.IsZero() {
			return ids
		}
	}
}

func same(f *fixture, what string, got []inventory.ID, want ...inventory.ID) {
	f.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		f.Errorf("%s:\n got  %v\n want %v", what, got, want)
	}
}

func listReservations(f *fixture) {
	f.do(newProduct("mug", 100), newProduct("cup", 100))
	byAnna := func(id string, ttl time.Duration) inventory.ID {
		c := reserve(id, 1, ttl)
		c.CustomerID = "anna"
		return f.do(c)[0].Reservation.ID
	}
	a := f.hold("mug", 1, time.Minute).ID
	b := byAnna("cup", time.Minute)
	c := byAnna("mug", time.Second)
	d := f.hold("mug", 1, time.Minute).ID
	f.do(&inventory.Cancel{ID: a})
	cart := f.do(&inventory.Reserve{TTL: 60_000, Lines: []inventory.ReserveLine{
		{ProductID: "cup", Location: inventory.MainLocation, Quantity: 1},
		{ProductID: "mug", Location: inventory.MainLocation, Quantity: 1},
		{ProductID: "cup", Location: inventory.MainLocation, Quantity: 1},
	}})[0].Reservation.ID
	for limit := 1; limit <= 6; limit++ {
		same(f, "all", f.listReservations(store.ReservationQuery{Limit: limit}), cart, d, c, b, a)
		same(f, "by customer", f.listReservations(store.ReservationQuery{CustomerID: "anna", Limit: limit}), c, b)
		same(f, "by status", f.listReservations(store.ReservationQuery{Status: inventory.ReservationCancelled, Limit: limit}), a)
		same(f, "by product", f.listReservations(store.ReservationQuery{ProductID: "mug", Status: inventory.ReservationActive, Limit: limit}), cart, d, c)
		same(f, "by both", f.listReservations(store.ReservationQuery{CustomerID: "anna", Status: inventory.ReservationConfirmed, Limit: limit}))
		same(f, "of nobody", f.listReservations(store.ReservationQuery{CustomerID: "ann", Limit: limit}))
		due := inventory.Time(Start.UnixMilli() + 1000)
		same(f, "expired, or due", f.listReservations(store.ReservationQuery{Status: inventory.ReservationExpired, DueBy: due, Limit: limit}), c)
	}
}

func listOrders(f *fixture) {
	f.do(newProduct("mug", 100))
	order := func(customer, reference string) *inventory.Order {
		c := reserve("mug", 1, time.Minute)
		c.CustomerID = customer
		return f.do(&inventory.Confirm{ReservationID: f.do(c)[0].Reservation.ID, Reference: reference})[0].Order
	}
	a, b, c := order("anna", "pay1"), order("", "pay2"), order("anna", "")
	f.do(&inventory.Fulfill{ID: b.ID})
	list := func(q store.OrderQuery) (ids []inventory.ID) {
		for {
			var page []*inventory.Order
			f.view(func(v store.View) (err error) {
				page, q.Before, err = v.Orders(f.Context(), q)
				return err
			})
			for _, o := range page {
				ids = append(ids, o.ID)
			}
			if q.Before.IsZero() {
				return ids
			}
		}
	}
	for limit := 1; limit <= 4; limit++ {
		same(f, "all", list(store.OrderQuery{Limit: limit}), c.ID, b.ID, a.ID)
		same(f, "by customer", list(store.OrderQuery{CustomerID: "anna", Limit: limit}), c.ID, a.ID)
		same(f, "by reference", list(store.OrderQuery{Reference: "pay2", Limit: limit}), b.ID)
		same(f, "by reservation", list(store.OrderQuery{ReservationID: a.ReservationID, Limit: limit}), a.ID)
		same(f, "confirmed", list(store.OrderQuery{Status: inventory.OrderConfirmed, Limit: limit}), c.ID, a.ID)
		same(f, "fulfilled", list(store.OrderQuery{Status: inventory.OrderFulfilled, Limit: limit}), b.ID)
		same(f, "by all", list(store.OrderQuery{Status: inventory.OrderFulfilled, CustomerID: "anna", Limit: limit}))
	}
}

func listProducts(f *fixture) {
	for _, id := range []string{"b", "a", "B", "a1", "a-1"} {
		f.do(newProduct(id, 1))
	}
	f.view(func(v store.View) error {
		got, after := "", ""
		for {
			page, next, err := v.Products(f.Context(), store.ProductQuery{After: after, Limit: 2})
			if err != nil {
				return err
			}
			for _, p := range page {
				got += p.ID + " "
			}
			if after = next; after == "" {
				break
			}
		}
		if got != "B a a-1 a1 b " {
			f.Errorf("in byte order: %s", got)
		}
		some, _, err := v.Products(f.Context(), store.ProductQuery{IDs: []string{"a1", "none", "B"}})
		if len(some) != 2 || some[0].ID != "B" || some[1].ID != "a1" {
			f.Errorf("by id: %d products", len(some))
		}
		return err
	})
}

func due(f *fixture) {
	f.do(newProduct("mug", 100))
	late, early, ended := f.hold("mug", 1, time.Hour), f.hold("mug", 1, time.Second), f.hold("mug", 1, time.Millisecond)
	f.do(&inventory.Cancel{ID: ended.ID})
	f.do(&inventory.Extend{ID: early.ID, TTL: 2000, MaxHold: 1e9})
	f.view(func(v store.View) error {
		list, err1 := v.Due(f.Context(), late.ExpiresAt, 10)
		if len(list) != 2 || list[0].ID != early.ID || list[0].At != early.CreatedAt+2000 || list[1].ID != late.ID {
			f.Errorf("due: %v", list)
		}
		one, err2 := v.Due(f.Context(), late.ExpiresAt, 1)
		sooner, err3 := v.Due(f.Context(), late.ExpiresAt-1, 10)
		if len(one) != 1 || len(sooner) != 1 || one[0].ID != early.ID || sooner[0].ID != early.ID {
			f.Errorf("limit 1: %v, and before the last: %v", one, sooner)
		}
		none, err4 := v.Due(f.Context(), early.CreatedAt+1999, 10)
		if len(none) != 0 {
			f.Errorf("before the first: %v", none)
		}
		return errors.Join(err1, err2, err3, err4)
	})
}

func journal(f *fixture) {
	f.do(newProduct("mug", 100), newProduct("cup", 1))
	r := f.requests(keyed("k", reserve("mug", 1, time.Minute)))[0].Reservation
	f.do(&inventory.Cancel{ID: r.ID})
	f.requests(keyed("nothing", &inventory.Cancel{ID: r.ID})) // a receipt alone: a batch without events
	f.do(reserve("mug", 1, time.Minute), reserve("mug", 1, time.Minute))
	f.checkJournal(6)
	firsts := func(from store.JournalPosition, limit, maxBytes int) (batches []int64) {
		f.view(func(v store.View) error {
			page, err := v.Journal(f.Context(), from, limit, maxBytes)
			for i := range page {
				batches = append(batches, page[i].BatchNo)
			}
			return err
		})
		return batches
	}
	for _, c := range []struct {
		from            store.JournalPosition
		limit, maxBytes int
		want            string
	}{
		{store.JournalPosition{Seq: 1}, 10, 1 << 20, "[1 2 3 4 5]"},
		{store.JournalPosition{Seq: 2}, 2, 1 << 20, "[1 2]"},
		{store.JournalPosition{Seq: 3}, 1, 1 << 20, "[2]"},
		{store.JournalPosition{Seq: 6}, 10, 1 << 20, "[5]"},
		{store.JournalPosition{Seq: 7}, 10, 1 << 20, "[]"},
		{store.JournalPosition{BatchNo: 4}, 10, 1 << 20, "[4 5]"},
		{store.JournalPosition{BatchNo: 1}, 10, 1, "[1]"},
	} {
		if got := fmt.Sprint(firsts(c.from, c.limit, c.maxBytes)); got != c.want {
			f.Errorf("from %+v, at most %d: %s, want %s", c.from, c.limit, got, c.want)
		}
	}
}

func locations(f *fixture) {
	f.do(newProduct("mug", 1))
	f.do(&inventory.Adjust{ProductID: "mug", Location: "berlin", Delta: 5, Reason: "received"})
	f.do(&inventory.Reserve{TTL: 1000, Lines: []inventory.ReserveLine{{ProductID: "mug", Location: "berlin", Quantity: 2}}})
	p := f.product("mug")
	if len(p.Stock) != 2 || p.Stock[0].Location != "berlin" || p.Stock[0].Buckets != (inventory.Buckets{Available: 3, Reserved: 2}) || p.Stock[1].Available != 1 {
		f.Fatalf("%+v", p.Stock)
	}
	name := "Cup"
	if o := f.do(&inventory.UpdateProduct{ID: "mug", Name: &name})[0]; len(o.Product.Stock) != 2 {
		f.Fatalf("a product is answered with all its stock: %+v", o.Product)
	}
}

func reopen(f *fixture) {
	if f.backend.Reopen == nil {
		f.Skip("declared: this store keeps nothing")
	}
	f.do(newProduct("mug", 5))
	r := f.hold("mug", 2, time.Minute)
	head := f.head()
	f.Store = f.backend.Reopen(f, f.Store, f.Now)
	if f.head() != head {
		f.Fatal("the head is another")
	}
	f.stock("mug", inventory.Buckets{Available: 3, Reserved: 2})
	if o := f.do(&inventory.Confirm{ReservationID: r.ID})[0]; o.Refusal != nil {
		f.Fatalf("%+v", o.Refusal)
	}
	f.checkJournal(4)
}

func wholeLife(f *fixture) {
	f.do(newProduct("mug", 10))
	shipped, returned := f.hold("mug", 1, time.Minute), f.hold("mug", 2, time.Minute)
	o1 := f.do(&inventory.Confirm{ReservationID: shipped.ID, Reference: "p", Metadata: inventory.Metadata{{Name: "a", Value: "b"}}})[0].Order
	o2 := f.do(&inventory.Confirm{ReservationID: returned.ID})[0].Order
	f.do(&inventory.Fulfill{ID: o1.ID}, &inventory.CancelOrder{ID: o2.ID, Reason: "returned"})
	f.do(&inventory.Adjust{ProductID: "mug", Location: inventory.MainLocation, Delta: -4, Reason: "broken"})
	f.stock("mug", inventory.Buckets{Available: 5})
	if r := f.reservation(shipped.ID); r.Status != inventory.ReservationConfirmed || r.OrderID != o1.ID || r.Version != 2 {
		f.Fatalf("%+v", r)
	}
	if again := f.do(&inventory.Confirm{ReservationID: shipped.ID})[0]; again.Created || again.Order.ID != o1.ID || again.Order.Status != inventory.OrderFulfilled || len(again.Order.Metadata) != 1 {
		f.Fatalf("%+v", again.Order)
	}
}

// snapshotIsOne: what a view reads does not change while it reads.
func snapshotIsOne(f *fixture) {
	f.do(newProduct("mug", 10))
	if f.backend.Reopen == nil {
		f.Skip("declared: a commit waits for the views of this store")
	}
	f.view(func(v store.View) error {
		before, err := v.Head(f.Context())
		f.hold("mug", 1, time.Minute)
		page, _, err2 := v.Products(f.Context(), store.ProductQuery{IDs: []string{"mug"}})
		after, err3 := v.Head(f.Context())
		if before != after || page[0].Totals().Available != 10 {
			f.Error("a snapshot changed")
		}
		return errors.Join(err, err2, err3)
	})
}

// viewClock: readers go by the clock that decides, and never by one before the head.
func viewClock(f *fixture) {
	clock := func() (now inventory.Time) {
		f.Helper()
		f.view(func(v store.View) (err error) {
			now, err = v.Now(f.Context())
			return err
		})
		return now
	}
	f.do(newProduct("mug", 1))
	f.Advance(1500 * time.Millisecond)
	if now := clock(); now != inventory.Time(Start.UnixMilli()+1500) {
		f.Errorf("the clock of a view is %d", now)
	}
	f.Advance(-time.Minute)
	if now := clock(); now != f.head().At {
		f.Errorf("the clock of a view is %d, before the head's %d", now, f.head().At)
	}
}

// sharedByProcesses: several stores on one database commit beside each other as one would alone, and share its receipts.
func sharedByProcesses(f *fixture) {
	if f.backend.Share == nil {
		f.Skip("declared: this store is of one process")
	}
	stores := []store.Store{f.Store, f.backend.Share(f, f.Store, f.Now), f.backend.Share(f, f.Store, f.Now)}
	f.do(newProduct("mug", 50))
	var writers sync.WaitGroup
	for i, s := range stores {
		writers.Go(func() {
			other := &fixture{TB: f.TB, Store: s}
			for n := range 30 {
				outcomes, err := other.try(context.Background(), keyed(fmt.Sprint("of all ", n), reserve("mug", 1, time.Minute)), &inventory.Request{Command: reserve("mug", 1, time.Minute)})
				if err != nil {
					f.Errorf("store %d: %v", i, err)
				} else if o := outcomes[0]; o.Refusal != nil && o.Refusal.Code != inventory.RefusedInsufficientStock {
					f.Errorf("store %d: %+v", i, o.Refusal)
				}
			}
		})
	}
	writers.Wait()
	f.stock("mug", inventory.Buckets{Reserved: 50})
	f.checkJournal(51)
	for n := range 30 {
		request := keyed(fmt.Sprint("of all ", n), reserve("mug", 1, time.Minute))
		var ids []inventory.ID
		for _, s := range stores {
			other := &fixture{TB: f.TB, Store: s}
			if o := other.requests(request)[0]; o.Reservation != nil {
				ids = append(ids, o.Reservation.ID)
			}
		}
		if len(ids) > 0 && (len(ids) != len(stores) || ids[0] != ids[1] || ids[1] != ids[2]) {
			f.Errorf("key %d has the answers %v", n, ids)
		}
	}
}

// Benchmark measures a store at the engine: commands a second in batches of 1, 64 and 1,024, on one product and on 1,000.
func Benchmark(b *testing.B, backend Backend) {
	for _, size := range []int{1, 64, 1024} {
		for _, products := range []int{1, 1000} {
			b.Run(fmt.Sprintf("batch=%d/products=%d", size, products), func(b *testing.B) {
				f := backend.fixture(b)
				for i := range products {
					f.do(newProduct(fmt.Sprint("p", i), inventory.MaxStock/1000))
				}
				n := 0
				b.ResetTimer()
				for range b.N {
					batch := make([]inventory.Command, size)
					for i := range batch {
						batch[i] = reserve(fmt.Sprint("p", n*7919%products), 1, time.Hour)
						n++
					}
					f.do(batch...)
				}
				b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "commands/s")
			})
		}
	}
}
