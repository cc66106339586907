package bench

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/load"
)

// TestReport: a page has a chart for each question, escapes what it shows, and needs no network.
func TestReport(t *testing.T) {
	r := &load.Result{
		Workload: `<hot>`, Seconds: 1, Answered: 100, Timeline: []float64{10, 20}, Queue: []float64{1},
		Curve:   []load.Point{{Percentile: 50, Microseconds: 1000}, {Percentile: 99.9, Microseconds: 9000}},
		Latency: load.Latency{Max: 9000},
	}
	var page bytes.Buffer
	err := WriteReport(&page, &Report{
		Machine: Machine{Command: "holdfast bench <x>", At: time.Unix(0, 0)}, Results: []*load.Result{r}, Nothing: r,
		Audit: &load.Audit{Breaches: []string{"I5: <b>"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	text := page.String()
	for _, forbidden := range []string{"<hot>", "<x>", "<b>", "http://", "https://"} {
		if strings.Contains(text, forbidden) {
			t.Errorf("the page has %s", forbidden)
		}
	}
	if strings.Count(text, "<svg") != 4 || !strings.Contains(text, "NOT clean") {
		t.Error(text)
	}
}
