// Package webhook delivers the events of the feed to webhooks: each at least once, and in order of what belongs
// together.
//
// One process sends for all webhooks of a store. It holds a lease, as the relay of a sink does, and everything that it
// notes is noted only while it has the lease. Each webhook has a worker, which reads the feed from the position in the
// webhook's record. Events with the same order key form a subject; subjects are sent side by side. Where a try fails, its
// subject waits, and what comes later of the subject waits behind it: such deliveries are stored, so that the position
// moves on for all the others. Once a second a worker notes its position and the deliveries that have changed in one
// commit. A worker that is cut off before that sends again what it had sent since, in the same order.
package webhook

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

// Engine is as much of an [engine.Engine] as a sender uses.
type Engine interface {
	Do(context.Context, *inventory.Request) (inventory.Outcome, error)
	Events(context.Context, engine.EventQuery) (engine.Page, error)
	Event(context.Context, int64) (engine.Page, error)
	AwaitEvents(context.Context, engine.EventQuery, time.Duration) (inventory.Cursor, error)
	RecordRange(context.Context, inventory.RecordRange) ([]*inventory.Record, string, error)
	SoleWriter() bool
}

// Options are what a sender needs. Engine must be given.
type Options struct {
	Engine Engine
	// Retries are the waits before the tries after the first one; default [DefaultRetries]. Up to a fifth is added.
	Retries []time.Duration
	// DisableAfter is how long a webhook may fail before it is disabled; default [DefaultDisableAfter].
	DisableAfter time.Duration
	Private      bool              // deliver to addresses that are not public, too
	Transport    http.RoundTripper // for tests; default: the network
	Log          *slog.Logger      // default: nothing is logged
	Observe      func(Result)      // called after every try; default: nobody is told
}

// Result is what came of a try.
type Result string

// The results of tries, and a webhook that is switched off.
const (
	Delivered Result = "delivered"
	Failed    Result = "failed" // another try follows
	Dead      Result = "dead"
	Disabled  Result = "disabled" // not of a try: of a webhook
)

// Results are all of them.
func Results() []Result { return []Result{Delivered, Failed, Dead, Disabled} }

// DefaultDisableAfter is how long a webhook may fail.
const DefaultDisableAfter = 72 * time.Hour

// DefaultRetries is the schedule that Standard Webhooks proposes.
func DefaultRetries() []time.Duration {
	return []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour,
		20 * time.Hour, 24 * time.Hour,
	}
}

const (
	// leaseName is the record of the lease. No sink has it as its name: those are URLs.
	leaseName = "webhooks"
	// lease is how long a process that says nothing more goes on being the sender; others then take over within pause.
	lease = 4 * time.Second
	// pause is how often positions are noted, and webhooks looked at.
	pause = time.Second
	// sideBySide is how many subjects of a webhook are sent at a time.
	sideBySide = 64
	// waitingLimit bounds the deliveries of a webhook that wait for another try, or behind one that does.
	waitingLimit = 10_000
	// queueLimit bounds the events of a webhook that were read and not tried yet. pageEvents and pageBytes bound what is
	// read at once.
	queueLimit, pageEvents, pageBytes = 1000, 500, 1 << 20
	// recentLimit is how many deliveries that succeeded at once are remembered for each webhook.
	recentLimit = 1000
	// grace is how long a stop waits for the tries under way.
	grace = 2 * time.Second
	// Deliveries that are over are kept for keepFor. What is older is looked for every pruneEvery.
	keepFor, pruneEvery = 30 * 24 * time.Hour, time.Hour
	// webhooksAtOnce is how many webhooks are read at once.
	webhooksAtOnce = 500
)

// Sender sends, if it runs. Tests of webhooks it sends in any case.
type Sender struct {
	o      Options
	client *client
	holder string

	mu      sync.Mutex
	workers map[inventory.ID]*worker
}

// New makes a sender. [Sender.Run] runs it.
func New(o Options) *Sender {
	if o.Retries == nil {
		o.Retries = DefaultRetries()
	}
	if o.DisableAfter == 0 {
		o.DisableAfter = DefaultDisableAfter
	}
	if o.Transport == nil {
		o.Transport = newTransport(o.Private)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(Result) {}
	}
	return &Sender{
		o: o, client: newClient(o.Transport, o.Private), holder: rand.Text(), workers: map[inventory.ID]*worker{},
	}
}

// Test sends a test event to a webhook now.
func (s *Sender) Test(ctx context.Context, w wire.ShownWebhook) wire.WebhookTest {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	id, start := wire.TestEventID(random), time.Now()
	body := wire.AppendTestEvent(nil, id, inventory.Time(start.UnixMilli()), w)
	t := s.client.send(ctx, w.Webhook, id, body)
	if t.ended {
		t.err = "the test was ended"
	}
	return wire.WebhookTest{Delivered: t.err == "", Status: int64(t.status), Error: t.err, Took: time.Since(start)}
}

// Recent are the deliveries to a webhook that succeeded at once, newest first, as far as this process has sent them.
func (s *Sender) Recent(id inventory.ID) []inventory.Delivery {
	s.mu.Lock()
	w := s.workers[id]
	s.mu.Unlock()
	if w == nil {
		return nil
	}
	return w.recent.list()
}

// Run sends until ctx ends. Where there are no webhooks it asks for no lease, so that nothing is committed for nothing.
func (s *Sender) Run(ctx context.Context) {
	for ctx.Err() == nil {
		first, _, err := s.o.Engine.RecordRange(ctx, inventory.WebhookRange(inventory.ID{}, 1))
		if err == nil && len(first) > 0 {
			if held, err := s.hold(ctx, lease); err == nil && held {
				s.serve(ctx)
			}
		}
		wait(ctx, pause)
	}
}

// wait returns early when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// hold takes the lease, keeps it or gives it up. It reports false where another process has it.
func (s *Sender) hold(ctx context.Context, lease time.Duration) (bool, error) {
	o, err := s.o.Engine.Do(ctx, &inventory.Request{Command: &inventory.HoldSink{
		Name: leaseName, Holder: s.holder, Lease: inventory.Time(lease.Milliseconds()), Alone: s.o.Engine.SoleWriter(),
	}})
	if err != nil {
		return false, err
	}
	return o.Sink.Holder == s.holder, nil
}

// errLost is why workers end where another process may be the sender: at once, and without a word.
var errLost = errors.New("another process sends")

// serve sends for as long as this process has the lease.
func (s *Sender) serve(ctx context.Context) {
	holding, lose := context.WithCancelCause(ctx)
	var workers sync.WaitGroup
	s.keep(holding, lose, &workers)
	lose(errLost) // which has no effect where ctx has ended: then the workers end by themselves
	workers.Wait()
	s.mu.Lock()
	clear(s.workers)
	s.mu.Unlock()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), pause)
	defer cancel()
	_, _ = s.hold(last, 0) // where this fails, the lease ends by itself
}

// keep renews the lease and looks after the workers, until ctx ends, the lease may be another's, or there are no
// webhooks.
func (s *Sender) keep(ctx context.Context, lose context.CancelCauseFunc, workers *sync.WaitGroup) {
	renewed, pruned := time.Now(), time.Time{}
	for ctx.Err() == nil {
		switch any, err := s.look(ctx, lose, workers); {
		case err == nil && !any:
			return
		case err != nil && ctx.Err() == nil:
			s.o.Log.Warn("webhooks cannot be read now: trying again", "error", err)
		}
		if time.Since(pruned) > pruneEvery {
			pruned = time.Now()
			s.prune(ctx)
		}
		wait(ctx, pause)
		if ctx.Err() != nil || s.o.Engine.SoleWriter() {
			continue // alone there is nobody to keep the lease from
		}
		asked := time.Now()
		attempt, cancel := context.WithTimeout(ctx, lease-pause)
		held, err := s.hold(attempt, lease)
		cancel()
		switch {
		case err == nil && held:
			renewed = asked
		case err == nil, time.Since(renewed) > lease-pause:
			s.o.Log.Warn("another process sends to webhooks, or may do so", "error", err)
			return
		}
	}
}

// look starts, tells and stops workers by what webhooks there are. It reports whether there is one.
func (s *Sender) look(
	ctx context.Context, lose context.CancelCauseFunc, workers *sync.WaitGroup,
) (any bool, err error) {
	list, err := s.webhooks(ctx)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, hook := range list {
		w := s.workers[hook.ID]
		if w == nil || w.ended() {
			w = s.newWorker(hook.ID)
			s.workers[hook.ID] = w
			running, stop := context.WithCancel(ctx)
			w.stop = stop
			w.tell(hook)
			workers.Go(func() {
				defer close(w.done)
				defer stop()
				if errors.Is(w.run(running), errLost) {
					lose(errLost)
				}
			})
		}
		w.tell(hook)
	}
	for id, w := range s.workers {
		if !slices.ContainsFunc(list, func(hook *inventory.Webhook) bool { return hook.ID == id }) {
			w.stop()
			delete(s.workers, id)
		}
	}
	return len(list) > 0, nil
}

func (s *Sender) webhooks(ctx context.Context) (list []*inventory.Webhook, err error) {
	of := inventory.WebhookRange(inventory.ID{}, webhooksAtOnce)
	for more := true; more; more = of.After != "" {
		var page []*inventory.Record
		if page, of.After, err = s.o.Engine.RecordRange(ctx, of); err != nil {
			return nil, err
		}
		for _, r := range page {
			hook, err := inventory.DecodeWebhook(r.Data)
			if err != nil {
				return nil, err
			}
			list = append(list, hook)
		}
	}
	return list, nil
}

// prune deletes what is over for long.
func (s *Sender) prune(ctx context.Context) {
	s.mu.Lock()
	ids := make([]inventory.ID, 0, len(s.workers))
	for id := range s.workers {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	before := inventory.Time(time.Now().Add(-keepFor).UnixMilli())
	for _, id := range ids {
		command := &inventory.PruneDeliveries{WebhookID: id, Before: before}
		if _, err := s.o.Engine.Do(ctx, &inventory.Request{Command: command}); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("old deliveries could not be deleted", "error", err)
			return
		}
	}
}

// recent remembers the last deliveries that succeeded at once.
type recent struct {
	mu   sync.Mutex
	ring []inventory.Delivery
	next int
}

func (r *recent) add(d *inventory.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < recentLimit {
		r.ring = append(r.ring, *d)
		return
	}
	r.ring[r.next] = *d
	r.next = (r.next + 1) % recentLimit
}

// list sorts them by sequence, newest first; of several for one event only the last is there.
func (r *recent) list() []inventory.Delivery {
	r.mu.Lock()
	list := slices.Concat(r.ring[r.next:], r.ring[:r.next])
	r.mu.Unlock()
	slices.Reverse(list)
	slices.SortStableFunc(list, func(a, b inventory.Delivery) int { return int(b.Sequence() - a.Sequence()) })
	return slices.CompactFunc(list, func(a, b inventory.Delivery) bool { return a.ID == b.ID })
}
