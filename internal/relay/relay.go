// Package relay takes the events of the feed to sinks outside: each at least once, and in order.
//
// A relay reads the feed from where its sink's record says that it was, hands events over, and notes the new position
// once the sink has acknowledged them. Where several processes share a store, one of them serves a sink: it holds a lease
// in the record, which it renews, and which others take over when it is not. A relay has no part in a commit: a sink that
// is down costs nothing but the way it is behind.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
)

// Message is an event on its way to a sink.
type Message struct {
	ID       string // of the event: the same each time it is sent, for a broker that leaves out duplicates
	Type     string // of the event
	Key      string // what must stay in order has the same key
	Sequence int64  // of the event
	Body     []byte // CloudEvents 1.0, JSON

	Place inventory.Cursor // in the feed, after the event
	Time  time.Time        // of the event
}

// ContentType is that of a message's body.
const ContentType = "application/cloudevents+json"

// Sink takes messages. It is used by one goroutine at a time. It connects when it is first used, and again whenever it
// has lost its connection: a sink that cannot be reached is no error of whoever made it.
type Sink interface {
	// Send hands messages over, in their order, and returns how many of the first ones are safe with the sink. If that
	// is not all of them, the error says why: a [Refused] where the sink will never take the next one; otherwise the
	// rest is sent again later. When ctx ends, Send returns soon.
	Send(ctx context.Context, messages []Message) (accepted int, err error)
	Close() error
}

// Refused is the error of a sink for a message that it will never take as it is, because it is too large, say.
type Refused struct{ Reason error }

func (e *Refused) Error() string { return "the sink refuses this event for good: " + e.Reason.Error() }
func (e *Refused) Unwrap() error { return e.Reason }

// Source is where a relay gets its events from, and where it keeps how far a sink has got. It is used by two goroutines.
type Source interface {
	// Hold takes a sink, keeps it for at least as long as lease, or gives it up with a lease of 0, and notes progress. It
	// reports false where another process has the sink.
	Hold(ctx context.Context, sink string, lease time.Duration, p *inventory.SinkProgress) (
		state inventory.Sink, held bool, err error)
	// Read returns what comes after a place. Where that is nothing it waits, but not longer than it is told. For a place
	// that is not in the feed it fails with an [engine.CursorAheadError].
	Read(ctx context.Context, after inventory.Cursor, wait time.Duration) (Part, error)
	// Alone reports whether there can be no other process that takes a sink.
	Alone() bool
}

// Part is a part of the feed.
type Part struct {
	Messages []Message
	Head     int64 // sequence of the last event that there is
}

// Options are what a relay needs. Source, Sink and Name must be given.
type Options struct {
	Source  Source
	Sink    Sink         // the relay closes it
	Name    string       // of the sink, the same in every process and without secrets
	Log     *slog.Logger // default: nothing is logged
	Observe func(Report) // called when something was sent, or could not be; default: nobody is told
}

// Report says how a relay is getting on.
type Report struct {
	Sink     string
	Accepted int           // events that were taken
	SetAside int           // events that were refused for good
	Failed   bool          // the sink could not be used
	Behind   int64         // events that it has not got yet
	Oldest   time.Duration // age of the oldest of them, when they were read; 0: there is none
}

const (
	// lease is how long a sink stays with a process that says nothing more; others then take it within pause.
	lease = 3500 * time.Millisecond
	// pause is how long a relay waits before it asks for a sink again that another process has, and how often a position
	// is written.
	pause = time.Second
	// sendTimeout bounds one call of a sink.
	sendTimeout = 15 * time.Second
	// A sink that could not be used is tried again after a wait that doubles.
	firstBackoff, longestBackoff = 100 * time.Millisecond, 10 * time.Second
)

// Relay serves one sink.
type Relay struct {
	o      Options
	failed bool // the last attempt; it is logged once
}

// New makes a relay. [Relay.Run] runs it.
func New(o Options) *Relay {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(Report) {}
	}
	o.Log = o.Log.With("sink", o.Name)
	return &Relay{o: o}
}

// Run relays until ctx ends.
func (r *Relay) Run(ctx context.Context) {
	for ctx.Err() == nil {
		sink, held, err := r.o.Source.Hold(ctx, r.o.Name, lease, nil)
		if err == nil && held {
			r.o.Log.Info("relaying events", "after", sink.Position.String())
			r.serve(ctx, sink.Position)
		}
		wait(ctx, pause)
	}
	if err := r.o.Sink.Close(); err != nil {
		r.o.Log.Warn("closing the sink failed", "error", err)
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

// serve relays from a position on, for as long as this process has the sink.
func (r *Relay) serve(ctx context.Context, from inventory.Cursor) {
	holding, lose := context.WithCancel(ctx)
	p := &progress{from: from, SinkProgress: inventory.SinkProgress{Position: from}}
	var keeper sync.WaitGroup
	keeper.Go(func() {
		defer lose()
		r.keep(holding, p)
	})
	r.send(holding, p)
	lose()
	keeper.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), pause)
	defer cancel()
	_, _, _ = r.o.Source.Hold(last, r.o.Name, 0, p.take()) // where this fails, the lease ends by itself and events are sent again
}

// progress is what has become of the events since it was last noted.
type progress struct {
	mu sync.Mutex
	inventory.SinkProgress
	from inventory.Cursor // the position that was noted
}

func (p *progress) add(position inventory.Cursor, setAside int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Position, p.SetAside = position, p.SetAside+setAside
}

// take returns what is to be noted; nil: nothing.
func (p *progress) take() *inventory.SinkProgress {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Position == p.from {
		return nil
	}
	taken := p.SinkProgress
	p.from, p.SetAside = p.Position, 0
	return &taken
}

// back takes back what could not be noted.
func (p *progress) back(taken *inventory.SinkProgress) {
	if taken == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from, p.SetAside = inventory.Cursor{Seq: -1}, p.SetAside+taken.SetAside
}

// keep renews the lease and notes progress until ctx ends or the sink is lost: to another holder, or because it could
// not be renewed for so long that there may be one.
func (r *Relay) keep(ctx context.Context, p *progress) {
	renewed := time.Now()
	for {
		wait(ctx, pause)
		if ctx.Err() != nil {
			return
		}
		taken := p.take()
		if taken == nil && r.o.Source.Alone() {
			continue // there is nobody to keep it from
		}
		asked := time.Now()
		attempt, cancel := context.WithDeadline(ctx, renewed.Add(lease)) // then somebody else may have it
		_, held, err := r.o.Source.Hold(attempt, r.o.Name, lease, taken)
		cancel()
		switch {
		case err == nil && held:
			renewed = asked
			continue
		case err == nil:
			r.o.Log.Warn("another process has taken over")
			return
		}
		if p.back(taken); time.Since(renewed) > lease-pause && !r.o.Source.Alone() {
			r.o.Log.Warn("the position could not be noted for too long: starting anew from the last one", "error", err)
			return
		}
	}
}

// send hands events over until ctx ends.
func (r *Relay) send(ctx context.Context, p *progress) {
	position, failures := p.Position, 0
	for ctx.Err() == nil {
		next, err := r.sendPage(ctx, position, p)
		if next != position {
			position, failures = next, 0
		}
		switch {
		case err == nil:
			failures = 0
			r.recovered()
		case ctx.Err() == nil:
			failures++
			r.failure(err, failures)
			wait(ctx, backoff(failures))
		}
	}
}

// backoff is how long to wait after so many failures in a row: between a half and the whole of a time that doubles.
func backoff(failures int) time.Duration {
	d := min(firstBackoff<<min(failures-1, 10), longestBackoff)
	return d/2 + mathrand.N(d/2)
}

func (r *Relay) failure(err error, failures int) {
	if failures == 1 {
		r.o.Log.Warn("events cannot be relayed now: trying again", "error", err)
	}
	r.failed = true
}

func (r *Relay) recovered() {
	if r.failed {
		r.failed = false
		r.o.Log.Info("events are relayed again")
	}
}

// sendPage hands over the events after a position, or waits a while where there are none. It returns the position after
// those that were taken.
func (r *Relay) sendPage(ctx context.Context, position inventory.Cursor, p *progress) (inventory.Cursor, error) {
	part, err := r.o.Source.Read(ctx, position, pause)
	if err != nil {
		return r.elsewhere(position, err)
	}
	if len(part.Messages) == 0 {
		r.o.Observe(Report{Sink: r.o.Name})
	}
	for messages := part.Messages; len(messages) > 0 && err == nil; {
		var n int
		if n, err = r.hand(ctx, messages, part.Head, p); n > 0 {
			position, messages = messages[n-1].Place, messages[n:]
		}
	}
	return position, err
}

// hand gives messages to the sink and notes what it took. One that it refuses for good is set aside.
func (r *Relay) hand(ctx context.Context, messages []Message, head int64, p *progress) (taken int, err error) {
	attempt, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	accepted, err := r.o.Sink.Send(attempt, messages)
	taken = accepted
	report := Report{Sink: r.o.Name, Accepted: accepted}
	var refused *Refused
	if errors.As(err, &refused) && accepted < len(messages) {
		m := &messages[accepted]
		r.o.Log.Error("an event was set aside", "event", m.ID, "sequence", m.Sequence, "type", m.Type, "error", refused.Reason)
		taken, err, report.SetAside = accepted+1, nil, 1
	}
	if taken > 0 {
		p.add(messages[taken-1].Place, int64(report.SetAside))
	}
	report.Failed = err != nil
	report.Behind = head - messages[0].Sequence + 1 - int64(taken)
	if taken < len(messages) {
		report.Oldest = time.Since(messages[taken].Time)
	}
	r.o.Observe(report)
	return taken, err
}

// elsewhere deals with a feed that does not have the position: the store was restored from an older state. The sink
// knows events that are gone; it goes on behind the last one that both have.
func (r *Relay) elsewhere(position inventory.Cursor, err error) (inventory.Cursor, error) {
	var ahead *engine.CursorAheadError
	if !errors.As(err, &ahead) {
		return position, fmt.Errorf("reading the feed: %w", err)
	}
	if !ahead.Known {
		ahead.Shared = inventory.Cursor{}
	}
	r.o.Log.Warn("the store was restored from an older state: what was sent beyond it is not in it any more", "sent",
		position.String(), "goesOnAfter", ahead.Shared.String())
	return ahead.Shared, nil
}
