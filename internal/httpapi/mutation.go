package httpapi

import (
	"math/rand/v2"
	"net/http"
	"slices"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

// mutation is an operation that changes something: what its requests become, and what it answers with.
type mutation struct {
	operation string // operationId
	method    string
	path      string
	// mediaTypes are those that a body may have beside application/json.
	mediaTypes []string
	// decode makes the command of a body; it needs nothing of the HTTP request.
	decode func(body []byte, t wire.Target) (inventory.Command, error)
	// lines says where a body names the product of its line i, counted from 0; nil where bodies have no lines.
	lines func(body []byte) (pointer func(i int) string)
	// result is the part of an outcome that is the answer.
	result func(*inventory.Outcome) resource
}

// mutations are all of them, noun by noun.
var mutations = slices.Concat(productMutations, stockMutations, reservationMutations, orderMutations)

// mutationByName finds one by its operationId.
var mutationByName = func() map[string]*mutation {
	names := make(map[string]*mutation, len(mutations))
	for i := range mutations {
		names[mutations[i].operation] = &mutations[i]
	}
	return names
}()

// serve checks a request in the order of the contract, sends its command through the door and answers with the result.
func (m *mutation) serve(c *call) error {
	body, err := c.body(maxBodyBytes, m.mediaTypes...)
	if err != nil {
		return err
	}
	if err := c.noQuery(); err != nil {
		return err
	}
	target, err := c.target()
	if err != nil {
		return err
	}
	command, err := m.decode(body, target)
	if err != nil {
		return err
	}
	receipt, err := c.receipt(body)
	if err != nil {
		return err
	}
	outcome, err := c.do(&inventory.Request{Command: command, Receipt: receipt, Salt: rand.Uint32(), Held: len(body)})
	if err != nil {
		return err
	}
	if outcome.Refusal != nil {
		return m.refuse(outcome.Refusal, body)
	}
	c.answer(&outcome, m.result(&outcome))
	return nil
}

func (m *mutation) refuse(r *inventory.Refusal, body []byte) error {
	pointer := func(int) string { return "" }
	if m.lines != nil {
		pointer = m.lines(body)
	}
	return &refusal{Refusal: r, linePointer: pointer}
}

// target is what a command takes from the server's settings, with the id in its path.
func (o *Options) target(id string) wire.Target {
	return wire.Target{ID: id, HoldDefault: o.HoldDefault, HoldMax: o.HoldMax, PrivateWebhooks: o.PrivateWebhooks}
}

// target is what a command takes from the path, the headers and the server's settings.
func (c *call) target() (wire.Target, error) {
	o := &c.server.o
	target := o.target(c.PathValue("id"))
	if c.Method != http.MethodPatch { // only a PATCH has conditions
		return target, nil
	}
	var err error
	target.IfMatch, err = c.ifMatch()
	return target, err
}

// do sends a command through the door.
func (c *call) do(r *inventory.Request) (inventory.Outcome, error) {
	return c.server.o.Engine.DoWithin(c.Context(), c.server.o.RequestTimeout, r)
}
