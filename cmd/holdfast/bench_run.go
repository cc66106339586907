package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/bench"
	"github.com/holdfast/holdfast/internal/load"
)

// benchRunCommand are the flags of holdfast bench.
type benchRunCommand struct {
	URL      string        `xor:"target" env:"-" help:"A running server to load. It keeps the products and reservations that the run makes."`
	Store    string        `xor:"target" env:"-" help:"A database to start a server on, in a schema or database of its own that is removed afterwards; default: a temporary SQLite file."`
	Workload []string      `default:"hot,uniform,zipf,sellout,carts,life,keys,retries" help:"What buyers do: hot, uniform, zipf, sellout, carts, life, pairs, keys, retries."`
	Clients  int           `default:"64" help:"Connections, 1 to 20000."`
	Duration time.Duration `default:"2s" help:"Of each workload, 100ms to 10m."`
	Rate     float64       `help:"Visits that arrive each second whether or not the server keeps up; latency counts from when a visit should have begun. Without it each client begins its next visit when it has its answer."`
	Sweep    bool          `help:"Raise the rate of the first workload until the server no longer keeps up, and then offer three times as much."`
	Seed     uint64        `default:"1" help:"Buyers of the same seed do the same."`
	JSON     bool          `help:"Print JSON."`
	Report   string        `placeholder:"FILE.html" help:"Write a page with charts that opens without a network."`
}

// Validate is called by kong.
func (c *benchRunCommand) Validate() error {
	for _, name := range c.Workload {
		if _, found := load.FindWorkload(name); !found {
			return fmt.Errorf("--workload %s is none of them: see holdfast bench --help", name)
		}
	}
	switch {
	case c.Clients < 1 || c.Clients > 20_000:
		return errors.New("--clients must be from 1 to 20000")
	case c.Duration < load.Interval || c.Duration > 10*time.Minute:
		return errors.New("--duration must be from 100ms to 10m")
	case c.Rate < 0 || c.Rate > 10_000_000:
		return errors.New("--rate must be from 0 to 10000000")
	}
	return nil
}

// benchOutput is what a run came to.
type benchOutput struct {
	Machine bench.Machine  `json:"machine"`
	Results []*load.Result `json:"results"`
	Sweep   *bench.Sweep   `json:"sweep,omitempty"`
	Nothing *load.Result   `json:"nothing,omitempty"`
	Audit   load.Audit     `json:"audit"`
}

// all are the results of every run of the server.
func (o *benchOutput) all() []*load.Result {
	if o.Sweep == nil {
		return o.Results
	}
	return slices.Concat(o.Results, o.Sweep.Results())
}

// Run implements holdfast bench.
func (c *benchRunCommand) Run(ctx context.Context, env *environment) (err error) {
	m := startMeasuring(env)
	defer func() { err = errors.Join(err, m.cleanUp()) }()
	r := &benchRun{benchRunCommand: c, measuring: m, out: &benchOutput{Machine: machine()}}
	if r.host, err = r.target(ctx); err != nil {
		return err
	}
	if err := r.measure(ctx); err != nil {
		return err
	}
	m.say("")
	if c.Report != "" {
		if err := c.report(r.out); err != nil {
			return err
		}
	}
	if c.JSON {
		err = json.NewEncoder(env.stdout).Encode(r.out)
	} else {
		err = r.out.print(env)
	}
	if err == nil && !r.out.Audit.Clean() {
		err = errReported
	}
	return err
}

// benchRun is a run under way.
type benchRun struct {
	*benchRunCommand
	*measuring
	out   *benchOutput
	host  string
	store string // URL of the store of the server that was started; empty: none was
}

// target finds the server to load, or starts one.
func (r *benchRun) target(ctx context.Context) (host string, err error) {
	if r.URL != "" {
		_, host, found := strings.Cut(strings.TrimSuffix(r.URL, "/"), "http://")
		if !found || strings.Contains(host, "/") {
			return "", fmt.Errorf("%w: --url must be http://HOST:PORT", errUsage)
		}
		return host, nil
	}
	if r.store, err = r.scratch(ctx, r.Store); err != nil {
		return "", err
	}
	server, err := r.serve(ctx, r.store)
	if err != nil {
		return "", err
	}
	return server.address, nil
}

// measure runs the workloads, the handler that stores nothing, and the audit.
func (r *benchRun) measure(ctx context.Context) error {
	page, err := client.New("http://"+r.host).EventPage(ctx, "0", 1, 0)
	if err != nil {
		return fmt.Errorf("reading the event feed: %w", err)
	}
	prefix := fmt.Sprintf("bench-%d-", time.Now().UnixNano()) // a server that is loaded again has other products already
	for _, name := range r.Workload {
		if err := r.workload(ctx, prefix+name+"-", name); err != nil {
			return err
		}
		if r.Sweep {
			break
		}
	}
	if err := r.nothing(ctx); err != nil {
		return err
	}
	r.say("auditing")
	return r.audit(ctx, page.Head)
}

func (r *benchRun) workload(ctx context.Context, prefix, name string) error {
	w, _ := load.FindWorkload(name)
	r.say(name + ": making products")
	if err := load.Prepare(ctx, "http://"+r.host, &w, prefix); err != nil {
		return err
	}
	o := load.RunOptions{
		Host: r.host, Workload: w, Prefix: prefix, Clients: r.Clients, Duration: r.Duration, Rate: r.Rate, Seed: r.Seed,
		Progress: func(answered int64, elapsed time.Duration) {
			r.say(fmt.Sprintf("%s: %d answers in %.1f s", name, answered, elapsed.Seconds()))
		},
	}
	if r.Sweep {
		sweep, err := bench.RunSweep(ctx, o)
		r.out.Sweep = sweep
		return err
	}
	result, err := load.Run(ctx, o)
	if err != nil {
		return err
	}
	r.out.Results = append(r.out.Results, result)
	return nil
}

// nothing measures the handler that stores nothing, for scale.
func (r *benchRun) nothing(ctx context.Context) error {
	server, err := r.program(ctx, "bench", "nothing")
	if err != nil {
		return err
	}
	r.say("a handler that stores nothing, for scale")
	hot, _ := load.FindWorkload("hot")
	r.out.Nothing, err = load.Run(ctx, load.RunOptions{
		Host: server.address, Workload: hot, Prefix: "p", Clients: r.Clients, Duration: r.Duration, Seed: r.Seed,
	})
	return err
}

// audit opens the store beside the server that was started; of a running server it has the feed, from a place on.
func (r *benchRun) audit(ctx context.Context, after string) error {
	if r.store == "" {
		return r.out.Audit.CheckFeed(ctx, "http://"+r.host, after, r.out.all())
	}
	s, _, err := openStore(ctx, r.store, storeOptions{readOnly: true})
	if err != nil {
		return err
	}
	defer s.Close()
	return r.out.Audit.Check(ctx, s, r.out.all())
}

func (c *benchRunCommand) report(out *benchOutput) error {
	file, err := os.Create(c.Report)
	if err != nil {
		return err
	}
	err = bench.WriteReport(file, &bench.Report{
		Machine: out.Machine, Results: out.Results, Sweep: out.Sweep, Nothing: out.Nothing, Audit: &out.Audit,
	})
	return errors.Join(err, file.Close())
}
