package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// slowView is a store whose n-th view waits after its snapshot was read.
type slowView struct {
	*fakeStore
	views atomic.Int64
	slow  int64
	gate  chan struct{}
}

func (s *slowView) View(ctx context.Context, read func(store.View) error) error {
	n := s.views.Add(1)
	err := s.Store.View(ctx, read)
	if n == s.slow {
		<-s.gate
	}
	return err
}

// TestNothingOlderThanWhatWasRead: whoever was shown one product as a batch left it is shown every other so, in the
// first batch of a process too.
func TestNothingOlderThanWhatWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake()
		first := Open(s, Options{})
		do(t, first, create("cap", 9))
		do(t, first, create("mug", 9))

		gate := make(chan struct{})
		slow := &slowView{fakeStore: s, slow: 1, gate: make(chan struct{})}
		e := Open(slow, Options{}) // as after a start
		slowRead := make(chan *Product, 1)
		go func() {
			p, _ := e.Product(context.Background(), "mug")
			slowRead <- p
		}()
		synctest.Wait() // its snapshot is from before the batch
		s.after = func() error {
			<-gate // the batch is stored, and its committer has not heard of it
			return nil
		}
		both := &inventory.Reserve{TTL: 60_000, Lines: []inventory.ReserveLine{
			{ProductID: "cap", Location: here, Quantity: 1}, {ProductID: "mug", Location: here, Quantity: 1},
		}}
		go func() { _, _ = e.Do(context.Background(), &inventory.Request{Command: both}) }()
		synctest.Wait()
		shown := make(chan int64, 1)
		go func() {
			p, err := e.Product(context.Background(), "cap")
			if err != nil {
				t.Error(err)
			}
			shown <- p.Totals().Available
		}()
		synctest.Wait()
		close(slow.gate)
		synctest.Wait()
		select {
		case n := <-shown:
			if n != 8 {
				break // the batch is not shown yet
			}
			<-slowRead
			if p, err := e.Product(context.Background(), "mug"); err != nil || p.Totals().Available != 8 {
				t.Errorf("cap was shown with the batch, and mug afterwards without it: %+v (%v)", p.Stock, err)
			}
		default: // whoever asks waits for the committer
		}
		close(gate)
		synctest.Wait()
		s.after = nil
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
		first.door.cancel()
		_ = first.door.close(context.Background())
	})
}

// TestUnknownCommitFreesReaders: a reader whose snapshot has a batch of which it is not known whether it was written is
// answered as soon as that is not known, not at the end of his time.
func TestUnknownCommitFreesReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake()
		e := Open(s, Options{})
		do(t, e, create("mug", 9))
		if _, err := e.Product(t.Context(), "mug"); err != nil {
			t.Fatal(err)
		}
		gate := make(chan struct{})
		s.after = func() error {
			<-gate
			return store.ErrOutcomeUnknown
		}
		go func() { _, _ = e.Do(context.Background(), &inventory.Request{Command: hold("mug", 1)}) }()
		synctest.Wait()
		listed := make(chan error, 1)
		start := time.Now()
		go func() {
			_, _, err := e.Reservations(context.Background(), ReservationQuery{Limit: 10})
			listed <- err
		}()
		synctest.Wait()
		close(gate)
		if err := <-listed; err != nil || time.Since(start) > time.Second {
			t.Errorf("answered after %v: %v", time.Since(start), err)
		}
		s.after = nil
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestGrownProductsAreBounded: what is kept fits also where a product has become larger since it was loaded.
func TestGrownProductsAreBounded(t *testing.T) {
	for _, shared := range []bool{false, true} {
		s := &shelf{Store: memory.Open(memory.Options{}), shared: shared}
		e := open(t, s, Options{MemoryLimit: 100 << 10})
		big := map[string]*string{}
		for i := range inventory.MaxMetadata {
			value := strings.Repeat("x", 500)
			big[fmt.Sprintf("m%02d", i)] = &value
		}
		for i := range 50 {
			id := fmt.Sprint("p", i)
			do(t, e, create(id, 1))
			if _, err := e.Product(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			do(t, e, &inventory.UpdateProduct{ID: id, Metadata: &inventory.MetadataPatch{Set: big}})
			if err := e.check(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		bytes := 0
		for _, k := range e.memory.products {
			bytes += k.cost()
		}
		if bytes > e.options.MemoryLimit {
			t.Errorf("shared %v: %d bytes of %d products are kept, of %d", shared, bytes, len(e.memory.products), e.options.MemoryLimit)
		}
	}
}

// panicking is a store of which one view panics.
type panicking struct {
	*shelf
	now bool
}

func (s *panicking) View(ctx context.Context, read func(store.View) error) error {
	if s.now {
		s.now = false
		panic("in the store")
	}
	return s.shelf.View(ctx, read)
}

// TestPanicInAView: a look into the store that panics leaves nothing behind in memory.
func TestPanicInAView(t *testing.T) {
	s := &panicking{shelf: &shelf{Store: memory.Open(memory.Options{})}}
	e := open(t, s, Options{MemoryLimit: 1})
	do(t, e, create("mug", 9))
	s.now = true
	func() {
		defer func() { _ = recover() }() // as an HTTP server does
		_, _ = e.Product(t.Context(), "mug")
	}()
	if _, err := e.Product(t.Context(), "mug"); err != nil {
		t.Fatal(err)
	}
	if n := len(e.memory.products); n != 0 {
		t.Errorf("%d products of %d bytes are kept, of %d, and will be for ever", n, e.memory.bytes, e.options.MemoryLimit)
	}
}

// TestGroupWaitsForAnEnd: a group that needs overdue holds of one product is decided, although an operation before it
// asks for another product that has as many of them as a batch loads, and does not need them.
func TestGroupWaitsForAnEnd(t *testing.T) {
	now := time.Now()
	s := &shelf{Store: memory.Open(memory.Options{Now: func() time.Time { return now }})}
	e := Open(s, Options{})
	ending, cancel := context.WithCancel(context.Background())
	defer func() {
		cancel()
		_ = e.Close(ending)
	}()
	do(t, e, create("cap", 1))
	do(t, e, create("mug", inventory.MaxOverdueLoaded))
	lapse := func(id string, n int) {
		var made []*inventory.Request
		for range n {
			c := hold(id, 1)
			c.TTL = 1000
			made = append(made, &inventory.Request{Command: c})
		}
		for _, o := range (&world{}).together(e, made) {
			if o.Reservation == nil {
				t.Fatalf("%+v", o.Refusal)
			}
		}
	}
	lapse("mug", inventory.MaxOverdueLoaded)
	lapse("cap", 1)
	now = now.Add(time.Minute)
	refused := hold("mug", inventory.MaxOverdueLoaded)
	refused.Lines = append(refused.Lines, inventory.ReserveLine{ProductID: "none", Location: here, Quantity: 1})
	group := &inventory.Group{Operations: []inventory.Operation{
		{Request: &inventory.Request{Command: refused}}, {Request: &inventory.Request{Command: hold("cap", 1)}},
	}}
	o, err := e.DoWithin(t.Context(), 3*time.Second, &inventory.Request{Command: group})
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the group is decided again and again: %v", err)
	}
	if err != nil || o.Results.Outcomes[1].Reservation == nil {
		t.Errorf("%+v (%v)", o, err)
	}
}

// TestRefusedGroupSellsNothing: a hold that shares a commit with a group that was refused takes no more than there is.
func TestRefusedGroupSellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake()
		e := Open(s, Options{})
		do(t, e, create("mug", 10))
		gate := make(chan struct{})
		s.before = func(*inventory.Keys) error {
			<-gate
			return nil
		}
		go func() { _, _ = e.Do(context.Background(), product("pen")) }() // under way while the others gather
		synctest.Wait()
		name := "Cup"
		group := &inventory.Group{Atomic: true}
		for _, c := range []inventory.Command{
			&inventory.UpdateProduct{ID: "mug", Name: &name},
			&inventory.Adjust{ProductID: "mug", Location: here, Delta: 1000, Reason: "r"},
			&inventory.Adjust{ProductID: "mug", Location: "attic", Delta: 1, Reason: "r"},
			hold("mug", 5000),
		} {
			group.Operations = append(group.Operations, inventory.Operation{Request: &inventory.Request{Command: c}})
		}
		refused := call(context.Background(), e.door, &inventory.Request{Command: group})
		synctest.Wait()
		sold := call(context.Background(), e.door, &inventory.Request{Command: hold("mug", 500)})
		synctest.Wait()
		close(gate)
		if r := <-refused; r.err != nil || r.outcome.Refusal == nil {
			t.Fatalf("the group: %+v", r)
		}
		if r := <-sold; r.err != nil || r.outcome.Refusal == nil {
			p, _ := e.Product(t.Context(), "mug")
			t.Errorf("500 of 10 mugs are held; stored is %+v", p.Stock)
		}
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// agingStore is a store whose clock goes on by a step before each view.
type agingStore struct {
	*memory.Store
	now     atomic.Int64 // milliseconds
	step    int64
	commits atomic.Int64
}

func newAging() *agingStore {
	s := &agingStore{}
	s.now.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	s.Store = memory.Open(memory.Options{Now: func() time.Time { return time.UnixMilli(s.now.Load()) }})
	return s
}

func (s *agingStore) View(ctx context.Context, read func(store.View) error) error {
	s.now.Add(s.step)
	return s.Store.View(ctx, read)
}

func (s *agingStore) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	s.commits.Add(1)
	return s.Store.Commit(ctx, keys, decide)
}

// TestListShowsNoneThatIsDue: a list of ACTIVE holds shows none past its deadline, also where others fall due while it
// is read. Where that does not end, it is short.
func TestListShowsNoneThatIsDue(t *testing.T) {
	for _, c := range []struct{ holds, lapsing, expiries, shown int }{
		{holds: 10, lapsing: 0, expiries: 0, shown: 10},
		{holds: 10, lapsing: 2, expiries: 2, shown: 8},
		{holds: 10, lapsing: 3, expiries: 3, shown: 7},
		{holds: 10, lapsing: 10, expiries: 3, shown: 6}, // a fourth has fallen due, and is left out
	} {
		s := newAging()
		e := open(t, s, Options{})
		do(t, e, create("mug", 100))
		for i := range c.holds {
			hold := hold("mug", 1)
			if hold.TTL = 3_600_000; i < c.lapsing {
				hold.TTL = int64(i+1) * 1000
			}
			do(t, e, hold)
		}
		s.step = 1000
		before := s.commits.Load()
		page, next, err := e.Reservations(t.Context(), ReservationQuery{Status: inventory.ReservationActive, Limit: 50})
		if err != nil || !next.IsZero() || len(page) != c.shown || s.commits.Load()-before != int64(c.expiries) {
			t.Errorf("%d of %d lapse: %d are shown after %d expiries (%v)", c.lapsing, c.holds, len(page),
				s.commits.Load()-before, err)
		}
		for _, r := range page {
			if r.Due(inventory.Time(s.now.Load())) {
				t.Errorf("%v is shown, and was due at %d", r.ID, r.ExpiresAt)
			}
		}
	}
}

// TestListRefills: the places of the holds that a list has expired are taken by older ones that are due as well. None of
// them is shown, and the cursor goes on behind them.
func TestListRefills(t *testing.T) {
	s := newAging()
	e := open(t, s, Options{})
	do(t, e, create("mug", 100))
	do(t, e, hold("mug", 1))
	for range 20 {
		lapsing := hold("mug", 1)
		lapsing.TTL = 1000
		do(t, e, lapsing)
	}
	s.now.Add(9000)
	q, shown, pages := ReservationQuery{Status: inventory.ReservationActive, Limit: 2}, 0, 0
	for more := true; more; pages++ {
		page, next, err := e.Reservations(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			if shown++; r.Due(inventory.Time(s.now.Load())) {
				t.Errorf("page %d shows one that is due", pages)
			}
		}
		q.Before, more = next, !next.IsZero()
	}
	if shown != 1 || pages < 2 {
		t.Errorf("%d are shown on %d pages", shown, pages)
	}
}

// stuckStore is a store that cannot write what ends a hold.
type stuckStore struct{ *agingStore }

func (s stuckStore) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	if len(keys.Reservations) > 0 {
		return errors.New("one of the rows is damaged")
	}
	return s.agingStore.Commit(ctx, keys, decide)
}

// TestListWithoutTheStuck: a hold that cannot be ended is left out of a list, and does not spoil it.
func TestListWithoutTheStuck(t *testing.T) {
	s := stuckStore{newAging()}
	e := open(t, s, Options{})
	do(t, e, create("mug", 100))
	kept := do(t, e, hold("mug", 1)).Reservation
	stuck := hold("mug", 1)
	stuck.TTL = 1000
	do(t, e, stuck)
	s.now.Add(2000)
	page, _, err := e.Reservations(t.Context(), ReservationQuery{Status: inventory.ReservationActive, Limit: 50})
	if err != nil || len(page) != 1 || page[0].ID != kept.ID {
		t.Errorf("%d are shown (%v)", len(page), err)
	}
}

// TestRecords: records are read by key and by range.
func TestRecords(t *testing.T) {
	e := Open(memory.Open(memory.Options{}), Options{})
	defer e.Close(context.Background())
	ctx := t.Context()
	for salt := range uint32(3) {
		if _, err := e.Do(ctx, &inventory.Request{Command: &inventory.CreateWebhook{}, Salt: salt}); err != nil {
			t.Fatal(err)
		}
	}
	page, next, err := e.RecordRange(ctx, inventory.WebhookRange(inventory.ID{}, 2))
	if err != nil || len(page) != 2 || next == "" {
		t.Fatalf("%d records, next %q, %v", len(page), next, err)
	}
	rest := inventory.WebhookRange(inventory.ID{}, 2)
	rest.After = next
	last, next, err := e.RecordRange(ctx, rest)
	if err != nil || len(last) != 1 || next != "" {
		t.Fatalf("%d records, next %q, %v", len(last), next, err)
	}
	keys := []inventory.RecordKey{last[0].RecordKey, {Kind: "webhook", Key: "none"}, page[0].RecordKey}
	list, err := e.Records(ctx, keys)
	if err != nil || len(list) != 2 || list[0].RecordKey != last[0].RecordKey {
		t.Fatalf("%v %v", list, err)
	}
	if list, err := e.Records(ctx, nil); err != nil || list != nil {
		t.Fatalf("%v %v", list, err)
	}
}
