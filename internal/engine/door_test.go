package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeStore is a memory store whose commits a test can hold up, fail or watch.
type fakeStore struct {
	*memory.Store
	before func(keys *inventory.Keys) error // nil: go on
	after  func() error                     // runs once the batch is stored
	mu     sync.Mutex
	sizes  []int
}

func newFake() *fakeStore { return &fakeStore{Store: memory.Open(memory.Options{})} }

func (s *fakeStore) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	if s.before != nil {
		if err := s.before(keys); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.sizes = append(s.sizes, len(keys.Products))
	s.mu.Unlock()
	err := s.Store.Commit(ctx, keys, decide)
	if err == nil && s.after != nil {
		err = s.after()
	}
	return err
}

func product(id string) *inventory.Request {
	return &inventory.Request{Command: &inventory.CreateProduct{ID: id, Name: id, Price: inventory.Money{Amount: 1, Currency: "EUR"}, Location: inventory.MainLocation}}
}

func (s *fakeStore) has(t *testing.T, id string) bool {
	t.Helper()
	found := false
	err := s.View(context.Background(), func(v store.View) error {
		page, _, err := v.Products(context.Background(), store.ProductQuery{IDs: []string{id}})
		found = len(page) == 1
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// result is what a caller in a goroutine of its own was told.
type result struct {
	outcome inventory.Outcome
	err     error
}

func call(ctx context.Context, d *door, r *inventory.Request) <-chan result {
	done := make(chan result, 1)
	go func() {
		o, err := d.Do(ctx, r)
		done <- result{o, err}
	}()
	return done
}

// inBubble runs a test with a door whose first commit waits until release is called.
func inBubble(t *testing.T, o Options, test func(t *testing.T, s *fakeStore, d *door, release func())) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake()
		gate := make(chan struct{})
		var once sync.Once
		release := func() { once.Do(func() { close(gate) }) }
		held := false
		s.before = func(*inventory.Keys) error {
			if !held {
				held = true
				<-gate
			}
			return nil
		}
		d := openDoor(s, o)
		test(t, s, d, release)
		release()
		if err := d.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestBatching: whatever comes while a batch commits shares the next one.
func TestBatching(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *fakeStore, d *door, release func()) {
		var answers []<-chan result
		for i := range 100 {
			answers = append(answers, call(t.Context(), d, product(fmt.Sprint("p", i))))
			if i == 0 {
				synctest.Wait() // the first is being committed
			}
		}
		synctest.Wait()
		release()
		for _, a := range answers {
			if r := <-a; r.err != nil || r.outcome.Product == nil {
				t.Fatalf("%+v", r)
			}
		}
		if len(s.sizes) != 2 || s.sizes[0] != 1 || s.sizes[1] != 99 {
			t.Fatalf("batches of %v commands", s.sizes)
		}
	})
}

func TestBatchLimits(t *testing.T) {
	one := product("p0").Size()
	inBubble(t, Options{BatchLimit: 4, BatchBytesLimit: 3 * one}, func(t *testing.T, s *fakeStore, d *door, release func()) {
		var answers []<-chan result
		for i := range 8 {
			answers = append(answers, call(t.Context(), d, product(fmt.Sprint("p", i))))
			synctest.Wait()
		}
		release()
		for _, a := range answers {
			<-a
		}
		if fmt.Sprint(s.sizes) != "[1 3 3 1]" {
			t.Fatalf("batches of %v", s.sizes)
		}
	})
}

func TestOverload(t *testing.T) {
	for name, o := range map[string]Options{"commands": {QueueLimit: 2}, "bytes": {QueueBytesLimit: 2*product("p0").Size() + 1}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, o, func(t *testing.T, s *fakeStore, d *door, release func()) {
				first := call(t.Context(), d, product("p0"))
				synctest.Wait()
				second, third := call(t.Context(), d, product("p1")), call(t.Context(), d, product("p2"))
				synctest.Wait()
				if d.Depth() != 2 {
					t.Fatalf("depth %d", d.Depth())
				}
				if r := <-call(t.Context(), d, product("p3")); !errors.Is(r.err, ErrOverloaded) {
					t.Fatalf("%+v", r)
				}
				release()
				for _, a := range []<-chan result{first, second, third} {
					if r := <-a; r.err != nil {
						t.Fatal(r.err)
					}
				}
				if s.has(t, "p3") {
					t.Fatal("a refused command had its effect")
				}
			})
		})
	}
}

// waits are the two ways to wait no longer than a second.
var waits = map[string]func(*testing.T, *door, *inventory.Request) (inventory.Outcome, error){
	"context": func(t *testing.T, d *door, r *inventory.Request) (inventory.Outcome, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return d.Do(ctx, r)
	},
	"limit": func(t *testing.T, d *door, r *inventory.Request) (inventory.Outcome, error) {
		return d.DoWithin(t.Context(), time.Second, r)
	},
}

// TestLeaveWhileQueued: a caller whose time is over while it waits leaves without effect.
func TestLeaveWhileQueued(t *testing.T) {
	for name, wait := range waits {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, s *fakeStore, d *door, release func()) {
				first := call(t.Context(), d, product("p0"))
				synctest.Wait()
				if _, err := wait(t, d, product("p1")); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrOutcomeUnknown) {
					t.Fatal(err)
				}
				release()
				<-first
				if r := <-call(t.Context(), d, product("p2")); r.err != nil {
					t.Fatal(r.err)
				}
				if s.has(t, "p1") {
					t.Fatal("a command that left had its effect")
				}
			})
		})
	}
}

// TestLeaveOnceTaken: a caller that leaves later is told that the outcome is not known, and the effect stands.
func TestLeaveOnceTaken(t *testing.T) {
	for name, wait := range waits {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, s *fakeStore, d *door, release func()) {
				if _, err := wait(t, d, product("p0")); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
				release()
				if r := <-call(t.Context(), d, product("p1")); r.err != nil {
					t.Fatal(r.err)
				}
				if !s.has(t, "p0") {
					t.Fatal("the effect of a taken command was lost")
				}
			})
		})
	}
}

// TestLimitEnds: the limit of one command is not that of another which takes its place.
func TestLimitEnds(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *fakeStore, d *door, release func()) {
		release()
		for i := range 8 {
			if _, err := d.DoWithin(t.Context(), time.Second, product(fmt.Sprint("limited", i))); err != nil {
				t.Fatal(err)
			}
		}
		gate := make(chan struct{})
		s.before = func(*inventory.Keys) error {
			<-gate
			return nil
		}
		unlimited := call(t.Context(), d, product("patient"))
		time.Sleep(time.Minute)
		synctest.Wait()
		close(gate)
		if r := <-unlimited; r.err != nil {
			t.Fatal(r.err)
		}
	})
}

// TestDrain: Close commits what was accepted and refuses what comes after.
func TestDrain(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *fakeStore, d *door, release func()) {
		var answers []<-chan result
		for i := range 10 {
			answers = append(answers, call(t.Context(), d, product(fmt.Sprint("p", i))))
			synctest.Wait()
		}
		closed := make(chan error, 1)
		go func() { closed <- d.close(context.Background()) }()
		synctest.Wait()
		if r := <-call(t.Context(), d, product("late")); !errors.Is(r.err, ErrNotReady) {
			t.Fatalf("%+v", r)
		}
		if err := d.Probe(t.Context()); !errors.Is(err, ErrNotReady) {
			t.Fatalf("a closing door is not ready: %v", err)
		}
		release()
		for i, a := range answers {
			if r := <-a; r.err != nil || !s.has(t, fmt.Sprint("p", i)) {
				t.Fatalf("accepted command %d: %+v", i, r)
			}
		}
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
	})
}

// TestDrainInTime: when the time to drain is over, what still waits is refused, with no effect.
func TestDrainInTime(t *testing.T) {
	inBubble(t, Options{BatchLimit: 1}, func(t *testing.T, s *fakeStore, d *door, release func()) {
		first := call(t.Context(), d, product("p0"))
		synctest.Wait()
		second := call(t.Context(), d, product("p1"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		closed := make(chan error, 1)
		go func() { closed <- d.close(ctx) }()
		<-ctx.Done()
		synctest.Wait()
		release()
		<-first
		if r := <-second; !errors.Is(r.err, ErrNotReady) || s.has(t, "p1") {
			t.Fatalf("%+v", r)
		}
		if err := <-closed; !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	})
}

// rejecting makes the store refuse every batch that has this product in it.
func rejecting(id string) func(*inventory.Keys) error {
	return func(keys *inventory.Keys) error {
		for _, product := range keys.Products {
			if product == id {
				return errors.New("the row is refused")
			}
		}
		return nil
	}
}

// TestRefusedWriteIsIsolated: a command that the store refuses fails alone.
func TestRefusedWriteIsIsolated(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *fakeStore, d *door, release func()) {
		hold, reject := s.before, rejecting("p5")
		s.before = func(keys *inventory.Keys) error { return errors.Join(hold(keys), reject(keys)) }
		gate := call(t.Context(), d, product("gate"))
		synctest.Wait()
		var answers []<-chan result
		for i := range 16 {
			answers = append(answers, call(t.Context(), d, product(fmt.Sprint("p", i))))
		}
		synctest.Wait()
		release()
		<-gate
		for i, a := range answers {
			r := <-a
			if want := i == 5; errors.Is(r.err, ErrInternal) != want || (r.err == nil) == want {
				t.Errorf("command %d: %+v", i, r)
			}
		}
	})
}

// TestPanicIsIsolated: a command that panics in the decision fails alone; here a reservation line without a product name is
// decided on a state that a broken store loaded.
func TestPanicIsIsolated(t *testing.T) {
	s := newFake()
	d := openDoor(spoiling{s}, Options{})
	defer d.close(context.Background())
	if _, err := d.Do(t.Context(), product("good")); err != nil {
		t.Fatal(err)
	}
	bad := &inventory.Request{Command: &inventory.Reserve{TTL: 1000, Lines: []inventory.ReserveLine{{ProductID: "spoilt", Location: inventory.MainLocation, Quantity: 1}}}}
	if _, err := d.Do(t.Context(), bad); !errors.Is(err, ErrInternal) {
		t.Fatalf("a panic: %v", err)
	}
	if _, err := d.Do(t.Context(), product("after")); err != nil {
		t.Fatal(err)
	}
}

// spoiling loads a product that makes Decide panic: its overdue list names a reservation that was not loaded.
type spoiling struct{ *fakeStore }

func (s spoiling) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	return s.fakeStore.Commit(ctx, keys, func(state *inventory.State) (*inventory.Changes, error) {
		key := inventory.StockKey{ProductID: "spoilt", Location: inventory.MainLocation}
		state.Products["spoilt"] = &inventory.Product{ID: "spoilt", Stock: []inventory.Stock{{Location: inventory.MainLocation}}}
		state.Overdue[key] = []inventory.ID{{1}}
		return decide(state)
	})
}

// TestPanicSparesNeighbours: those that shared a batch with a command that panics are decided without it.
func TestPanicSparesNeighbours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake()
		gate := make(chan struct{})
		s.before = func(*inventory.Keys) error {
			<-gate
			return nil
		}
		d := openDoor(spoiling{s}, Options{})
		answers := []<-chan result{call(t.Context(), d, product("gate"))}
		synctest.Wait()
		for _, r := range []*inventory.Request{product("before"), reserve("spoilt", 1), product("after")} {
			answers = append(answers, call(t.Context(), d, r))
			synctest.Wait()
		}
		close(gate)
		for i, a := range answers {
			r := <-a
			if bad := i == 2; errors.Is(r.err, ErrInternal) != bad || (r.err == nil) == bad {
				t.Errorf("command %d: %+v", i, r)
			}
		}
		if !s.has(t, "before") || !s.has(t, "after") {
			t.Error("a neighbour had no effect")
		}
		if err := d.close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestPassingFailures: a store that is away answers 503, and the door goes on when it is back.
func TestPassingFailures(t *testing.T) {
	for name, c := range map[string]struct{ err, want error }{
		"unavailable": {store.ErrUnavailable, ErrNotReady}, "clock": {store.ErrClockBehind, ErrNotReady}, "unknown": {store.ErrOutcomeUnknown, ErrOutcomeUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFake()
			away := true
			s.before = func(*inventory.Keys) error {
				if away {
					return fmt.Errorf("wrapped: %w", c.err)
				}
				return nil
			}
			d := openDoor(s, Options{})
			defer d.close(context.Background())
			if _, err := d.Do(t.Context(), product("a")); !errors.Is(err, c.want) {
				t.Fatal(err)
			}
			if err := d.Probe(t.Context()); !errors.Is(err, ErrNotReady) {
				t.Fatalf("ready: %v", err)
			}
			away = false
			if _, err := d.Do(t.Context(), product("a")); err != nil {
				t.Fatal(err)
			}
			if err := d.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestBroken: once durability is in doubt nothing is acknowledged: the batch is told that its outcome is not known, although it
// may have been written, and the queue that nothing happened.
func TestBroken(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, s *fakeStore, d *door, release func()) {
		s.after = func() error { return fmt.Errorf("fsync: %w", store.ErrBroken) }
		first := call(t.Context(), d, product("p0"))
		synctest.Wait()
		second := call(t.Context(), d, product("p1"))
		synctest.Wait()
		release()
		if r := <-first; !errors.Is(r.err, ErrOutcomeUnknown) {
			t.Fatalf("the batch: %+v", r)
		}
		if r := <-second; !errors.Is(r.err, ErrNotReady) {
			t.Fatalf("the queue: %+v", r)
		}
		<-d.Broken()
		if r := <-call(t.Context(), d, product("p2")); !errors.Is(r.err, ErrNotReady) {
			t.Fatalf("later: %+v", r)
		}
		if s.has(t, "p1") || s.has(t, "p2") {
			t.Fatal("a refused command had its effect")
		}
	})
}

// TestAnswersComeAfterTheCommit: no outcome, a refusal included, leaves before its batch is durable.
func TestAnswersComeAfterTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake()
		flushed := make(chan struct{})
		s.after = func() error { <-flushed; return nil }
		d := openDoor(s, Options{})
		a := call(t.Context(), d, product("p"))
		synctest.Wait()
		select {
		case r := <-a:
			t.Fatalf("answered before the flush: %+v", r)
		default:
		}
		close(flushed)
		if r := <-a; r.err != nil {
			t.Fatal(r.err)
		}
		if err := d.close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDeferred: a command that has to wait for more expiries is decided again, until it is answered.
func TestDeferred(t *testing.T) {
	clock := time.Now()
	s := &fakeStore{Store: memory.Open(memory.Options{Now: func() time.Time { return clock }})}
	d := openDoor(s, Options{})
	defer d.close(context.Background())
	const holds = 2*inventory.MaxOverdueLoaded + 1
	p := product("p")
	p.Command.(*inventory.CreateProduct).TotalStock = holds
	if _, err := d.Do(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	reserve := func(quantity int64) *inventory.Request {
		return &inventory.Request{Command: &inventory.Reserve{TTL: 1000, Lines: []inventory.ReserveLine{{ProductID: "p", Location: inventory.MainLocation, Quantity: quantity}}}}
	}
	var all sync.WaitGroup
	for range holds {
		all.Go(func() {
			if o, err := d.Do(t.Context(), reserve(1)); err != nil || o.Refusal != nil {
				t.Errorf("%+v %v", o, err)
			}
		})
	}
	all.Wait()
	clock = clock.Add(time.Second)
	before := len(s.sizes)
	if o, err := d.Do(t.Context(), reserve(holds)); err != nil || o.Refusal != nil {
		t.Fatalf("%+v %v", o, err)
	}
	if took := len(s.sizes) - before; took != 3 {
		t.Fatalf("%d batches", took)
	}
}

// TestExpireGoesOn: a command that ends more than a batch may write goes on where it was, and counts all of them.
func TestExpireGoesOn(t *testing.T) {
	clock := time.Now()
	s := &fakeStore{Store: memory.Open(memory.Options{Now: func() time.Time { return clock }})}
	d := openDoor(s, Options{})
	defer d.close(context.Background())
	const holds = 6
	p := product("p")
	p.Command.(*inventory.CreateProduct).TotalStock = holds
	if _, err := d.Do(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	var ids []inventory.ID
	for range holds {
		r := reserve("p", 1)
		fat := strings.Repeat("x", inventory.MaxBatchBytes/4)
		r.Command.(*inventory.Reserve).Metadata = inventory.Metadata{{Name: "fat", Value: fat}}
		o, err := d.Do(t.Context(), r)
		if err != nil || o.Reservation == nil {
			t.Fatalf("%+v %v", o, err)
		}
		ids = append(ids, o.Reservation.ID)
	}
	clock = clock.Add(time.Second)
	before := len(s.sizes)
	o, err := d.Do(t.Context(), &inventory.Request{Command: &inventory.Expire{IDs: ids}})
	if took := len(s.sizes) - before; err != nil || o.Expired != holds || took != 2 {
		t.Fatalf("ended %d in %d batches, %v", o.Expired, took, err)
	}
}

// TestDeferredInASplitBatch: a command that has to wait for the next batch is answered there, also where its own batch was
// split because of another one.
func TestDeferredInASplitBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake()
		gate, reject := make(chan struct{}), rejecting("refused")
		s.before = func(keys *inventory.Keys) error {
			<-gate
			return reject(keys)
		}
		d := openDoor(&deferring{fakeStore: s}, Options{})
		answers := []<-chan result{call(t.Context(), d, product("p"))}
		synctest.Wait()
		for _, r := range []*inventory.Request{reserve("p", 1), product("refused"), reserve("p", 2), product("q")} {
			answers = append(answers, call(t.Context(), d, r))
			synctest.Wait()
		}
		close(gate)
		for i, a := range answers {
			r := <-a
			if bad := i == 2; errors.Is(r.err, ErrInternal) != bad || (r.err == nil) == bad {
				t.Errorf("command %d: %+v", i, r)
			}
			if waited := i == 1 || i == 3; waited && r.outcome.Refusal == nil {
				t.Errorf("command %d: %+v", i, r)
			}
		}
		if err := d.close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// deferring says of the stock of p, the first two times that it is in a batch that is not refused, that there are more
// overdue holds than were loaded: whoever wants units of it has to wait for the next batch.
type deferring struct {
	*fakeStore
	deferred int
}

func (s *deferring) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	return s.fakeStore.Commit(ctx, keys, func(state *inventory.State) (*inventory.Changes, error) {
		if len(keys.Stock) > 0 && s.deferred < 2 {
			s.deferred++
			state.MoreOverdue[keys.Stock[0].StockKey] = true
		}
		return decide(state)
	})
}

func reserve(productID string, quantity int64) *inventory.Request {
	return &inventory.Request{Command: &inventory.Reserve{TTL: 1000, Lines: []inventory.ReserveLine{
		{ProductID: productID, Location: inventory.MainLocation, Quantity: quantity},
	}}}
}

// openDoor opens a door alone.
func openDoor(s store.Store, o Options) *door {
	o.setDefaults()
	d := &door{store: s, options: &o, committed: func(*inventory.State, *inventory.Changes) {}, uncertain: func() {}}
	d.open()
	return d
}
