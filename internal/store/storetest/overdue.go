package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

func overdueIsLoaded(f *fixture) {
	f.do(newProduct("mug", 3), newProduct("cup", 3))
	late, early := f.hold("mug", 1, 2*time.Second), f.hold("mug", 1, time.Second)
	other := f.hold("cup", 3, time.Second)
	f.hold("mug", 1, time.Hour)
	f.Advance(5 * time.Second)
	f.do(reserve("mug", 1, time.Minute))
	for id, want := range map[inventory.ID]inventory.ReservationStatus{
		early.ID: inventory.ReservationExpired,
		late.ID:  inventory.ReservationActive, other.ID: inventory.ReservationActive,
	} {
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

// lapse makes holds of one unit of a new product, with some metadata, and lets them lapse.
func (f *fixture) lapse(id string, holds int, metadata inventory.Metadata) {
	f.Helper()
	f.do(newProduct(id, int64(holds)))
	batch := make([]inventory.Command, 0, holds)
	for range holds {
		hold := reserve(id, 1, time.Second)
		hold.Metadata = metadata
		batch = append(batch, hold)
	}
	for each := range slices.Chunk(batch, 100) {
		f.do(each...)
	}
	f.Advance(2 * time.Second)
}

// overdue loads what commands need, and writes nothing.
func (f *fixture) overdue(commands ...inventory.Command) (loaded *inventory.State) {
	f.Helper()
	requests := make([]*inventory.Request, len(commands))
	for i, c := range commands {
		requests[i] = &inventory.Request{Command: c}
	}
	keys := inventory.KeysOf(requests)
	err := f.Commit(f.Context(), keys, func(state *inventory.State) (*inventory.Changes, error) {
		loaded = state
		return &inventory.Changes{}, nil
	})
	if err != nil {
		f.Fatal(err)
	}
	return loaded
}

func mainOf(id string) inventory.StockKey {
	return inventory.StockKey{ProductID: id, Location: inventory.MainLocation}
}

// overdueAsNeeded: a batch loads no more overdue holds than its commands need.
func overdueAsNeeded(f *fixture) {
	f.lapse("mug", 40, nil)
	f.do(newProduct("cup", 9))
	for range 3 {
		f.hold("cup", 3, time.Second)
	}
	f.Advance(time.Second)
	state := f.overdue(
		reserve("mug", 2, time.Minute), reserve("mug", 1, time.Minute), reserve("cup", 4, time.Minute),
	)
	mug, cup := len(state.Overdue[mainOf("mug")]), len(state.Overdue[mainOf("cup")])
	if mug != 3 || cup != 2 || len(state.Reservations) != 5 {
		f.Errorf("%d and %d holds were loaded, of %d", mug, cup, len(state.Reservations))
	}
	if state.MoreOverdue[mainOf("mug")] || state.MoreOverdue[mainOf("cup")] {
		f.Error("nobody has to wait")
	}
	f.do(reserve("mug", 39, time.Minute)) // leaves one to be ended
	state = f.overdue(reserve("mug", 2, time.Minute))
	if n := len(state.Overdue[mainOf("mug")]); n != 1 || state.MoreOverdue[mainOf("mug")] {
		f.Errorf("%d holds were loaded, more: %v", n, state.MoreOverdue[mainOf("mug")])
	}
}

// overdueIsShared: the backlog of one stock row leaves the others their share of a batch, and nobody is refused for
// want of units that overdue holds have.
func overdueIsShared(f *fixture) {
	const large, small = inventory.MaxOverdueLoaded, 300
	f.lapse("mug", large, nil)
	f.lapse("cup", small, nil)
	f.lapse("cap", small, nil)
	commands := []inventory.Command{
		reserve("mug", large, time.Minute), reserve("cup", small, time.Minute), reserve("cap", small, time.Minute),
	}
	state := f.overdue(commands...)
	sum := 0
	for _, id := range []string{"mug", "cup", "cap"} {
		n := len(state.Overdue[mainOf(id)])
		if sum += n; n < inventory.MaxOverdueLoaded/6 || !state.MoreOverdue[mainOf(id)] {
			f.Errorf("of %s %d holds are loaded, more: %v", id, n, state.MoreOverdue[mainOf(id)])
		}
	}
	if sum != inventory.MaxOverdueLoaded {
		f.Errorf("%d holds were loaded", sum)
	}
	batches := 0
	for ; len(commands) > 0 && batches < 10; batches++ {
		var deferred []inventory.Command
		for i, o := range f.do(commands...) {
			if o.Refusal != nil {
				f.Fatalf("%+v is refused: %+v", commands[i], o.Refusal)
			}
			if o.Deferred {
				deferred = append(deferred, commands[i])
			}
		}
		commands = deferred
	}
	if batches != 2 {
		f.Errorf("%d batches, want 2", batches)
	}
}

// overdueBytes: of holds with much metadata fewer are loaded.
func overdueBytes(f *fixture) {
	const holds = 200
	var metadata inventory.Metadata
	for i := range inventory.MaxMetadata {
		metadata = append(metadata, inventory.Member{Name: fmt.Sprintf("%064d", i), Value: strings.Repeat("v", 500)})
	}
	f.lapse("mug", holds, metadata)
	all := reserve("mug", holds, time.Minute)
	state := f.overdue(all)
	n := len(state.Overdue[mainOf("mug")])
	if n < holds/3 || n > holds*3/4 || len(state.Reservations) != n || !state.MoreOverdue[mainOf("mug")] {
		f.Fatalf("%d holds were loaded, more: %v", n, state.MoreOverdue[mainOf("mug")])
	}
	if o := f.do(all)[0]; !o.Deferred {
		f.Fatalf("with more overdue holds left than a batch loads: %+v", o)
	}
	if o := f.do(all)[0]; o.Refusal != nil || o.Deferred {
		f.Fatalf("in the next batch: %+v", o)
	}
}

// BenchmarkOverdue measures reservations a second of 100 products, each sold out to 1,100 holds that have lapsed and
// were not ended. Run it for so many batches of 64 that units are left: -benchtime 500x.
func BenchmarkOverdue(b *testing.B, backend Backend) {
	const products, holds, size = 100, 1100, 64
	f := backend.fixture(b)
	for i := range products {
		f.lapse(fmt.Sprint("p", i), holds, nil)
	}
	answered, next := 0, 0
	var batch []inventory.Command
	b.ResetTimer()
	for range b.N {
		for len(batch) < size {
			batch = append(batch, reserve(fmt.Sprint("p", next*7919%products), 1, time.Hour))
			next++
		}
		var deferred []inventory.Command
		for i, o := range f.do(batch...) {
			if o.Deferred {
				deferred = append(deferred, batch[i])
			} else {
				answered++
			}
		}
		batch = deferred
	}
	b.ReportMetric(float64(answered)/b.Elapsed().Seconds(), "commands/s")
}

// overdueCart: an overdue hold is loaded with all its stock rows, not only the one that is wanted.
func overdueCart(f *fixture) {
	f.do(newProduct("mug", 1), newProduct("cup", 1))
	f.do(&inventory.Reserve{TTL: 1000, Lines: []inventory.ReserveLine{
		{ProductID: "mug", Location: inventory.MainLocation, Quantity: 1},
		{ProductID: "cup", Location: inventory.MainLocation, Quantity: 1},
	}})
	f.Advance(time.Second)
	f.hold("cup", 1, time.Minute)
	f.stock("mug", inventory.Buckets{Available: 1})
	f.stock("cup", inventory.Buckets{Reserved: 1})
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

// damagedHold: a list goes on past a hold that cannot be read, and whoever ends due holds learns of it, because the
// batch that is to end it fails.
func damagedHold(f *fixture) {
	if f.backend.Damage == nil {
		f.Skip("declared: nobody can damage the rows of this store")
	}
	f.do(newProduct("mug", 10))
	oldest, bad, newest := f.hold("mug", 1, time.Second), f.hold("mug", 1, time.Second), f.hold("mug", 1, time.Second)
	f.backend.Damage(f, f.Store, bad.ID)
	f.view(func(v store.View) error {
		q := store.ReservationQuery{Status: inventory.ReservationActive, Limit: 10}
		page, next, err := v.Reservations(f.Context(), q)
		row, ok := errors.AsType[*store.CorruptRow](err)
		if !ok || len(page) != 1 || page[0].ID != newest.ID || !next.IsZero() {
			f.Fatalf("%d before the damaged one, next %v: %v", len(page), next, err)
		}
		q.Before = row.ID
		page, next, err = v.Reservations(f.Context(), q)
		if len(page) != 1 || page[0].ID != oldest.ID || !next.IsZero() {
			f.Errorf("%d after the damaged one, next %v", len(page), next)
		}
		return err
	})
	f.Advance(2 * time.Second)
	var due []store.Deadline
	f.view(func(v store.View) (err error) {
		due, err = v.Due(f.Context(), inventory.Time(f.Now().UnixMilli()), 10)
		return err
	})
	failed := 0
	for _, d := range due {
		_, err := f.try(f.Context(), &inventory.Request{Command: &inventory.Expire{IDs: []inventory.ID{d.ID}}})
		if err != nil {
			failed++
		}
	}
	if len(due) != 3 || failed != 1 {
		f.Errorf("of %d due holds %d cannot be ended", len(due), failed)
	}
	f.stock("mug", inventory.Buckets{Available: 9, Reserved: 1})
	if o := f.do(reserve("mug", 10, time.Minute))[0]; o.Refusal == nil {
		f.Errorf("the units of the damaged hold were sold: %+v", o)
	}
}
