package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
)

// call is a command on its way, and what the model knows of it. While it is under way, the model decides it at each
// point of history: an answer without an effect must be right at one of them.
type call struct {
	number  int
	request *inventory.Request
	process *process
	leave   context.CancelFunc

	done    atomic.Bool // the caller was answered, or has left
	outcome inventory.Outcome
	err     error

	checked  bool // the answer was held against the model
	closed   bool // it must have no effect any more
	progress *progress
	effect   *inventory.Outcome  // what it came to, if it had an effect
	possible []inventory.Outcome // the answers without an effect, at the points of history so far
	receipts []keyed             // those that it may leave without an effect
}

func (c *call) group() *inventory.Group {
	g, _ := c.request.Command.(*inventory.Group)
	return g
}

// has reports whether the call or an operation of it has a key.
func (c *call) has(id inventory.ReceiptID) bool {
	if own := c.request.Receipt; own != nil && *own == id {
		return true
	}
	g := c.group()
	return g != nil && slices.ContainsFunc(g.Operations, func(o inventory.Operation) bool {
		return o.Request.Receipt != nil && *o.Request.Receipt == id
	})
}

func (c *call) String() string {
	return fmt.Sprintf("call %d (%s)", c.number, describeCommand(c.request))
}

// observe notes what the answer would be at this point, where the call would have no effect.
func (c *call) observe(m *model) {
	if c.closed || c.effect != nil || c.progress != nil {
		return
	}
	d, receipts := c.decide(m)
	if d.panics || len(d.events) > 0 {
		return
	}
	c.possible = append(c.possible, d.outcome)
	c.receipts = append(c.receipts, receipts...)
	if id := c.request.Receipt; id != nil && d.outcome.Refusal == nil && !d.outcome.Replayed {
		c.receipts = append(c.receipts, keyed{id: *id, outcome: d.outcome})
	}
}

func (c *call) decide(m *model) (decision, []keyed) {
	g := c.group()
	if g == nil {
		return m.request(c.request), nil
	}
	if id := c.request.Receipt; id != nil {
		if known, used := m.receipts[id.Key]; used {
			return replayed(known, id), nil
		}
	}
	return tryGroup(m, g, c.request.Receipt)
}

// begin expects the first event of the call.
func (c *call) begin(m *model, e *inventory.Event) (wanted []*inventory.Event, wrong string) {
	if c.closed || (c.effect != nil && c.progress == nil) {
		return nil, "has an effect that it must not have"
	}
	if c.group() != nil {
		return c.beginOperation(m)
	}
	d := m.request(c.request)
	if len(d.events) == 0 {
		return nil, fmt.Sprintf("must have no effect here, but %s", describe(&d.outcome))
	}
	c.effect = &d.outcome
	return d.events, ""
}

// beginOperation goes on to the operation that the next event belongs to.
func (c *call) beginOperation(m *model) (wanted []*inventory.Event, wrong string) {
	if c.progress == nil {
		c.progress = &progress{number: c.number, group: c.group(), key: c.request.Receipt}
	}
	for !c.progress.ended() {
		d := c.progress.next(m)
		if d.outcome.Refusal != nil && c.group().Atomic {
			return nil, "has an effect although an operation of it is refused: " + describe(&d.outcome)
		}
		if len(d.events) > 0 {
			for _, e := range d.events {
				e.Actor = c.request.Actor
			}
			return d.events, ""
		}
	}
	return nil, "has more effects than operations"
}

// finish ends a group whose last event has come: what is left of it must do nothing.
func (c *call) finish(m *model) (wrong string) {
	if c.progress == nil {
		return ""
	}
	for !c.progress.ended() {
		if d := c.progress.next(m); len(d.events) > 0 {
			return "lacks the effect of an operation: " + describe(&d.outcome)
		} else if d.outcome.Refusal != nil && c.group().Atomic {
			return "has an effect although an operation of it is refused: " + describe(&d.outcome)
		}
	}
	outcome := c.progress.outcome(m)
	c.effect = &outcome
	return ""
}

// check holds the answer against the model.
func (c *call) check(m *model) (wrong string) {
	c.checked = true
	switch {
	case c.err == nil:
		if wrong := unwrittenEnding(m, c.request, &c.outcome); wrong != "" {
			return wrong
		}
		return c.checkOutcome()
	case errors.Is(c.err, engine.ErrOutcomeUnknown):
		return "" // it may have an effect, once
	case c.effect != nil:
		return fmt.Sprintf("had an effect and was answered with an error: %v", c.err)
	case errors.Is(c.err, engine.ErrInternal) && !mayFail(c.request):
		return "was answered with an internal error"
	}
	c.closed = true
	return ""
}

func (c *call) checkOutcome() (wrong string) {
	c.closed = true
	if _, expires := c.request.Command.(*inventory.Expire); expires {
		return ""
	}
	got := describe(&c.outcome)
	if c.effect != nil {
		if want := describe(c.effect); got != want {
			return fmt.Sprintf("was answered\n  %s\nbut had the effect\n  %s", got, want)
		}
		return ""
	}
	for i := range c.possible {
		if describe(&c.possible[i]) == got {
			return ""
		}
	}
	wrong = "was answered\n  " + got + "\nwhich was right at no point; these were:"
	for i := range c.possible {
		wrong += "\n  " + describe(&c.possible[i])
	}
	return wrong
}

// unwrittenEnding looks for a hold that the answer calls expired although that is not written: a clock that goes back
// would revive it (I3).
func unwrittenEnding(m *model, request *inventory.Request, o *inventory.Outcome) (wrong string) {
	var id inventory.ID
	results := o.Results
	switch command := request.Command.(type) {
	case *inventory.Group:
		if o.Refusal != nil {
			results = o.Refusal.Results
		}
		for i := 0; results != nil && i < len(results.Outcomes) && wrong == ""; i++ {
			wrong = unwrittenEnding(m, command.Operations[i].Request, &results.Outcomes[i])
		}
		return wrong
	case *inventory.Confirm:
		id = command.ReservationID
	case *inventory.Cancel:
		id = command.ID
	case *inventory.Extend:
		id = command.ID
	}
	r := m.reservations[id]
	if o.Refusal == nil || o.Refusal.Code != inventory.RefusedReservationExpired || r == nil {
		return ""
	}
	if r.Status != inventory.ReservationExpired {
		return "was told that a hold has expired, which is not written"
	}
	return ""
}
