package load

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// TestAuditFindsLoss: what was acknowledged and is not stored so fails a run.
func TestAuditFindsLoss(t *testing.T) {
	ctx := context.Background()
	s := memory.Open(memory.Options{})
	ids := hold(t, engine.Open(s, engine.Options{}), 3)
	active, confirmed := inventory.ReservationActive, inventory.ReservationConfirmed
	for _, c := range []struct {
		name string
		told []acknowledgment
		lost int64
	}{
		{"all there", []acknowledgment{{ids[0], active}, {ids[1], active}}, 0},
		{"one that never was", []acknowledgment{{ids[0], active}, {inventory.NewID(1, 99, 0), active}}, 1},
		{"one that ended otherwise", []acknowledgment{{ids[2], confirmed}}, 1},
	} {
		var a Audit
		if err := a.Check(ctx, s, []*Result{{acknowledged: c.told}}); err != nil {
			t.Fatal(err)
		}
		if a.Lost != c.lost || a.Clean() != (c.lost == 0) || a.Acknowledged != int64(len(c.told)) {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
}

// hold makes a product and so many holds of it.
func hold(t *testing.T, e *engine.Engine, n int) (ids []inventory.ID) {
	t.Helper()
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	do := func(c inventory.Command) inventory.Outcome {
		o, err := e.Do(t.Context(), &inventory.Request{Command: c})
		if err != nil || o.Refusal != nil {
			t.Fatal(err, o.Refusal)
		}
		return o
	}
	do(&inventory.CreateProduct{
		ID: "p0", Name: "Product", Price: inventory.Money{Amount: 1, Currency: "EUR"},
		TotalStock: Plenty, Location: inventory.MainLocation,
	})
	for range n {
		o := do(&inventory.Reserve{
			TTL: 60_000, Lines: []inventory.ReserveLine{{ProductID: "p0", Location: inventory.MainLocation, Quantity: 1}},
		})
		ids = append(ids, o.Reservation.ID)
	}
	return ids
}

// TestSeeded: buyers of the same seed send the same, others do not.
func TestSeeded(t *testing.T) {
	for _, w := range Workloads {
		script := func(seed uint64) string {
			b := newBuyer(&w, "p-", seed, 3)
			var sent strings.Builder
			for range 20 {
				fmt.Fprintln(&sent, b.idempotencyKey(), string(b.hold(nil)))
			}
			return sent.String()
		}
		if first, again := script(1), script(1); first != again {
			t.Errorf("%s: the same seed sends something else", w.Name)
		}
		if w.Products > 1 && script(1) == script(2) {
			t.Errorf("%s: another seed sends the same", w.Name)
		}
	}
}
