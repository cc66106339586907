package sim

import (
	"fmt"

	"github.com/holdfast/holdfast/internal/inventory"
)

// explanation looks for the ways in which a group may have come to its events.
//
// Two things that a group's answer depends on leave no event of their own. A command before it in the batch may have
// used the key of an operation for a success without an event, so that the operation is a replay. And a hold that time
// ends may have been ended before an operation without an event, or after it. But the commands of a batch are decided
// one after the other, and its receipts are in their order: those from before the group are the first few of the list,
// and its own come next, in one piece. So every number of receipts is tried, and every place of what time did; what
// contradicts the events or the receipts is out.
type explanation struct {
	call    *call
	written []keyed           // the receipts of the batch
	events  []inventory.Event // of the batch, from the last one on that was somebody else's doing
	points  []*model          // before each of them, as far as they were looked at
	wrong   string            // why nothing explains them
}

// explain returns the ways that are left at the end of the group.
func (x *explanation) explain() (ends []*progress) {
	ways := x.starts()
	for range x.call.group().Operations {
		var next []*progress
		for _, p := range ways {
			next = append(next, x.operate(p)...)
		}
		if len(next) == 0 {
			return nil
		}
		ways = distinct(next)
	}
	for _, p := range ways {
		if x.isComplete(p) {
			ends = append(ends, p)
		}
	}
	return ends
}

// starts are the ways before the first operation: one for each number of receipts that may be from before the group.
func (x *explanation) starts() (ways []*progress) {
	g, id := x.call.group(), x.call.request.Receipt
	x.wrong = "must have no effect: its key is used"
	if sharesKey(g, id) {
		return nil
	}
	for n := range len(x.written) + 1 {
		p := &progress{group: g, before: n, known: x.points[0].knowing(x.written[:n]).receipts}
		if id != nil {
			if _, used := p.known[id.Key]; used {
				continue
			}
		}
		ways = append(ways, p)
	}
	return ways
}

// operate decides the next operation, before each of the expiries that come next and after them.
func (x *explanation) operate(p *progress) (ways []*progress) {
	for i := p.next; ; i++ {
		d := p.decide(x.at(i))
		x.wrong = fmt.Sprintf("cannot have this effect: operation %d comes to %s", len(p.outcomes), describe(&d.outcome))
		if x.fits(d, i) {
			q := p.with(d)
			q.next = i + len(d.events)
			if len(d.events) > 0 {
				q.end = q.next
			}
			ways = append(ways, q)
		}
		if !x.expires(i) {
			return ways
		}
	}
}

// fits reports whether what an operation comes to can have been followed by the events from i on.
func (x *explanation) fits(d decision, i int) bool {
	if x.call.group().Atomic && (d.panics || d.outcome.Refusal != nil) {
		return false
	}
	for j, want := range d.events {
		want.Actor = x.call.request.Actor
		if i+j >= len(x.events) || describeEvent(&x.events[i+j]) != describeEvent(want) {
			return false
		}
	}
	return true
}

// at is the model before an event. Those before that one have been found right.
func (x *explanation) at(i int) *model {
	for len(x.points) <= i {
		last := len(x.points) - 1
		m := x.points[last].clone()
		m.apply(&x.events[last])
		x.points = append(x.points, m)
	}
	return x.points[i]
}

// expires reports whether an event is what time does there.
func (x *explanation) expires(i int) bool {
	if i >= len(x.events) || !isTimes(&x.events[i]) {
		return false
	}
	want := x.at(i).expires(&x.events[i])
	return want != nil && describeEvent(&x.events[i]) == describeEvent(want)
}

// isComplete reports whether a group that has come to its end leaves no event of its own over, and whether its receipts
// are those behind the ones from before it.
func (x *explanation) isComplete(p *progress) bool {
	x.wrong = "has more effects than its operations, or none"
	i := p.next
	for i < len(x.events) && isTimes(&x.events[i]) {
		i++
	}
	if p.end == 0 || (i < len(x.events) && x.events[i].Actor.ID == x.call.request.Actor.ID) {
		return false
	}
	x.wrong = "has other receipts than its operations"
	own := x.call.receiptsOf(p)
	if p.before+len(own) > len(x.written) {
		return false
	}
	for j, k := range own {
		if r := x.written[p.before+j]; r.id != k.id || describe(&r.outcome) != describe(&k.outcome) {
			return false
		}
	}
	return true
}

// receiptsOf are those that a group leaves on this way.
func (c *call) receiptsOf(p *progress) []keyed {
	list := p.receipts
	if id := c.request.Receipt; id != nil {
		list = append(list[:len(list):len(list)], keyed{*id, p.outcome(0)})
	}
	return list
}

// distinct leaves out ways that have come to the same as others.
func distinct(ways []*progress) (list []*progress) {
	if len(ways) == 1 {
		return ways
	}
	seen := map[string]bool{}
	for _, p := range ways {
		outcome := p.outcome(0)
		text := fmt.Sprint(p.before, p.next, len(p.receipts), describe(&outcome))
		if !seen[text] {
			seen[text] = true
			list = append(list, p)
		}
	}
	return list
}
