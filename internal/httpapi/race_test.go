package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/httpapi"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/load"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// client is the public client, without retries: a test wants to see the first answer.
func (h *harness) client() *client.Client {
	return client.New(h.url, client.WithAttempts(1))
}

// together runs n calls at the same moment.
func together(n int, call func(i int)) {
	var all sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-gate
			call(i)
		})
	}
	close(gate)
	all.Wait()
}

// oneSeat asks for a hold of one unit.
func oneSeat() client.NewReservation {
	return client.NewReservation{Lines: []client.NewLine{{ProductID: "seat", Quantity: 1}}}
}

// TestFoundingSale: 1,000 buyers, 100 units, through real HTTP: exactly 100 are sold, 900 are told that there is not
// enough.
func TestFoundingSale(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("seat", 100)
		result := load.NewSale("seat", 1000).Run(h.Context(), h.url)
		if len(result.Orders) != 100 || result.Refused != 900 || len(result.Failed) != 0 {
			h.Fatalf("%d sold, %d refused, %v", len(result.Orders), result.Refused, result.Failed)
		}
		missing, stored, err := result.Missing(h.Context(), h.client())
		if err != nil || stored != 100 || missing != nil {
			h.Fatalf("stored %d, missing %v: %v", stored, missing, err)
		}
		h.stock("seat", 0, 0, 100)
	})
}

// TestShortagesAreNamed: of simultaneous buyers, every one who is refused is told what is short.
func TestShortagesAreNamed(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("seat", 10)
		var held, named atomic.Int64
		together(100, func(int) {
			_, err := h.client().Reserve(h.Context(), oneSeat())
			var problem *client.Error
			switch {
			case err == nil:
				held.Add(1)
			case errors.As(err, &problem) && problem.Status == 409 && len(problem.Shortages) == 1 &&
				problem.Shortages[0].ProductID == "seat" && problem.Shortages[0].Available == 0:
				named.Add(1)
			default:
				h.Error(err)
			}
		})
		if held.Load() != 10 || named.Load() != 90 {
			h.Errorf("%d held, %d refused", held.Load(), named.Load())
		}
	})
}

// TestOppositeCarts: carts that want two products in opposite orders neither block each other nor split.
func TestOppositeCarts(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("a", 50)
		h.product("b", 60)
		var held atomic.Int64
		together(200, func(i int) {
			lines := []client.NewLine{{ProductID: "a", Quantity: 1}, {ProductID: "b", Quantity: 1}}
			if i%2 == 1 {
				lines[0], lines[1] = lines[1], lines[0]
			}
			_, err := h.client().Reserve(h.Context(), client.NewReservation{Lines: lines})
			if err == nil {
				held.Add(1)
			} else if !errors.Is(err, client.InsufficientStock) {
				h.Error(err)
			}
		})
		if held.Load() != 50 {
			h.Errorf("%d carts", held.Load())
		}
		h.stock("a", 0, 50, 0)
		h.stock("b", 10, 50, 0)
	})
}

// TestConfirmRacesExpiry: at the deadline a hold is confirmed or expired, never both, and everybody is told the same.
func TestConfirmRacesExpiry(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("seat", 40)
		holds := make([]string, 40)
		for i := range holds {
			holds[i] = h.hold("seat", 1, 5).id()
		}
		h.Advance(5*time.Second - time.Millisecond)
		var confirmed atomic.Int64
		together(121, func(i int) {
			switch id := holds[i%40]; {
			case i == 120:
				h.Advance(time.Millisecond)
			case i < 40:
				_, err := h.client().Confirm(h.Context(), client.NewOrder{ReservationID: id})
				if err == nil {
					confirmed.Add(1)
				} else if !errors.Is(err, client.ReservationExpired) {
					h.Error(err)
				}
			default:
				if _, err := h.client().Reservation(h.Context(), id); err != nil {
					h.Error(err)
				}
			}
		})
		orders := h.pages("/v1/orders?", 100)
		if n := int(confirmed.Load()); n != len(orders) {
			h.Errorf("%d confirmed, %d orders", n, len(orders))
		}
		if expired := h.pages("/v1/reservations?status=EXPIRED&", 100); len(expired)+len(orders) != 40 {
			h.Errorf("%d expired, %d orders", len(expired), len(orders))
		}
		h.stock("seat", 40-float64(len(orders)), 0, float64(len(orders)))
	})
}

// TestConfirmRacesCancel: exactly one of them wins, and the other is told which.
func TestConfirmRacesCancel(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("seat", 30)
		for range 30 {
			id := h.hold("seat", 1, 60).id()
			var confirmed, cancelled error
			together(2, func(i int) {
				if i == 0 {
					_, confirmed = h.client().Confirm(h.Context(), client.NewOrder{ReservationID: id})
				} else {
					_, cancelled = h.client().Cancel(h.Context(), id, "")
				}
			})
			switch {
			case confirmed == nil && errors.Is(cancelled, client.ReservationConfirmed):
			case cancelled == nil && errors.Is(confirmed, client.ReservationCancelled):
			default:
				h.Errorf("confirm: %v; cancel: %v", confirmed, cancelled)
			}
		}
	})
}

// TestFortyConfirms: forty confirms at once give one order, forty times.
func TestFortyConfirms(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("seat", 1)
		id := h.hold("seat", 1, 60).id()
		var ids sync.Map
		together(40, func(int) {
			o, err := h.client().Confirm(h.Context(), client.NewOrder{ReservationID: id, Reference: "pay"})
			if err != nil {
				h.Error(err)
				return
			}
			ids.Store(o.ID, true)
		})
		if n := length(&ids); n != 1 {
			h.Errorf("%d orders", n)
		}
		h.stock("seat", 0, 0, 1)
	})
}

func length(m *sync.Map) (n int) {
	m.Range(func(any, any) bool { n++; return true })
	return n
}

// TestFortyUsesOfOneKey: forty requests with one key have one effect and one answer.
func TestFortyUsesOfOneKey(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("seat", 100)
		var answers sync.Map
		var replayed atomic.Int64
		together(40, func(int) {
			a := h.try("POST", "/v1/reservations", `{"productId":"seat","quantity":1}`, "Idempotency-Key", "one")
			if a.StatusCode != 201 {
				h.Errorf("%d %s", a.StatusCode, a.body)
			}
			if a.Header.Get("Idempotent-Replayed") == "true" {
				replayed.Add(1)
			}
			answers.Store(string(a.body), true)
		})
		if n := length(&answers); n != 1 || replayed.Load() != 39 {
			h.Errorf("%d answers, %d replayed", n, replayed.Load())
		}
		h.stock("seat", 99, 1, 0)
	})
}

// TestVanishingClients: clients that hang up leave no half effects: the stock is what the reservations say.
func TestVanishingClients(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("seat", 1000)
		transport := &http.Transport{DisableKeepAlives: true}
		defer transport.CloseIdleConnections()
		c := client.New(h.url, client.WithAttempts(1), client.WithHTTPClient(&http.Client{Transport: transport}))
		together(200, func(i int) {
			ctx, cancel := context.WithTimeout(h.Context(), time.Duration(i)*50*time.Microsecond)
			defer cancel()
			_, _ = c.Reserve(ctx, client.NewReservation{Lines: []client.NewLine{{ProductID: "seat", Quantity: 1}}})
		})
		// A request may still be under way after its client has gone; a command behind it in the queue comes after it.
		h.request("POST", "/v1/products/seat/adjustments", `{"delta":1,"reason":"barrier"}`, 201)
		h.verify()
	})
}

// stuckStore is a store whose commits wait until it is freed.
type stuckStore struct {
	store.Store
	entered chan struct{} // gets a value when the first commit begins
	free    chan struct{}
}

func (s *stuckStore) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	select {
	case s.entered <- struct{}{}:
	default:
	}
	<-s.free
	return s.Store.Commit(ctx, keys, decide)
}

// TestOverload: a full queue answers 503 with Retry-After, at once and without effect; a request that waits too long
// in the queue is answered 503, one that was taken 504.
func TestOverload(t *testing.T) {
	clock := storetest.NewClock()
	s := &stuckStore{memory.Open(memory.Options{Now: clock.Now}), make(chan struct{}, 1), make(chan struct{})}
	h := newHarness(t, clock, s, httpapi.Options{RequestTimeout: 300 * time.Millisecond}, engine.Options{QueueLimit: 1})
	codes := make(chan string, 2)
	post := func(i int) {
		a := h.try("POST", "/v1/products", fmt.Sprintf(`{"id":"p%d","name":"n","price":{"amount":1,"currency":"EUR"}}`, i))
		codes <- fmt.Sprint(a.StatusCode, " ", a.code(), " ", a.Header.Get("Retry-After"))
	}
	go post(1)
	<-s.entered
	go post(2)
	for h.engine.Depth() == 0 {
		runtime.Gosched()
	}
	if a := h.request(
		"POST", "/v1/products", `{"id":"p3","name":"n","price":{"amount":1,"currency":"EUR"}}`, 503,
	); a.code() != "overloaded" || a.Header.Get("Retry-After") != "1" {
		t.Errorf("%s", a.body)
	}
	got := map[string]bool{<-codes: true, <-codes: true}
	if !got["504 outcome-unknown "] || !got["503 overloaded 1"] {
		t.Errorf("%v", got)
	}
	close(s.free)
	for h.engine.Depth() != 0 { // a command that left keeps its place until the committer comes by
		runtime.Gosched()
	}
	h.request("POST", "/v1/products", `{"id":"p4","name":"n","price":{"amount":1,"currency":"EUR"}}`, 201)
	if ids := h.pages("/v1/products?", 10); fmt.Sprint(ids) != "[p1 p4]" {
		t.Errorf("%v", ids)
	}
}

// TestStoreAway: while the store cannot commit, requests get 503 without effect, /readyz too, and all is well once it
// is back.
func TestStoreAway(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 5)
		h.Advance(-time.Hour)
		if a := h.request(
			"POST", "/v1/reservations", `{"productId":"mug","quantity":1}`, 503,
		); a.code() != "not-ready" || a.Header.Get("Retry-After") == "" {
			h.Errorf("%s", a.body)
		}
		h.request("GET", "/readyz", "", 503)
		h.request("GET", "/livez", "", 200)
		h.request("GET", "/v1/products/mug", "", 200)
		h.Advance(time.Hour)
		h.request("GET", "/readyz", "", 200)
		h.stock("mug", 5, 0, 0)
	})
}
