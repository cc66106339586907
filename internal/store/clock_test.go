package store

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
)

// TestClockGoesByTheWall: the monotonic reading of time.Now never jumps, so it must not be what readings are compared by.
func TestClockGoesByTheWall(t *testing.T) {
	c := NewClock(false, time.Minute, func() time.Duration { return 0 })
	if err := c.check(0, time.Now()); err != nil || c.source != c.source.Round(0) {
		t.Errorf("remembered is %v (%v)", c.source, err)
	}
	if err := c.check(0, time.Now().Round(0).Add(time.Hour)); !errors.Is(err, ErrClockJumped) {
		t.Errorf("an hour later at once: %v", err)
	}
}

// TestClock: a clock that jumps ahead is not gone by until it is back, or confirmed; passing and sleep are no jumps.
func TestClock(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	running := time.Duration(0)
	c := NewClock(false, time.Minute, func() time.Duration { return running })
	head := &Head{}
	now := func(source time.Time) (inventory.Time, error) { return head.Now(source, c) }
	take := func(at time.Duration) {
		t.Helper()
		if got, err := now(start.Add(at)); err != nil || got != inventory.Time(start.Add(at).UnixMilli()) {
			t.Fatalf("at %v: %v %v", at, got, err)
		}
	}
	refuse := func(at time.Duration) {
		t.Helper()
		if _, err := now(start.Add(at)); !errors.Is(err, ErrClockJumped) {
			t.Fatalf("at %v: %v", at, err)
		}
	}
	take(0)
	running = 8 * time.Hour // asleep, say
	take(8 * time.Hour)
	take(8*time.Hour + time.Minute) // slewed, or set a little
	refuse(33 * time.Hour)
	running += time.Hour
	refuse(34 * time.Hour)                // still
	take(9*time.Hour + time.Minute)       // set back
	take(9*time.Hour + 30*time.Second)    // a little behind
	refuse(9*time.Hour + 100*time.Second) // more than a minute at once
	c.Confirm()
	take(40 * time.Hour)
	running += time.Second
	refuse(42 * time.Hour)

	stopped := func() time.Duration { return 0 }
	for _, lenient := range []*Clock{nil, NewClock(true, time.Minute, stopped), NewClock(false, 0, stopped)} {
		for _, at := range []time.Duration{0, 1000 * time.Hour} {
			if _, err := head.Now(start.Add(at), lenient); err != nil {
				t.Errorf("%+v: %v", lenient, err)
			}
		}
	}
	head.At = inventory.Time(start.Add(time.Hour).UnixMilli())
	if _, err := head.Now(start, nil); !errors.Is(err, ErrClockBehind) {
		t.Errorf("behind: %v", err)
	}
	if got, err := head.Now(start, NewClock(true, 0, stopped)); err != nil || got != head.At {
		t.Errorf("behind and accepted: %v %v", got, err)
	}
}

// TestReceiptsSince: receipts grow older by what the process has run, and not by jumps, whoever lets the clock jump.
func TestReceiptsSince(t *testing.T) {
	const minute, day = inventory.Time(60_000), RotateEvery
	running := time.Duration(0)
	for name, c := range map[string]*Clock{
		"confirmed": NewClock(false, time.Minute, func() time.Duration { return running }),
		"accepted":  NewClock(true, time.Minute, func() time.Duration { return running }),
		"unbounded": NewClock(false, 0, func() time.Duration { return running }),
	} {
		head, since := Head{At: 1000 * day}, 1000*day-minute
		read := func(at inventory.Time) {
			t.Helper()
			c.Confirm()
			if _, err := head.Now(time.UnixMilli(int64(at)), c); err != nil {
				t.Fatal(name, err)
			}
		}
		expect := func(moved inventory.Time) {
			t.Helper()
			if got := head.ReceiptsSince(since, c) - since; got != moved {
				t.Errorf("%s: moved on by %v of %v ms", name, got, moved)
			}
		}
		commit := func(at inventory.Time) { since, head.At = head.ReceiptsSince(since, c), at }

		read(1005 * day) // the first reading: nobody knows what has been
		expect(5 * day)
		commit(1005 * day)
		expect(0)
		running += 10 * time.Minute
		read(1005*day + 10*minute)
		expect(0)
		running += time.Minute
		read(1007 * day) // no batch goes by it
		expect(2*day - 10*minute)
		running += time.Minute
		read(1008 * day)
		expect(3*day - 10*minute)
		commit(1008 * day)
		read(1008 * day)
		expect(0)
		head.At += day // by another process, which has seen the same jump
		read(1009*day + minute/2)
		expect(minute / 2)
		if got := head.ReceiptsSince(0, c); got != 0 {
			t.Errorf("%s: without receipts: %v", name, got)
		}
	}
}
