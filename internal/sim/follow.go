package sim

import (
	"cmp"
	"maps"
	"slices"

	"github.com/holdfast/holdfast/internal/inventory"
)

// follow takes a batch that was written, or that had nothing to write, into history.
func (w *world) follow(state *inventory.State, changes *inventory.Changes) {
	if state.Seq != w.model.seq {
		w.fail("a batch was decided at event %d, but the feed ends at %d", state.Seq, w.model.seq)
	}
	if state.Now != w.present() {
		w.fail("a batch was decided at %d, but it was %d", state.Now, w.present())
	}
	w.model.now = state.Now
	if !changes.Empty() {
		w.at = state.Now
	}
	w.observe()
	events, err := inventory.DecodeEvents(state.Seq+1, state.Now, changes.Events)
	if err != nil {
		w.fail("the events of a batch: %v", err)
	}
	w.owed = nil
	w.decodeReceipts(changes.Receipts)
	w.followEvents(events)
	w.followReceipts()
	w.observe()
	if wrong := w.model.sums(); wrong != "" {
		w.fail("%s", wrong)
	}
}

// observe has everything that is under way look at this point of history.
func (w *world) observe() {
	var ahead *model
	for _, c := range w.calls {
		if c.done.Load() && c.closed {
			continue
		}
		c.observe(w.model)
		if c.group() != nil && len(w.model.written) > 0 {
			if ahead == nil {
				ahead = w.model.ahead()
			}
			c.observe(ahead)
		}
	}
	for _, r := range w.reads {
		r.observe(w.model)
	}
}

func (w *world) followEvents(events []inventory.Event) {
	var wanted []*inventory.Event
	var last *call
	for i := range events {
		e := &events[i]
		w.tell("event %v", shown(describeEvent, e))
		if len(wanted) == 0 && isTimes(e) {
			wanted = w.expiry(e)
		} else if len(wanted) == 0 {
			c := w.callOf(e)
			if last != c {
				w.finish(last)
			}
			last = c
			wanted = w.begin(c, e)
		}
		if w.wrong != "" {
			return
		}
		if got, want := describeEvent(e), describeEvent(wanted[0]); got != want {
			w.fail("the event\n  %s\nmust be\n  %s", got, want)
			return
		}
		wanted = wanted[1:]
		w.model.apply(e)
		if len(wanted) == 0 { // a confirmation and its order are one step
			w.observe()
		}
	}
	w.finish(last)
	if len(wanted) > 0 {
		w.fail("a batch lacks the event %s", describeEvent(wanted[0]))
	}
}

// isTimes reports whether an event is the effect of time, which is nobody's doing.
func isTimes(e *inventory.Event) bool { return e.Actor == nil || e.Actor.Type == inventory.ActorSystem }

func (w *world) expiry(e *inventory.Event) []*inventory.Event {
	var want *inventory.Event
	if e.Reservation != nil {
		want = w.model.expiry(e.Reservation.ID)
	}
	if want == nil {
		w.fail("nobody has asked for the event, and time does not make it: %s", describeEvent(e))
		return nil
	}
	want.Actor = e.Actor
	return []*inventory.Event{want}
}

func (w *world) callOf(e *inventory.Event) *call {
	c := w.byNumber[e.Actor.ID]
	if c == nil {
		w.fail("nobody has asked for the event %s", describeEvent(e))
	}
	return c
}

func (w *world) begin(c *call, e *inventory.Event) []*inventory.Event {
	if c == nil {
		return nil
	}
	wanted, wrong := c.begin(w.model, e)
	if wrong != "" {
		w.fail("%v %s; the event is %s", c, wrong, describeEvent(e))
		return nil
	}
	if c.group() == nil {
		w.owe(c)
	}
	return wanted
}

// finish ends a group at the end of its events.
func (w *world) finish(c *call) {
	if c == nil || c.group() == nil {
		return
	}
	if wrong := c.finish(w.model); wrong != "" {
		w.fail("%v %s", c, wrong)
		return
	}
	w.owed = append(w.owed, c.progress.receipts...)
	w.owe(c)
}

// owe notes that the batch must have the receipt of a call.
func (w *world) owe(c *call) {
	if id := c.request.Receipt; id != nil {
		w.model.receipts[id.Key] = receipt{id.Fingerprint, *c.effect}
		w.owed = append(w.owed, keyed{id: *id, outcome: *c.effect})
	}
}

// decodeReceipts reads the receipts of a batch that is to be followed.
func (w *world) decodeReceipts(receipts []*inventory.Receipt) {
	w.model.written = nil
	for _, r := range receipts {
		outcome, err := inventory.DecodeOutcome(r.Answer)
		if err != nil || w.model.writtenAs(r.Key) != nil {
			w.fail("a receipt is written twice, or cannot be read: %v", err)
		}
		k := keyed{id: r.ReceiptID, outcome: outcome}
		if i := slices.IndexFunc(w.calls, func(c *call) bool { return c.has(k.id) }); i >= 0 {
			k.from = w.calls[i].number
		}
		w.model.written = append(w.model.written, k)
	}
}

// followReceipts requires the receipt of every effect with a key, and none but those of successes.
func (w *world) followReceipts() {
	for _, k := range w.owed {
		text := ""
		if r := w.model.writtenAs(k.id.Key); r != nil && r.id == k.id {
			text = describe(&r.outcome)
		}
		if text != describe(&k.outcome) {
			w.fail("the receipt of key %x is\n  %s\nbut must be\n  %s", k.id.Key[:2], text, describe(&k.outcome))
		}
	}
	for _, r := range w.model.written {
		if !slices.ContainsFunc(w.owed, func(k keyed) bool { return k.id == r.id }) {
			w.followIdle(r.id, describe(&r.outcome))
			w.observe() // receipts are in the order of commands: what comes behind it knows it
		}
	}
	w.model.written = nil
}

// followIdle finds the call without an effect that a receipt belongs to.
func (w *world) followIdle(id inventory.ReceiptID, text string) {
	for _, c := range w.calls {
		for _, k := range c.receipts {
			if k.id == id && describe(&k.outcome) == text {
				w.model.receipts[id.Key] = receipt{id.Fingerprint, k.outcome}
				return
			}
		}
	}
	w.fail("the receipt of key %x belongs to no success: %s", id.Key[:2], text)
}

func sortedKeys[T any](rows map[string]T) []string { return slices.Sorted(maps.Keys(rows)) }

func newestFirst[T any](rows map[inventory.ID]T) []T {
	ids := slices.SortedFunc(maps.Keys(rows), func(a, b inventory.ID) int {
		return cmp.Compare(b.Sequence(), a.Sequence())
	})
	list := make([]T, len(ids))
	for i, id := range ids {
		list[i] = rows[id]
	}
	return list
}
