package sim

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// process is one Holdfast: an engine on the store that all processes of a world share. It is its own store: a commit
// waits at each step until the world lets it go on, with a fault or without.
type process struct {
	world  *world
	engine *engine.Engine
	dead   chan struct{} // closed by a crash
	orders chan fault
	stage  stage
	before *model // while a batch is written and its process does not know yet
	shown  int64  // the event up to which its readers have seen history for certain
	views  int    // how many views fail from now on
}

// stage is where the committer of a process stands.
type stage int

const (
	working stage = iota // or idle
	deciding
	written
	reporting
)

// fault is what the world does to a commit.
type fault int

const (
	none fault = iota
	unavailable
	unknownLost
	unknownWritten
	brokenLost
	brokenWritten
	decidedTwice // the first decision is thrown away, as after a write conflict
	heldAfter    // the commit waits once more when it is written
)

// errUnwritable is what the store says of a batch with a row that it cannot take.
var errUnwritable = errors.New("a row was refused")

var _ store.Store = (*process)(nil)

func startProcess(w *world, o engine.Options) *process {
	p := &process{world: w, dead: make(chan struct{}), orders: make(chan fault)}
	o.OnBatch = func(engine.Report) { p.park(reporting) }
	o.Render = func(p *inventory.Product) []byte { return []byte(describeRows(p, nil, nil, nil)) }
	p.engine = engine.Open(p, o)
	return p
}

// park waits at a stage for what the world orders. It reports false after a crash.
func (p *process) park(at stage) (f fault, alive bool) {
	if p.isDead() {
		return none, false
	}
	p.stage = at
	select {
	case f = <-p.orders:
		p.stage = working
		return f, true
	case <-p.dead:
		return none, false
	}
}

func (p *process) isDead() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// Commit implements [store.Store].
func (p *process) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	for {
		f, alive := p.park(deciding)
		if !alive {
			return store.ErrClosed
		}
		switch f {
		case unavailable:
			return store.ErrUnavailable
		case unknownLost:
			return store.ErrOutcomeUnknown
		case brokenLost:
			return store.ErrBroken
		case decidedTwice:
			p.throwAway(ctx, keys, decide)
		default:
			return p.write(ctx, keys, decide, f)
		}
	}
}

// throwAway decides a batch and writes nothing.
func (p *process) throwAway(ctx context.Context, keys *inventory.Keys, decide store.Decide) {
	conflict := errors.New("a write conflict")
	_ = p.world.rows.Commit(ctx, keys, func(s *inventory.State) (*inventory.Changes, error) {
		if _, err := decide(s); err != nil {
			return nil, err
		}
		return nil, conflict
	})
}

func (p *process) write(ctx context.Context, keys *inventory.Keys, decide store.Decide, f fault) error {
	var state *inventory.State
	var changes *inventory.Changes
	err := p.world.rows.Commit(ctx, keys, func(s *inventory.State) (_ *inventory.Changes, err error) {
		state = s
		if changes, err = decide(s); err == nil && isUnwritable(changes) {
			err = errUnwritable
		}
		return changes, err
	})
	if err != nil {
		return err
	}
	if f == heldAfter {
		p.before = p.world.model.clone()
	}
	p.world.follow(state, changes)
	switch f {
	case unknownWritten:
		return store.ErrOutcomeUnknown
	case brokenWritten:
		return store.ErrBroken
	case heldAfter:
		_, alive := p.park(written)
		p.before = nil
		if !alive {
			return store.ErrClosed
		}
	}
	return nil
}

// isUnwritable reports whether a batch has a hold of the customer that the store refuses.
func isUnwritable(c *inventory.Changes) bool {
	for i := range c.Reservations {
		if c.Reservations[i].Before == nil && c.Reservations[i].After.CustomerID == unwritable {
			return true
		}
	}
	return false
}

// View implements [store.Store].
func (p *process) View(ctx context.Context, read func(store.View) error) error {
	if p.isDead() {
		return store.ErrClosed
	}
	if p.views > 0 {
		p.views--
		return store.ErrUnavailable
	}
	return p.world.rows.View(ctx, read)
}

// SoleWriter implements [store.Store].
func (p *process) SoleWriter() (clock func() time.Time, sole bool) {
	if p.world.shared {
		return nil, false
	}
	return p.world.clock, true
}

// Close implements [store.Store]. The rows outlive the process.
func (p *process) Close() error { return nil }
