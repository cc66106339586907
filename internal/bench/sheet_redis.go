package bench

import (
	"context"
	"errors"
	"fmt"
)

// redis are the rows beside Redis, which does less: no order, nothing that ends a hold, no events, no idempotency.
func (s *sheet) redis(ctx context.Context) (err error) {
	hot := workload("hot")
	for _, row := range []struct {
		appendfsync string
		clients     int
		goal, aim   float64
	}{{FsyncAlways, 64, 1.3, 1.6}, {FsyncAlways, 256, 1.8, 2.5}, {FsyncEverySec, 64, 0.5, 1}, {FsyncEverySec, 256, 0.5, 1}} {
		r := SheetRow{
			What: fmt.Sprintf("hot product / Redis with a Lua script, appendfsync %s, %d connections",
				row.appendfsync, row.clients),
			Goal: row.goal, Aim: row.aim,
		}
		err = errors.Join(err, s.ratio(ctx, r, s.served(hot, row.clients), s.servedByRedis(row.appendfsync, row.clients)))
	}
	return err
}

// servedByRedis is the rate of holds of one product on a Redis that is empty.
func (s *sheet) servedByRedis(appendfsync string, clients int) measurement {
	return func(ctx context.Context) (float64, error) {
		c, err := s.Start.Redis(ctx, appendfsync)
		if err != nil {
			return 0, err
		}
		r, err := s.run(ctx, c, workload("hot"), clients, true)
		if err = errors.Join(err, c.Stop()); err != nil {
			return 0, err
		}
		return r.PerSecond(), nil
	}
}
