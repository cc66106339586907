package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

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
	if head.BatchNo != before.BatchNo+1 || head.Seq != before.Seq+2 || head.BatchID == before.BatchID ||
		head.At != inventory.Time(Start.UnixMilli()) {
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
	err := f.Commit(context.Background(), inventory.KeysOf(nil),
		func(*inventory.State) (*inventory.Changes, error) { return nil, wrong })
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
	err := f.Commit(context.Background(), inventory.KeysOf(requests),
		func(state *inventory.State) (*inventory.Changes, error) {
			outcomes, _, err := inventory.Decide(state, requests)
			first = outcomes[0].Reservation.ID
			return nil, errors.Join(err, errors.New("once more"))
		})
	if err == nil {
		f.Fatal("an error was swallowed")
	}
	if repeated := f.requests(requests...)[0]; repeated.Refusal != nil || repeated.Reservation.ID != first {
		f.Fatalf("decided again: %+v", repeated)
	}
	f.stock("mug", inventory.Buckets{Reserved: 1})
}

func refusedNeighbour(f *fixture) {
	outcomes := f.do(newProduct("mug", 3), reserve("mug", 2, time.Minute), reserve("mug", 2, time.Minute),
		reserve("none", 1, time.Minute), reserve("mug", 1, time.Minute))
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
	err := f.Commit(context.Background(), inventory.KeysOf(requests),
		func(state *inventory.State) (*inventory.Changes, error) {
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
	if _, err := f.try(f.Context(), &inventory.Request{Command: newProduct("mug", 1)}); !errors.Is(err, store.ErrClosed) {
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

// cancelledLate: a transaction that has begun goes on although its context ends.
func cancelledLate(f *fixture) {
	ctx, cancel := context.WithCancel(f.Context())
	requests := []*inventory.Request{{Command: newProduct("mug", 1)}}
	err := f.Commit(ctx, inventory.KeysOf(requests), func(state *inventory.State) (*inventory.Changes, error) {
		cancel()
		_, changes, err := inventory.Decide(state, requests)
		return changes, err
	})
	if err != nil || f.product("mug") == nil {
		f.Fatalf("Commit: %v", err)
	}
}

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
	if o := f.do(&inventory.Cancel{ID: other})[0]; o.Refusal == nil ||
		o.Refusal.Code != inventory.RefusedReservationNotFound {
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
	_, err := f.try(f.Context(), &inventory.Request{Command: reserve("mug", 1, time.Minute)})
	if !errors.Is(err, store.ErrClockBehind) {
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
				if _, err := f.try(f.Context(), &inventory.Request{Command: reserve("mug", 1, time.Minute)}); err != nil {
					f.Error(err)
				}
			}
		})
	}
	writers.Wait()
	f.stock("mug", inventory.Buckets{Available: 800, Reserved: 200})
	f.checkJournal(201)
}

func receipts(f *fixture) {
	f.do(newProduct("mug", 2))
	first := f.requests(keyed("k", reserve("mug", 2, time.Minute)))[0]
	f.Advance(23*time.Hour + 59*time.Minute)
	if f.backend.Reopen != nil {
		f.Store = f.backend.Reopen(f, f.Store, f.Now)
	}
	repeated := f.requests(keyed("k", reserve("mug", 2, time.Minute)), keyed("free", reserve("mug", 9, time.Minute)))
	if !repeated[0].Replayed || repeated[0].Reservation.ID != first.Reservation.ID || repeated[0].Seq != first.Seq ||
		repeated[0].Reservation.Status != inventory.ReservationActive {
		f.Fatalf("replayed: %+v", repeated[0])
	}
	if repeated[1].Refusal == nil || repeated[1].Refusal.Code != inventory.RefusedInsufficientStock {
		f.Fatalf("%+v", repeated[1])
	}
	other := keyed("k", reserve("mug", 1, time.Minute))
	other.Receipt.Fingerprint[0] ^= 1
	if o := f.requests(other)[0]; o.Refusal == nil || o.Refusal.Code != inventory.RefusedIdempotencyKeyReused {
		f.Fatalf("the key with another request: %+v", o)
	}
}

func locations(f *fixture) {
	f.do(newProduct("mug", 1))
	f.do(&inventory.Adjust{ProductID: "mug", Location: "berlin", Delta: 5, Reason: "received"})
	f.do(&inventory.Reserve{TTL: 1000, Lines: []inventory.ReserveLine{{
		ProductID: "mug", Location: "berlin",
		Quantity: 2,
	}}})
	p := f.product("mug")
	if len(p.Stock) != 2 || p.Stock[0].Location != "berlin" ||
		p.Stock[0].Buckets != (inventory.Buckets{Available: 3, Reserved: 2}) || p.Stock[1].Available != 1 {
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
	o1 := f.do(&inventory.Confirm{
		ReservationID: shipped.ID, Reference: "p",
		Metadata: inventory.Metadata{{Name: "a", Value: "b"}},
	})[0].Order
	o2 := f.do(&inventory.Confirm{ReservationID: returned.ID})[0].Order
	f.do(&inventory.Fulfill{ID: o1.ID}, &inventory.CancelOrder{ID: o2.ID, Reason: "returned"})
	f.do(&inventory.Adjust{ProductID: "mug", Location: inventory.MainLocation, Delta: -4, Reason: "broken"})
	f.stock("mug", inventory.Buckets{Available: 5})
	if r := f.reservation(shipped.ID); r.Status != inventory.ReservationConfirmed || r.OrderID != o1.ID || r.Version != 2 {
		f.Fatalf("%+v", r)
	}
	if repeated := f.do(&inventory.Confirm{ReservationID: shipped.ID})[0]; repeated.Created ||
		repeated.Order.ID != o1.ID ||
		repeated.Order.Status != inventory.OrderFulfilled || len(repeated.Order.Metadata) != 1 {
		f.Fatalf("%+v", repeated.Order)
	}
}

// soleWriter: a store that no other process can write says so, and names the clock of its batches.
func soleWriter(f *fixture) {
	clock, sole := f.SoleWriter()
	if sole != (f.backend.Share == nil) || (clock != nil) != sole {
		f.Fatalf("sole writer: %v, with a clock: %v", sole, clock != nil)
	}
	if !sole {
		return
	}
	f.Advance(1234 * time.Millisecond)
	f.do(newProduct("mug", 1))
	if now := inventory.Time(clock().UnixMilli()); now != f.head().At {
		f.Errorf("the clock says %d, the batch was at %d", now, f.head().At)
	}
}

// sharedByProcesses: several stores on one database sell no more than there is, and have the same receipts.
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
				outcomes, err := other.try(context.Background(), keyed(fmt.Sprint("of all ", n), reserve("mug", 1, time.Minute)),
					&inventory.Request{Command: reserve("mug", 1, time.Minute)})
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
