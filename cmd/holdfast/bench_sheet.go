package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast/holdfast/internal/bench"
	"github.com/holdfast/holdfast/internal/load"
	"github.com/holdfast/holdfast/internal/store"
)

// benchSheetCommand are the flags of holdfast bench sheet.
type benchSheetCommand struct {
	Parts        []string      `default:"http,reads,shared,batch,redis,engine,sustained,alone,overload,large,lapse" enum:"http,reads,shared,batch,redis,engine,sustained,alone,overload,large,lapse" help:"What to measure: ${enum}."`
	Duration     time.Duration `default:"2s" help:"Of each measurement."`
	Rounds       int           `default:"3" help:"Medians of so many."`
	Sustained    int           `default:"3000000" help:"Holds of the engine's long run, 100 at least."`
	Reservations int           `default:"10000000" help:"Reservations in the large store: about 2 GB for ten million."`
	Lapsing      int           `default:"1000000" help:"Holds that lapse at the same instant."`
	Postgres     string        `env:"-" placeholder:"URL" help:"A database for what servers share, in a schema of its own that is removed afterwards."`
	JSON         bool          `help:"Print JSON, a row a line."`
}

// Validate is called by kong.
func (c *benchSheetCommand) Validate() error {
	if c.Duration < load.Interval || c.Rounds < 1 || c.Reservations < 1 || c.Lapsing < 1 || c.Sustained < 100 {
		return errors.New("--duration must be 100ms at least, --sustained 100, the other numbers at least 1")
	}
	return nil
}

// Run implements holdfast bench sheet.
func (c *benchSheetCommand) Run(ctx context.Context, env *environment) (err error) {
	m := startMeasuring(env)
	defer func() { err = errors.Join(err, m.cleanUp()) }()
	folder, err := m.temporary()
	if err != nil {
		return err
	}
	shared := ""
	if c.Postgres != "" {
		if shared, err = m.scratch(ctx, c.Postgres); err != nil {
			return err
		}
	}
	if !c.JSON {
		where := machine()
		fmt.Fprintf(env.stdout, "%s\n\n", heading(&where))
	}
	return bench.Sheet(ctx, bench.SheetOptions{
		Parts: c.Parts, Duration: c.Duration, Rounds: c.Rounds,
		Reservations: c.Reservations, Lapsing: c.Lapsing, Sustained: c.Sustained,
		Fresh: freshFiles(folder), Open: openFile, Start: &starter{m}, Shared: shared, Progress: m.say,
	}, func(r bench.SheetRow) {
		m.say("")
		c.print(env, &r)
	})
}

func openFile(ctx context.Context, path string, now func() time.Time) (store.Store, error) {
	s, _, err := openStore(ctx, "sqlite:"+path, storeOptions{now: now})
	return s, err
}

func (c *benchSheetCommand) print(env *environment, r *bench.SheetRow) {
	if c.JSON {
		_ = json.NewEncoder(env.stdout).Encode(r)
		return
	}
	if r.Skipped != "" {
		for _, w := range []io.Writer{env.stdout, env.stderr} {
			fmt.Fprintf(w, "%s: %s: %s\n", r.What, r.Verdict(), r.Skipped)
		}
		return
	}
	relation := "at least"
	if r.AtMost {
		relation = "at most"
	}
	value := strings.TrimSpace(fmt.Sprintf("%.2f %s", r.Value, r.Unit))
	fmt.Fprintf(env.stdout, "%s\n    %s: %s (%s %g, aim %g)\n", r.What, value, r.Verdict(), relation, r.Goal, r.Aim)
	if r.Detail != "" {
		fmt.Fprintf(env.stdout, "    %s\n", r.Detail)
	}
}

// starter starts the servers of a sheet.
type starter struct{ *measuring }

var _ bench.Starter = (*starter)(nil)

// asChild makes a server a [bench.Child], or no child at all.
func asChild[S bench.Child](s S, err error) (bench.Child, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Serve implements [bench.Starter].
func (s *starter) Serve(ctx context.Context, path string, more ...string) (bench.Child, error) {
	return asChild(s.serve(ctx, "sqlite:"+path, more...))
}

// ServeStore implements [bench.Starter].
func (s *starter) ServeStore(ctx context.Context, url string) (bench.Child, error) {
	return asChild(s.serve(ctx, url))
}

// Nothing implements [bench.Starter].
func (s *starter) Nothing(ctx context.Context, flushed bool) (bench.Child, error) {
	arguments := []string{"bench", "nothing"}
	if flushed {
		arguments = append(arguments, "--fsync", filepath.Join(s.folder, "flushed"))
	}
	return asChild(s.program(ctx, arguments...))
}

// Bare implements [bench.Starter].
func (s *starter) Bare(ctx context.Context, a *bench.Answer) (bench.Child, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.folder, "answer.json") // read before the handler is ready
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	return asChild(s.program(ctx, "bench", "nothing", "--answer", file))
}

// Redis implements [bench.Starter].
func (s *starter) Redis(ctx context.Context, appendfsync string) (bench.Child, error) {
	return asChild(s.redis(ctx, appendfsync))
}

// Host, Kill and Stop make a server of ours a [bench.Child].
func (s *childServer) Host() string { return s.address }

// Kill implements [bench.Child].
func (s *childServer) Kill() error { return s.kill() }

// Stop implements [bench.Child].
func (s *childServer) Stop() error { return s.stop() }
