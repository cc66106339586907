package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast/holdfast/internal/load"
)

const (
	lapseClients = 16 // buy while holds lapse
	// fillTime for each hold is more than storing one takes, so that none lapses before all are stored.
	fillTime = 25 * time.Microsecond
	// drainTime for each hold is less than ending one may take: buyers are measured beside the drain, not after it.
	drainTime = 15 * time.Microsecond
)

// lapse is many holds that lapse at the same instant, of one product as after a rush, and of a thousand.
func (s *sheet) lapse(ctx context.Context) error {
	for _, products := range []int{1, 1000} {
		path := s.Fresh()
		deadline := time.Now().Add(time.Duration(s.Lapsing)*fillTime + 5*time.Second)
		if err := s.fill(ctx, path, s.Lapsing, products, deadline); err != nil {
			return err
		}
		c, err := s.Start.Serve(ctx, path)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%d holds of %d products lapse at once", s.Lapsing, products)
		if err := errors.Join(s.lapseOf(ctx, c, name, deadline), c.Stop()); err != nil {
			return err
		}
	}
	return nil
}

// lapseOf measures how fast they are drained, and how others fare meanwhile.
func (s *sheet) lapseOf(ctx context.Context, c Child, name string, deadline time.Time) error {
	s.Progress("waiting for the holds to lapse")
	before, err := s.buyers(ctx, c, min(s.Duration, time.Until(deadline)-time.Second))
	if err != nil {
		return err
	}
	time.Sleep(time.Until(deadline))
	s.Progress("holds lapse")
	var draining sync.WaitGroup
	var rate float64
	draining.Go(func() { rate = s.drained(ctx, c, deadline) })
	meanwhile, err := s.buyers(ctx, c, time.Duration(s.Lapsing)*drainTime)
	draining.Wait()
	if err != nil {
		return err
	}
	s.row(SheetRow{
		What: name + ", drained", Value: rate, Unit: "/s", Goal: 50_000, Aim: 100_000, Detail: "beside 16 clients",
	})
	s.row(SheetRow{
		What:  name + ", p99 of other requests / p99 before",
		Value: float64(meanwhile.Latency.P99) / float64(before.Latency.P99), Goal: 3, Aim: 2, AtMost: true,
		Detail: fmt.Sprintf("%s/%s, %.0f/s beside it", axisMicros(float64(meanwhile.Latency.P99)),
			axisMicros(float64(before.Latency.P99)), meanwhile.PerSecond()),
	})
	return nil
}

func (s *sheet) buyers(ctx context.Context, c Child, d time.Duration) (*load.Result, error) {
	return s.runFor(ctx, c, workload("uniform"), lapseClients, max(d, load.Interval), true)
}

const (
	drainTimeout = 2 * time.Minute
	drainLooks   = 20 * time.Millisecond
)

// drained is how many holds a second ended, from the deadline until all have.
func (s *sheet) drained(ctx context.Context, c Child, deadline time.Time) float64 {
	for ; ; time.Sleep(drainLooks) {
		expired, err := load.Metric(ctx, c.Host(), `holdfast_holds_total{outcome="expired"}`)
		if err != nil {
			return 0
		}
		if elapsed := time.Since(deadline); int(expired) >= s.Lapsing || elapsed > drainTimeout {
			return expired / elapsed.Seconds()
		}
	}
}
