package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/holdfast/holdfast/internal/load"
)

const (
	batchHolds   = 1000 // of a request: as many as the contract allows
	batchClients = 4
)

// errNoBatch says why there are no rows of batches.
const errNoBatch = Missing("the server has no POST " + load.BatchPath)

// batches are holds in batches, as an importer or a large shop sends them.
func (s *sheet) batches(ctx context.Context) error {
	hot := load.Workload{Name: "batches of one product", Products: 1, Lines: 1, Units: load.Plenty, Batch: batchHolds}
	uniform := hot
	uniform.Name, uniform.Products = "batches over 1,000 products", 1000
	return errors.Join(
		s.rate(ctx, batchRow("one hot product", 60_000, 100_000), s.batched(hot)),
		s.rate(ctx, batchRow("uniform over 1,000 products", 40_000, 80_000), s.batched(uniform)),
	)
}

func batchRow(of string, goal, aim float64) SheetRow {
	what := fmt.Sprintf("holds in batches of %d by POST %s, %d clients, %s", batchHolds, load.BatchPath, batchClients, of)
	return SheetRow{What: what, Unit: "/s", Goal: goal, Aim: aim}
}

func (s *sheet) batched(w load.Workload) measurement {
	return func(ctx context.Context) (float64, error) {
		c, err := s.Start.Serve(ctx, s.Fresh())
		if err != nil {
			return 0, err
		}
		rate, err := s.batchRate(ctx, c, w)
		return rate, errors.Join(err, c.Stop())
	}
}

func (s *sheet) batchRate(ctx context.Context, c Child, w load.Workload) (float64, error) {
	found, err := hasBatch(ctx, c.Host())
	if err == nil && !found {
		err = errNoBatch
	}
	if err != nil {
		return 0, err
	}
	r, err := s.run(ctx, c, w, batchClients, true)
	if err != nil {
		return 0, err
	}
	return r.GoodPerSecond(), nil
}

// hasBatch asks whether a server takes batches. An empty one has no effect, whatever it answers.
func hasBatch(ctx context.Context, host string) (bool, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+host+load.BatchPath,
		strings.NewReader(`{"operations":[]}`))
	if err != nil {
		return false, err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return false, err
	}
	return response.StatusCode != http.StatusNotFound, response.Body.Close()
}
