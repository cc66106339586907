package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// large is how a store with many reservations fares: rate, memory, and a start after a crash.
func (s *sheet) large(ctx context.Context) error {
	path := s.Fresh()
	if err := s.fill(ctx, path, s.Reservations, 1000, time.Now().Add(24*time.Hour)); err != nil {
		return err
	}
	c, err := s.Start.Serve(ctx, path)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("with %d reservations stored", s.Reservations)
	if err := s.largeRate(ctx, c, name); err != nil {
		return errors.Join(err, c.Stop())
	}
	return s.crash(ctx, c, path, name)
}

func (s *sheet) largeRate(ctx context.Context, c Child, name string) error {
	uniform := workload("uniform")
	var resident int64
	r := SheetRow{What: name + ", rate / rate when empty", Goal: 0.9, Aim: 0.9}
	err := s.ratio(ctx, r, func(ctx context.Context) (float64, error) {
		r, err := s.run(ctx, c, uniform, 64, true)
		if err != nil {
			return 0, err
		}
		resident = r.Server.ResidentBytes
		return r.PerSecond(), nil
	}, s.served(uniform, 64))
	if err != nil {
		return err
	}
	return s.emit(SheetRow{
		What: name + ", resident memory", Value: float64(resident >> 20), Unit: "MiB", Goal: 200, Aim: 200, AtMost: true,
	}, nil)
}

// crash kills the server under load and starts it again.
func (s *sheet) crash(ctx context.Context, c Child, path, name string) error {
	var loading sync.WaitGroup
	loading.Go(func() { _, _ = s.run(ctx, c, workload("uniform"), 64, true) }) // it is killed under it
	time.Sleep(s.Duration / 2)
	err := c.Kill()
	loading.Wait()
	if err != nil {
		return err
	}
	start := time.Now()
	if c, err = s.Start.Serve(ctx, path); err != nil {
		return err
	}
	took := time.Since(start).Seconds()
	return errors.Join(s.emit(SheetRow{
		What: name + ", start after a crash", Value: took, Unit: "s", Goal: 1, Aim: 1, AtMost: true,
		Detail: "from the start of the process until it answers",
	}, nil), c.Stop())
}
