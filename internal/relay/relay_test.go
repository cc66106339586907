package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// shared is a store that several engines use, as processes on one database do.
type shared struct {
	store.Store
	mu   sync.Mutex
	away bool // of this process, which cannot reach the store
}

func (s *shared) SoleWriter() (func() time.Time, bool) { return nil, false }
func (s *shared) Close() error                         { return nil }

func (s *shared) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	s.mu.Lock()
	away := s.away
	s.mu.Unlock()
	if away {
		return store.ErrUnavailable
	}
	return s.Store.Commit(ctx, keys, decide)
}

func (s *shared) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// fake is a sink that tests look into.
type fake struct {
	mu      sync.Mutex
	got     []int64 // sequences, in the order in which they came
	fail    error   // of every call
	poison  int64   // a sequence that is refused
	at      int     // how many of a call are accepted before it fails; 0: all
	closed  bool
	changed chan struct{}
}

func newFake() *fake { return &fake{changed: make(chan struct{}, 1)} }

func (f *fake) Send(ctx context.Context, messages []Message) (accepted int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}()
	if f.fail != nil {
		return 0, f.fail
	}
	for i := range messages {
		if f.at > 0 && i == f.at {
			f.at = 0
			return i, errors.New("cut off")
		}
		if messages[i].Sequence == f.poison {
			return i, &Refused{errors.New("too large")}
		}
		f.got = append(f.got, messages[i].Sequence)
	}
	return len(messages), nil
}

func (f *fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func (f *fake) set(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) sequences() []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

func open(t *testing.T, s store.Store) *engine.Engine {
	e := engine.Open(s, engine.Options{})
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	return e
}

var made atomic.Int64

// create makes products, an event each.
func create(t *testing.T, e *engine.Engine, n int) {
	t.Helper()
	for range n {
		o, err := e.Do(context.Background(), &inventory.Request{Command: &inventory.CreateProduct{
			ID: fmt.Sprint("p", made.Add(1)), Name: "p",
			Price: inventory.Money{Amount: 1, Currency: "EUR"}, Location: inventory.MainLocation,
		}})
		if err != nil || o.Refusal != nil {
			t.Fatal(err, o.Refusal)
		}
	}
}

// run starts a relay. Stopping it waits for its end.
func run(t *testing.T, e *engine.Engine, sink Sink, observe func(Report)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { New(Options{Source: FromEngine(e), Sink: sink, Name: "fake", Observe: observe}).Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		group.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func upTo(n int64) (list []int64) {
	for i := int64(1); i <= n; i++ {
		list = append(list, i)
	}
	return list
}

func expect(t *testing.T, f *fake, want ...int64) {
	t.Helper()
	if got := f.sequences(); !slices.Equal(got, want) {
		t.Errorf("the sink has %v, expected %v", got, want)
	}
}

// TestRelay: what there was and what comes is sent once each, and another relay goes on where the one before was.
func TestRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, f := open(t, memory.Open(memory.Options{})), newFake()
		create(t, e, 3)
		stop := run(t, e, f, nil)
		synctest.Wait()
		expect(t, f, upTo(3)...)
		create(t, e, 2)
		synctest.Wait()
		expect(t, f, upTo(5)...)
		stop()
		if !f.closed {
			t.Error("the sink was left open")
		}
		create(t, e, 1)
		run(t, e, f, nil)
		synctest.Wait()
		expect(t, f, upTo(6)...)
	})
}

// TestCrash: a relay that ends without a word goes on from the position that was noted within the last second.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.Open(memory.Options{})
		e, f := open(t, s), newFake()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		r := New(Options{Source: FromEngine(e), Sink: f, Name: "fake"})
		sink, held, err := r.o.Source.Hold(ctx, "fake", lease, nil)
		if err != nil || !held {
			t.Fatal(held, err)
		}
		p := &progress{from: sink.Position, SinkProgress: inventory.SinkProgress{Position: sink.Position}}
		create(t, e, 2)
		go r.keep(ctx, p)
		go r.send(ctx, p)
		time.Sleep(2 * pause) // of the bubble's clock
		create(t, e, 1)
		synctest.Wait() // sent, not noted
		cancel()
		synctest.Wait()
		run(t, e, f, nil)
		synctest.Wait()
		expect(t, f, 1, 2, 3, 3)
	})
}

// TestSinkIsDown: nothing is lost or overtaken while a sink fails, and commits do not notice.
func TestSinkIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, f := open(t, memory.Open(memory.Options{})), newFake()
		failures := 0
		run(t, e, f, func(r Report) {
			if r.Failed {
				failures++
			}
		})
		f.set(func(f *fake) { f.fail = errors.New("down") })
		create(t, e, 2)
		time.Sleep(time.Minute)
		create(t, e, 1)
		f.set(func(f *fake) { f.fail, f.at = nil, 2 })
		time.Sleep(longestBackoff + firstBackoff)
		synctest.Wait()
		expect(t, f, upTo(3)...)
		if failures < 5 || failures > 30 {
			t.Errorf("%d attempts in a minute", failures)
		}
	})
}

// TestPoison: an event that a sink refuses for good is set aside, counted and reported, and the rest goes on.
func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, f := open(t, memory.Open(memory.Options{})), newFake()
		f.poison = 2
		aside := 0
		stop := run(t, e, f, func(r Report) { aside += r.SetAside })
		create(t, e, 4)
		synctest.Wait()
		expect(t, f, 1, 3, 4)
		stop()
		r := New(Options{Source: FromEngine(e), Sink: f, Name: "fake"})
		if sink, _, err := r.o.Source.Hold(t.Context(), "fake", lease, nil); err != nil || sink.SetAside != 1 || aside != 1 || sink.Position.Seq != 4 {
			t.Errorf("%+v, %d reported: %v", sink, aside, err)
		}
	})
}

// TestPartOfAPage: where a sink took a part of what it was handed, the next relay goes on behind that part.
func TestPartOfAPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, f := open(t, memory.Open(memory.Options{})), newFake()
		f.at = 2
		create(t, e, 4)
		stop := run(t, e, f, nil)
		synctest.Wait() // it waits before it tries again
		stop()
		expect(t, f, upTo(2)...)
		run(t, e, f, nil)
		synctest.Wait()
		expect(t, f, upTo(4)...)
	})
}

// TestNotedLater: what could not be noted while the store was away is noted afterwards, with the events set aside.
func TestNotedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.Open(memory.Options{})
		first, f := &shared{Store: s}, newFake()
		f.poison = 2
		run(t, open(t, first), f, nil)
		time.Sleep(pause)
		first.setAway(true)
		e := open(t, &shared{Store: s})
		create(t, e, 3)
		time.Sleep(pause + pause/2) // an attempt to note it fails
		first.setAway(false)
		time.Sleep(2 * pause)
		expect(t, f, 1, 3)
		r := New(Options{Source: FromEngine(e), Sink: f, Name: "fake"})
		sink, _, err := r.o.Source.Hold(t.Context(), "fake", lease, nil)
		if err != nil || sink.Position.Seq != 3 || sink.SetAside != 1 {
			t.Errorf("%+v, %v", sink, err)
		}
	})
}

// TestTakenOver: a relay that finds its sink with another process sends nothing more.
func TestTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.Open(memory.Options{})
		e, f := open(t, &shared{Store: s}), newFake()
		run(t, e, f, nil)
		create(t, e, 1)
		time.Sleep(2 * pause)
		_, err := e.Do(t.Context(), &inventory.Request{Command: &inventory.HoldSink{
			Name: "fake", Holder: "another", Lease: inventory.Time(time.Minute.Milliseconds()), Alone: true,
		}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * pause)
		create(t, e, 2)
		time.Sleep(2 * pause)
		expect(t, f, 1)
	})
}

// TestTwoProcesses: one of them serves a sink. When it stops the other goes on at once; when it dies, within 5 seconds.
func TestTwoProcesses(t *testing.T) {
	for name, die := range map[string]bool{"stops": false, "dies": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memory.Open(memory.Options{})
				first, second := &shared{Store: s}, &shared{Store: s}
				mine, other := newFake(), newFake()
				e := open(t, first)
				stop := run(t, e, mine, nil)
				time.Sleep(time.Second)
				run(t, open(t, second), other, nil)
				create(t, e, 2)
				time.Sleep(10 * time.Second)
				expect(t, mine, 1, 2)
				expect(t, other)
				if die {
					first.setAway(true)
				} else {
					stop()
				}
				create(t, open(t, &shared{Store: s}), 2)
				time.Sleep(5*time.Second + time.Millisecond)
				if got := other.sequences(); !slices.Equal(got, []int64{3, 4}) {
					t.Errorf("the other process has sent %v", got)
				}
			})
		})
	}
}

// TestOldHolder: a process that was away for long, and has lost its sink, stops sending, and cannot move the position
// back when it returns.
func TestOldHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.Open(memory.Options{})
		first, second := &shared{Store: s}, &shared{Store: s}
		mine, other := newFake(), newFake()
		run(t, open(t, first), mine, nil)
		time.Sleep(2 * time.Second)
		first.setAway(true)
		e := open(t, second)
		create(t, e, 1)
		time.Sleep(100 * time.Millisecond) // the old holder reads and sends it, and cannot note that
		run(t, e, other, nil)
		time.Sleep(10 * time.Second)
		create(t, e, 3)
		time.Sleep(2 * time.Second)
		first.setAway(false)
		time.Sleep(10 * time.Second)
		if sent := mine.sequences(); len(sent) > 1 {
			t.Errorf("the old holder has sent %v", sent)
		}
		expect(t, other, upTo(4)...)
		r := New(Options{Source: FromEngine(e), Sink: mine, Name: "fake"})
		if sink, held, err := r.o.Source.Hold(t.Context(), "fake", lease, nil); err != nil || held || sink.Position.Seq != 4 {
			t.Errorf("%+v %v %v", sink, held, err)
		}
	})
}

// TestRestoredStore: where a store was brought back to an older state, a relay goes on behind the last event that both
// have.
func TestRestoredStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.Open(memory.Options{})
		e, f := open(t, &shared{Store: s}), newFake()
		create(t, e, 2)
		r := New(Options{Source: FromEngine(e), Sink: f, Name: "fake"})
		_, _, err := r.o.Source.Hold(t.Context(), "fake", lease, nil)
		if err == nil {
			_, _, err = r.o.Source.Hold(t.Context(), "fake", 0, &inventory.SinkProgress{Position: inventory.Cursor{Seq: 9}})
		}
		if err == nil {
			err = store.BeginEpoch(t.Context(), s, inventory.Epoch{1})
		}
		if err != nil {
			t.Fatal(err)
		}
		create(t, e, 2)
		run(t, e, f, nil)
		time.Sleep(2 * time.Second)
		expect(t, f, 3, 4)
	})
}
