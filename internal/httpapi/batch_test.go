package httpapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/store/storetest"
)

func (h *harness) batch(body string, status int, headers ...string) *answer {
	h.Helper()
	return h.request("POST", "/v1/batch", body, status, headers...)
}

// statuses are those of the results, in order; 0 for null.
func (a *answer) statuses() string {
	results, _ := a.at("results").([]any)
	var list []string
	for _, r := range results {
		result, _ := r.(map[string]any)
		status, _ := result["status"].(float64)
		list = append(list, fmt.Sprint(status))
	}
	return strings.Join(list, " ")
}

const mugHold = `{"operation":"createReservation","body":{"productId":"mug","quantity":%d}}`

// TestBatch: each operation stands for itself, later ones see earlier ones, and one can be about what another makes.
func TestBatch(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 10)
		a := h.batch(fmt.Sprintf(`{"operations":[`+mugHold+`,`+mugHold+`,
			{"operation":"createOrder","body":{"reservationId":"#0","reference":"pay-1"}},
			{"operation":"fulfillOrder","id":"#2"},
			{"operation":"createOrder","body":{"reservationId":"#1"}},
			{"operation":"cancelOrder","id":"#0"},
			{"operation":"adjustStock","id":"mug","body":{"delta":5,"reason":"found"}},
			{"operation":"createProduct","body":{"id":"cap","name":"Cap","price":{"amount":1,"currency":"EUR"},"totalStock":3}},
			{"operation":"updateProduct","id":"#7","body":{"name":"Hat"}},
			{"operation":"createReservation","body":{"lines":[{"productId":"mug","quantity":1},{"productId":"none","quantity":1}]}},
			{"operation":"extendReservation","id":"rsv_nothing","body":{"ttlSeconds":60}}]}`, 4, 7), 200)
		if got := a.statuses(); got != "201 409 201 200 404 404 201 201 200 404 404" {
			h.Fatalf("statuses %s: %s", got, a.body)
		}
		if a.at("results.1.body.shortages.0.available") != 6.0 || a.at("results.1.body.requestId") != a.Header.Get("Request-Id") {
			h.Errorf("the refused hold: %v", a.at("results.1.body"))
		}
		if a.at("results.3.body.status") != "FULFILLED" || a.at("results.8.body.name") != "Hat" {
			h.Errorf("about what others made: %v, %v", a.at("results.3.body"), a.at("results.8.body"))
		}
		if a.at("results.9.body.errors.0.pointer") != "/lines/1/productId" {
			h.Errorf("pointers are those of the operation's own body: %v", a.at("results.9.body"))
		}
		h.stock("mug", 11, 0, 0)
		if seq := h.request("GET", "/v1/events?limit=1000", "", 200).at("head"); a.Header.Get("Holdfast-Sequence") != seq {
			h.Errorf("Holdfast-Sequence %s, the feed ends at %v", a.Header.Get("Holdfast-Sequence"), seq)
		}
	})
}

// TestAtomicBatch: all or none.
func TestAtomicBatch(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 10)
		h.product("cap", 1)
		head := h.request("GET", "/v1/events?limit=1000", "", 200).at("head")
		body := `{"atomic":true,"operations":[` + fmt.Sprintf(mugHold, 4) + `,{"operation":"createOrder","body":{"reservationId":"#0"}},
			{"operation":"createReservation","body":{"productId":"cap","quantity":%d}},{"operation":"fulfillOrder","id":"#1"}]}`
		a := h.batch(fmt.Sprintf(body, 2), 409, "Idempotency-Key", "all")
		if a.code() != "batch-refused" || a.statuses() != "201 201 409 0" || a.at("results.2.body.code") != "insufficient-stock" {
			h.Fatalf("%s", a.body)
		}
		h.stock("mug", 10, 0, 0)
		if now := h.request("GET", "/v1/events?limit=1000", "", 200).at("head"); now != head {
			h.Errorf("a batch that was refused left events: %v, then %v", head, now)
		}
		h.request("GET", "/v1/reservations/"+a.at("results.0.body.id").(string), "", 404)

		a = h.batch(fmt.Sprintf(body, 1), 200, "Idempotency-Key", "all") // a refusal left the key free
		if a.statuses() != "201 201 201 200" {
			h.Fatalf("%s", a.body)
		}
		h.stock("mug", 6, 0, 0)
		h.stock("cap", 0, 1, 0)
	})
}

// TestBatchKeys: the batch's key covers the whole answer, refusals included; an operation's key is that of a single
// request, in both directions.
func TestBatchKeys(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 10)
		single := h.request("POST", "/v1/reservations", `{"productId":"mug","quantity":1}`, 201, "Idempotency-Key", "one")
		body := `{"operations":[{"operation":"createReservation","idempotencyKey":"one","body":{"productId":"mug","quantity":1}},
			{"operation":"createOrder","idempotencyKey":"two","body":{"reservationId":"#0"}},
			{"operation":"createReservation","idempotencyKey":"one","body":{"productId":"mug","quantity":2}},
			` + fmt.Sprintf(mugHold, 99) + `]}`
		first := h.batch(body, 200, "Idempotency-Key", "batch")
		if first.statuses() != "201 201 422 409" || first.at("results.0.body.id") != single.id() {
			h.Fatalf("%s", first.body)
		}
		again := h.batch(body, 200, "Idempotency-Key", "batch")
		if string(again.body) != string(first.body) || again.Header.Get("Idempotent-Replayed") != "true" {
			h.Errorf("first\n%s\nthen\n%s", first.body, again.body)
		}
		h.batch(strings.Replace(body, "99", "98", 1), 422, "Idempotency-Key", "batch")
		h.stock("mug", 9, 0, 1)

		order := h.request("POST", "/v1/orders", `{"reservationId":"#0"}`, 201, "Idempotency-Key", "two") // replayed as it was sent
		if order.at("reservationId") != single.id() || order.Header.Get("Idempotent-Replayed") != "true" {
			h.Errorf("%s", order.body)
		}
		cancelled := h.batch(`{"operations":[{"operation":"cancelOrder","id":"`+order.id()+`","idempotencyKey":"three"}]}`, 200)
		if cancelled.statuses() != "200" {
			h.Fatalf("%s", cancelled.body)
		}
		replayed := h.request("POST", "/v1/orders/"+order.id()+"/cancel", "", 200, "Idempotency-Key", `"three"`)
		if replayed.Header.Get("Idempotent-Replayed") != "true" {
			h.Error("a single request with the key of an operation was carried out again")
		}
	})
}

// TestBadBatch: everything that can be seen without the store is said first and at once, and nothing happens.
func TestBadBatch(t *testing.T) {
	clock := storetest.NewClock()
	h := newMemoryHarness(t, clock)
	h.product("mug", 10)
	for _, c := range []struct{ name, body, pointers string }{
		{"nothing", `{}`, "/operations"},
		{"none", `{"operations":[]}`, "/operations"},
		{"too many", `{"operations":[` + strings.Repeat(`{"operation":"fulfillOrder"},`, 1000) + `{"operation":"fulfillOrder"}]}`, "/operations"},
		{"a read", `{"operations":[{"operation":"getProduct","id":"mug"}]}`, "/operations/0/operation"},
		{"a batch", `{"operations":[{"operation":"batch","body":{}}]}`, "/operations/0/operation"},
		{"no name", `{"operations":[{"body":{}}]}`, "/operations/0/operation"},
		{"an id too few", `{"operations":[{"operation":"fulfillOrder"}]}`, "/operations/0/id"},
		{"an id too many", `{"operations":[{"operation":"createOrder","id":"x","body":{"reservationId":"y"}}]}`, "/operations/0/id"},
		{"an empty id", `{"operations":[{"operation":"fulfillOrder","id":""}]}`, "/operations/0/id"},
		{"itself", `{"operations":[{"operation":"fulfillOrder","id":"#0"}]}`, "/operations/0/id"},
		{"a later one", `{"operations":[{"operation":"createOrder","body":{"reservationId":"#1"}},` + fmt.Sprintf(mugHold, 1) + `]}`, "/operations/0/body/reservationId"},
		{"no number", `{"operations":[` + fmt.Sprintf(mugHold, 1) + `,{"operation":"cancelReservation","id":"#x"}]}`, "/operations/1/id"},
		{"no body", `{"operations":[{"operation":"createOrder"},{"operation":"createOrder","body":null}]}`, "/operations/0/body /operations/1/body"},
		{"a body of another kind", `{"operations":[{"operation":"createOrder","body":[]}]}`, "/operations/0/body"},
		{"a bad key", `{"operations":[{"operation":"fulfillOrder","id":"x","idempotencyKey":""}]}`, "/operations/0/idempotencyKey"},
		{"unknown members", `{"operations":[{"operation":"fulfillOrder","id":"x","priority":1}]}`, "/operations/0/priority"},
		{
			"several", `{"operations":[` + fmt.Sprintf(mugHold, 0) + `,{"operation":"adjustStock","id":"mug","body":{"delta":0}}]}`,
			"/operations/0/body/quantity /operations/1/body/reason /operations/1/body/delta",
		},
	} {
		a := h.batch(c.body, 400)
		var list []string
		for _, e := range a.at("errors").([]any) {
			pointer, _ := e.(map[string]any)["pointer"].(string)
			list = append(list, pointer)
		}
		if got := strings.Join(list, " "); a.code() != "invalid-request" || got != c.pointers {
			t.Errorf("%s: %s, expected %s: %s", c.name, got, c.pointers, a.body)
		}
	}
	h.batch(`{"operations":[{"operation":"fulfillOrder","operation":"fulfillOrder"}]}`, 400)
	if a := h.batch(`{"operations":[{"operation":"createOrder","body":{"reservationId":"a","reservationId":"b"}}]}`, 400); a.code() != "invalid-json" {
		t.Errorf("a member twice in a body: %s", a.body)
	}
	if a := h.batch(`{"operations":[`+strings.Repeat(" ", 8<<20)+`]}`, 413); !strings.Contains(a.at("detail").(string), "8 MiB") {
		t.Errorf("%s", a.body)
	}
	h.stock("mug", 10, 0, 0)
}

// TestLargeBatch: a thousand holds are one commit; what would be too much for one is refused whole.
func TestLargeBatch(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 2000)
		hold := fmt.Sprintf(mugHold, 1)
		a := h.batch(`{"operations":[`+hold+strings.Repeat(","+hold, 999)+`]}`, 200)
		if n := strings.Count(a.statuses(), "201"); n != 1000 {
			h.Fatalf("%d holds", n)
		}
		h.stock("mug", 1000, 1000, 0)

		metadata := map[string]string{}
		for i := range 50 {
			metadata[fmt.Sprintf("m%02d", i)] = strings.Repeat("x", 500)
		}
		encoded, err := json.Marshal(metadata)
		if err != nil {
			h.Fatal(err)
		}
		fat := fmt.Sprintf(`{"operation":"createReservation","body":{"productId":"mug","quantity":1,"metadata":%s}}`, encoded)
		if a := h.batch(`{"operations":[`+fat+strings.Repeat(","+fat, 199)+`]}`, 409); a.code() != "batch-too-large" {
			h.Errorf("%s", a.body[:200])
		}
		h.stock("mug", 1000, 1000, 0)
	})
}

// TestBatchOfLapsed: a batch that needs more lapsed holds than one commit may end waits for the next, and then succeeds.
func TestBatchOfLapsed(t *testing.T) {
	clock := storetest.NewClock()
	h := newMemoryHarness(t, clock)
	h.product("mug", 1500)
	hold := `{"operation":"createReservation","body":{"productId":"mug","quantity":1,"ttlSeconds":1}}`
	for range 3 {
		h.batch(`{"operations":[`+hold+strings.Repeat(","+hold, 499)+`]}`, 200)
	}
	clock.Advance(2_000_000_000)
	a := h.batch(`{"atomic":true,"operations":[`+fmt.Sprintf(mugHold, 700)+`,`+fmt.Sprintf(mugHold, 800)+`]}`, 200)
	if a.statuses() != "201 201" {
		t.Errorf("%s", a.body)
	}
	h.stock("mug", 0, 1500, 0)
}
