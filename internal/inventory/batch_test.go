package inventory

import (
	"fmt"
	"strings"
	"testing"
)

// fatHolds are holds of one mug each that lapse after a second, and whose events fill more than one batch.
func fatHolds(t *testing.T, n int) (w *world, ids []ID) {
	w = groupWorld(t)
	metadata := Metadata{}
	for i := range MaxMetadata {
		metadata = append(metadata, Member{fmt.Sprintf("m%02d", i), strings.Repeat("x", 500)})
	}
	w.decide(t, &Request{Command: &Adjust{ProductID: "mug", Location: MainLocation, Delta: int64(n) - 10, Reason: "r"}})
	for range n {
		made, _ := w.decide(t, &Request{Command: &Reserve{
			Lines: []ReserveLine{{ProductID: "mug", Location: MainLocation, Quantity: 1}}, TTL: 1000, Metadata: metadata,
		}})
		ids = append(ids, made[0].Reservation.ID)
	}
	w.Now += 5000
	return w, ids
}

// TestExpiriesAreBounded: one command writes no more than a batch may, however many holds it ends: the next batch goes
// on with the rest.
func TestExpiriesAreBounded(t *testing.T) {
	const holds = 400
	for name, command := range map[string]func([]ID) Command{
		"making room": func([]ID) Command { return holdOf(holds).Command },
		"a group":     func([]ID) Command { return &Group{Atomic: true, Operations: operations(holdOf(holds).Command)} },
		"expire":      func(ids []ID) Command { return &Expire{IDs: ids} },
	} {
		w, ids := fatHolds(t, holds)
		request, batches := &Request{Command: command(ids)}, 0
		for {
			outcomes, changes := w.decide(t, request)
			if batches++; len(changes.Events) > MaxBatchBytes+64<<10 || changes.EventCount == 0 {
				t.Fatalf("%s: batch %d writes %d events of %d bytes", name, batches, changes.EventCount, len(changes.Events))
			}
			if o := outcomes[0]; !o.Deferred {
				if o.Refusal != nil || (name == "expire" && o.Expired != holds) {
					t.Errorf("%s: %+v", name, o)
				}
				break
			}
			if outcomes[0].Again != nil {
				request = &Request{Command: outcomes[0].Again}
			}
		}
		if batches < 2 {
			t.Errorf("%s: all in %d batch", name, batches)
		}
	}
}
