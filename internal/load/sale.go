package load

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/client"
)

// Sale is many buyers who want one unit each of one product, all at the same moment, and pay at once for what they get.
type Sale struct {
	ProductID string
	Buyers    int

	transport countingTransport
	answered  atomic.Int64
	mu        sync.Mutex
	result    SaleResult
}

// attempts is how often a buyer sends a request before giving up: it outlasts a restart.
const attempts = 40

// SaleResult is what the buyers were told.
type SaleResult struct {
	Orders    map[string]string // order id by reservation id, as acknowledged
	Refused   int               // told that there is not enough stock
	Failed    []error           // told anything else
	Latencies []time.Duration   // of each hold, from the click to the answer, retries included; sorted
	Repeated  int64             // requests that were sent again
}

// NewSale prepares a sale.
func NewSale(productID string, buyers int) *Sale {
	return &Sale{ProductID: productID, Buyers: buyers, result: SaleResult{Orders: map[string]string{}}}
}

// Answered is how many buyers have had an answer to their hold.
func (s *Sale) Answered() int { return int(s.answered.Load()) }

// Sold is how many orders were acknowledged.
func (s *Sale) Sold() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.result.Orders)
}

// Run lets all buyers click at once and waits until each has an answer.
func (s *Sale) Run(ctx context.Context, url string) *SaleResult {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = s.Buyers
	transport.MaxIdleConns = s.Buyers
	defer transport.CloseIdleConnections()
	s.transport.next = transport
	h := &http.Client{Transport: &s.transport, Timeout: 20 * time.Second}
	c := client.New(url, client.WithAttempts(attempts), client.WithHTTPClient(h))
	var buyers sync.WaitGroup
	gate := make(chan struct{})
	for i := range s.Buyers {
		buyers.Go(func() {
			<-gate
			s.buy(ctx, c, fmt.Sprintf("buyer-%d", i+1))
		})
	}
	close(gate)
	buyers.Wait()
	s.result.Repeated = s.transport.requests.Load() - s.transport.distinct.Load()
	slices.Sort(s.result.Latencies)
	return &s.result
}

func (s *Sale) buy(ctx context.Context, c *client.Client, buyer string) {
	start := time.Now()
	s.transport.distinct.Add(1)
	r, err := c.Reserve(ctx, client.NewReservation{
		Lines: []client.NewLine{{ProductID: s.ProductID, Quantity: 1}}, CustomerID: buyer,
	})
	took := time.Since(start)
	s.answered.Add(1)
	var order *client.Order
	if err == nil {
		s.transport.distinct.Add(1)
		order, err = c.Confirm(ctx, client.NewOrder{ReservationID: r.ID, Reference: "payment-of-" + buyer})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Latencies = append(s.result.Latencies, took)
	switch {
	case err == nil:
		s.result.Orders[r.ID] = order.ID
	case errors.Is(err, client.InsufficientStock):
		s.result.Refused++
	default:
		s.result.Failed = append(s.result.Failed, fmt.Errorf("%s: %w", buyer, err))
	}
}

// Percentile is the latency that a share of the buyers (0 to 1) did not wait longer than.
func (r *SaleResult) Percentile(share float64) time.Duration {
	if len(r.Latencies) == 0 {
		return 0
	}
	return r.Latencies[min(int(share*float64(len(r.Latencies))), len(r.Latencies)-1)]
}

// Missing returns the acknowledged orders that the server does not have as they were acknowledged, and how many orders it
// has.
func (r *SaleResult) Missing(ctx context.Context, c *client.Client) (missing []string, stored int, err error) {
	have := map[string]string{}
	for order, err := range c.Orders(ctx, client.OrderFilter{}) {
		if err != nil {
			return nil, 0, err
		}
		have[order.ReservationID] = order.ID
	}
	for reservation, order := range r.Orders {
		if have[reservation] != order {
			missing = append(missing, order)
		}
	}
	return missing, len(have), nil
}

// countingTransport counts what is really sent.
type countingTransport struct {
	next               http.RoundTripper
	requests, distinct atomic.Int64
}

// RoundTrip implements [http.RoundTripper].
func (t *countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.requests.Add(1)
	return t.next.RoundTrip(r)
}
