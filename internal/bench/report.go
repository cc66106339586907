package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"

	"github.com/holdfast/holdfast/internal/load"
)

// Report is what a page shows.
type Report struct {
	Machine Machine
	Results []*load.Result
	Sweep   *Sweep
	Nothing *load.Result
	Audit   *load.Audit
}

// Runs are all results that have a row and a line.
func (r *Report) Runs() []*load.Result {
	if r.Sweep == nil {
		return r.Results
	}
	return slices.Concat(r.Results, r.Sweep.Results())
}

//go:embed report.html
var reportHTML string

var reportTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"latency": latencyChart, "timeline": answersChart, "queue": queueChart, "bars": barChart,
	"micros": func(us int64) string { return axisMicros(float64(us)) },
	"mib":    func(bytes int64) int64 { return bytes >> 20 },
	"series": func(i int) int { return i % seriesColours },
	"sum":    sumOf, "ratio": ratio,
}).Parse(reportHTML))

// WriteReport writes one page that needs no network: charts are inline SVG, colours follow the reader's light or dark
// mode.
func WriteReport(w io.Writer, r *Report) error { return reportTemplate.Execute(w, r) }

func sumOf(codes map[string]int) (sum int) {
	for _, n := range codes {
		sum += n
	}
	return sum
}

func ratio(r, nothing *load.Result) string {
	if nothing == nil || nothing.PerSecond() == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", r.PerSecond()/nothing.PerSecond())
}
