package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast/holdfast/client"
)

// script answers requests one after the other, and remembers their keys.
type script struct {
	mu      sync.Mutex
	answers []func() (*http.Response, error)
	keys    []string
	queries []string
	times   []time.Time
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, r.Header.Get("Idempotency-Key"))
	s.queries = append(s.queries, r.URL.RawQuery)
	s.times = append(s.times, time.Now())
	next := s.answers[0]
	s.answers = s.answers[1:]
	return next()
}

func status(code int, body string, headers ...string) func() (*http.Response, error) {
	return func() (*http.Response, error) {
		w := httptest.NewRecorder()
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprint(w, body)
		return w.Result(), nil
	}
}

func lost() (*http.Response, error) { return nil, &net.OpError{Op: "read", Err: errors.New("reset")} }

const reservation = `{"id":"rsv_1","status":"ACTIVE","expiresAt":"2026-03-01T12:00:00.000Z","aMemberOfTomorrow":1}`

func scripted(answers ...func() (*http.Response, error)) (*client.Client, *script) {
	s := &script{answers: answers}
	return client.New("http://shop.test/", client.WithHTTPClient(&http.Client{Transport: s}), client.WithAttempts(4)), s
}

var one = client.NewReservation{Lines: []client.NewLine{{ProductID: "mug", Quantity: 1}}}

// TestRetriesReuseTheKey: a lost answer, an overloaded server and an unknown outcome are retried, with the same key.
func TestRetriesReuseTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := scripted(lost, status(503, `{"code":"overloaded"}`, "Retry-After", "3"), status(504, `{"code":"outcome-unknown"}`), status(201, reservation))
		r, err := c.Reserve(t.Context(), one)
		if err != nil || r.ID != "rsv_1" || r.Status != client.Active {
			t.Fatalf("%+v %v", r, err)
		}
		if len(s.keys) != 4 || s.keys[0] == "" || s.keys[0] != s.keys[3] || s.keys[1] != s.keys[2] {
			t.Errorf("keys %q", s.keys)
		}
		if waited := s.times[2].Sub(s.times[1]); waited < 3*time.Second {
			t.Errorf("waited %v, although Retry-After said 3 s", waited)
		}
	})
}

func TestRefusalsAreNotRetried(t *testing.T) {
	c, s := scripted(status(409, `{"code":"insufficient-stock","detail":"no","shortages":[{"productId":"mug","available":2}],"requestId":"r"}`))
	_, err := c.Reserve(t.Context(), one)
	var problem *client.Error
	if !errors.Is(err, client.InsufficientStock) || errors.Is(err, client.ProductNotFound) || !errors.As(err, &problem) || problem.Shortages[0].Available != 2 || problem.Status != 409 {
		t.Fatalf("%+v", err)
	}
	if len(s.keys) != 1 {
		t.Errorf("%d requests", len(s.keys))
	}
}

func TestAttemptsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := scripted(lost, lost, lost, status(500, "<html>"))
		_, err := c.Confirm(t.Context(), client.NewOrder{ReservationID: "rsv_1"})
		var problem *client.Error
		if !errors.As(err, &problem) || problem.Status != 500 || len(s.keys) != 4 {
			t.Fatalf("%v after %d requests", err, len(s.keys))
		}
	})
}

func TestContextEndsRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c, s := scripted(status(503, `{"code":"not-ready"}`, "Retry-After", "5"), lost)
		if _, err := c.Cancel(ctx, "rsv_1", ""); !errors.Is(err, client.NotReady) || len(s.keys) != 1 {
			t.Fatalf("%v after %d requests", err, len(s.keys))
		}
	})
}

func TestOwnKey(t *testing.T) {
	c, s := scripted(status(201, reservation), status(200, reservation))
	_, err1 := c.Reserve(client.WithKey(t.Context(), `cart "7" \ 1`), one)
	_, err2 := c.Reservation(t.Context(), "rsv_1")
	if err1 != nil || err2 != nil || s.keys[0] != `"cart \"7\" \\ 1"` || s.keys[1] != "" {
		t.Errorf("%q %v %v", s.keys, err1, err2)
	}
}

func TestListsFollowCursors(t *testing.T) {
	c, _ := scripted(status(200, `{"data":[{"id":"a"},{"id":"b"}],"nextCursor":"x"}`), status(200, `{"data":[],"nextCursor":"y"}`), status(200, `{"data":[{"id":"c"}],"nextCursor":null}`))
	var ids []string
	for p, err := range c.Products(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, p.ID)
	}
	if strings.Join(ids, "") != "abc" {
		t.Errorf("%v", ids)
	}
}

// patience is a transport that never answers: each attempt ends as its context says.
type patience struct{ keys []string }

func (p *patience) RoundTrip(r *http.Request) (*http.Response, error) {
	p.keys = append(p.keys, r.Header.Get("Idempotency-Key"))
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestTimeouts: a time-out of one attempt, the HTTP client's or ours, is not the caller's: the call goes on with the same
// key, and when it is given up the error has it.
func TestTimeouts(t *testing.T) {
	for name, own := range map[string]*http.Client{"the client's": {}, "the HTTP client's": {Timeout: time.Second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &patience{}
				own.Transport = p
				c := client.New("http://shop.test", client.WithHTTPClient(own), client.WithAttempts(3))
				_, err := c.Reserve(t.Context(), one)
				var lost *client.Unanswered
				if !errors.As(err, &lost) || len(p.keys) != 3 || p.keys[0] != p.keys[2] || p.keys[0] != `"`+lost.Key+`"` {
					t.Errorf("%v after the keys %q", err, p.keys)
				}
			})
		})
	}
}

// TestLeavingInTheMiddle: a caller whose context ends learns the key of what may have happened.
func TestLeavingInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p := &patience{}
		c := client.New("http://shop.test", client.WithHTTPClient(&http.Client{Transport: p}))
		_, err := c.Reserve(client.WithKey(ctx, "cart-7"), one)
		var lost *client.Unanswered
		if !errors.As(err, &lost) || lost.Key != "cart-7" || !errors.Is(err, context.DeadlineExceeded) || len(p.keys) != 1 {
			t.Errorf("%v after %d attempts", err, len(p.keys))
		}
		if _, err := c.Product(ctx, "mug"); errors.As(err, &lost) {
			t.Errorf("a read has no key: %v", err)
		}
	})
}

// TestRateLimited: 429 is waited for as 503 is.
func TestRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := scripted(status(429, `{"code":"rate-limited"}`, "Retry-After", "2"), status(201, reservation))
		if _, err := c.Reserve(t.Context(), one); err != nil || len(s.keys) != 2 || s.times[1].Sub(s.times[0]) < 2*time.Second {
			t.Errorf("%v after %d requests", err, len(s.keys))
		}
	})
}

// TestRangingTwice: a list that is ranged over again begins anew.
func TestRangingTwice(t *testing.T) {
	first, second := status(200, `{"data":[{"id":"a"}],"nextCursor":"x"}`), status(200, `{"data":[{"id":"b"}],"nextCursor":null}`)
	c, s := scripted(first, second, first, second)
	list := c.Products(t.Context())
	for range 2 {
		var ids []string
		for p, err := range list {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, p.ID)
		}
		if strings.Join(ids, "") != "ab" {
			t.Errorf("%v", ids)
		}
	}
	if s.queries[2] != s.queries[0] {
		t.Errorf("ranging again began with %s", s.queries[2])
	}
}

// TestPartsOfSeconds: a time to hold is never cut, and a wait for events is rounded up.
func TestPartsOfSeconds(t *testing.T) {
	c, s := scripted(status(200, `{"data":[]}`))
	if _, err := c.Extend(t.Context(), "rsv_1", 1500*time.Millisecond); err == nil || !strings.Contains(err.Error(), "1.5s") || len(s.keys) != 0 {
		t.Errorf("%v after %d requests", err, len(s.keys))
	}
	if _, err := c.EventPage(t.Context(), "0", 10, 200*time.Millisecond); err != nil || !strings.Contains(s.queries[0], "wait=1") {
		t.Errorf("%v, asked for %q", err, s.queries)
	}
}
