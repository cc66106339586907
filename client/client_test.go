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
	times   []time.Time
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, r.Header.Get("Idempotency-Key"))
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
