package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// The door is the one place through which every command of a process enters its store.
//
// Outline. Callers put their command into a bounded queue and wait. One committer goroutine takes whatever is waiting, has the
// store load the rows, decides all commands in memory, and has the store write the result as one durable transaction. Then it
// wakes the callers, each with its own answer. While one batch commits the next one gathers: there is no timer, so an idle
// server answers at the latency of a single commit, and a busy one shares each flush among everybody who waited for it.
//
// Invariants.
//   - An answer, refusals included, leaves only after the batch that it was decided on is durable.
//   - A command is either in the queue, where its caller can take it back without effect, or taken, and then its effect stands.
//   - A command that cannot be decided or written fails alone: a panic names its command, which is left out while the others are
//     loaded and decided anew; a refused write splits the batch until the culprit stands by itself.
//   - After store.ErrBroken nothing is acknowledged any more.
//
// Rejected. A timer that waits for fuller batches: it taxes the quiet hours to serve the busy ones, which fill their batches
// anyway. Deciding a batch while the one before it is flushed: it makes batches smaller, and has to be undone when the flush fails. One
// goroutine and one transaction per request: a hot product is then as slow as its row lock.

// door is the queue and its committer.
type door struct {
	store     store.Store
	options   *Options
	committed func(*inventory.State, *inventory.Changes) // called before anybody is answered
	uncertain func()                                     // called where it is not known what became of a batch

	mu      sync.Mutex
	queue   []*entry
	waiting int   // commands in the queue
	bytes   int   // of the queue
	closed  error // why nothing is accepted any more

	entries  sync.Pool
	commands atomic.Int64 // committed

	wake   chan struct{} // something was queued, or the door was closed
	done   chan struct{} // the committer has ended
	cancel context.CancelFunc

	broken   chan struct{} // closed after store.ErrBroken
	breaking sync.Once
}

// entry is a request with the caller that waits for it.
type entry struct {
	request  *inventory.Request
	commands int
	size     int
	place    atomic.Int32
	answer   chan answer // buffered: the committer never waits for a caller
	limit    *time.Timer // of the wait; stopped where there is none
}

func newEntry() any {
	limit := time.NewTimer(time.Hour)
	limit.Stop()
	return &entry{answer: make(chan answer, 1), limit: limit}
}

// Where an entry is.
const (
	queued int32 = iota
	taken
	left
)

type answer struct {
	outcome inventory.Outcome
	err     error
}

// open starts the committer.
func (d *door) open() {
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.entries.New = cancel, newEntry
	d.wake, d.done, d.broken = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go d.run(ctx)
}

// Do sends a command through the door and waits for its outcome. When ctx ends while the command still waits, the command has no
// effect and the error is ctx's; when it ends later, the effect stands and the error is [ErrOutcomeUnknown].
func (d *door) Do(ctx context.Context, request *inventory.Request) (inventory.Outcome, error) {
	return d.do(ctx, 0, request)
}

// DoWithin is [door.Do] for a caller who waits no longer than limit: as if ctx ended then, with [context.DeadlineExceeded], but without
// the cost of a context for each command.
func (d *door) DoWithin(ctx context.Context, limit time.Duration, request *inventory.Request) (inventory.Outcome, error) {
	return d.do(ctx, max(limit, 1), request)
}

func (d *door) do(ctx context.Context, limit time.Duration, request *inventory.Request) (inventory.Outcome, error) {
	e := d.entries.Get().(*entry)
	e.request, e.commands, e.size = request, request.Commands(), request.Size()
	e.place.Store(queued)
	if err := d.enter(e); err != nil {
		d.recycle(e)
		return inventory.Outcome{}, err
	}
	if limit > 0 {
		e.limit.Reset(limit)
	}
	select {
	case a := <-e.answer:
		e.limit.Stop()
		d.recycle(e)
		return a.outcome, a.err
	case <-e.limit.C:
		return e.leave(context.DeadlineExceeded)
	case <-ctx.Done():
		return e.leave(ctx.Err())
	}
}

// leave says what has become of a command whose caller waits no longer.
func (e *entry) leave(err error) (inventory.Outcome, error) {
	e.limit.Stop()
	if e.place.CompareAndSwap(queued, left) {
		return inventory.Outcome{}, err
	}
	return inventory.Outcome{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// recycle keeps an entry for another command. One whose caller left is not recycled: the committer may still hold it.
func (d *door) recycle(e *entry) {
	e.request = nil
	d.entries.Put(e)
}

func (d *door) enter(e *entry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed != nil:
		return d.closed
	case d.waiting >= d.options.QueueLimit || d.bytes+e.size > d.options.QueueBytesLimit:
		return ErrOverloaded
	}
	d.queue = append(d.queue, e)
	d.waiting += e.commands
	d.bytes += e.size
	d.signal()
	return nil
}

func (d *door) signal() {
	select {
	case d.wake <- struct{}{}:
	default: // it is awake already
	}
}

// Depth is how many commands are waiting.
func (d *door) Depth() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting
}

// Commands is how many commands were committed, refusals included.
func (d *door) Commands() int64 { return d.commands.Load() }

// Broken is closed when the store's durability is in doubt. The process should then end.
func (d *door) Broken() <-chan struct{} { return d.broken }

// Probe reports whether a command could be committed now: it runs a batch that changes nothing. If that shows that the
// store is broken, the door ends as after any other batch.
func (d *door) Probe(ctx context.Context) error {
	d.mu.Lock()
	err := d.closed
	d.mu.Unlock()
	if err != nil {
		return err
	}
	err = d.store.Commit(ctx, inventory.KeysOf(nil), func(*inventory.State) (*inventory.Changes, error) {
		return &inventory.Changes{}, nil
	})
	if errors.Is(err, store.ErrBroken) {
		d.fail(nil, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return nil
}

// close refuses new commands, commits those that were accepted, and waits for the committer to end. When ctx ends first, what
// still waits is answered with [ErrNotReady], and close returns ctx's error once the batch under way is over.
func (d *door) close(ctx context.Context) error {
	d.refuse(fmt.Errorf("%w: the server is stopping", ErrNotReady))
	d.signal()
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		d.cancel()
		<-d.done
		return ctx.Err()
	}
}

func (d *door) refuse(reason error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed == nil {
		d.closed = reason
	}
}

// run is the committer.
func (d *door) run(ctx context.Context) {
	defer close(d.done)
	defer d.cancel()
	var waiting []*entry // deferred to this batch by the one before
	for {
		batch, open := d.gather(waiting)
		if len(batch) == 0 && !open {
			return
		}
		if ctx.Err() != nil {
			reject(batch, fmt.Errorf("%w: the server is stopping", ErrNotReady))
			waiting = nil
			continue
		}
		waiting = d.settle(ctx, batch)
	}
}

// gather takes what is waiting, up to the limits of a batch, and blocks while there is nothing. It reports false once the door
// is closed and the queue empty.
func (d *door) gather(batch []*entry) ([]*entry, bool) {
	for {
		d.yield()
		more, open := d.take(batch)
		if len(more) > 0 || !open {
			return more, open
		}
		<-d.wake
	}
}

// yieldLimit is how often the committer lets others run before it takes what there is. The callers that a batch has woken
// are through in fewer turns; where they come without end it bounds how long the committer is idle.
const yieldLimit = 64

// yield lets the goroutines run that are ready to queue a command, for as long as they do. The callers that the last batch woke
// have their next commands on the wire by now: without this they would find the door just closed, and every second batch would
// be nearly empty. It is no timer: on an idle server it costs a microsecond.
//
// Where callers come without waiting for answers, there is always one more: a full batch, or so many turns, is enough.
func (d *door) yield() {
	depth := d.Depth()
	for range yieldLimit {
		runtime.Gosched()
		now := d.Depth()
		if now == depth || now >= d.options.BatchLimit {
			return
		}
		depth = now
	}
}

func (d *door) take(batch []*entry) ([]*entry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	commands, size, n := 0, 0, 0
	for _, e := range batch {
		commands, size = commands+e.commands, size+e.size
	}
	for _, e := range d.queue {
		if commands >= d.options.BatchLimit || (len(batch) > 0 && size+e.size > d.options.BatchBytesLimit) {
			break
		}
		n++
		d.waiting -= e.commands
		d.bytes -= e.size
		if e.place.CompareAndSwap(queued, taken) {
			batch = append(batch, e)
			commands, size = commands+e.commands, size+e.size
		}
	}
	rest := copy(d.queue, d.queue[n:])
	clear(d.queue[rest:])
	d.queue = d.queue[:rest]
	return batch, d.closed == nil
}

// settle commits a batch and answers it. It returns the entries that have to be decided again in the next batch.
func (d *door) settle(ctx context.Context, batch []*entry) (deferred []*entry) {
	if len(batch) == 0 {
		return nil
	}
	outcomes, err := d.commit(ctx, batch)
	var poison *inventory.Poison
	switch {
	case err == nil:
		return deliver(batch, outcomes)
	case errors.As(err, &poison):
		return d.settle(ctx, d.leaveOut(batch, poison))
	case errors.Is(err, store.ErrBroken):
		d.fail(batch, err)
		return nil
	case errors.Is(err, store.ErrOutcomeUnknown):
		reject(batch, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err))
		return nil
	case isPassing(err):
		reject(batch, fmt.Errorf("%w: %w", ErrNotReady, err))
		return nil
	case len(batch) > 1:
		half := len(batch) / 2
		deferred = d.settle(ctx, batch[:half])
		return append(deferred, d.settle(ctx, batch[half:])...)
	default:
		d.options.Log.Error("a command could not be written", "command", fmt.Sprintf("%T", batch[0].request.Command), "error", err)
		reject(batch, ErrInternal)
		return nil
	}
}

// leaveOut is the batch without the command that panicked, whose caller is told.
func (d *door) leaveOut(batch []*entry, poison *inventory.Poison) []*entry {
	e := batch[poison.Index]
	d.options.Log.Error("a command panicked and was left out", "command", fmt.Sprintf("%T", e.request.Command),
		"operation", poison.Operation, "panic", poison.Value, "stack", string(poison.Stack))
	if rest, more := e.request.WithoutOperation(poison.Operation); more {
		e.request = rest
		return batch
	}
	reject(batch[poison.Index:poison.Index+1], ErrInternal)
	return slices.Concat(batch[:poison.Index], batch[poison.Index+1:])
}

// isPassing reports whether a failure has nothing to do with what was to be written.
func isPassing(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrClockBehind) ||
		errors.Is(err, store.ErrClockJumped) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (d *door) commit(ctx context.Context, batch []*entry) (outcomes []inventory.Outcome, err error) {
	requests := make([]*inventory.Request, len(batch))
	report := Report{}
	for i, e := range batch {
		requests[i] = e.request
		report.Commands += e.commands
	}
	var state *inventory.State // of the last decision, which is the one that counts
	var changes *inventory.Changes
	start := d.options.Now()
	decide := func(loaded *inventory.State) (_ *inventory.Changes, err error) {
		state = loaded
		outcomes, changes, err = inventory.Decide(loaded, requests)
		return changes, err
	}
	err = d.store.Commit(ctx, inventory.KeysOf(requests), decide)
	report.Took, report.Err = d.options.Now().Sub(start), err
	switch {
	case err == nil:
		report.Events = changes.Tally
		d.commands.Add(int64(report.Commands))
		d.committed(state, changes)
	case errors.Is(err, store.ErrBroken), errors.Is(err, store.ErrOutcomeUnknown):
		d.uncertain()
	}
	d.options.OnBatch(report)
	return outcomes, err
}

func deliver(batch []*entry, outcomes []inventory.Outcome) (deferred []*entry) {
	for i, e := range batch {
		if outcomes[i].Deferred {
			if again := outcomes[i].Again; again != nil {
				request := *e.request
				request.Command = again
				e.request = &request
			}
			deferred = append(deferred, e)
			continue
		}
		e.answer <- answer{outcome: outcomes[i]}
	}
	return deferred
}

func reject(batch []*entry, err error) {
	for _, e := range batch {
		e.answer <- answer{err: err}
	}
}

// fail ends the door after the store broke: the batch may have been written, what still waits was not.
func (d *door) fail(batch []*entry, err error) {
	reason := fmt.Errorf("%w: %w", ErrNotReady, err)
	d.refuse(reason)
	d.signal() // so that the committer ends, where it was somebody else who found it out
	d.breaking.Do(func() {
		d.options.Log.Error("the store is broken: nothing is acknowledged any more", "error", err)
		close(d.broken)
	})
	reject(batch, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err))
	for {
		waiting, _ := d.take(nil)
		if len(waiting) == 0 {
			return
		}
		reject(waiting, reason)
	}
}
