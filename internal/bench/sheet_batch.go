package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/load"
)

const (
	batchHolds   = 1000 // of a request: as many as the contract allows
	batchClients = 4
	coalesced    = 256 // callers that share a client
)

// errNoBatch says why there are no rows of batches.
const errNoBatch = Missing("the server has no POST " + load.BatchPath)

// batches are holds in batches, as an importer or a large shop sends them.
func (s *sheet) batches(ctx context.Context) error {
	hot := load.Workload{Name: "batch", Products: 1, Lines: 1, Units: load.Plenty, Batch: batchHolds}
	uniform := hot
	uniform.Name, uniform.Products = "batch-uniform", 1000
	return errors.Join(
		s.rate(ctx, batchRow("one hot product", 100_000, 200_000), s.batched(hot)),
		s.rate(ctx, SheetRow{
			What: fmt.Sprintf("holds one at a time through client.Coalesce, %d callers in one process, one hot product", coalesced),
			Unit: "/s", Goal: 60_000, Aim: 120_000,
		}, s.coalesced),
		s.rate(ctx, batchRow("uniform over 1,000 products", 60_000, 150_000), s.batched(uniform)),
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

// coalesced is the rate of callers who each hold one unit at a time, through one client whose calls travel together.
func (s *sheet) coalesced(ctx context.Context) (float64, error) {
	c, err := s.Start.Serve(ctx, s.Fresh())
	if err != nil {
		return 0, err
	}
	hot := load.Workload{Products: 1, Units: load.Plenty}
	shop := client.New("http://"+c.Host(), client.Coalesce())
	rate, err := 0.0, load.Prepare(ctx, "http://"+c.Host(), &hot, "p")
	if err == nil {
		rate, err = hammer(ctx, coalesced, 1, s.Duration, func(ctx context.Context, product int) error {
			_, err := shop.Reserve(ctx, client.NewReservation{
				Lines: []client.NewLine{{ProductID: productID(product), Quantity: 1}}, TTLSeconds: 3600,
			})
			return err
		})
	}
	return rate, errors.Join(err, c.Stop())
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
