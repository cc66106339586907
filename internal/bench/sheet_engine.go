package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// engineCallers wait at the door at the same time.
const engineCallers = 1024

// engine is Holdfast without HTTP beside a loop that writes the same rows and decides nothing.
func (s *sheet) engine(ctx context.Context) error {
	r := SheetRow{What: "engine, hot, 1,024 callers / raw store loop", Goal: 0.6, Aim: 0.9}
	return s.ratio(ctx, r, func(ctx context.Context) (float64, error) {
		e, err := s.openEngine(ctx, s.Fresh(), 1, time.Now)
		if err != nil {
			return 0, err
		}
		rate, err := hammer(ctx, engineCallers, 1, s.Duration, e.hold)
		return rate, errors.Join(err, e.close(ctx))
	}, func(context.Context) (float64, error) { return rawLoop(s.Fresh(), s.Duration) })
}

func (s *sheet) openEngine(ctx context.Context, path string, products int, now func() time.Time) (*engine, error) {
	st, err := s.Open(ctx, path, now)
	if err != nil {
		return nil, err
	}
	e := openEngine(st)
	if err := e.products(ctx, products); err != nil {
		return nil, errors.Join(err, e.close(ctx))
	}
	return e, nil
}

// sustained is the engine over so many holds that caches and checkpoints have come to rest, once.
func (s *sheet) sustained(ctx context.Context) error {
	r := SheetRow{
		What: fmt.Sprintf("engine, hot, 1,024 callers, sustained over %d holds", s.Sustained),
		Unit: "/s", Goal: 200_000, Aim: 350_000,
	}
	e, err := s.openEngine(ctx, s.Fresh(), 1, time.Now)
	if err != nil {
		return err
	}
	total, first, last, err := s.sustain(ctx, e)
	r.Value, r.Detail = total, fmt.Sprintf("once; %.0f/s in the first tenth, %.0f/s in the last", first, last)
	return s.emit(r, errors.Join(err, e.close(ctx)))
}

// sustain returns the rates of all holds, of the first tenth and of the last.
func (s *sheet) sustain(ctx context.Context, e *engine) (total, first, last float64, err error) {
	tenth := max(s.Sustained/10, 1)
	var firstEnds, lastBegins time.Duration
	start := time.Now()
	err = times(ctx, engineCallers, s.Sustained, func(ctx context.Context, i int) error {
		switch i {
		case tenth:
			firstEnds = time.Since(start)
		case s.Sustained - tenth:
			lastBegins = time.Since(start)
		}
		s.count("holds", i, s.Sustained)
		return e.hold(ctx, 0)
	})
	all := time.Since(start)
	perSecond := func(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }
	return perSecond(s.Sustained, all), perSecond(tenth, firstEnds), perSecond(tenth, all-lastBegins), err
}

// countStep is how many things are made between two lines that say how many there are.
const countStep = 100_000

func (s *sheet) count(what string, i, n int) {
	if i > 0 && i%countStep == 0 {
		s.Progress(fmt.Sprintf("%s: %d of %d", what, i, n))
	}
}

// fill makes reservations through the engine, all with the same deadline: meanwhile the store's clock stands still.
func (s *sheet) fill(ctx context.Context, path string, n, products int, deadline time.Time) error {
	start := time.Now()
	e, err := s.openEngine(ctx, path, products, func() time.Time { return start })
	if err != nil {
		return err
	}
	err = times(ctx, engineCallers, n, func(ctx context.Context, i int) error {
		s.count("storing reservations", i, n)
		return e.holdFor(ctx, i%products, deadline.Sub(start))
	})
	return errors.Join(err, e.close(ctx))
}
