package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/holdfast/holdfast/client"
)

// together has calls travel in one request behind another one, and returns what was sent.
func together(t *testing.T, wire *transport, calls ...func(*client.Client)) []sent {
	c, release := coalescing(wire)
	var calling sync.WaitGroup
	calling.Go(func() { _, _ = c.Reserve(t.Context(), one) })
	synctest.Wait()
	for _, call := range calls {
		calling.Go(func() { call(c) })
		synctest.Wait()
	}
	release()
	calling.Wait()
	synctest.Wait() // nothing is under way any more
	return wire.requests
}

// everyOne answers each operation alike.
func everyOne(r sent, answer string) (int, string) {
	if r.path != "/v1/batch" {
		return 201, held("alone")
	}
	return 200, `{"results":[` + strings.TrimSuffix(strings.Repeat(answer+",", len(r.Operations)), ",") + `]}`
}

// TestCoalescedKeys: a key means the same in a batch as in a request of its own, so that what is sent again alone is not
// done twice. The server reads the key of an operation as it reads the header.
func TestCoalescedKeys(t *testing.T) {
	for _, key := range []string{`"order-7"`, ` order 7 `, `"`} {
		synctest.Test(t, func(t *testing.T) {
			wire := &transport{serve: func(n int, r sent) (int, string) {
				if n == 1 {
					return 503, `{"code":"outcome-unknown"}` // the batch may have been carried out
				}
				return everyOne(r, result(201, held("x")))
			}}
			alone := &transport{serve: func(int, sent) (int, string) { return 201, held("x") }}
			if _, err := clientOf(alone).Reserve(client.WithKey(t.Context(), key), one); err != nil {
				t.Fatal(err)
			}
			requests := together(t, wire,
				func(c *client.Client) { _, _ = c.Reserve(client.WithKey(t.Context(), key), one) },
				func(c *client.Client) { _, _ = c.Reserve(t.Context(), one) })
			if got, want := requests[1].Operations[0].IdempotencyKey, alone.requests[0].key; got != want {
				t.Errorf("the key of the operation reads %s, the header %s", got, want)
			}
		})
	}
}

func clientOf(t *transport) *client.Client {
	return client.New("http://shop.test", client.WithHTTPClient(&http.Client{Transport: t}), client.WithAttempts(1))
}

// TestCoalescedIDs: what a caller passes as an id never becomes a reference to what another caller's operation made.
func TestCoalescedIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &transport{serve: func(_ int, r sent) (int, string) { return everyOne(r, result(200, held("x"))) }}
		for _, r := range together(t, wire,
			func(c *client.Client) { _, _ = c.Reserve(t.Context(), one) },
			func(c *client.Client) { _, _ = c.Cancel(t.Context(), "#0", "") },
			func(c *client.Client) { _, _ = c.Confirm(t.Context(), client.NewOrder{ReservationID: "#0"}) },
		) {
			for i, o := range r.Operations {
				if strings.HasPrefix(o.ID, "#") || strings.Contains(string(o.Body), `"#0"`) {
					t.Errorf("operation %d of another caller's batch: %s %s %s", i, o.Operation, o.ID, o.Body)
				}
			}
		}
	})
}

// TestCoalescedLeftBefore: a change whose caller left before it was sent is not sent at all, as without coalescing.
func TestCoalescedLeftBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &transport{serve: func(_ int, r sent) (int, string) { return everyOne(r, result(201, held("x"))) }}
		ctx, leave := context.WithCancel(t.Context())
		leave()
		requests := together(t, wire, func(c *client.Client) {
			if _, err := c.Reserve(ctx, one); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		if len(requests) != 1 {
			t.Errorf("%d requests: a hold for somebody who left before it was sent", len(requests))
		}
	})
}

// TestCoalescedBehindAProxy: a batch that something before the server finds too large, or that a server of version 1.0
// does not know, is sent in smaller parts: each call means the same as without coalescing.
func TestCoalescedBehindAProxy(t *testing.T) {
	for _, answer := range []struct {
		status int
		body   string
	}{{413, "<html>too large</html>"}, {404, `{"code":"not-found"}`}} {
		t.Run(fmt.Sprint(answer.status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wire := &transport{serve: func(_ int, r sent) (int, string) {
					if r.path == "/v1/batch" {
						return answer.status, answer.body
					}
					return 201, held("alone")
				}}
				call := func(c *client.Client) {
					if _, err := c.Reserve(t.Context(), one); err != nil {
						t.Errorf("alone it succeeds: %v", err)
					}
				}
				together(t, wire, call, call)
			})
		})
	}
}
