package bench

import (
	"context"
	"errors"
)

// http are the rows of a server beside a handler that stores nothing, and of one workload beside another.
func (s *sheet) http(ctx context.Context) error {
	nothing, err := s.Start.Nothing(ctx, false)
	if err != nil {
		return err
	}
	hot, uniform, zipf, keys := workload("hot"), workload("uniform"), workload("zipf"), workload("keys")
	stored := func(clients int) measurement {
		return func(ctx context.Context) (float64, error) {
			r, err := s.run(ctx, nothing, hot, clients, false)
			if err != nil {
				return 0, err
			}
			return r.PerSecond(), nil
		}
	}
	compare := func(what string, goal, aim float64, measure, against measurement) {
		err = errors.Join(err, s.ratio(ctx, SheetRow{What: what, Goal: goal, Aim: aim}, measure, against))
	}
	compare("hot product / stores nothing, 256 connections", 0.60, 0.70, s.served(hot, 256), stored(256))
	compare("hot product / stores nothing, 64 connections", 0.50, 0.60, s.served(hot, 64), stored(64))
	compare("hot / Zipf over 1,000 products, 64 connections", 0.9, 1, s.served(hot, 64), s.served(zipf, 64))
	compare("uniform over 1,000 products / hot, 64 connections", 0.85, 1, s.served(uniform, 64), s.served(hot, 64))
	compare("uniform over 1,000 products / hot, 256 connections", 0.85, 1, s.served(uniform, 256), s.served(hot, 256))
	compare("with random idempotency keys / without, 64 connections", 0.85, 0.95, s.served(keys, 64), s.served(hot, 64))
	compare("with random idempotency keys / without, 256 connections", 0.85, 0.95, s.served(keys, 256), s.served(hot, 256))
	compare("hold + confirm pairs, operations / holds alone", 0.6, 0.8, s.served(workload("pairs"), 64), s.served(hot, 64))
	compare("sell-out, refusals / stores nothing", 0.6, 0.9, s.served(workload("sellout"), 64), stored(64))
	return errors.Join(err, nothing.Stop())
}
