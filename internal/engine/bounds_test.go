package engine

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// TestPagesAreBounded: a page of the feed is cut by bytes, inside a batch too, and following it gives every event once.
func TestPagesAreBounded(t *testing.T) {
	const holds = 300
	s := &shelf{Store: memory.Open(memory.Options{})}
	e := open(t, s, Options{})
	do(t, e, create("mug", holds))
	fat := map[string]string{}
	for i := range inventory.MaxMetadata {
		fat[fmt.Sprintf("m%02d", i)] = strings.Repeat("x", 500)
	}
	group := &inventory.Group{}
	for range 120 {
		c := hold("mug", 1)
		c.Metadata = inventory.NewMetadata(fat)
		group.Operations = append(group.Operations, inventory.Operation{Request: &inventory.Request{Command: c}})
	}
	do(t, e, group)                                         // one batch of 3 MB
	for _, e := range []*Engine{e, open(t, s, Options{})} { // the end in memory, and the store
		after, pages := int64(0), 0
		for {
			page, err := e.Events(t.Context(), EventQuery{After: inventory.Cursor{Seq: after}, Limit: 1000})
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Events) == 0 {
				break
			}
			bytes := 0
			for i := range page.Events {
				if bytes += page.Events[i].Size(); page.Events[i].Seq != after+1 {
					t.Fatalf("event %d follows %d", page.Events[i].Seq, after)
				}
				after++
			}
			if pages++; bytes > pageBytes+64<<10 {
				t.Errorf("a page of %d bytes", bytes)
			}
		}
		if after != 121 || pages < 2 {
			t.Errorf("%d events on %d pages", after, pages)
		}
	}
}

// TestYieldEnds: the committer takes what there is although callers come without end.
func TestYieldEnds(t *testing.T) {
	d := &door{options: &Options{}, wake: make(chan struct{}, 1)}
	d.options.setDefaults()
	d.options.QueueLimit, d.options.BatchLimit = 1<<30, 1<<20
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // an open loop: one more each time that it runs
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = d.enter(&entry{request: product("p"), commands: 1})
				runtime.Gosched()
			}
		}
	}()
	d.yield()
	close(stop)
	<-stopped
}

// TestFollowerLimit: one too many who waits for events is refused at once.
func TestFollowerLimit(t *testing.T) {
	e := open(t, &shelf{Store: memory.Open(memory.Options{})}, Options{FollowerLimit: 1})
	do(t, e, create("mug", 1))
	if err := e.startWaiting(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.AwaitEvents(t.Context(), EventQuery{After: e.CursorAt(1)}, 1); err != ErrOverloaded {
		t.Errorf("the second one who waits: %v", err)
	}
	e.feed.stopWaiting()
	if _, err := e.AwaitEvents(t.Context(), EventQuery{After: e.CursorAt(1)}, 1); err != nil {
		t.Errorf("after the first has gone: %v", err)
	}
}

// TestFeedBeforeItsEnd: the end that is kept in memory begins somewhere, and nothing is missing where a page begins just
// before it.
func TestFeedBeforeItsEnd(t *testing.T) {
	s := &shelf{Store: memory.Open(memory.Options{})}
	earlier := open(t, s, Options{})
	do(t, earlier, create("mug", 100))
	for range 2 {
		do(t, earlier, hold("mug", 1))
	}
	e := open(t, s, Options{}) // knows of no event but those that it commits
	if _, err := e.Events(t.Context(), EventQuery{Limit: 10}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		do(t, e, hold("mug", 1))
	}
	for after := range int64(5) {
		page, err := e.Events(t.Context(), EventQuery{After: e.CursorAt(after), Limit: 10})
		if err != nil || len(page.Events) != int(5-after) || page.Events[0].Seq != after+1 {
			t.Errorf("after %d: %+v (%v)", after, page, err)
		}
	}
}

// TestFilteredPagesGoOn: where a filter leaves events out, the next page begins behind them, and not with them again.
func TestFilteredPagesGoOn(t *testing.T) {
	e := open(t, &shelf{Store: memory.Open(memory.Options{})}, Options{})
	do(t, e, create("mug", 100))
	for range 3 {
		do(t, e, hold("mug", 1))
	}
	for _, filter := range []inventory.EventFilter{{}, {ProductID: "cup"}} {
		page, err := e.Events(t.Context(), EventQuery{Limit: 10, Filter: filter})
		if want := e.CursorAt(4); err != nil || page.Next != want || (filter.ProductID != "") != (len(page.Events) == 0) {
			t.Errorf("%+v: %d events, then %v, want %v (%v)", filter, len(page.Events), page.Next, want, err)
		}
	}
}

// TestFollowersCostNoViews: those who wait for events cost the store nothing, and each sees every event.
func TestFollowersCostNoViews(t *testing.T) {
	s := &shelf{Store: memory.Open(memory.Options{})}
	e := open(t, s, Options{})
	do(t, e, create("mug", 100))
	if _, err := e.Events(t.Context(), EventQuery{Limit: 10}); err != nil {
		t.Fatal(err)
	}
	s.views = 0
	after := int64(1)
	for range 50 {
		do(t, e, hold("mug", 1))
		if _, err := e.AwaitEvents(t.Context(), EventQuery{After: e.CursorAt(after)}, 1); err != nil {
			t.Fatal(err)
		}
		page, err := e.Events(t.Context(), EventQuery{After: e.CursorAt(after), Limit: 10})
		if err != nil || len(page.Events) != 1 || page.Events[0].Seq != after+1 {
			t.Fatalf("%+v (%v)", page, err)
		}
		after++
	}
	if s.views != 0 {
		t.Errorf("%d looks into the store", s.views)
	}
}

// TestClockJump: a clock that jumps a day ahead ends no hold: what was decided by it could never be taken back.
func TestClockJump(t *testing.T) {
	now, running := time.Now(), time.Duration(0)
	clock := store.NewClock(false, time.Minute, func() time.Duration { return running })
	e := open(t, memory.Open(memory.Options{Now: func() time.Time { return now }, Clock: clock}), Options{})
	do(t, e, create("mug", 1))
	c := hold("mug", 1)
	c.TTL = (24 * time.Hour).Milliseconds()
	r := do(t, e, c).Reservation
	now = now.Add(25 * time.Hour)
	if _, err := e.Reservation(t.Context(), r.ID); !errors.Is(err, ErrNotReady) || !errors.Is(err, ErrClockJumped) {
		t.Errorf("reading the hold: %v", err)
	}
	if err := e.Probe(t.Context()); !errors.Is(err, ErrClockJumped) {
		t.Errorf("ready: %v", err)
	}
	now = now.Add(-25 * time.Hour)
	if r, err := e.Reservation(t.Context(), r.ID); err != nil || r.Status != inventory.ReservationActive {
		t.Errorf("once the clock is back: %+v (%v)", r, err)
	}
	now = now.Add(25 * time.Hour)
	clock.Confirm()
	if r, err := e.Reservation(t.Context(), r.ID); err != nil || r.Status != inventory.ReservationExpired {
		t.Errorf("once it is confirmed: %+v (%v)", r, err)
	}
}
