package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast/holdfast/internal/load"
	"github.com/holdfast/holdfast/internal/store"
)

// Comparison is one row of a comparison: holds a second, medians of the rounds. What was not measured is 0.
type Comparison struct {
	Clients  int     `json:"clients"`
	Products int     `json:"products"`
	Engine   float64 `json:"engine"`
	Obvious  float64 `json:"obvious"`
	HTTP     float64 `json:"http"`    // Holdfast through HTTP
	Nothing  float64 `json:"nothing"` // a handler that stores nothing
	Peers    []Rate  `json:"peers"`   // through HTTP, each with the database that it uses
}

// Rate is how many holds a second something did.
type Rate struct {
	Name      string  `json:"name"`
	PerSecond float64 `json:"perSecond"`
}

// Server is something that answers holds through HTTP, in a process of its own, and has the products of the comparison.
type Server struct{ Name, Host string }

// CompareOptions say what is compared, and how to get it.
type CompareOptions struct {
	Open     func(ctx context.Context) (store.Store, error) // an empty store
	Obvious  string                                         // URL of an empty place for the obvious design
	Clients  []int
	Products []int
	Rounds   int
	Duration time.Duration // of each measurement
	HTTP     string        // host of a server with the products; empty: nothing is measured through HTTP
	Nothing  string        // host of a handler that stores nothing
	Peers    []Server
	Progress func(string)
}

// candidate is something that is compared: it says how many holds a second it did, and where a row keeps that.
type candidate struct {
	name    string
	measure func(ctx context.Context, clients, products int) (float64, error)
	keep    func(row *Comparison, perSecond float64)
}

// Compare measures the engine, the obvious design and the servers in turn, round by round, so that what wanders on the
// machine meets all of them.
func Compare(ctx context.Context, o CompareOptions) (rows []Comparison, err error) {
	s, err := o.Open(ctx)
	if err != nil {
		return nil, err
	}
	e := openEngine(s)
	defer func() { err = errors.Join(err, e.close(context.WithoutCancel(ctx))) }()
	o.Progress("making products")
	if err := o.prepare(ctx, e); err != nil {
		return nil, err
	}
	candidates := o.candidates(e)
	for _, products := range o.Products {
		for _, clients := range o.Clients {
			row := Comparison{Clients: clients, Products: products, Peers: []Rate{}}
			if err := o.measure(ctx, candidates, &row); err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// prepare makes the products of the engine and the obvious design.
func (o *CompareOptions) prepare(ctx context.Context, e *engine) error {
	most := slices.Max(o.Products)
	if err := e.products(ctx, most); err != nil {
		return err
	}
	p, err := openPeer(ctx, obviousKind(o.Obvious), o.Obvious, 1)
	if err != nil {
		return err
	}
	for i := range most {
		err = errors.Join(err, p.AddProduct(ctx, productID(i), load.Plenty))
	}
	return errors.Join(err, p.Close())
}

func (o *CompareOptions) candidates(e *engine) []candidate {
	list := []candidate{
		{"the engine", func(ctx context.Context, clients, products int) (float64, error) {
			return hammer(ctx, clients, products, o.Duration, e.hold)
		}, func(row *Comparison, rate float64) { row.Engine = rate }},
		{"the obvious design", o.hammerObvious, func(row *Comparison, rate float64) { row.Obvious = rate }},
	}
	if o.HTTP == "" {
		return list
	}
	list = append(
		list,
		o.through(Server{"Holdfast", o.HTTP}, func(row *Comparison, rate float64) { row.HTTP = rate }),
		o.through(Server{"nothing stored", o.Nothing}, func(row *Comparison, rate float64) { row.Nothing = rate }),
	)
	for _, peer := range o.Peers {
		list = append(list, o.through(peer, func(row *Comparison, rate float64) {
			row.Peers = append(row.Peers, Rate{peer.Name, rate})
		}))
	}
	return list
}

// obviousConnections keep below the 100 that PostgreSQL allows unless told otherwise.
const obviousConnections = 90

// hammerObvious has a connection for each client, as far as the database allows.
func (o *CompareOptions) hammerObvious(ctx context.Context, clients, products int) (perSecond float64, err error) {
	p, err := openPeer(ctx, obviousKind(o.Obvious), o.Obvious, min(clients, obviousConnections))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	return hammer(ctx, clients, products, o.Duration, func(ctx context.Context, product int) error {
		return p.Hold(ctx, Hold{nextKey(), productID(product), 1, time.Now().Add(time.Hour)})
	})
}

func (o *CompareOptions) through(s Server, keep func(*Comparison, float64)) candidate {
	return candidate{s.Name, func(ctx context.Context, clients, products int) (float64, error) {
		return holdsThroughHTTP(ctx, s.Host, clients, products, o.Duration)
	}, keep}
}

// measure fills in a row with the medians of all rounds.
func (o *CompareOptions) measure(ctx context.Context, candidates []candidate, row *Comparison) error {
	rates := make([][]float64, len(candidates))
	for round := range o.Rounds {
		for i, c := range candidates {
			o.Progress(fmt.Sprintf("%d clients, %d products, round %d of %d: %s",
				row.Clients, row.Products, round+1, o.Rounds, c.name))
			rate, err := c.measure(ctx, row.Clients, row.Products)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			rates[i] = append(rates[i], rate)
		}
	}
	for i, c := range candidates {
		c.keep(row, median(rates[i]))
	}
	return nil
}

// holdsThroughHTTP has clients of a server hold in a closed loop and returns how many holds a second there were.
func holdsThroughHTTP(ctx context.Context, host string, clients, products int, d time.Duration) (float64, error) {
	w := load.Workload{Name: "holds", Products: products, Lines: 1, Units: load.Plenty}
	r, err := load.Run(ctx, load.RunOptions{Host: host, Workload: w, Prefix: "p", Clients: clients, Duration: d})
	if err != nil {
		return 0, err
	}
	return r.PerSecond(), r.Failed()
}

// median of an even number of values is the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
