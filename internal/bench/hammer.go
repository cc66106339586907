package bench

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// holder holds one unit of a product.
type holder func(ctx context.Context, product int) error

// hammer has clients hold in a closed loop, without HTTP, and returns how many holds a second there were.
func hammer(ctx context.Context, clients, products int, d time.Duration, hold holder) (perSecond float64, err error) {
	var done atomic.Int64
	start := time.Now()
	err = atOnce(ctx, clients, func(ctx context.Context, client int) error {
		random := rand.New(rand.NewPCG(1, uint64(client)))
		for time.Since(start) < d && ctx.Err() == nil {
			if err := hold(ctx, random.IntN(products)); err != nil {
				return err
			}
			done.Add(1)
		}
		return nil
	})
	return float64(done.Load()) / time.Since(start).Seconds(), err
}

// times has clients do something n times in all. It is called with 0 to n-1, and in that order but for those under way.
func times(ctx context.Context, clients, n int, do func(ctx context.Context, i int) error) error {
	var next atomic.Int64
	return atOnce(ctx, clients, func(ctx context.Context, _ int) error {
		for i := next.Add(1) - 1; i < int64(n) && ctx.Err() == nil; i = next.Add(1) - 1 {
			if err := do(ctx, int(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

// atOnce runs clients until all have ended, and ends the others when one fails. It returns the first failure.
func atOnce(ctx context.Context, clients int, run func(ctx context.Context, client int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for client := range clients {
		running.Go(func() {
			if err := run(ctx, client); err != nil {
				cancel(err)
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}
