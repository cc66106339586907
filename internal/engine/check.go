package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Where other processes may write the same store, a reader needs the head as it is after his request arrived. Readers
// that wait together share one check: while one is under way, those who come gather for the next, as commands do at the
// door. A check reads the head with the clock and, from the journal, what was committed since the last one.

const (
	// Beyond so many batches, or bytes of events, memory is emptied rather than brought up to date.
	checkBatches = 1024
	checkBytes   = 4 << 20
	// checkTimeout bounds a check: all who wait for it share its fate.
	checkTimeout = 5 * time.Second
)

// checks are the check under way and the one that readers gather for.
type checks struct {
	mu      sync.Mutex
	next    *check // nil: nobody waits
	running bool
	closed  bool
	now     atomic.Int64   // the time of the last check
	group   sync.WaitGroup // of the goroutine that runs them
}

type check struct {
	done chan struct{}
	err  error
}

// check makes sure that memory shows everything that was acknowledged before the call.
func (e *Engine) check(ctx context.Context) error {
	if e.clock != nil {
		return ctx.Err() // every commit has passed through here
	}
	c := e.joinCheck()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// joinCheck is the next check to begin.
func (e *Engine) joinCheck() *check {
	e.checks.mu.Lock()
	defer e.checks.mu.Unlock()
	if e.checks.closed {
		done := make(chan struct{})
		close(done)
		return &check{done, ErrNotReady}
	}
	if e.checks.next == nil {
		e.checks.next = &check{done: make(chan struct{})}
	}
	c := e.checks.next
	if !e.checks.running {
		e.checks.running = true
		e.checks.group.Go(e.runChecks)
	}
	return c
}

// runChecks goes on until nobody waits.
func (e *Engine) runChecks() {
	for {
		e.checks.mu.Lock()
		c := e.checks.next
		e.checks.next = nil
		e.checks.running = c != nil
		e.checks.mu.Unlock()
		if c == nil {
			return
		}
		c.err = e.runCheck()
		close(c.done)
	}
}

// runCheck tries twice: the first may meet a connection that is gone, and everybody who waits shares its fate. A panic is
// an error like any.
func (e *Engine) runCheck() (err error) {
	defer func() {
		if value := recover(); value != nil {
			e.options.Log.Error("a look at the head panicked", "panic", value, "stack", string(debug.Stack()))
			err = fmt.Errorf("a look at the head panicked: %v", value)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	if err = e.catchUp(ctx); err != nil && ctx.Err() == nil {
		err = e.catchUp(ctx)
	}
	return failed(err)
}

// catchUp brings memory up to the head.
func (e *Engine) catchUp(ctx context.Context) error {
	from := e.memory.followed()
	head, now, entries, err := e.look(ctx, &from)
	if err != nil {
		return err
	}
	e.checks.now.Store(int64(now))
	continues, err := e.memory.follow(&from, &head, entries)
	if err != nil {
		return err
	}
	if !continues {
		e.feed.forget() // what it has may be of another history
	}
	e.feed.follow(&head, entries)
	return nil
}

// look reads the head and the clock, with the journal entries after a head unless they are too many.
func (e *Engine) look(ctx context.Context, from *store.Head) (
	head store.Head, now inventory.Time, entries []store.Entry, err error,
) {
	if s, ok := e.store.(store.Looker); ok {
		limit := checkBatches
		if from.Store == "" {
			limit = 0
		}
		return s.Look(ctx, from.BatchNo, limit, checkBytes)
	}
	err = e.store.View(ctx, func(v store.View) (err error) {
		if head, err = v.Head(ctx); err != nil {
			return err
		}
		if now, err = v.Now(ctx); err != nil {
			return err
		}
		if missed := head.BatchNo - from.BatchNo; from.Store != "" && missed > 0 && missed <= checkBatches {
			entries, err = v.Journal(ctx, store.JournalPosition{BatchNo: from.BatchNo + 1}, int(missed), checkBytes)
		}
		return err
	})
	return head, now, entries, err
}

// now is the time by the clock that decides, or a moment before: what it says is due, a batch that begins later will
// find due.
func (e *Engine) now() inventory.Time {
	if e.clock == nil {
		return inventory.Time(e.checks.now.Load())
	}
	return inventory.Time(max(e.clock().UnixMilli(), e.memory.at.Load()))
}

// errPast: a view of a shared store has less than readers were shown before.
var errPast = fmt.Errorf("%w: it shows less than before: an old server may still run", store.ErrUnavailable)

// notPast runs a view, which fails with errPast if it has less than memory had followed before it began. Then it may
// be of a server that was replaced and still runs, or the store itself was brought back to an older state. A look
// finds out, and the view is tried once more.
func (e *Engine) notPast(ctx context.Context, view func(floor int64) error) error {
	floor := e.memory.followed()
	err := view(floor.BatchNo)
	if !errors.Is(err, errPast) {
		return err
	}
	if err := e.check(ctx); err != nil {
		return err
	}
	floor = e.memory.followed()
	return view(floor.BatchNo)
}

// isPast fails with errPast if a view has less than the batch floor.
func isPast(ctx context.Context, v store.View, floor int64) error {
	head, err := v.Head(ctx)
	if err == nil && head.BatchNo < floor {
		err = errPast
	}
	return err
}

// snapshot is [Engine.view], with the head of the snapshot. Memory is no older than that afterwards.
func (e *Engine) snapshot(ctx context.Context, read func(context.Context, store.View) error) (head store.Head, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.options.ReadTimeout)
	defer cancel()
	err = e.notPast(ctx, func(floor int64) error {
		return e.store.View(ctx, func(v store.View) (err error) {
			if err = isPast(ctx, v, floor); err != nil {
				return err
			}
			if head, err = v.Head(ctx); err == nil {
				err = read(ctx, v)
			}
			return err
		})
	})
	switch {
	case err != nil:
	case e.clock != nil:
		err = e.caughtUp(ctx, head.Seq)
	default:
		if followed := e.memory.followed(); followed.BatchNo < head.BatchNo {
			err = e.check(ctx)
		}
	}
	if err == nil {
		e.memory.sawTime(head.At)
	}
	return head, failed(err)
}

// close lets nobody begin a check any more and waits for the one under way.
func (c *checks) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.group.Wait()
}
