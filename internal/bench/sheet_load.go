package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast/holdfast/internal/load"
)

// alone is one client beside a handler that flushes once.
func (s *sheet) alone(ctx context.Context) error {
	flushing, err := s.Start.Nothing(ctx, true)
	if err != nil {
		return err
	}
	return errors.Join(s.aloneBeside(ctx, flushing), flushing.Stop())
}

func (s *sheet) aloneBeside(ctx context.Context, flushing Child) error {
	hot := workload("hot")
	var beyond []float64
	var texts []string
	for range s.Rounds {
		s.Progress("one client alone")
		held, err := s.fresh(ctx, hot, 1)
		if err != nil {
			return err
		}
		flushed, err := s.run(ctx, flushing, hot, 1, false)
		if err != nil {
			return err
		}
		beyond = append(beyond, float64(held.Latency.P50-flushed.Latency.P50)/1000)
		texts = append(texts, fmt.Sprintf("%d µs/%d µs", held.Latency.P50, flushed.Latency.P50))
	}
	return s.emit(SheetRow{
		What: "one client alone, p50 beyond one flush", Value: median(beyond), Unit: "ms", Goal: 1, Aim: 0.2, AtMost: true,
		Detail: strings.Join(texts, ", "),
	}, nil)
}

// overloadQueue is shorter than the connections of an open loop, so that overload is refused and does not only wait.
const overloadQueue = "256"

// overload is what a server still does well when it is offered three times what it can do.
func (s *sheet) overload(ctx context.Context) error {
	s.Progress("overload")
	c, err := s.Start.Serve(ctx, s.Fresh(), "--queue-limit", overloadQueue)
	if err != nil {
		return err
	}
	return errors.Join(s.overloadOf(ctx, c), c.Stop())
}

func (s *sheet) overloadOf(ctx context.Context, c Child) error {
	w := workload("hot")
	if err := load.Prepare(ctx, "http://"+c.Host(), &w, "sweep-"); err != nil {
		return err
	}
	sweep, err := RunSweep(ctx, load.RunOptions{
		Host: c.Host(), Workload: w, Prefix: "sweep-", Clients: 64, Duration: s.Duration, Seed: 1,
	})
	if err != nil {
		return err
	}
	peak, good := sweep.Peak.GoodPerSecond(), sweep.Overload.GoodPerSecond()
	return s.emit(SheetRow{
		What: "overload at 3 times the knee, answered well / peak", Value: good / peak, Goal: 0.9, Aim: 0.97,
		Detail: fmt.Sprintf("knee %.0f/s, offered %.0f/s, good %.0f/%.0f, service p99 %s",
			sweep.Knee, sweep.Overload.Rate, good, peak, axisMicros(float64(sweep.Overload.Service.P99))),
	}, nil)
}
