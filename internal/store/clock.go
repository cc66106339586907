package store

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
)

// Clock says which readings of a clock batches may go by. A nil Clock takes every one that is not behind the store.
//
// A clock that jumps ahead would end holds whose time has not come, and for good: time never goes back. So a reading is
// held against how long the process has really been running since the one before. Sleep of the machine counts as running:
// it passes for everybody.
//
// Holds have to go by a jump that is confirmed, but receipts need not: see [Head.ReceiptsSince].
type Clock struct {
	accept  bool
	maxJump time.Duration
	running func() time.Duration

	mu        sync.Mutex
	known     bool
	confirmed bool
	source    time.Time      // the last reading that was taken
	at        time.Duration  // when it was
	from, to  inventory.Time // the last jump that was gone by
}

// plausibleJump is from where on a jump is one for receipts, if the clock may jump as it likes.
const plausibleJump = time.Minute

// NewClock makes a Clock. With accept it takes every reading: the operator knows. A maxJump of 0 lets the clock jump.
// Running is how long the process runs by a clock that nobody sets, sleep included. It may be nil where the clock may
// jump; then nobody notices.
func NewClock(accept bool, maxJump time.Duration, running func() time.Duration) *Clock {
	return &Clock{accept: accept, maxJump: maxJump, running: running}
}

// Confirm takes the next reading as true, whatever it says: the operator knows that the clock was set.
func (c *Clock) Confirm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.confirmed = true
}

func (c *Clock) accepts() bool { return c != nil && c.accept }

// check takes a reading, or fails with [ErrClockJumped]. Head is the time of the last batch.
func (c *Clock) check(head inventory.Time, source time.Time) error {
	if c == nil || c.running == nil {
		return nil
	}
	source = source.Round(0) // the wall's reading alone: where both times had the monotonic one, Sub would go by that
	c.mu.Lock()
	defer c.mu.Unlock()
	running := c.running()
	before, ahead := c.source, source.Sub(c.source)-(running-c.at)
	if !c.known { // nobody has measured the time since the last batch
		before = time.UnixMilli(int64(head))
		ahead = source.Sub(before)
	}
	jumped := ahead > cmp.Or(c.maxJump, plausibleJump)
	if jumped && c.known && !c.accept && !c.confirmed && c.maxJump > 0 {
		return fmt.Errorf("%w: it is %v further on than this process has run; nothing is committed until it is set back, or "+
			"confirmed with SIGHUP (kill -HUP)", ErrClockJumped, ahead.Round(time.Millisecond))
	}
	if jumped {
		c.leap(head, before, source)
	}
	c.known, c.confirmed, c.source, c.at = true, false, source, running
	return nil
}

// leap remembers a jump, together with those before it that no batch has gone by yet.
func (c *Clock) leap(head inventory.Time, before, source time.Time) {
	if head >= c.to {
		c.from = inventory.Time(before.UnixMilli())
	}
	c.to = inventory.Time(source.UnixMilli())
}

// ReceiptsSince returns since when receipts have been written to the same place, as the next batch has to write it. It
// moves on by the time that the clock has jumped over since the last batch, or that has passed before this process has
// read the clock. In that time no receipt has grown older: where it had, one jump could drop receipts that are a minute
// old. That they live longer where a store rests does no harm. A since of 0 means that there are no receipts.
func (h *Head) ReceiptsSince(since inventory.Time, c *Clock) inventory.Time {
	if c == nil || since == 0 {
		return since
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return since + max(0, c.to-max(c.from, h.At))
}
