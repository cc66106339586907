package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/internal/store"
)

// SheetRow is one line of the sheet: what was measured, in a sentence, and how it compares with what it should reach.
type SheetRow struct {
	What   string  `json:"what"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit,omitempty"`
	Goal   float64 `json:"goal"`
	AtMost bool    `json:"atMost,omitempty"` // the goal is a limit; else it is a minimum
	Detail string  `json:"detail"`
}

// Met reports whether the goal is reached.
func (r *SheetRow) Met() bool {
	if r.AtMost {
		return r.Value <= r.Goal
	}
	return r.Value >= r.Goal
}

// Child is a server of its own process.
type Child interface {
	Host() string
	Kill() error // SIGKILL
	Stop() error
}

// SheetOptions say how large the measurements are, and how to get what they need.
type SheetOptions struct {
	Parts        []string      // some of SheetParts
	Duration     time.Duration // of each measurement
	Rounds       int           // medians of so many
	Reservations int           // stored, of the large store
	Lapsing      int           // holds that lapse at the same instant
	Fresh        func() string // path of a new SQLite file
	Open         func(ctx context.Context, path string, now func() time.Time) (store.Store, error)
	Serve        func(path string, more ...string) (Child, error)
	Nothing      func(flushed bool) (Child, error)
	Progress     func(string)
}

// Sheet measures everything that the embedded store should reach, in one sitting, and hands each row on as it is there.
func Sheet(ctx context.Context, o SheetOptions, row func(SheetRow)) error {
	s := &sheet{SheetOptions: o, ctx: ctx, row: row}
	parts := map[string]func() error{"http": s.http, "engine": s.engine, "alone": s.alone, "overload": s.overload, "large": s.large, "lapse": s.lapse}
	for _, name := range o.Parts {
		if err := parts[name](); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// SheetParts are all parts of the sheet.
var SheetParts = []string{"http", "engine", "alone", "overload", "large", "lapse"}

type sheet struct {
	SheetOptions
	ctx context.Context
	row func(SheetRow)
}

// run loads a child with a workload and returns the result.
func (s *sheet) run(c Child, workload string, clients int, d time.Duration, prepare bool) (*Result, error) {
	w, _ := FindWorkload(workload)
	prefix := fmt.Sprintf("%s-%d-", workload, time.Now().UnixNano())
	if prepare {
		if err := Prepare(s.ctx, "http://"+c.Host(), &w, prefix); err != nil {
			return nil, err
		}
	}
	r, err := Run(s.ctx, RunOptions{Host: c.Host(), Workload: w, Prefix: prefix, Clients: clients, Duration: d, Seed: 1})
	if err == nil && len(r.Errors) > 0 {
		err = fmt.Errorf("%s: %v", workload, r.Errors)
	}
	return r, err
}

// fresh runs a workload on a server with an empty store.
func (s *sheet) fresh(workload string, clients int) (*Result, error) {
	c, err := s.Serve(s.Fresh())
	if err != nil {
		return nil, err
	}
	r, err := s.run(c, workload, clients, s.Duration, true)
	return r, errors.Join(err, c.Stop())
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// ratios measures two things in turn and returns the median of their ratios, and a sentence with all of them.
func (s *sheet) ratios(name string, measure, against func() (float64, error)) (float64, string, error) {
	var ratios []float64
	var texts []string
	for round := range s.Rounds {
		s.Progress(fmt.Sprintf("%s, round %d of %d", name, round+1, s.Rounds))
		a, err := measure()
		if err != nil {
			return 0, "", err
		}
		b, err := against()
		if err != nil {
			return 0, "", err
		}
		ratios = append(ratios, a/b)
		texts = append(texts, fmt.Sprintf("%.0f/%.0f", a, b))
	}
	return median(ratios), strings.Join(texts, ", "), nil
}

func (s *sheet) ratio(what string, goal float64, measure, against func() (float64, error)) error {
	value, detail, err := s.ratios(what, measure, against)
	if err == nil {
		s.row(SheetRow{What: what, Value: value, Goal: goal, Detail: detail})
	}
	return err
}

func (s *sheet) rate(workload string, clients int) func() (float64, error) {
	return func() (float64, error) {
		r, err := s.fresh(workload, clients)
		if err != nil {
			return 0, err
		}
		return r.PerSecond(), nil
	}
}

// http are the rows of a server beside a handler that stores nothing, and of one workload beside another.
func (s *sheet) http() error {
	nothing, err := s.Nothing(false)
	if err != nil {
		return err
	}
	defer func() { _ = nothing.Stop() }()
	stored := func(clients int) func() (float64, error) {
		return func() (float64, error) {
			r, err := s.run(nothing, "hot", clients, s.Duration, false)
			if err != nil {
				return 0, err
			}
			return r.PerSecond(), nil
		}
	}
	return errors.Join(
		s.ratio("hot product / stores nothing, 256 connections", 0.50, s.rate("hot", 256), stored(256)),
		s.ratio("hot product / stores nothing, 64 connections", 0.42, s.rate("hot", 64), stored(64)),
		s.ratio("hot / uniform over 1,000 products", 0.9, s.rate("hot", 64), s.rate("uniform", 64)),
		s.ratio("hot / Zipf over 1,000 products", 0.9, s.rate("hot", 64), s.rate("zipf", 64)),
		s.ratio("with idempotency keys / without", 0.8, s.rate("keys", 64), s.rate("hot", 64)),
		s.ratio("hold + confirm pairs, operations / holds alone", 0.6, s.rate("pairs", 64), s.rate("hot", 64)),
		s.ratio("sell-out, refusals / stores nothing", 0.6, s.rate("sellout", 64), stored(64)),
	)
}

// engineCallers wait at the door at the same time.
const engineCallers = 1024

func (s *sheet) engine() error {
	return s.ratio("engine, hot, 1,024 callers / raw store loop", 0.6, func() (float64, error) {
		e, err := s.openEngine(s.Fresh(), 1, time.Now)
		if err != nil {
			return 0, err
		}
		rate, err := Hammer(s.ctx, engineCallers, 1, s.Duration, func(ctx context.Context, _, product int) error { return e.reserve(ctx, product) })
		return rate, errors.Join(err, e.Close(s.ctx))
	}, func() (float64, error) {
		path := s.Fresh()
		e, err := s.openEngine(path, 1, time.Now)
		if err == nil {
			err = e.Close(s.ctx)
		}
		if err != nil {
			return 0, err
		}
		return RawLoop(path, s.Duration)
	})
}

func (s *sheet) openEngine(path string, products int, now func() time.Time) (*Engine, error) {
	st, err := s.Open(s.ctx, path, now)
	if err != nil {
		return nil, err
	}
	e := OpenEngine(st)
	return e, e.Products(s.ctx, products)
}

// alone is one client beside a handler that flushes once.
func (s *sheet) alone() error {
	flushing, err := s.Nothing(true)
	if err != nil {
		return err
	}
	defer func() { _ = flushing.Stop() }()
	var beyond []float64
	var texts []string
	for range s.Rounds {
		s.Progress("one client alone")
		held, err := s.fresh("hot", 1)
		if err != nil {
			return err
		}
		flushed, err := s.run(flushing, "hot", 1, s.Duration, false)
		if err != nil {
			return err
		}
		beyond = append(beyond, float64(held.Latency.P50-flushed.Latency.P50)/1000)
		texts = append(texts, fmt.Sprintf("%d µs/%d µs", held.Latency.P50, flushed.Latency.P50))
	}
	s.row(SheetRow{What: "one client alone, p50 beyond one flush", Value: median(beyond), Unit: "ms", Goal: 1, AtMost: true, Detail: strings.Join(texts, ", ")})
	return nil
}

// overloadQueue is shorter than the connections of an open loop, so that overload is refused and does not only wait.
const overloadQueue = "256"

func (s *sheet) overload() error {
	s.Progress("overload")
	c, err := s.Serve(s.Fresh(), "--queue-limit", overloadQueue)
	if err != nil {
		return err
	}
	defer func() { _ = c.Stop() }()
	w, _ := FindWorkload("hot")
	if err := Prepare(s.ctx, "http://"+c.Host(), &w, "sweep-"); err != nil {
		return err
	}
	sweep, err := RunSweep(s.ctx, RunOptions{Host: c.Host(), Workload: w, Prefix: "sweep-", Clients: 64, Duration: s.Duration, Seed: 1})
	if err != nil {
		return err
	}
	peak, good := float64(sweep.Peak.Good)/sweep.Peak.Seconds, float64(sweep.Overload.Good)/sweep.Overload.Seconds
	s.row(SheetRow{
		What: "overload at 3 times the knee, answered well / peak", Value: good / peak, Goal: 0.9,
		Detail: fmt.Sprintf("knee %.0f/s, offered %.0f/s, good %.0f/%.0f, service p99 %s", sweep.Knee, sweep.Overload.Rate, good, peak, axisMicros(float64(sweep.Overload.Service.P99))),
	})
	return nil
}

// fill makes reservations through the engine, all with the same deadline: meanwhile the store's clock stands still.
func (s *sheet) fill(path string, n, products int, deadline time.Time) error {
	start := time.Now()
	e, err := s.openEngine(path, products, func() time.Time { return start })
	if err != nil {
		return err
	}
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var filling sync.WaitGroup
	for range engineCallers {
		filling.Go(func() {
			for i := next.Add(1); i <= int64(n) && failed.Load() == nil; i = next.Add(1) {
				if i%100_000 == 0 {
					s.Progress(fmt.Sprintf("storing reservations: %d of %d", i, n))
				}
				if err := e.hold(s.ctx, int(i)%products, deadline.Sub(start)); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	filling.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return e.Close(s.ctx)
}

// large is how a store with many reservations fares: rate, memory, and a start after a crash.
func (s *sheet) large() error {
	path := s.Fresh()
	if err := s.fill(path, s.Reservations, 1000, time.Now().Add(24*time.Hour)); err != nil {
		return err
	}
	c, err := s.Serve(path)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("with %d reservations stored", s.Reservations)
	var resident int64
	err = s.ratio(name+", rate / rate when empty", 0.8, func() (float64, error) {
		r, err := s.run(c, "uniform", 64, s.Duration, true)
		if err != nil {
			return 0, err
		}
		resident = r.Server.ResidentBytes
		return r.PerSecond(), nil
	}, s.rate("uniform", 64))
	if err != nil {
		return errors.Join(err, c.Stop())
	}
	s.row(SheetRow{What: name + ", resident memory", Value: float64(resident >> 20), Unit: "MiB", Goal: 300, AtMost: true})
	return s.crash(c, path, name)
}

func (s *sheet) crash(c Child, path, name string) error {
	running := make(chan struct{})
	go func() {
		defer close(running)
		_, _ = s.run(c, "uniform", 64, s.Duration, true) // it is killed under it
	}()
	time.Sleep(s.Duration / 2)
	if err := c.Kill(); err != nil {
		return err
	}
	<-running
	start := time.Now()
	c, err := s.Serve(path)
	if err != nil {
		return err
	}
	took := time.Since(start).Seconds()
	s.row(SheetRow{What: name + ", start after a crash", Value: took, Unit: "s", Goal: 2, AtMost: true, Detail: "from the start of the process until it answers"})
	return c.Stop()
}

// lapseClients buy while holds lapse.
const lapseClients = 16

// lapse is many holds that lapse at the same instant, of one product as after a rush, and of a thousand.
func (s *sheet) lapse() error {
	for _, products := range []int{1, 1000} {
		if err := s.lapseOf(products); err != nil {
			return err
		}
	}
	return nil
}

// lapseOf measures how fast they are drained, and how others fare meanwhile.
func (s *sheet) lapseOf(products int) error {
	path := s.Fresh()
	deadline := time.Now().Add(time.Duration(s.Lapsing)*25*time.Microsecond + 5*time.Second)
	if err := s.fill(path, s.Lapsing, products, deadline); err != nil {
		return err
	}
	c, err := s.Serve(path)
	if err != nil {
		return err
	}
	defer func() { _ = c.Stop() }()
	s.Progress("waiting for the holds to lapse")
	before, err := s.run(c, "uniform", lapseClients, min(s.Duration, max(time.Until(deadline)-time.Second, Interval)), true)
	if err != nil {
		return err
	}
	time.Sleep(time.Until(deadline))
	s.Progress("holds lapse")
	rate := make(chan float64, 1)
	go func() { rate <- s.drained(c, deadline) }()
	// As long as draining takes at the goal, and no longer: the figure is of requests beside it.
	meanwhile, err := s.run(c, "uniform", lapseClients, max(time.Duration(s.Lapsing)*15*time.Microsecond, Interval), true)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%d holds of %d products lapse at once", s.Lapsing, products)
	s.row(SheetRow{What: name + ", drained", Value: <-rate, Unit: "/s", Goal: 50_000})
	s.row(SheetRow{
		What: name + ", p99 of other requests / p99 before", Value: float64(meanwhile.Latency.P99) / float64(before.Latency.P99), Goal: 3, AtMost: true,
		Detail: fmt.Sprintf("%s/%s, %.0f/s beside it", axisMicros(float64(meanwhile.Latency.P99)), axisMicros(float64(before.Latency.P99)), meanwhile.PerSecond()),
	})
	return nil
}

// drained is how many holds a second ended, from the deadline until all have.
func (s *sheet) drained(c Child, deadline time.Time) float64 {
	for {
		expired, err := metric(s.ctx, c.Host(), `holdfast_holds_total{outcome="expired"}`)
		if err != nil {
			return 0
		}
		if elapsed := time.Since(deadline); int(expired) >= s.Lapsing || elapsed > 2*time.Minute {
			return expired / elapsed.Seconds()
		}
		time.Sleep(20 * time.Millisecond)
	}
}
