package store

import (
	"fmt"
	"sync"
	"time"
)

// Clock says which readings of a clock batches may go by. A nil Clock takes every one that is not behind the store.
//
// A clock that jumps ahead would end holds whose time has not come, and for good: time never goes back. So a reading is
// held against how long the process has really been running since the one before. Sleep of the machine counts as running:
// it passes for everybody.
type Clock struct {
	accept  bool
	maxJump time.Duration
	running func() time.Duration

	mu     sync.Mutex
	known  bool
	source time.Time     // the last reading that was taken
	at     time.Duration // when it was
}

// NewClock makes a Clock. With accept it takes every reading: the operator knows. A maxJump of 0 lets the clock jump.
// Running is how long the process runs by a clock that nobody sets, sleep included.
func NewClock(accept bool, maxJump time.Duration, running func() time.Duration) *Clock {
	return &Clock{accept: accept, maxJump: maxJump, running: running}
}

// Confirm takes the next reading as true, whatever it says: the operator knows that the clock was set.
func (c *Clock) Confirm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = false
}

func (c *Clock) accepts() bool { return c != nil && c.accept }

// check takes a reading, or fails with [ErrClockJumped].
func (c *Clock) check(source time.Time) error {
	if c == nil || c.accept || c.maxJump == 0 {
		return nil
	}
	source = source.Round(0) // the wall's reading alone: where both times had the monotonic one, Sub would go by that
	c.mu.Lock()
	defer c.mu.Unlock()
	running := c.running()
	if ahead := source.Sub(c.source) - (running - c.at); c.known && ahead > c.maxJump {
		return fmt.Errorf("%w: it is %v further on than this process has run; nothing is committed until it is set back, or "+
			"confirmed with SIGHUP (kill -HUP)", ErrClockJumped, ahead.Round(time.Millisecond))
	}
	c.known, c.source, c.at = true, source, running
	return nil
}
