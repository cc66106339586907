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

	checked  bool                // the answer was held against the model
	closed   bool                // it must have no effect any more
	effects  []inventory.Outcome // what it came to, if it had an effect: one of these
	possible []inventory.Outcome // the answers without an effect, at the points of history so far
	receipts []keyed             // those that it may leave without an effect
}

func (c *call) group() *inventory.Group {
	g, _ := c.request.Command.(*inventory.Group)
	return g
}

// uses reports whether an operation of the call has a key.
func (c *call) uses(key [16]byte) bool {
	g := c.group()
	return g != nil && slices.ContainsFunc(g.Operations, func(o inventory.Operation) bool {
		return o.Request.Receipt != nil && o.Request.Receipt.Key == key
	})
}

func (c *call) String() string {
	return fmt.Sprintf("call %d (%s)", c.number, describeCommand(c.request))
}

// observe notes what the answer would be at this point, where the call would have no effect. A success without an event
// leaves no trace of where in its batch it was, except its receipt, and receipts are in the order of commands. So a
// group is decided anew for each of them that has a key of its operations, as if it and those before it were known.
func (c *call) observe(m *model, written []keyed) {
	if c.closed || c.effects != nil {
		return
	}
	c.look(m)
	for i, r := range written {
		if _, known := m.receipts[r.id.Key]; !known && c.uses(r.id.Key) {
			c.look(m.knowing(written[:i+1]))
		}
	}
}

func (c *call) look(m *model) {
	d, receipts := c.decide(m)
	if d.panics || len(d.events) > 0 {
		return
	}
	c.possible = append(c.possible, d.outcome)
	c.receipts = append(c.receipts, receipts...)
	if id := c.request.Receipt; id != nil && d.outcome.Refusal == nil && !d.outcome.Replayed {
		c.receipts = append(c.receipts, keyed{*id, d.outcome})
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

// begin expects the first event of a call that is no group.
func (c *call) begin(m *model) (wanted []*inventory.Event, wrong string) {
	d := m.request(c.request)
	if len(d.events) == 0 {
		return nil, fmt.Sprintf("must have no effect here, but %s", describe(&d.outcome))
	}
	c.effects = []inventory.Outcome{d.outcome}
	return d.events, ""
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
	case c.effects != nil:
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
	right, wrong := c.possible, "which was right at no point; these were:"
	if c.effects != nil {
		right, wrong = c.effects, "but had the effect:"
	}
	got := describe(&c.outcome)
	wrong = "was answered\n  " + got + "\n" + wrong
	for i := range right {
		text := describe(&right[i])
		if text == got {
			return ""
		}
		wrong += "\n  " + text
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
