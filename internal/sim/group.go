package sim

import (
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast/holdfast/internal/inventory"
)

// progress is how far a group has got, on one way that it may have gone.
type progress struct {
	group    *inventory.Group
	known    map[[16]byte]receipt
	outcomes []inventory.Outcome
	receipts []keyed // of its operations
	before   int     // how many receipts of the batch are from before the group
	next     int     // the event that comes next
	end      int     // behind the last event of its own
}

// keyed is an answer under its key.
type keyed struct {
	id      inventory.ReceiptID
	outcome inventory.Outcome
}

func (p *progress) ended() bool { return len(p.outcomes) == len(p.group.Operations) }

// request is the next operation's.
func (p *progress) request() *inventory.Request {
	o := &p.group.Operations[len(p.outcomes)]
	request := *o.Request
	if o.Names > 0 {
		request.Command = about(o.Request.Command, &p.outcomes[o.Names-1])
	}
	return &request
}

// decide decides the next operation.
func (p *progress) decide(m *model) decision {
	view := *m
	view.receipts = p.known
	d := view.request(p.request())
	if d.panics {
		d.outcome = inventory.Outcome{Broken: true}
	}
	return d
}

// with is the progress once the next operation has come to this.
func (p *progress) with(d decision) *progress {
	q := *p
	q.outcomes = append(slices.Clip(p.outcomes), d.outcome)
	id := p.group.Operations[len(p.outcomes)].Request.Receipt
	if id != nil && d.outcome.Refusal == nil && !d.outcome.Replayed && !d.panics {
		q.known = maps.Clone(p.known)
		q.known[id.Key] = receipt{id.Fingerprint, d.outcome}
		q.receipts = append(slices.Clip(p.receipts), keyed{*id, d.outcome})
	}
	return &q
}

// about is a command about what an earlier operation made.
func about(c inventory.Command, made *inventory.Outcome) inventory.Command {
	var hold, order inventory.ID
	if made.Reservation != nil {
		hold = made.Reservation.ID
	}
	if made.Order != nil {
		order = made.Order.ID
	}
	switch c := c.(type) {
	case *inventory.Confirm:
		named := *c
		named.ReservationID = hold
		return &named
	case *inventory.Cancel:
		return &inventory.Cancel{ID: hold, Reason: c.Reason}
	case *inventory.Extend:
		return &inventory.Extend{ID: hold, TTL: c.TTL, MaxHold: c.MaxHold}
	case *inventory.Fulfill:
		return &inventory.Fulfill{ID: order}
	case *inventory.CancelOrder:
		return &inventory.CancelOrder{ID: order, Reason: c.Reason}
	}
	panic(fmt.Sprintf("%T is not drawn with a name", c))
}

// outcome is the answer to the whole group. Where it rests on no event, it is of this sequence.
func (p *progress) outcome(seq int64) inventory.Outcome {
	o := inventory.Outcome{Results: &inventory.Results{RequestID: p.group.RequestID, Outcomes: p.outcomes}}
	for i := range p.outcomes {
		o.Seq = max(o.Seq, p.outcomes[i].Seq)
	}
	if o.Seq == 0 {
		o.Seq = seq
	}
	return o
}

// sharesKey reports whether an operation has the key of its group, which is refused: one key cannot answer for two
// requests.
func sharesKey(g *inventory.Group, id *inventory.ReceiptID) bool {
	return id != nil && slices.ContainsFunc(g.Operations, func(o inventory.Operation) bool {
		return o.Request.Receipt != nil && o.Request.Receipt.Key == id.Key
	})
}

// tryGroup runs a group on a copy of the model. It reports what the answer is where the group has no effect: an atomic
// one that is refused, or one none of whose operations does anything.
func tryGroup(m *model, g *inventory.Group, id *inventory.ReceiptID) (d decision, receipts []keyed) {
	if sharesKey(g, id) {
		return refused(inventory.RefusedIdempotencyKeyReused, nil), nil
	}
	scratch := m.clone()
	p := &progress{group: g, known: m.receipts}
	for !p.ended() {
		d = p.decide(scratch)
		p = p.with(d)
		switch {
		case d.panics && g.Atomic:
			return d, nil
		case d.outcome.Refusal != nil && g.Atomic:
			return decision{outcome: inventory.Outcome{Refusal: &inventory.Refusal{
				Code: inventory.RefusedBatch, Results: &inventory.Results{Outcomes: p.outcomes},
			}}}, nil
		case len(d.events) > 0 && !g.Atomic:
			return d, nil
		}
		for _, e := range d.events {
			scratch.apply(e)
		}
	}
	if scratch.seq > m.seq {
		return decision{panics: true}, nil // it has an effect
	}
	return decision{outcome: p.outcome(m.seq)}, p.receipts
}
