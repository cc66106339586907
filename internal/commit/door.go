// Package commit is the one door through which every command of a process enters its store.
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
package commit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// What a caller can be told instead of an outcome.
var (
	// ErrOverloaded: the queue is full. The command had no effect.
	ErrOverloaded = errors.New("too many commands are waiting")
	// ErrNotReady: the door is closed, or the store cannot commit now. The command had no effect.
	ErrNotReady = errors.New("commands cannot be committed now")
	// ErrOutcomeUnknown: the command was taken, and it is not known what became of it.
	ErrOutcomeUnknown = errors.New("the outcome is not known")
	// ErrInternal: this command could not be decided or written. It had no effect, but the caller is not promised that.
	ErrInternal = errors.New("the command failed")
)

// Options bound the door. Zero values choose the defaults.
type Options struct {
	QueueLimit      int // commands that wait; default 8,192
	QueueBytesLimit int // bytes of them; default 64 MiB
	BatchLimit      int // commands that share a commit; default 1,024
	BatchBytesLimit int // bytes of them; default 4 MiB
	Log             *slog.Logger
	Now             func() time.Time // for durations; default time.Now
	OnBatch         func(Report)     // called after each commit, by the committer: be quick
}

// Report says how a batch went.
type Report struct {
	Outcomes []inventory.Outcome // nil after an error
	Events   inventory.Tally
	Commands int
	Took     time.Duration
	Err      error
}

func (o *Options) setDefaults() {
	setDefault(&o.QueueLimit, 8192)
	setDefault(&o.QueueBytesLimit, 64<<20)
	setDefault(&o.BatchLimit, 1024)
	setDefault(&o.BatchBytesLimit, 4<<20)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnBatch == nil {
		o.OnBatch = func(Report) {}
	}
}

func setDefault(field *int, value int) {
	if *field <= 0 {
		*field = value
	}
}

// Door is the queue and its committer. Make one with [Open], and stop it with [Door.Close].
type Door struct {
	store   store.Store
	options Options

	mu     sync.Mutex
	queue  []*entry
	bytes  int
	closed error // why nothing is accepted any more

	entries  sync.Pool
	commands atomic.Int64 // committed

	wake   chan struct{} // something was queued, or the door was closed
	done   chan struct{} // the committer has ended
	cancel context.CancelFunc

	broken   chan struct{} // closed after store.ErrBroken
	breaking sync.Once
}

// entry is a command with the caller that waits for it.
type entry struct {
	request *inventory.Request
	size    int
	place   atomic.Int32
	answer  chan answer // buffered: the committer never waits for a caller
	limit   *time.Timer // of the wait; stopped where there is none
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

// Open starts a door to a store, which it does not own.
func Open(s store.Store, o Options) *Door {
	o.setDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	d := &Door{
		store: s, options: o, cancel: cancel,
		entries: sync.Pool{New: newEntry}, wake: make(chan struct{}, 1), done: make(chan struct{}), broken: make(chan struct{}),
	}
	go d.run(ctx)
	return d
}

// Do sends a command through the door and waits for its outcome. When ctx ends while the command still waits, the command has no
// effect and the error is ctx's; when it ends later, the effect stands and the error is [ErrOutcomeUnknown].
func (d *Door) Do(ctx context.Context, request *inventory.Request) (inventory.Outcome, error) {
	return d.do(ctx, 0, request)
}

// DoWithin is [Door.Do] for a caller who waits no longer than limit: as if ctx ended then, with [context.DeadlineExceeded], but without
// the cost of a context for each command.
func (d *Door) DoWithin(ctx context.Context, limit time.Duration, request *inventory.Request) (inventory.Outcome, error) {
	return d.do(ctx, max(limit, 1), request)
}

func (d *Door) do(ctx context.Context, limit time.Duration, request *inventory.Request) (inventory.Outcome, error) {
	e := d.entries.Get().(*entry)
	e.request, e.size = request, request.Size()
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
func (d *Door) recycle(e *entry) {
	e.request = nil
	d.entries.Put(e)
}

func (d *Door) enter(e *entry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed != nil:
		return d.closed
	case len(d.queue) >= d.options.QueueLimit || d.bytes+e.size > d.options.QueueBytesLimit:
		return ErrOverloaded
	}
	d.queue = append(d.queue, e)
	d.bytes += e.size
	d.signal()
	return nil
}

func (d *Door) signal() {
	select {
	case d.wake <- struct{}{}:
	default: // it is awake already
	}
}

// Depth is how many commands are waiting.
func (d *Door) Depth() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue)
}

// Commands is how many commands were committed, refusals included.
func (d *Door) Commands() int64 { return d.commands.Load() }

// Broken is closed when the store's durability is in doubt. The process should then end.
func (d *Door) Broken() <-chan struct{} { return d.broken }

// Probe reports whether a command could be committed now: it runs a batch that changes nothing.
func (d *Door) Probe(ctx context.Context) error {
	d.mu.Lock()
	err := d.closed
	d.mu.Unlock()
	if err != nil {
		return err
	}
	err = d.store.Commit(ctx, inventory.KeysOf(nil), func(*inventory.State) (*inventory.Changes, error) {
		return &inventory.Changes{}, nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return nil
}

// Close refuses new commands, commits those that were accepted, and waits for the committer to end. When ctx ends first, what
// still waits is answered with [ErrNotReady], and Close returns ctx's error once the batch under way is over.
func (d *Door) Close(ctx context.Context) error {
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

func (d *Door) refuse(reason error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed == nil {
		d.closed = reason
	}
}

// run is the committer.
func (d *Door) run(ctx context.Context) {
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
func (d *Door) gather(batch []*entry) ([]*entry, bool) {
	for {
		d.yield()
		more, open := d.take(batch)
		if len(more) > 0 || !open {
			return more, open
		}
		<-d.wake
	}
}

// yield lets the goroutines run that are ready to queue a command, for as long as they do. The callers that the last batch woke
// have their next commands on the wire by now: without this they would find the door just closed, and every second batch would
// be nearly empty. It is no timer: on an idle server it costs a microsecond.
func (d *Door) yield() {
	for depth := d.Depth(); ; {
		runtime.Gosched()
		now := d.Depth()
		if now == depth {
			return
		}
		depth = now
	}
}

func (d *Door) take(batch []*entry) ([]*entry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	size, n := 0, 0
	for _, e := range batch {
		size += e.size
	}
	for _, e := range d.queue {
		if len(batch) >= d.options.BatchLimit || (len(batch) > 0 && size+e.size > d.options.BatchBytesLimit) {
			break
		}
		n++
		d.bytes -= e.size
		if e.place.CompareAndSwap(queued, taken) {
			batch = append(batch, e)
			size += e.size
		}
	}
	rest := copy(d.queue, d.queue[n:])
	clear(d.queue[rest:])
	d.queue = d.queue[:rest]
	return batch, d.closed == nil
}

// settle commits a batch and answers it. It returns the entries that have to be decided again in the next batch.
func (d *Door) settle(ctx context.Context, batch []*entry) (deferred []*entry) {
	if len(batch) == 0 {
		return nil
	}
	outcomes, err := d.commit(ctx, batch)
	var poison *inventory.Poison
	switch {
	case err == nil:
		return deliver(batch, outcomes)
	case errors.As(err, &poison):
		e := batch[poison.Index]
		d.options.Log.Error("a command panicked and was left out", "command", fmt.Sprintf("%T", e.request.Command), "panic", poison.Value, "stack", string(poison.Stack))
		reject(batch[poison.Index:poison.Index+1], ErrInternal)
		others := append(append([]*entry(nil), batch[:poison.Index]...), batch[poison.Index+1:]...)
		return d.settle(ctx, others)
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

// isPassing reports whether a failure has nothing to do with what was to be written.
func isPassing(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrClockBehind) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (d *Door) commit(ctx context.Context, batch []*entry) ([]inventory.Outcome, error) {
	requests := make([]*inventory.Request, len(batch))
	for i, e := range batch {
		requests[i] = e.request
	}
	report := Report{Commands: len(batch)}
	start := d.options.Now()
	report.Err = d.store.Commit(ctx, inventory.KeysOf(requests), func(state *inventory.State) (changes *inventory.Changes, err error) {
		report.Outcomes, changes, err = inventory.Decide(state, requests)
		if changes != nil {
			report.Events = changes.Tally
		}
		return changes, err
	})
	report.Took = d.options.Now().Sub(start)
	if report.Err == nil {
		d.commands.Add(int64(len(batch)))
	} else {
		report.Outcomes, report.Events = nil, inventory.Tally{}
	}
	d.options.OnBatch(report)
	return report.Outcomes, report.Err
}

func deliver(batch []*entry, outcomes []inventory.Outcome) (deferred []*entry) {
	for i, e := range batch {
		if outcomes[i].Deferred {
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
func (d *Door) fail(batch []*entry, err error) {
	d.options.Log.Error("the store is broken: nothing is acknowledged any more", "error", err)
	reason := fmt.Errorf("%w: %w", ErrNotReady, err)
	d.refuse(reason)
	d.breaking.Do(func() { close(d.broken) })
	reject(batch, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err))
	for {
		waiting, _ := d.take(nil)
		if len(waiting) == 0 {
			return
		}
		reject(waiting, reason)
	}
}
