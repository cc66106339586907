package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/holdfast/holdfast/internal/load"
)

// newTable lines columns up at their right edge.
func newTable(w io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
}

func (o *benchOutput) print(env *environment) error {
	fmt.Fprintf(env.stdout, "%s\n\n", heading(&o.Machine))
	t := newTable(env.stdout)
	fmt.Fprintln(t, "workload\tanswers/s\tp50\tp90\tp99\tp99.9\tmax\trefused\terrors\tbatch\tcores\tmemory\t")
	for _, r := range o.all() {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.0f\t%.1f\t%d MiB\t\n", r.Label(), speeds(r), tally(r.Refusals), tally(r.Errors),
			r.Server.BatchCommands, r.Server.Cores, r.Server.ResidentBytes>>20)
	}
	if r := o.Nothing; r != nil {
		fmt.Fprintf(t, "(stores nothing)\t%s\t\t\t\t\t\t\n", speeds(r))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if o.Sweep != nil {
		fmt.Fprintf(env.stdout, "\n%s\n", o.Sweep.Sentence())
	}
	return o.printAudit(env)
}

// speeds are the columns of rate and latency.
func speeds(r *load.Result) string {
	l := r.Latency
	return fmt.Sprintf("%.0f\t%s\t%s\t%s\t%s\t%s",
		r.PerSecond(), micros(l.P50), micros(l.P90), micros(l.P99), micros(l.P999), micros(l.Max))
}

func (o *benchOutput) printAudit(env *environment) error {
	a := &o.Audit
	for _, breach := range a.Breaches {
		fmt.Fprintf(env.stdout, "BREACH %s\n", breach)
	}
	verdict := "clean"
	if !a.Clean() {
		verdict = "NOT clean"
	}
	how := "every row and event verified"
	if !a.Verified {
		how = "followed through the event feed; run holdfast verify on its store for the rows"
	}
	_, err := fmt.Fprintf(env.stdout,
		"\naudit: %s: %d reservations acknowledged, %d lost, %d units oversold; %d events, %s\n",
		verdict, a.Acknowledged, a.Lost, a.Oversold, a.Events, how)
	return err
}

// micros shows a latency.
func micros(us int64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%d µs", us)
	case us < 100_000:
		return fmt.Sprintf("%.1f ms", float64(us)/1000)
	default:
		return fmt.Sprintf("%d ms", us/1000)
	}
}

// tally adds up and names the most frequent code.
func tally(codes map[string]int) string {
	sum := 0
	for _, n := range codes {
		sum += n
	}
	if sum == 0 {
		return "0"
	}
	most := slices.MaxFunc(slices.Collect(maps.Keys(codes)), func(a, b string) int { return codes[a] - codes[b] })
	return fmt.Sprintf("%d %s", sum, most)
}
