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
	w.owed, w.written = nil, nil
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
	for _, c := range w.calls {
		if !c.done.Load() || !c.closed {
			c.observe(w.model, w.written)
		}
	}
	for _, r := range w.reads {
		r.observe(w.model)
	}
}

func (w *world) followEvents(events []inventory.Event) {
	for i := range events {
		w.tell("event %v", shown(describeEvent, &events[i]))
	}
	begun, before := 0, w.model.clone() // behind the last event that was somebody's doing
	for i := 0; i < len(events); {
		n := 0
		if c := w.callOf(&events[i]); c != nil && c.group() != nil {
			n = w.followGroup(&explanation{call: c, written: w.written, events: events[begun:], points: []*model{before}})
			n -= i - begun
		} else {
			n = w.followOne(c, events[i:])
		}
		if w.wrong != "" {
			return
		}
		for range n {
			w.model.apply(&events[i])
			i++
		}
		w.observe()
		if !isTimes(&events[i-1]) {
			begun, before = i, w.model.clone()
		}
	}
}

// isTimes reports whether an event is the effect of time, which is nobody's doing.
func isTimes(e *inventory.Event) bool { return e.Actor == nil || e.Actor.Type == inventory.ActorSystem }

// callOf finds the call that an event is the effect of. The effects of time have none.
func (w *world) callOf(e *inventory.Event) *call {
	if isTimes(e) {
		return nil
	}
	c := w.byNumber[e.Actor.ID]
	switch {
	case c == nil:
		w.fail("nobody has asked for the event %s", describeEvent(e))
	case c.closed || c.effects != nil:
		w.fail("%v has an effect that it must not have: %s", c, describeEvent(e))
	}
	return c
}

// followOne holds the effect of a call, or of time if there is none, against the events that come next. It returns how
// many they are: a confirmation and its order are one step.
func (w *world) followOne(c *call, events []inventory.Event) int {
	var wanted []*inventory.Event
	if c != nil {
		wanted = w.begin(c, &events[0])
	} else {
		wanted = w.expiry(&events[0])
	}
	for i, want := range wanted {
		got := "nothing"
		if i < len(events) {
			got = describeEvent(&events[i])
		}
		if text := describeEvent(want); got != text {
			w.fail("the event\n  %s\nmust be\n  %s", got, text)
		}
	}
	return len(wanted)
}

func (w *world) expiry(e *inventory.Event) []*inventory.Event {
	want := w.model.expires(e)
	if want == nil {
		w.fail("nobody has asked for the event, and time does not make it: %s", describeEvent(e))
		return nil
	}
	return []*inventory.Event{want}
}

func (w *world) begin(c *call, e *inventory.Event) []*inventory.Event {
	wanted, wrong := c.begin(w.model)
	if wrong != "" {
		w.fail("%v %s; the event is %s", c, wrong, describeEvent(e))
		return nil
	}
	if id := c.request.Receipt; id != nil {
		w.owe(keyed{*id, c.effects[0]})
	}
	return wanted
}

// followGroup holds a group against its events, and returns where they end.
func (w *world) followGroup(x *explanation) (end int) {
	ends := x.explain()
	if len(ends) == 0 {
		w.fail("%v %s", x.call, x.wrong)
	}
	for _, p := range ends {
		end = p.end
		x.call.effects = append(x.call.effects, p.outcome(0))
		for _, k := range x.call.receiptsOf(p) {
			w.owe(k)
		}
	}
	return end
}

// owe notes that the batch must have a receipt.
func (w *world) owe(k keyed) {
	w.model.receipts[k.id.Key] = receipt{k.id.Fingerprint, k.outcome}
	w.owed = append(w.owed, k)
}

// decodeReceipts reads the receipts of a batch that is to be followed.
func (w *world) decodeReceipts(receipts []*inventory.Receipt) {
	for _, r := range receipts {
		outcome, err := inventory.DecodeOutcome(r.Answer)
		if err != nil {
			w.fail("the receipt of key %x cannot be read: %v", r.Key[:2], err)
		}
		if _, known := w.model.receipts[r.Key]; known || w.writtenAs(r.Key) != nil {
			w.fail("the receipt of key %x is written twice", r.Key[:2])
		}
		w.written = append(w.written, keyed{r.ReceiptID, outcome})
	}
}

// writtenAs is the receipt that the batch has for a key, or nil.
func (w *world) writtenAs(key [16]byte) *keyed {
	i := slices.IndexFunc(w.written, func(k keyed) bool { return k.id.Key == key })
	if i < 0 {
		return nil
	}
	return &w.written[i]
}

// followReceipts requires the receipt of every effect with a key, and none but those of successes.
func (w *world) followReceipts() {
	for _, k := range w.owed {
		text := ""
		if r := w.writtenAs(k.id.Key); r != nil && r.id == k.id {
			text = describe(&r.outcome)
		}
		if text != describe(&k.outcome) {
			w.fail("the receipt of key %x is\n  %s\nbut must be\n  %s", k.id.Key[:2], text, describe(&k.outcome))
		}
	}
	for _, r := range w.written {
		if !slices.ContainsFunc(w.owed, func(k keyed) bool { return k.id == r.id }) {
			w.followIdle(r.id, describe(&r.outcome))
			w.observe() // receipts are in the order of commands: what comes behind it knows it
		}
	}
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
