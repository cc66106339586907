package bench

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"github.com/holdfast/holdfast/internal/load"
)

// The charts share one frame.
const (
	chartWidth, chartHeight          = 720.0, 300.0
	marginLeft, marginTop            = 84.0, 12.0
	plotWidth, plotHeight            = chartWidth - marginLeft - 36, chartHeight - marginTop - 36
	seriesColours                    = 8 // classes s0 to s7 of the page
	percentileDecades, mostTimeTicks = 4, 6
)

// chart collects the elements of an SVG.
type chart struct{ strings.Builder }

func (c *chart) f(format string, a ...any) { fmt.Fprintf(c, format, a...) }

func newChart(title string) *chart {
	c := &chart{}
	c.f(`<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, chartWidth, chartHeight, template.HTMLEscapeString(title))
	return c
}

func (c *chart) end() template.HTML {
	c.f("</svg>")
	return template.HTML(c.String()) //nolint:gosec // built here of numbers and escaped names
}

func (c *chart) horizontal(y float64, label string) {
	c.f(`<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, marginLeft, marginLeft+plotWidth, y, y)
	c.f(`<text class="tick" x="%.1f" y="%.1f" text-anchor="end">%s</text>`,
		marginLeft-6, y+4, template.HTMLEscapeString(label))
}

func (c *chart) below(x float64, label string) {
	c.f(`<text class="tick" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`,
		x, marginTop+plotHeight+18, template.HTMLEscapeString(label))
}

func (c *chart) line(series int, name string, points [][2]float64) {
	c.f(`<polyline class="line s%d" points="`, series%seriesColours)
	for _, p := range points {
		c.f("%.1f,%.1f ", p[0], p[1])
	}
	c.f(`"><title>%s</title></polyline>`, template.HTMLEscapeString(name))
}

// latencyChart draws latency by percentile: the percentiles are spread by their nines, the latencies by their powers of
// ten.
func latencyChart(runs []*load.Result) template.HTML {
	c := newChart("latency by percentile")
	highest := 1000.0
	for _, r := range runs {
		highest = max(highest, float64(r.Latency.Max))
	}
	low, high := 2.0, math.Ceil(math.Log10(highest)) // from 100 microseconds
	y := func(us float64) float64 {
		return marginTop + plotHeight*(1-(math.Log10(max(us, 100))-low)/(high-low))
	}
	x := func(percentile float64) float64 {
		nines := -math.Log10(max(1-percentile/100, math.Pow10(-percentileDecades)))
		return marginLeft + plotWidth*nines/percentileDecades
	}
	for d := low; d <= high; d++ {
		c.horizontal(y(math.Pow(10, d)), axisMicros(math.Pow(10, d)))
	}
	for _, p := range []float64{0, 50, 90, 99, 99.9, 99.99} {
		c.below(x(p), fmt.Sprintf("%g%%", p))
	}
	for i, r := range runs {
		var points [][2]float64
		for _, p := range r.Curve {
			points = append(points, [2]float64{x(p.Percentile), y(float64(p.Microseconds))})
		}
		c.line(i, r.Label(), points)
	}
	return c.end()
}

func axisMicros(us float64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%.0f µs", us)
	case us < 10_000:
		return fmt.Sprintf("%.1f ms", us/1000)
	case us < 1_000_000:
		return fmt.Sprintf("%.0f ms", us/1000)
	default:
		return fmt.Sprintf("%.0f s", us/1_000_000)
	}
}

func answersChart(runs []*load.Result) template.HTML {
	return timelineChart("answers a second over time", runs, func(r *load.Result) []float64 { return r.Timeline })
}

func queueChart(runs []*load.Result) template.HTML {
	return timelineChart("commands waiting over time", runs, func(r *load.Result) []float64 { return r.Queue })
}

// timelineChart draws a value of each run over time.
func timelineChart(title string, runs []*load.Result, values func(*load.Result) []float64) template.HTML {
	c := newChart(title)
	highest, longest := 1.0, 1
	for _, r := range runs {
		longest = max(longest, len(values(r)))
		for _, v := range values(r) {
			highest = max(highest, v)
		}
	}
	step := niceStep(highest / 4)
	highest = step * math.Ceil(highest/step)
	y := func(v float64) float64 { return marginTop + plotHeight*(1-v/highest) }
	x := func(i float64) float64 { return marginLeft + plotWidth*i/float64(max(longest-1, 1)) }
	for v := 0.0; v <= highest; v += step {
		c.horizontal(y(v), fmt.Sprintf("%.0f", v))
	}
	seconds := float64(longest) * load.Interval.Seconds()
	timeStep := max(niceStep(seconds/mostTimeTicks), load.Interval.Seconds())
	for s := 0.0; s <= seconds; s += timeStep {
		c.below(x(s/load.Interval.Seconds()), fmt.Sprintf("%.3g s", s))
	}
	for i, r := range runs {
		var points [][2]float64
		for j, v := range values(r) {
			points = append(points, [2]float64{x(float64(j)), y(v)})
		}
		c.line(i, r.Label(), points)
	}
	return c.end()
}

// niceStep rounds up to 1, 2 or 5 times a power of ten.
func niceStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*power {
			return m * power
		}
	}
	return 10 * power
}

// barChart draws answers a second of each run, beside the handler that stores nothing.
func barChart(runs []*load.Result, nothing *load.Result) template.HTML {
	const row, name = 30.0, 150.0
	rows := runs
	if nothing != nil {
		rows = append(slices.Clone(runs), nothing)
	}
	highest := 1.0
	for _, r := range rows {
		highest = max(highest, r.PerSecond())
	}
	c := &chart{}
	c.f(`<svg viewBox="0 0 %g %g" role="img" aria-label="answers a second">`,
		chartWidth, row*float64(len(rows))+8)
	for i, r := range rows {
		top := row * float64(i)
		label, class := r.Label(), fmt.Sprintf("s%d", i%seriesColours)
		if r == nothing {
			label, class = "(stores nothing)", "none"
		}
		width := (chartWidth - name - 90) * r.PerSecond() / highest
		c.f(`<text class="name" x="%.1f" y="%.1f" text-anchor="end">%s</text>`,
			name-8, top+20, template.HTMLEscapeString(label))
		c.f(`<rect class="bar %s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="3"/>`,
			class, name, top+5, width, row-10)
		c.f(`<text class="tick" x="%.1f" y="%.1f">%.0f</text>`, name+width+6, top+20, r.PerSecond())
	}
	return c.end()
}
