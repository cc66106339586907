package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/holdfast/holdfast/client"
)

// sent is a request as a fake server sees it: what one operation alone or a batch says.
type sent struct {
	path, key  string
	Atomic     bool `json:"atomic"`
	Operations []struct {
		Operation      string          `json:"operation"`
		ID             string          `json:"id"`
		IdempotencyKey string          `json:"idempotencyKey"`
		Body           json.RawMessage `json:"body"`
	} `json:"operations"`
}

// transport answers requests by a function, and remembers them.
type transport struct {
	mu       sync.Mutex
	requests []sent
	serve    func(n int, r sent) (status int, body string) // n counts requests from 0
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	request := sent{path: r.URL.Path, key: r.Header.Get("Idempotency-Key")}
	if r.URL.Path == "/v1/batch" {
		if err := json.Unmarshal(content, &request); err != nil {
			return nil, err
		}
	}
	t.mu.Lock()
	n := len(t.requests)
	t.requests = append(t.requests, request)
	t.mu.Unlock()
	status, body := t.serve(n, request)
	w := httptest.NewRecorder()
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
	return w.Result(), nil
}

func held(id string) string { return fmt.Sprintf(`{"id":%q,"status":"ACTIVE"}`, id) }

func result(status int, body string) string {
	return fmt.Sprintf(`{"status":%d,"body":%s}`, status, body)
}

// coalescing is a client whose first request waits until release is called.
func coalescing(t *transport) (c *client.Client, release func()) {
	gate := make(chan struct{})
	serve := t.serve
	t.serve = func(n int, r sent) (int, string) {
		if n == 0 {
			<-gate
			return 201, held("rsv_0")
		}
		return serve(n, r)
	}
	c = client.New("http://shop.test", client.WithHTTPClient(&http.Client{Transport: t}), client.WithAttempts(3), client.Coalesce())
	return c, func() { close(gate) }
}

func order(n int) client.NewOrder { return client.NewOrder{ReservationID: fmt.Sprint("rsv_", n)} }

// TestCoalesce: what is called while a request is under way travels together, each with its own key, and each caller has
// his own answer.
func TestCoalesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &transport{serve: func(_ int, r sent) (int, string) {
			results := ""
			for i, o := range r.Operations {
				if i > 0 {
					results += ","
				}
				if o.Operation == "cancelOrder" {
					results += result(409, `{"code":"order-fulfilled","detail":"no"}`)
				} else {
					results += result(201, held("rsv_of_"+strings.Trim(o.IdempotencyKey, `"`)))
				}
			}
			return 200, `{"results":[` + results + `]}`
		}}
		c, release := coalescing(wire)
		var calling sync.WaitGroup
		calling.Go(func() {
			if r, err := c.Reserve(t.Context(), one); err != nil || r.ID != "rsv_0" {
				t.Error(r, err)
			}
		})
		synctest.Wait()
		for i := range 50 {
			calling.Go(func() {
				key := fmt.Sprint("k", i)
				r, err := c.Reserve(client.WithKey(t.Context(), key), one)
				if err != nil || r.ID != "rsv_of_"+key {
					t.Error(r, err)
				}
			})
		}
		calling.Go(func() {
			if _, err := c.CancelOrder(t.Context(), "ord_1", ""); !errors.Is(err, client.OrderFulfilled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		release()
		calling.Wait()
		if len(wire.requests) != 2 || wire.requests[0].path != "/v1/reservations" || len(wire.requests[1].Operations) != 51 {
			t.Errorf("%d requests, the second of %d operations", len(wire.requests), len(wire.requests[1].Operations))
		}
	})
}

// TestCoalesceRetries: operations are sent again with the keys that they had, those alone that need it.
func TestCoalesceRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &transport{serve: func(n int, r sent) (int, string) {
			switch {
			case n == 1:
				return 503, `{"code":"overloaded"}`
			case n == 2:
				return 200, `{"results":[` + result(201, held("a")) + `,` + result(500, `{"code":"internal"}`) + `]}`
			default:
				return 201, held("b")
			}
		}}
		c, release := coalescing(wire)
		var calling sync.WaitGroup
		for i := range 3 {
			calling.Go(func() {
				if _, err := c.Reserve(client.WithKey(t.Context(), fmt.Sprint("k", i)), one); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait() // so that they come in this order
		}
		release()
		calling.Wait()
		if len(wire.requests) != 4 {
			t.Fatalf("%d requests", len(wire.requests))
		}
		for _, n := range []int{1, 2} {
			if o := wire.requests[n].Operations; len(o) != 2 || o[0].IdempotencyKey != `"k1"` || o[1].IdempotencyKey != `"k2"` {
				t.Errorf("request %d: %+v", n, o)
			}
		}
		if wire.requests[3].key != `"k2"` {
			t.Errorf("the last one has the key %s", wire.requests[3].key)
		}
	})
}

// TestCoalesceApart: a mistake in one operation is its caller's alone, with pointers into his own body.
func TestCoalesceApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &transport{serve: func(n int, r sent) (int, string) {
			if n == 1 {
				return 400, `{"code":"invalid-request","errors":[{"pointer":"/operations/0/body/lines/0/quantity","detail":"must be from 1 to 9"}]}`
			}
			return 201, held("b")
		}}
		c, release := coalescing(wire)
		var calling sync.WaitGroup
		calling.Go(func() { _, _ = c.Reserve(t.Context(), one) })
		synctest.Wait()
		calling.Go(func() {
			_, err := c.Reserve(t.Context(), client.NewReservation{Lines: []client.NewLine{{ProductID: "mug"}}})
			var problem *client.Error
			if !errors.As(err, &problem) || problem.Code != client.InvalidRequest || len(problem.Errors) != 1 || problem.Errors[0].Pointer != "/lines/0/quantity" {
				t.Errorf("%+v", err)
			}
		})
		synctest.Wait()
		calling.Go(func() {
			if r, err := c.Reserve(t.Context(), one); err != nil || r.ID != "b" {
				t.Error(r, err)
			}
		})
		synctest.Wait()
		release()
		calling.Wait()
	})
}

// TestCoalesceTooLarge: what is too large together is sent in parts.
func TestCoalesceTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &transport{serve: func(_ int, r sent) (int, string) {
			switch len(r.Operations) {
			case 4, 3:
				return 409, `{"code":"batch-too-large"}`
			case 2:
				return 200, `{"results":[` + result(201, held("x")) + `,` + result(201, held("x")) + `]}`
			default:
				return 201, held("x")
			}
		}}
		c, release := coalescing(wire)
		var calling sync.WaitGroup
		for range 5 {
			calling.Go(func() {
				if _, err := c.Reserve(t.Context(), one); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		release()
		calling.Wait()
		if len(wire.requests) != 4 { // one alone, four together, two and two
			t.Errorf("%d requests", len(wire.requests))
		}
	})
}

// TestCoalesceLeaving: a caller whose context ends while his change waits has it not sent; the others are not disturbed.
func TestCoalesceLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &transport{serve: func(int, sent) (int, string) { return 201, held("y") }}
		c, release := coalescing(wire)
		var calling sync.WaitGroup
		calling.Go(func() { _, _ = c.Reserve(t.Context(), one) })
		synctest.Wait()
		ctx, leave := context.WithCancel(t.Context())
		calling.Go(func() {
			if _, err := c.Reserve(ctx, one); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		calling.Go(func() {
			if r, err := c.Reserve(t.Context(), one); err != nil || r.ID != "y" {
				t.Error(r, err)
			}
		})
		synctest.Wait()
		leave()
		synctest.Wait() // he has left before anything more is sent
		release()
		calling.Wait()
		if len(wire.requests) != 2 || wire.requests[1].path != "/v1/reservations" {
			t.Errorf("sent %+v", wire.requests)
		}
	})
}

// TestBatch: operations can be about what earlier ones make, and each has its own answer.
func TestBatch(t *testing.T) {
	wire := &transport{serve: func(_ int, r sent) (int, string) {
		return 200, `{"results":[` + result(201, held("rsv_1")) + `,` + result(201, `{"id":"ord_1"}`) + `,` + result(404, `{"code":"order-not-found"}`) + `]}`
	}}
	c := client.New("http://shop.test", client.WithHTTPClient(&http.Client{Transport: wire}))
	b := client.NewBatch(false)
	hold := b.Reserve(one)
	confirmed := b.Confirm(client.NewOrder{ReservationID: hold.Ref()})
	shipped := b.Fulfill("ord_none")
	if _, err := hold.Get(); err == nil {
		t.Error("there is an answer before it was asked for")
	}
	if err := c.Send(client.WithKey(t.Context(), "all"), b); err != nil {
		t.Fatal(err)
	}
	if r, err := hold.Get(); err != nil || r.ID != "rsv_1" {
		t.Error(r, err)
	}
	if o, err := confirmed.Get(); err != nil || o.ID != "ord_1" {
		t.Error(o, err)
	}
	if _, err := shipped.Get(); !errors.Is(err, client.OrderNotFound) {
		t.Error(err)
	}
	request := wire.requests[0]
	if request.key != `"all"` || request.Atomic || string(request.Operations[1].Body) != `{"reservationId":"#0"}` || request.Operations[2].ID != "ord_none" {
		t.Errorf("sent %+v", request)
	}
}

// TestAtomicBatchRefused: the error says that the batch was refused, and the operation why.
func TestAtomicBatchRefused(t *testing.T) {
	wire := &transport{serve: func(int, sent) (int, string) {
		return 409, `{"code":"batch-refused","results":[` + result(201, held("x")) + `,` + result(409, `{"code":"insufficient-stock"}`) + `,null]}`
	}}
	c := client.New("http://shop.test", client.WithHTTPClient(&http.Client{Transport: wire}))
	b := client.NewBatch(true)
	first, second, third := b.Reserve(one), b.Reserve(one), b.Confirm(order(1))
	if err := c.Send(t.Context(), b); !errors.Is(err, client.BatchRefused) {
		t.Fatal(err)
	}
	if !wire.requests[0].Atomic {
		t.Error("it was not sent as an atomic one")
	}
	if r, err := first.Get(); err != nil || r.ID != "x" {
		t.Error(r, err)
	}
	if _, err := second.Get(); !errors.Is(err, client.InsufficientStock) {
		t.Error(err)
	}
	if _, err := third.Get(); err == nil {
		t.Error("what was not decided has an answer")
	}
}
