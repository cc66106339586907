// Package engine is the running core of one process: a door through which commands enter a store, the feed of what was
// committed, and the committed state of what readers ask for most, in memory.
//
// HTTP, the sweeper and the bench use an engine, and none of them touches a store. Errors of a store are told apart here:
// callers see those below, or a context's.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// What a caller can be told instead of an outcome.
var (
	// ErrOverloaded: the queue is full. The command had no effect.
	ErrOverloaded = errors.New("too many commands are waiting")
	// ErrNotReady: the engine is closed, or the store cannot be used now. A command had no effect.
	ErrNotReady = errors.New("the store cannot be used now")
	// ErrOutcomeUnknown: the command was taken, and it is not known what became of it.
	ErrOutcomeUnknown = errors.New("the outcome is not known")
	// ErrInternal: this command could not be decided or written. It had no effect, but the caller is not promised that.
	ErrInternal = errors.New("the command failed")
	// ErrClockBehind: nothing is committed because the clock is behind the store; always together with ErrNotReady.
	ErrClockBehind = store.ErrClockBehind
	// ErrClockJumped: nothing is committed because the clock has jumped ahead; always together with ErrNotReady.
	ErrClockJumped = store.ErrClockJumped
	// ErrBroken: the durability of the store is in doubt, so the process should end.
	ErrBroken = store.ErrBroken
)

// MaxClockLag is how far the clock may be behind the store before nothing is committed any more.
const MaxClockLag = store.MaxClockLag

// Options bound an engine. Zero values choose the defaults.
type Options struct {
	QueueLimit      int // commands that wait, those of groups counted each; default 8,192
	QueueBytesLimit int // bytes of them; default 64 MiB
	BatchLimit      int // commands that share a commit, but for the last group; default 1,024
	BatchBytesLimit int // bytes of them; default 4 MiB
	MemoryLimit     int // bytes of committed products and reservations that are kept for readers; default 64 MiB
	// FollowerLimit is how many may wait for events at a time; default 10,000.
	FollowerLimit int
	// ReadTimeout bounds each look into the store on behalf of a reader; default 15 seconds.
	ReadTimeout time.Duration
	// Render makes of a product what readers are sent, once for each state of it that is asked for; default: nothing.
	Render  func(*inventory.Product) []byte
	Log     *slog.Logger
	Now     func() time.Time // for durations; default time.Now
	OnBatch func(Report)     // called after each commit, by the committer: be quick
}

// Report says how a batch went.
type Report struct {
	Events   inventory.Tally // none after an error
	Commands int
	Took     time.Duration
	Err      error // one of package store
}

func (o *Options) setDefaults() {
	setDefault(&o.QueueLimit, 8192)
	setDefault(&o.QueueBytesLimit, 64<<20)
	setDefault(&o.BatchLimit, 1024)
	setDefault(&o.BatchBytesLimit, 4<<20)
	setDefault(&o.MemoryLimit, 64<<20)
	setDefault(&o.FollowerLimit, 10_000)
	if o.ReadTimeout <= 0 {
		o.ReadTimeout = 15 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnBatch == nil {
		o.OnBatch = func(Report) {}
	}
	if o.Render == nil {
		o.Render = func(*inventory.Product) []byte { return nil }
	}
}

func setDefault(field *int, value int) {
	if *field <= 0 {
		*field = value
	}
}

// Engine is safe for concurrent use. Make one with [Open], and end it with [Engine.Close].
type Engine struct {
	*door
	store   store.Store
	options Options
	memory  *committedMemory
	checks  checks
	feed    feed
	damaged damaged
	clock   func() time.Time // of a store that nobody else writes; nil where others may
}

// Open starts an engine on a store, which it then owns.
func Open(s store.Store, o Options) *Engine {
	o.setDefaults()
	e := &Engine{store: s, options: o, memory: newMemory(o.MemoryLimit, o.Render)}
	e.feed.open()
	if clock, sole := s.SoleWriter(); sole {
		e.clock = clock
	}
	e.door = &door{store: s, options: &e.options, committed: e.committed, uncertain: e.uncertain}
	e.door.open()
	return e
}

// SoleWriter reports whether no other process can write the store.
func (e *Engine) SoleWriter() bool { return e.clock != nil }

// committed makes a batch visible to readers and followers before anybody is told of it.
func (e *Engine) committed(state *inventory.State, changes *inventory.Changes) {
	e.feed.sawEpochs(state.Epochs)
	if e.clock == nil {
		e.feed.send() // whoever is woken checks
		return
	}
	e.memory.enter(state, changes)
	e.feed.enter(state.Seq, state.Now, changes.EventCount, changes.Events)
}

// uncertain is called where it is not known whether a batch was written: what was in memory may not be so any more.
func (e *Engine) uncertain() {
	e.memory.forget()
	e.feed.forget() // which also wakes whoever waits for memory to catch up
}

// Close refuses new commands, commits those that were accepted, and closes the store. When ctx ends first, what still
// waits is answered with [ErrNotReady].
func (e *Engine) Close(ctx context.Context) error {
	e.StopFollowing()
	err := e.door.close(ctx)
	e.feed.polling.Wait()
	e.checks.close()
	return errors.Join(err, e.store.Close())
}

// view reads from the store in one snapshot. What it shows is never newer than what memory shows afterwards: nobody
// may see a hold first and then the stock as it was before. On a shared store the head is asked for last, when some
// stores know it already.
func (e *Engine) view(ctx context.Context, read func(context.Context, store.View) error) error {
	ctx, cancel := context.WithTimeout(ctx, e.options.ReadTimeout)
	defer cancel()
	var head store.Head
	err := e.notPast(ctx, func(floor int64) error {
		return e.store.View(ctx, func(v store.View) (err error) {
			if e.clock != nil {
				if head, err = v.Head(ctx); err != nil {
					return err
				}
			}
			if err = read(ctx, v); err == nil && e.clock == nil {
				err = isPast(ctx, v, floor)
			}
			return err
		})
	})
	if err == nil && e.clock != nil {
		err = e.caughtUp(ctx, head.Seq)
	}
	return failed(err)
}

// failed tells the errors of a store apart for readers.
func failed(err error) error {
	if errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrBroken) {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return err
}

// caughtUp waits until memory has what a snapshot of a store that only this process writes has shown: the batch that is
// being committed may be there a moment before the committer knows.
func (e *Engine) caughtUp(ctx context.Context, seq int64) error {
	e.memory.sync(seq)
	for {
		changed := e.feed.changed()
		if e.memory.seq.Load() >= seq {
			return nil
		}
		select {
		case <-changed:
		case <-e.done: // nobody will enter anything any more
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
