package load

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// TestAuditFindsLoss: what was acknowledged and is not stored so fails a run, and so does a store that contradicts itself.
func TestAuditFindsLoss(t *testing.T) {
	ctx := context.Background()
	e := OpenEngine(memory.Open(memory.Options{}))
	if err := e.Products(ctx, 1); err != nil {
		t.Fatal(err)
	}
	var ids []inventory.ID
	for range 3 {
		o, err := e.door.Do(ctx, &inventory.Request{Command: &inventory.Reserve{TTL: 60_000, Lines: []inventory.ReserveLine{{ProductID: "p0", Location: inventory.MainLocation, Quantity: 1}}}})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, o.Reservation.ID)
	}
	for _, c := range []struct {
		name string
		told []acknowledgment
		lost int64
	}{
		{"all there", []acknowledgment{{ids[0], inventory.ReservationActive}, {ids[1], inventory.ReservationActive}}, 0},
		{"one that never was", []acknowledgment{{ids[0], inventory.ReservationActive}, {inventory.NewID(1, 99, 0), inventory.ReservationActive}}, 1},
		{"one that ended otherwise", []acknowledgment{{ids[2], inventory.ReservationConfirmed}}, 1},
	} {
		var a Audit
		if err := a.Check(ctx, e.store, []*Result{{acknowledged: c.told}}); err != nil {
			t.Fatal(err)
		}
		if a.Lost != c.lost || a.Clean() != (c.lost == 0) || a.Acknowledged != int64(len(c.told)) {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestSeeded: buyers of the same seed send the same, others do not.
func TestSeeded(t *testing.T) {
	for _, w := range Workloads {
		script := func(seed uint64) string {
			b := newBuyer(&w, "p-", seed, 3)
			var sent strings.Builder
			for range 20 {
				fmt.Fprintln(&sent, b.idempotencyKey(), string(b.hold()))
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

// TestReport: a page has a chart for each question, escapes what it shows, and needs no network.
func TestReport(t *testing.T) {
	r := &Result{Workload: `<hot>`, Seconds: 1, Answered: 100, Timeline: []float64{10, 20}, Queue: []float64{1}, Curve: []Point{{50, 1000}, {99.9, 9000}}, Latency: Latency{Max: 9000}}
	var page bytes.Buffer
	err := WriteReport(&page, &Report{Machine: Machine{Command: "holdfast bench <x>", At: time.Unix(0, 0)}, Results: []*Result{r}, Nothing: r, Audit: &Audit{Breaches: []string{"I5: <b>"}}})
	if err != nil {
		t.Fatal(err)
	}
	text := page.String()
	if strings.Count(text, "<svg") != 4 || strings.Contains(text, "<hot>") || strings.Contains(text, "<x>") || strings.Contains(text, "<b>") || !strings.Contains(text, "NOT clean") {
		t.Error(text)
	}
}
