package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/internal/commit"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Engine is Holdfast without HTTP: a door to a store.
type Engine struct {
	store store.Store
	door  *commit.Door
}

// OpenEngine opens a door to a store, which it then owns.
func OpenEngine(s store.Store) *Engine {
	return &Engine{s, commit.Open(s, commit.Options{})}
}

// Close drains the door and closes the store.
func (e *Engine) Close(ctx context.Context) error {
	if err := e.door.Close(ctx); err != nil {
		return err
	}
	return e.store.Close()
}

// Products makes p0, p1 and so on.
func (e *Engine) Products(ctx context.Context, n int) error {
	for i := range n {
		_, err := e.door.Do(ctx, &inventory.Request{Command: &inventory.CreateProduct{
			ID: fmt.Sprint("p", i), Name: "Product", Price: inventory.Money{Amount: 1999, Currency: "EUR"}, TotalStock: plenty, Location: inventory.MainLocation,
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) reserve(ctx context.Context, product int) error {
	return e.hold(ctx, product, time.Hour)
}

// hold reserves one unit of a product for so long.
func (e *Engine) hold(ctx context.Context, product int, ttl time.Duration) error {
	o, err := e.door.Do(ctx, &inventory.Request{Salt: rand.Uint32(), Command: &inventory.Reserve{
		TTL: max(ttl.Milliseconds(), 1000), Lines: []inventory.ReserveLine{{ProductID: fmt.Sprint("p", product), Location: inventory.MainLocation, Quantity: 1}},
	}})
	if err == nil && o.Refusal != nil {
		err = fmt.Errorf("refused: %s", o.Refusal.Code)
	}
	return err
}

// Hammer has clients reserve in a closed loop and returns how many reservations a second there were.
func Hammer(ctx context.Context, clients, products int, d time.Duration, reserve func(ctx context.Context, client, product int) error) (perSecond float64, err error) {
	var done atomic.Int64
	var failed atomic.Pointer[error]
	start := time.Now()
	var working sync.WaitGroup
	for c := range clients {
		working.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(c)))
			for time.Since(start) < d && failed.Load() == nil && ctx.Err() == nil {
				if err := reserve(ctx, c, random.IntN(products)); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				done.Add(1)
			}
		})
	}
	working.Wait()
	if failure := failed.Load(); failure != nil {
		return 0, *failure
	}
	return float64(done.Load()) / time.Since(start).Seconds(), nil
}

// Comparison is one row of a comparison: reservations a second.
type Comparison struct {
	Clients  int     `json:"clients"`
	Products int     `json:"products"`
	Engine   float64 `json:"engine"`
	Obvious  float64 `json:"obvious"`
	HTTP     float64 `json:"http"`    // Holdfast through HTTP
	Nothing  float64 `json:"nothing"` // a handler that stores nothing
}

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

// CompareOptions say what is compared, and how to get it.
type CompareOptions struct {
	Store    string // URL of the empty place to measure in
	Open     func(ctx context.Context) (store.Store, error)
	Clients  []int
	Products []int
	Rounds   int
	Duration time.Duration // of each measurement
	HTTP     string        // host of a server on a store of its own with the products; empty: none
	Nothing  string        // host of a handler that stores nothing
	Progress func(string)
}

// Compare measures the engine, the obvious design and HTTP in turn, so that what wanders on the machine meets all of them.
func Compare(ctx context.Context, o CompareOptions) (rows []Comparison, err error) {
	s, err := o.Open(ctx)
	if err != nil {
		return nil, err
	}
	engine := OpenEngine(s)
	defer func() { _ = engine.Close(context.WithoutCancel(ctx)) }()
	o.Progress("making products")
	most := 1
	for _, n := range o.Products {
		most = max(most, n)
	}
	if err := engine.Products(ctx, most); err != nil {
		return nil, err
	}
	for _, products := range o.Products {
		for _, clients := range o.Clients {
			row := Comparison{Clients: clients, Products: products}
			for round := range o.Rounds {
				o.Progress(fmt.Sprintf("%d clients, %d products, round %d of %d", clients, products, round+1, o.Rounds))
				if err := o.measure(ctx, engine, &row); err != nil {
					return nil, err
				}
			}
			for _, rate := range []*float64{&row.Engine, &row.Obvious, &row.HTTP, &row.Nothing} {
				*rate /= float64(o.Rounds)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func (o *CompareOptions) measure(ctx context.Context, engine *Engine, row *Comparison) error {
	rate, err := Hammer(ctx, row.Clients, row.Products, o.Duration, func(ctx context.Context, _, product int) error { return engine.reserve(ctx, product) })
	if err != nil {
		return fmt.Errorf("the engine: %w", err)
	}
	row.Engine += rate
	other, err := openObvious(ctx, o.Store, row.Clients)
	if err != nil {
		return err
	}
	rate, err = Hammer(ctx, row.Clients, row.Products, o.Duration, func(ctx context.Context, _, product int) error { return other.reserve(ctx, product) })
	other.close()
	if err != nil {
		return fmt.Errorf("the obvious design: %w", err)
	}
	row.Obvious += rate
	for host, sum := range map[string]*float64{o.HTTP: &row.HTTP, o.Nothing: &row.Nothing} {
		if host == "" {
			continue
		}
		if rate, err = throughHTTP(ctx, host, row.Clients, row.Products, o.Duration); err != nil {
			return err
		}
		*sum += rate
	}
	return nil
}

// throughHTTP has clients of a server reserve in a closed loop and returns how many reservations a second there were.
func throughHTTP(ctx context.Context, host string, clients, products int, d time.Duration) (perSecond float64, err error) {
	w := Workload{Name: "holds", Products: products, Lines: 1, Units: plenty}
	result, err := Run(ctx, RunOptions{Host: host, Workload: w, Prefix: "p", Clients: clients, Duration: d})
	if err != nil {
		return 0, err
	}
	if len(result.Errors) > 0 {
		return 0, fmt.Errorf("through HTTP: %v", result.Errors)
	}
	return result.PerSecond(), nil
}

// Share measures servers that share a database, in turn one alone and all at once, each with so many clients, all of them after p0.
func Share(ctx context.Context, hosts []string, clients, rounds int, d time.Duration, progress func(string)) (list []Sharing, err error) {
	for round := range rounds {
		progress(fmt.Sprintf("%d servers on one database, round %d of %d", len(hosts), round+1, rounds))
		s := Sharing{Each: make([]float64, len(hosts))}
		if s.Alone, err = throughHTTP(ctx, hosts[round%len(hosts)], clients, 1, d); err != nil {
			return nil, err
		}
		errs := make([]error, len(hosts))
		var running sync.WaitGroup
		for i, host := range hosts {
			running.Go(func() { s.Each[i], errs[i] = throughHTTP(ctx, host, clients, 1, d) })
		}
		running.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}
