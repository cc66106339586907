package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Sharing is how servers that share a database fare, in reservations a second.
type Sharing struct {
	Alone float64   `json:"alone"` // one of them, while the others are idle
	Each  []float64 `json:"each"`  // all at once
}

// Together is the sum of all servers.
func (s *Sharing) Together() (sum float64) {
	for _, rate := range s.Each {
		sum += rate
	}
	return sum
}

// Slowest is the rate of the slowest server in parts of their average.
func (s *Sharing) Slowest() float64 {
	return slices.Min(s.Each) / (s.Together() / float64(len(s.Each)))
}

// Share measures servers that share a database, in turn one alone and all at once, each with so many clients, who are all
// after p0.
func Share(
	ctx context.Context, hosts []string, clients, rounds int, d time.Duration, progress func(string),
) (list []Sharing, err error) {
	for round := range rounds {
		progress(fmt.Sprintf("%d servers on one database, round %d of %d", len(hosts), round+1, rounds))
		s := Sharing{}
		if s.Alone, err = holdsThroughHTTP(ctx, hosts[round%len(hosts)], clients, 1, d); err != nil {
			return nil, err
		}
		if s.Each, err = shareOnce(ctx, hosts, clients, d); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func shareOnce(ctx context.Context, hosts []string, clients int, d time.Duration) ([]float64, error) {
	each, errs := make([]float64, len(hosts)), make([]error, len(hosts))
	var running sync.WaitGroup
	for i, host := range hosts {
		running.Go(func() { each[i], errs[i] = holdsThroughHTTP(ctx, host, clients, 1, d) })
	}
	running.Wait()
	return each, errors.Join(errs...)
}
