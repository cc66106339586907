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

func (f *fixture) head() store.Head {
	f.Helper()
	return Head(f.TB, f.Store)
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
	return &inventory.CreateProduct{
		ID: id, Name: "Product " + id, Price: inventory.Money{Amount: 250, Currency: "EUR"},
		TotalStock: units, Location: inventory.MainLocation,
	}
}

func reserve(id string, quantity int64, ttl time.Duration) *inventory.Reserve {
	return &inventory.Reserve{Lines: []inventory.ReserveLine{{
		ProductID: id, Location: inventory.MainLocation,
		Quantity: quantity,
	}}, TTL: ttl.Milliseconds()}
}

func (f *fixture) hold(id string, quantity int64, ttl time.Duration) *inventory.Reservation {
	f.Helper()
	o := f.do(reserve(id, quantity, ttl))[0]
	if o.Refusal != nil {
		f.Fatalf("refused: %+v", o.Refusal)
	}
	return o.Reservation
}

func second[A any](_ A, err error) error { return err }

func third[A, B any](_ A, _ B, err error) error { return err }

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
			if err != nil || len(events) != e.Count || e.BatchNo != last.BatchNo+1 || e.First != seq+1 ||
				e.Chain(last.Checksum) != e.Checksum || e.At < last.At {
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
