package sim

import (
	"fmt"

	"github.com/holdfast/holdfast/internal/inventory"
)

// progress is how far a group has got while its events are followed.
type progress struct {
	number   int // of the call
	group    *inventory.Group
	key      *inventory.ReceiptID
	outcomes []inventory.Outcome
	wanted   []*inventory.Event // of the operation before, still to come
	receipts []keyed            // of its operations
}

// keyed is an answer under its key.
type keyed struct {
	id      inventory.ReceiptID
	outcome inventory.Outcome
	from    int // of a receipt that was written: the first call under way that has its key
}

func (p *progress) ended() bool { return len(p.outcomes) == len(p.group.Operations) }

// next decides the next operation. One without an effect is over at once; the events of the others must come.
func (p *progress) next(m *model) (d decision) {
	o := &p.group.Operations[len(p.outcomes)]
	request := *o.Request
	if o.Names > 0 {
		request.Command = about(o.Request.Command, &p.outcomes[o.Names-1])
	}
	d = m.operation(p, &request)
	if d.panics {
		d.outcome = inventory.Outcome{Broken: true}
	}
	p.outcomes = append(p.outcomes, d.outcome)
	p.wanted = d.events
	if id := request.Receipt; id != nil && d.outcome.Refusal == nil && !d.outcome.Replayed && !d.panics {
		m.receipts[id.Key] = receipt{id.Fingerprint, d.outcome}
		p.receipts = append(p.receipts, keyed{id: *id, outcome: d.outcome})
	}
	return d
}

// operation decides an operation of a group that is followed. Where the batch has a receipt for its key that is not what
// the operation comes to here, another command may have left it before: a success without an event, which no event tells
// of.
func (m *model) operation(p *progress, r *inventory.Request) decision {
	d := m.request(r)
	if r.Receipt == nil {
		return d
	}
	_, used := m.receipts[r.Receipt.Key]
	other := m.writtenAs(r.Receipt.Key)
	if used || other == nil || (other.id == *r.Receipt && describe(&other.outcome) == describe(&d.outcome)) ||
		!m.precedes(other, p) {
		return d
	}
	m.receipts[other.id.Key] = receipt{other.id.Fingerprint, other.outcome}
	return m.request(r)
}

// precedes reports whether a receipt of the batch is from before a group. Receipts are in the order of commands, and that
// of a group comes after those of its operations. Without one, the order of calls tells: a process commits in that order.
func (m *model) precedes(k *keyed, p *progress) bool {
	if p.key != nil {
		for i := range m.written {
			switch m.written[i].id {
			case k.id:
				return true
			case *p.key:
				return false
			}
		}
	}
	return k.from < p.number
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

// outcome is the answer to the whole group.
func (p *progress) outcome(m *model) inventory.Outcome {
	o := inventory.Outcome{Results: &inventory.Results{RequestID: p.group.RequestID, Outcomes: p.outcomes}}
	for i := range p.outcomes {
		o.Seq = max(o.Seq, p.outcomes[i].Seq)
	}
	if o.Seq == 0 {
		o.Seq = m.seq
	}
	return o
}

// tryGroup runs a group on a copy of the model. It reports what the answer is where the group has no effect: an atomic
// one that is refused, or one none of whose operations does anything.
func tryGroup(m *model, g *inventory.Group, id *inventory.ReceiptID) (d decision, receipts []keyed) {
	for i := range g.Operations {
		if own := g.Operations[i].Request.Receipt; id != nil && own != nil && own.Key == id.Key {
			return refused(inventory.RefusedIdempotencyKeyReused, nil), nil // one key cannot answer for two requests
		}
	}
	scratch := m.clone()
	p := &progress{group: g}
	for !p.ended() {
		d := p.next(scratch)
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
		return decision{events: p.wanted, panics: true}, nil
	}
	return decision{outcome: p.outcome(m)}, p.receipts
}
