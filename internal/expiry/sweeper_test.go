package expiry

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// shop is an engine on a memory store, in a synctest bubble: time passes when everybody waits.
type shop struct {
	*testing.T
	store   *memory.Store
	engine  *engine.Engine
	sweeper *Sweeper
	mu      sync.Mutex
	reports []Report
}

func inBubble(t *testing.T, test func(*shop)) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{T: t, store: memory.Open(memory.Options{})}
		s.engine = engine.Open(s.store, engine.Options{})
		s.sweeper = New(Options{Engine: s.engine, Observe: func(r Report) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.reports = append(s.reports, r)
		}})
		test(s)
		if err := s.engine.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// run starts the sweeper until the test ends.
func (s *shop) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.sweeper.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

func (s *shop) do(c inventory.Command) inventory.Outcome {
	s.Helper()
	o, err := s.engine.Do(context.Background(), &inventory.Request{Command: c})
	if err != nil || o.Refusal != nil {
		s.Fatalf("%T: %+v %v", c, o.Refusal, err)
	}
	return o
}

func (s *shop) product(units int64) {
	s.do(&inventory.CreateProduct{
		ID: "p", Name: "p", Price: inventory.Money{Amount: 1, Currency: "EUR"},
		TotalStock: units, Location: inventory.MainLocation,
	})
}

func (s *shop) hold(ttl time.Duration) inventory.ID {
	return s.do(&inventory.Reserve{
		TTL:   ttl.Milliseconds(),
		Lines: []inventory.ReserveLine{{ProductID: "p", Location: inventory.MainLocation, Quantity: 1}},
	}).Reservation.ID
}

// count looks into the store itself: a read through the engine would expire what it meets.
func (s *shop) count(status inventory.ReservationStatus) (n int) {
	ctx, q := context.Background(), store.ReservationQuery{Status: status, Limit: 1000}
	for more := true; more; more = !q.Before.IsZero() {
		err := s.store.View(ctx, func(v store.View) error {
			page, next, err := v.Reservations(ctx, q)
			n, q.Before = n+len(page), next
			return err
		})
		if err != nil {
			s.Fatal(err)
		}
	}
	return n
}

// TestWakesForTheDeadline: holds end at their deadline, not at the next tick of a poll.
func TestWakesForTheDeadline(t *testing.T) {
	inBubble(t, func(s *shop) {
		s.product(10)
		s.hold(300 * time.Millisecond)
		s.hold(1700 * time.Millisecond)
		defer s.run()()
		start := time.Now()
		for want, at := range []time.Duration{0, 300 * time.Millisecond, 1700 * time.Millisecond} {
			time.Sleep(time.Until(start.Add(at)) + time.Millisecond) // in the bubble's time
			synctest.Wait()
			if got := s.count(inventory.ReservationExpired); got != want {
				s.Errorf("after %v: %d expired, want %d", at, got, want)
			}
		}
		// one made while it sleeps is not missed for longer than a second
		s.hold(5 * time.Millisecond)
		time.Sleep(longestSleep + time.Millisecond)
		synctest.Wait()
		if got := s.count(inventory.ReservationExpired); got != 3 {
			s.Errorf("%d expired", got)
		}
		for _, r := range s.reports {
			if r.Lag > longestSleep {
				s.Errorf("lag %v", r.Lag)
			}
		}
	})
}

// TestManyOverdue: holds found overdue at start are ended in bounded passes, and requests between them are not starved.
func TestManyOverdue(t *testing.T) {
	inBubble(t, func(s *shop) {
		const holds = 10*longestPass + 1
		s.product(holds + 1)
		for range holds {
			s.hold(time.Second)
		}
		time.Sleep(time.Hour)
		passes := 0
		for s.sweeper.Pass(context.Background()) == 0 {
			passes++
			s.hold(time.Millisecond) // a request comes through between any two passes
			s.do(&inventory.Adjust{ProductID: "p", Location: inventory.MainLocation, Delta: 1, Reason: "r"})
		}
		if expired := s.count(inventory.ReservationExpired); expired < holds || passes > holds/shortestPass {
			s.Errorf("%d expired after %d passes", expired, passes)
		}
		for _, r := range s.reports {
			if r.Expired > longestPass {
				s.Errorf("a pass ended %d holds", r.Expired)
			}
		}
		if lag := s.reports[0].Lag; lag < time.Hour-2*time.Second {
			s.Errorf("lag of the first pass: %v", lag)
		}
	})
}

// flakyEngine fails for some holds, or for all.
type flakyEngine struct {
	Engine
	bad  map[inventory.ID]bool
	fail error
}

func (e *flakyEngine) Do(ctx context.Context, r *inventory.Request) (inventory.Outcome, error) {
	if e.fail != nil {
		return inventory.Outcome{}, e.fail
	}
	for _, id := range r.Command.(*inventory.Expire).IDs {
		if e.bad[id] {
			return inventory.Outcome{}, engine.ErrInternal
		}
	}
	return e.Engine.Do(ctx, r)
}

// TestBadHoldIsSetAside: a hold that cannot be ended does not keep the others, is tried again with a growing delay, and
// is counted.
func TestBadHoldIsSetAside(t *testing.T) {
	inBubble(t, func(s *shop) {
		s.product(100)
		flaky := &flakyEngine{Engine: s.engine, bad: map[inventory.ID]bool{}}
		s.sweeper.o.Engine = flaky
		for i := range 50 {
			id := s.hold(time.Second)
			if i == 7 || i == 30 {
				flaky.bad[id] = true
			}
		}
		time.Sleep(time.Second)
		s.sweeper.Pass(context.Background())
		if n := s.count(inventory.ReservationExpired); n != 48 {
			s.Fatalf("%d expired", n)
		}
		if r := s.reports[0]; r.Aside != 2 || r.Expired != 48 {
			s.Fatalf("%+v", r)
		}
		s.sweeper.Pass(context.Background()) // too early for another try
		if r := s.reports[1]; r.Expired != 0 || r.Lag != 0 {
			s.Fatalf("%+v", r)
		}
		for range 12 { // the delay doubles, up to five minutes
			time.Sleep(longestDelay)
			s.sweeper.Pass(context.Background())
		}
		for id := range flaky.bad {
			if delay := s.sweeper.aside[id].delay; delay != longestDelay {
				s.Errorf("delay %v", delay)
			}
		}
		flaky.bad = nil
		time.Sleep(longestDelay)
		s.sweeper.Pass(context.Background())
		if n := s.count(inventory.ReservationExpired); n != 50 || len(s.sweeper.aside) != 0 {
			s.Errorf("%d expired, %d aside", n, len(s.sweeper.aside))
		}
	})
}

// TestStoreAway: while the engine does not commit, the sweeper waits, sets nothing aside, says so once, and resumes by
// itself.
func TestStoreAway(t *testing.T) {
	inBubble(t, func(s *shop) {
		s.product(1)
		flaky := &flakyEngine{Engine: s.engine, fail: errors.Join(engine.ErrNotReady)}
		s.sweeper.o.Engine = flaky
		var log strings.Builder
		s.sweeper.o.Log = slog.New(slog.NewTextHandler(&log, nil))
		s.hold(time.Second)
		time.Sleep(time.Second)
		for range 3 {
			if sleep := s.sweeper.Pass(context.Background()); sleep != longestSleep || len(s.sweeper.aside) != 0 {
				s.Errorf("sleeps %v, %d aside", sleep, len(s.sweeper.aside))
			}
		}
		flaky.fail = nil
		for range 2 {
			s.sweeper.Pass(context.Background())
		}
		if s.count(inventory.ReservationExpired) != 1 {
			s.Error("it did not resume")
		}
		if said := log.String(); strings.Count(said, "\n") != 2 || strings.Count(said, "ending due holds failed") != 1 ||
			strings.Count(said, "ended again") != 1 {
			s.Errorf("it said:\n%s", said)
		}
	})
}

// TestPace: passes shrink while they take long beside others, and grow while nobody else is there.
func TestPace(t *testing.T) {
	s := New(Options{})
	for _, c := range []struct {
		took time.Duration
		busy bool
		want int
	}{
		{10 * time.Millisecond, true, firstPass / 2},
		{10 * time.Millisecond, true, firstPass / 4},
		{busyTime + 1, true, firstPass / 4},
		{busyTime - 1, true, firstPass / 2},
		{10 * time.Millisecond, false, firstPass},
		{lonelyTime - 1, false, 2 * firstPass},
		{lonelyTime + 1, false, 2 * firstPass},
		{time.Second, false, firstPass},
	} {
		if s.pace(c.took, c.busy); s.pass != c.want {
			t.Fatalf("after %v, busy %v: %d, want %d", c.took, c.busy, s.pass, c.want)
		}
	}
	for range 20 {
		s.pace(0, false)
	}
	if s.pass != longestPass {
		t.Errorf("alone: %d", s.pass)
	}
	for range 20 {
		s.pace(time.Second, true)
	}
	if s.pass != shortestPass {
		t.Errorf("beside others: %d", s.pass)
	}
}
