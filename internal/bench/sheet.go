package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast/holdfast/internal/load"
	"github.com/holdfast/holdfast/internal/store"
)

// SheetRow is one line of the sheet: what was measured, in a sentence, and how it compares with what it should reach.
type SheetRow struct {
	What    string  `json:"what"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit,omitempty"` // of a rate, a time or a size; a ratio has none
	Goal    float64 `json:"goal"`           // what it must reach
	Aim     float64 `json:"aim"`            // what it should reach one day
	AtMost  bool    `json:"atMost,omitempty"`
	Detail  string  `json:"detail,omitempty"`
	Skipped string  `json:"skipped,omitempty"` // why it was not measured
}

// Met reports whether the goal is reached.
func (r *SheetRow) Met() bool {
	if r.AtMost {
		return r.Value <= r.Goal
	}
	return r.Value >= r.Goal
}

// Verdict says in a word how a row fares.
func (r *SheetRow) Verdict() string {
	switch {
	case r.Skipped != "":
		return "SKIPPED"
	case r.Met():
		return "reached"
	default:
		return "MISSED"
	}
}

// Child is a server of its own process.
type Child interface {
	Host() string
	Kill() error // SIGKILL
	Stop() error
}

// Starter starts the servers that are measured.
type Starter interface {
	// Serve starts Holdfast on a SQLite file, with more flags.
	Serve(ctx context.Context, path string, more ...string) (Child, error)
	// ServeStore starts Holdfast on any store.
	ServeStore(ctx context.Context, url string) (Child, error)
	// Nothing starts a handler that stores nothing, or only flushes.
	Nothing(ctx context.Context, flushed bool) (Child, error)
	// Bare starts a handler that gives one answer to every GET.
	Bare(ctx context.Context, a *Answer) (Child, error)
	// Redis starts a Redis server that flushes like this, and the peer on it. A [Missing] says that there is none.
	Redis(ctx context.Context, appendfsync string) (Child, error)
}

// Missing is an error that says what a measurement lacks: it is left out, and the others go on.
type Missing string

// Error implements error.
func (m Missing) Error() string { return string(m) }

// SheetOptions say how large the measurements are, and how to get what they need.
type SheetOptions struct {
	Parts        []string      // some of SheetParts
	Duration     time.Duration // of each measurement
	Rounds       int           // medians of so many
	Reservations int           // stored, of the large store
	Lapsing      int           // holds that lapse at the same instant
	Sustained    int           // holds of the long run of the engine
	Fresh        func() string // path of a new SQLite file
	Open         func(ctx context.Context, path string, now func() time.Time) (store.Store, error)
	Start        Starter
	// Shared is the URL of an empty place in a database that servers can share; empty: there is none.
	Shared   string
	Progress func(string)
}

// SheetParts are all parts of the sheet.
var SheetParts = []string{
	"http", "reads", "shared", "batch", "redis", "engine", "sustained", "alone", "overload", "large", "lapse",
}

// Sheet measures everything that the embedded store should reach, in one sitting, and hands each row on as it is there.
func Sheet(ctx context.Context, o SheetOptions, row func(SheetRow)) error {
	s := &sheet{SheetOptions: o, row: row}
	parts := map[string]func(context.Context) error{
		"http": s.http, "reads": s.reads, "shared": s.shared, "batch": s.batches, "redis": s.redis, "engine": s.engine,
		"sustained": s.sustained, "alone": s.alone, "overload": s.overload, "large": s.large, "lapse": s.lapse,
	}
	for _, name := range o.Parts {
		if err := parts[name](ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

type sheet struct {
	SheetOptions
	row func(SheetRow)
}

// emit hands a row on that was measured, or that could not be for want of something.
func (s *sheet) emit(r SheetRow, err error) error {
	var missing Missing
	if errors.As(err, &missing) {
		r.Skipped, err = string(missing), nil
	}
	if err == nil {
		s.row(r)
	}
	return err
}

// measurement is one round of something, an amount a second for instance.
type measurement func(ctx context.Context) (float64, error)

// ratio measures two things in turn. The row has the median of their ratios, and all of them in its detail.
func (s *sheet) ratio(ctx context.Context, r SheetRow, measure, against measurement) error {
	return s.emit(s.ratioRow(ctx, r, measure, against))
}

func (s *sheet) ratioRow(ctx context.Context, r SheetRow, measure, against measurement) (SheetRow, error) {
	var ratios []float64
	var texts []string
	for round := range s.Rounds {
		s.Progress(fmt.Sprintf("%s, round %d of %d", r.What, round+1, s.Rounds))
		a, err := measure(ctx)
		if err != nil {
			return r, err
		}
		b, err := against(ctx)
		if err != nil {
			return r, err
		}
		ratios = append(ratios, a/b)
		texts = append(texts, fmt.Sprintf("%.0f/%.0f", a, b))
	}
	r.Value, r.Detail = median(ratios), strings.Join(texts, ", ")
	return r, nil
}

// rate measures one thing again and again. The row has the median, and all of them in its detail.
func (s *sheet) rate(ctx context.Context, r SheetRow, measure measurement) error {
	var rates []float64
	var texts []string
	for round := range s.Rounds {
		s.Progress(fmt.Sprintf("%s, round %d of %d", r.What, round+1, s.Rounds))
		rate, err := measure(ctx)
		if err != nil {
			return s.emit(r, err)
		}
		rates = append(rates, rate)
		texts = append(texts, fmt.Sprintf("%.0f", rate))
	}
	r.Value, r.Unit, r.Detail = median(rates), "/s", strings.Join(texts, ", ")
	return s.emit(r, nil)
}

// run loads a server with a workload, whose products it makes unless the server needs none.
func (s *sheet) run(ctx context.Context, c Child, w load.Workload, clients int, prepare bool) (*load.Result, error) {
	return s.runFor(ctx, c, w, clients, s.Duration, prepare)
}

func (s *sheet) runFor(
	ctx context.Context, c Child, w load.Workload, clients int, d time.Duration, prepare bool,
) (*load.Result, error) {
	prefix := fmt.Sprintf("%s-%d-", w.Name, time.Now().UnixNano())
	if prepare {
		if err := load.Prepare(ctx, "http://"+c.Host(), &w, prefix); err != nil {
			return nil, err
		}
	}
	r, err := load.Run(ctx, load.RunOptions{
		Host: c.Host(), Workload: w, Prefix: prefix, Clients: clients, Duration: d, Seed: 1,
	})
	if err != nil {
		return nil, err
	}
	return r, r.Failed()
}

// fresh runs a workload on a server with an empty store.
func (s *sheet) fresh(ctx context.Context, w load.Workload, clients int) (*load.Result, error) {
	c, err := s.Start.Serve(ctx, s.Fresh())
	if err != nil {
		return nil, err
	}
	r, err := s.run(ctx, c, w, clients, true)
	return r, errors.Join(err, c.Stop())
}

// served is the rate of a workload on a server with an empty store.
func (s *sheet) served(w load.Workload, clients int) measurement {
	return func(ctx context.Context) (float64, error) {
		r, err := s.fresh(ctx, w, clients)
		if err != nil {
			return 0, err
		}
		return r.PerSecond(), nil
	}
}

// workload is one of those that every bench has.
func workload(name string) load.Workload {
	w, found := load.FindWorkload(name)
	if !found {
		panic("no workload is called " + name)
	}
	return w
}
