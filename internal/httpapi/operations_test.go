package httpapi_test

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/httpapi"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// TestCheckout is the story of the README: product, hold, order, shipment.
func TestCheckout(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		p := h.request("POST", "/v1/products",
			`{"id":"mug","name":"Mug","price":{"amount":1999,"currency":"EUR"},"totalStock":10,`+
				`"metadata":{"b":"2","a":""}}`, 201)
		if p.Header.Get("Location") != "/v1/products/mug" || p.Header.Get("ETag") == "" ||
			p.Header.Get("Holdfast-Sequence") != "1" || p.at("metadata.b") != "2" {
			h.Errorf("%v %s", p.Header, p.body)
		}
		r := h.request("POST", "/v1/reservations",
			`{"productId":"mug","quantity":2,"customerId":"anna","metadata":{"cart":"7"}}`, 201)
		if r.Header.Get("Location") != "/v1/reservations/"+r.id() || r.Header.Get("ETag") != `"1"` ||
			r.at("status") != "ACTIVE" ||
			r.at("total.amount") != 3998.0 || r.at("expiresAt") != "2026-03-01T12:10:00.000Z" ||
			r.at("lines.0.line") != 1.0 || r.at("lines.0.location") != "main" {
			h.Errorf("%v %s", r.Header, r.body)
		}
		h.stock("mug", 8, 2, 0)
		o := h.request("POST", "/v1/orders",
			fmt.Sprintf(`{"reservationId":%q,"reference":"pay_1","metadata":{"x":"y"}}`, r.id()), 201)
		if o.at("lines.0.priceAtPurchase.amount") != 1999.0 || o.at("customerId") != "anna" ||
			o.Header.Get("Holdfast-Sequence") != "4" {
			h.Errorf("%v %s", o.Header, o.body)
		}
		again := h.request("POST", "/v1/orders", fmt.Sprintf(`{"reservationId":%q}`, r.id()), 200)
		if string(again.body) != string(o.body) || again.Header.Get("Holdfast-Sequence") != "4" {
			h.Errorf("confirmed again: %s", again.body)
		}
		refused := h.request("POST", "/v1/orders", fmt.Sprintf(`{"reservationId":%q,"reference":"pay_2"}`, r.id()), 409)
		if refused.code() != "reservation-confirmed" || refused.at("current.orderId") != o.id() ||
			refused.at("current.status") != "CONFIRMED" {
			h.Errorf("%s", refused.body)
		}
		h.stock("mug", 8, 0, 2)
		h.request("POST", "/v1/orders/"+o.id()+"/fulfill", "", 200)
		h.request("POST", "/v1/orders/"+o.id()+"/fulfill", "{}", 200)
		if a := h.request("POST", "/v1/orders/"+o.id()+"/cancel", "", 409); a.code() != "order-fulfilled" {
			h.Errorf("%s", a.body)
		}
		h.stock("mug", 8, 0, 0)
		if a := h.request("GET", "/v1/reservations/"+r.id(), "", 200); a.at("orderId") != o.id() ||
			a.at("status") != "CONFIRMED" {
			h.Errorf("%s", a.body)
		}
	})
}

func TestCancelAndExtend(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 5)
		r := h.hold("mug", 2, 60)
		path := "/v1/reservations/" + r.id()
		if a := h.request("POST", path+"/extend", `{"ttlSeconds":30}`, 200); a.at("version") != 1.0 ||
			a.Header.Get("Holdfast-Sequence") != "2" {
			h.Errorf("an extension to earlier: %s", a.body)
		}
		if a := h.request("POST", path+"/extend", `{"ttlSeconds":90}`, 200); a.at("version") != 2.0 ||
			a.at("expiresAt") != "2026-03-01T12:01:30.000Z" || a.Header.Get("ETag") != `"2"` {
			h.Errorf("%s", a.body)
		}
		h.Advance(time.Second)
		if a := h.request("POST", path+"/extend", `{"ttlSeconds":86400}`, 409); a.code() != "hold-limit-reached" ||
			a.at("current.expiresAt") != "2026-03-01T12:01:30.000Z" {
			h.Errorf("%s", a.body)
		}
		c := h.request("POST", path+"/cancel", `{"reason":"changed"}`, 200)
		if c.at("cancelReason") != "changed" || c.at("status") != "CANCELLED" ||
			c.at("endedAt") != "2026-03-01T12:00:01.000Z" {
			h.Errorf("%s", c.body)
		}
		if again := h.request("POST", path+"/cancel", "", 200); string(again.body) != string(c.body) {
			h.Errorf("%s", again.body)
		}
		for path, body := range map[string]string{
			path + "/extend": `{"ttlSeconds":5}`,
			"/v1/orders":     fmt.Sprintf(`{"reservationId":%q}`, r.id()),
		} {
			if a := h.request("POST", path, body, 409); a.code() != "reservation-cancelled" {
				h.Errorf("%s", a.body)
			}
		}
		o := h.request("POST", "/v1/orders", fmt.Sprintf(`{"reservationId":%q}`, h.hold("mug", 1, 60).id()), 201)
		h.request("POST", "/v1/orders/"+o.id()+"/cancel", `{"reason":"returned"}`, 200)
		if a := h.request(
			"POST", "/v1/orders", fmt.Sprintf(`{"reservationId":%q}`, o.at("reservationId")), 409,
		); a.code() != "order-cancelled" || a.at("current.orderId") != o.id() {
			h.Errorf("%s", a.body)
		}
		h.stock("mug", 5, 0, 0)
	})
}

// TestExpiryWithoutSweeper: a hold counts if and only if now < its deadline, although nobody sweeps (I7, I8); every
// reader sees one ending (I3).
func TestExpiryWithoutSweeper(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 2)
		read, listed, confirmed, needed := h.hold("mug", 1, 10), h.hold("mug", 1, 10), "", ""
		h.Advance(9999 * time.Millisecond)
		if a := h.request("GET", "/v1/reservations/"+read.id(), "", 200); a.at("status") != "ACTIVE" {
			h.Errorf("before the deadline: %s", a.body)
		}
		h.Advance(time.Millisecond)
		if a := h.request("GET", "/v1/reservations/"+read.id(), "", 200); a.at("status") != "EXPIRED" ||
			a.at("endedAt") != a.at("expiresAt") || a.at("updatedAt") != a.at("expiresAt") {
			h.Errorf("at the deadline: %s", a.body)
		}
		list := h.request("GET", "/v1/reservations?status=EXPIRED", "", 200)
		if list.at("data.0.id") != listed.id() || list.at("data.0.status") != "EXPIRED" ||
			list.at("data.1.id") != read.id() {
			h.Errorf("listed: %s", list.body)
		}
		confirmed, needed = h.hold("mug", 1, 10).id(), h.hold("mug", 1, 20).id()
		h.Advance(10 * time.Second)
		if a := h.request(
			"POST", "/v1/orders", fmt.Sprintf(`{"reservationId":%q}`, confirmed), 409,
		); a.code() != "reservation-expired" || a.at("current.status") != "EXPIRED" ||
			a.at("current.endedAt") != "2026-03-01T12:00:20.000Z" {
			h.Errorf("confirmed at the deadline: %s", a.body)
		}
		if a := h.request(
			"GET", "/v1/reservations?productId=mug&status=ACTIVE", "", 200,
		); a.at("data.0.id") != needed || a.at("data.1") != nil {
			h.Errorf("active: %s", a.body)
		}
		h.Advance(time.Hour)
		h.hold("mug", 2, 10)
		h.stock("mug", 0, 2, 0)
	})
}

func TestInsufficientStock(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 5)
		h.product("cup", 1)
		h.hold("mug", 2, 60)
		a := h.request("POST", "/v1/reservations",
			`{"lines":[{"productId":"mug","quantity":3},{"productId":"cup","quantity":2},`+
				`{"productId":"mug","quantity":1},{"productId":"mug","quantity":1,"location":"berlin"}]}`, 409)
		if a.code() != "insufficient-stock" || a.at("shortages.0.requested") != 4.0 ||
			a.at("shortages.0.available") != 3.0 || a.at("shortages.0.reserved") != 2.0 ||
			a.at("shortages.1.productId") != "cup" || a.at("shortages.2.location") != "berlin" ||
			a.at("shortages.2.available") != 0.0 {
			h.Errorf("%s", a.body)
		}
		a = h.request("POST", "/v1/reservations",
			`{"lines":[{"productId":"mug","quantity":1},{"productId":"none","quantity":1},`+
				`{"productId":"nobody","quantity":9}]}`, 404)
		if a.code() != "product-not-found" || a.at("errors.0.pointer") != "/lines/1/productId" ||
			a.at("errors.1.pointer") != "/lines/2/productId" {
			h.Errorf("%s", a.body)
		}
		if a := h.request(
			"POST", "/v1/reservations", `{"productId":"none","quantity":1}`, 404,
		); a.at("errors.0.pointer") != "/productId" {
			h.Errorf("%s", a.body)
		}
		h.stock("mug", 3, 2, 0)
		h.stock("cup", 1, 0, 0)
	})
}

func TestProducts(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 3)
		if a := h.request(
			"POST", "/v1/products", `{"id":"mug","name":"x","price":{"amount":1,"currency":"EUR"}}`, 409,
		); a.code() != "product-exists" {
			h.Errorf("%s", a.body)
		}
		named := h.request("POST", "/v1/products",
			`{"name":"Unnamed","price":{"amount":0,"currency":"USD"},"location":"berlin","totalStock":4}`, 201)
		if !strings.HasPrefix(named.id(), "prd_") || named.at("stock.0.location") != "berlin" ||
			named.at("stock.1.location") != "main" || named.at("totalStock") != 4.0 {
			h.Errorf("%s", named.body)
		}
		tag := h.request("GET", "/v1/products/mug", "", 200).Header.Get("ETag")
		h.request("GET", "/v1/products/mug", "", 304, "If-None-Match", `"9", W/`+tag)
		h.hold("mug", 1, 60) // stock is part of what a product shows
		h.request("GET", "/v1/products/mug", "", 200, "If-None-Match", tag)
		if a := h.request(
			"PATCH", "/v1/products/mug", `{"name":"Cup"}`, 412, "If-Match", tag,
		); a.code() != "version-mismatch" || a.at("current.version") != 1.0 {
			h.Errorf("%s", a.body)
		}
		tag = h.request("GET", "/v1/products/mug", "", 200).Header.Get("ETag")
		h.request("PATCH", "/v1/products/mug", `{"name":"Cup"}`, 412, "If-Match", "W/"+tag) // weak tags never match there
		a := h.request("PATCH", "/v1/products/mug",
			`{"name":"Cup","price":{"amount":3},"metadata":{"a":"1","b":"2"},"version":1}`, 200, "If-Match", tag)
		if a.at("name") != "Cup" || a.at("price.currency") != "EUR" || a.at("version") != 2.0 {
			h.Errorf("%s", a.body)
		}
		h.contentType = "application/merge-patch+json"
		same := h.request("PATCH", "/v1/products/mug", `{"name":"Cup","metadata":{"c":null}}`, 200)
		h.contentType = ""
		if string(same.body) != string(a.body) || same.Header.Get("ETag") != a.Header.Get("ETag") {
			h.Errorf("a patch that changes nothing: %s", same.body)
		}
		if a := h.request("PATCH", "/v1/products/mug", `{"metadata":{"a":null}}`, 200); a.at("metadata.a") != nil ||
			a.at("metadata.b") != "2" {
			h.Errorf("%s", a.body)
		}
		if a := h.request("PATCH", "/v1/products/mug", `{"metadata":null}`,
			200); len(a.at("metadata").(map[string]any)) != 0 {
			h.Errorf("%s", a.body)
		}
		h.request("PATCH", "/v1/products/mug", `{"version":1,"name":"x"}`, 409)
		h.request("PATCH", "/v1/products/none", `{"name":"x"}`, 404)
		many := map[string]string{}
		for i := range 50 {
			many[fmt.Sprint("m", i)] = "x"
		}
		h.request("PATCH", "/v1/products/mug", jsonOf(map[string]any{"metadata": many}), 200)
		if a := h.request(
			"PATCH", "/v1/products/mug", `{"metadata":{"one":"more"}}`, 400,
		); a.code() != "invalid-request" || a.at("errors.0.pointer") != "/metadata" {
			h.Errorf("%s", a.body)
		}
	})
}

func TestAdjustments(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 3)
		a := h.request("POST", "/v1/products/mug/adjustments",
			`{"delta":7,"reason":"received","reference":"d-1","location":"berlin"}`, 201)
		if !strings.HasPrefix(a.at("adjustment.id").(string), "adj_") || a.at("adjustment.delta") != 7.0 ||
			a.at("product.totalStock") != 10.0 || a.Header.Get("Location") != "" {
			h.Errorf("%v %s", a.Header, a.body)
		}
		h.request("POST", "/v1/products/mug/adjustments", `{"delta":-2,"reason":"broken"}`, 201)
		if a := h.request(
			"POST", "/v1/products/mug/adjustments", `{"delta":-2,"reason":"broken"}`, 409,
		); a.code() != "insufficient-stock" || a.at("shortages.0.requested") != 2.0 {
			h.Errorf("%s", a.body)
		}
		if a := h.request(
			"POST", "/v1/products/mug/adjustments", `{"delta":1000000000000000,"reason":"too many"}`, 409,
		); a.code() != "stock-limit" {
			h.Errorf("%s", a.body)
		}
		h.request("POST", "/v1/products/none/adjustments", `{"delta":1,"reason":"x"}`, 404)
		h.stock("mug", 8, 0, 0)
	})
}

func TestIdempotency(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 3)
		body := `{"productId":"mug","quantity":2}`
		first := h.request("POST", "/v1/reservations", body, 201, "Idempotency-Key", "k1")
		h.request("POST", "/v1/reservations/"+first.id()+"/cancel", "", 200)
		h.Advance(time.Hour)
		for _, key := range []string{"k1", `"k1"`} {
			again := h.request("POST", "/v1/reservations", body, 201, "Idempotency-Key", key)
			if string(again.body) != string(first.body) || again.Header.Get("Idempotent-Replayed") != "true" {
				h.Errorf("replayed: %s", again.body)
			}
			for _, name := range []string{"ETag", "Location", "Holdfast-Sequence"} {
				if again.Header.Get(name) != first.Header.Get(name) {
					h.Errorf("%s: %q, then %q", name, first.Header.Get(name), again.Header.Get(name))
				}
			}
		}
		for path, other := range map[string]string{
			"/v1/reservations":                           body + " ",
			"/v1/reservations/" + first.id() + "/cancel": "", "/v1/reservations/nonsense/cancel": "",
		} {
			if a := h.request("POST", path, other, 422, "Idempotency-Key", "k1"); a.code() != "idempotency-key-reused" {
				h.Errorf("%s", a.body)
			}
		}
		// a refusal stores nothing: the key stays free
		h.request("POST", "/v1/reservations", `{"productId":"mug","quantity":9}`, 409, "Idempotency-Key", "k2")
		h.request("POST", "/v1/reservations", body, 201, "Idempotency-Key", "k2")
		// every kind of answer comes back as it was
		for i, c := range []struct {
			method, path, body string
			status             int
		}{
			{"POST", "/v1/products", `{"name":"n","price":{"amount":1,"currency":"EUR"}}`, 201},
			{"PATCH", "/v1/products/mug", `{"name":"n"}`, 200},
			{"PATCH", "/v1/products/mug", `{}`, 200},
			{"POST", "/v1/products/mug/adjustments", `{"delta":1,"reason":"r"}`, 201},
			{"POST", "/v1/orders", fmt.Sprintf(`{"reservationId":%q}`, h.hold("mug", 1, 60).id()), 201},
		} {
			key := fmt.Sprint("each-", i)
			a := h.request(c.method, c.path, c.body, c.status, "Idempotency-Key", key)
			h.request("POST", "/v1/products/mug/adjustments", `{"delta":1,"reason":"between"}`, 201)
			b := h.request(c.method, c.path, c.body, c.status, "Idempotency-Key", key)
			if string(a.body) != string(b.body) || a.Header.Get("ETag") != b.Header.Get("ETag") ||
				a.Header.Get("Location") != b.Header.Get("Location") || b.Header.Get("Idempotent-Replayed") != "true" {
				h.Errorf("%s %s: %s, then %s", c.method, c.path, a.body, b.body)
			}
		}
	})
}

// pages follows the cursors of a list and returns all ids.
func (h *harness) pages(path string, limit int) (ids []string) {
	h.Helper()
	cursor := ""
	for {
		u := path + "limit=" + strconv.Itoa(limit)
		if cursor != "" {
			u += "&cursor=" + url.QueryEscape(cursor)
		}
		a := h.request("GET", u, "", 200)
		data := a.at("data").([]any)
		if len(data) > limit {
			h.Fatalf("%d items with limit %d", len(data), limit)
		}
		for _, item := range data {
			ids = append(ids, item.(map[string]any)["id"].(string))
		}
		var more bool
		if cursor, more = a.at("nextCursor").(string); !more {
			return ids
		}
	}
}

func TestPaging(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 100)
		var holds, orders []string
		for i := range 5 {
			r := h.request("POST", "/v1/reservations",
				fmt.Sprintf(`{"productId":"mug","quantity":1,"customerId":"c%d"}`, i%2), 201)
			holds = append([]string{r.id()}, holds...)
			o := h.request("POST", "/v1/orders", fmt.Sprintf(`{"reservationId":%q,"reference":"ref%d"}`, r.id(), i),
				201)
			orders = append([]string{o.id()}, orders...)
			h.product(fmt.Sprint("p", i), 1)
		}
		for limit := 1; limit <= 6; limit++ {
			if got := h.pages("/v1/reservations?", limit); !slices.Equal(got, holds) {
				h.Errorf("limit %d: %v", limit, got)
			}
			if got := h.pages("/v1/orders?status=CONFIRMED&", limit); !slices.Equal(got, orders) {
				h.Errorf("limit %d: %v", limit, got)
			}
			if got := h.pages("/v1/orders?customerId=c1&", limit); !slices.Equal(got, []string{orders[1], orders[3]}) {
				h.Errorf("limit %d: %v", limit, got)
			}
			if got := h.pages("/v1/products?", limit); fmt.Sprint(got) != "[mug p0 p1 p2 p3 p4]" {
				h.Errorf("limit %d: %v", limit, got)
			}
		}
		if got := h.pages("/v1/orders?reference=ref3&", 9); !slices.Equal(got, []string{orders[1]}) {
			h.Errorf("%v", got)
		}
		if got := h.pages("/v1/orders?reservationId="+holds[4]+"&", 9); !slices.Equal(got, []string{orders[4]}) {
			h.Errorf("%v", got)
		}
		if got := h.pages("/v1/orders?reservationId=nonsense&", 9); len(got) != 0 {
			h.Errorf("%v", got)
		}
		if a := h.request("GET", "/v1/products?id=p1&id=none&id=mug&id=p1", "",
			200); len(a.at("data").([]any)) != 2 || a.at("nextCursor") != nil {
			h.Errorf("%s", a.body)
		}
	})
}

func TestEvents(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		empty := h.request("GET", "/v1/events", "", 200)
		if empty.at("nextAfter") != "0" || empty.at("head") != "0" || empty.at("data.0") != nil {
			h.Errorf("%s", empty.body)
		}
		h.product("mug", 5)
		r := h.hold("mug", 2, 60)
		o := h.request("POST", "/v1/orders", fmt.Sprintf(`{"reservationId":%q}`, r.id()), 201)
		all := h.request("GET", "/v1/events", "", 200)
		types := ""
		for i := range 4 {
			types += fmt.Sprint(all.at(fmt.Sprintf("data.%d.type", i)), " ")
		}
		if types != "product.created reservation.created reservation.confirmed order.created " ||
			all.at("nextAfter") != "4" || all.at("head") != o.Header.Get("Holdfast-Sequence") {
			h.Errorf("%s", all.body)
		}
		if all.at("data.1.subject") != r.id() || all.at("data.1.data.movements.0.after.available") != 3.0 ||
			all.at("data.3.data.movements.0") != nil {
			h.Errorf("%s", all.body)
		}
		if again := h.request("GET", "/v1/events", "", 200); string(again.body) != string(all.body) {
			h.Error("the feed changed")
		}
		for after := range 5 {
			a := h.request("GET", fmt.Sprintf("/v1/events?after=%d&limit=1", after), "", 200)
			if after < 4 && a.at("data.0.sequence") != float64(after+1) ||
				after == 4 && (a.at("data.0") != nil || a.at("nextAfter") != "4") {
				h.Errorf("after %d: %s", after, a.body)
			}
		}
		if a := h.request("GET", "/v1/events?after=5", "", 409); a.code() != "cursor-ahead" {
			h.Errorf("%s", a.body)
		}
	})
}

// TestLongPoll: a waiting reader is answered as soon as something is committed, and at once when the server stops.
func TestLongPoll(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 5)
		answers := make(chan *answer, 1)
		poll := func(after string) { answers <- h.try("GET", "/v1/events?wait=30&after="+after, "") }
		go poll("1")
		r := h.hold("mug", 1, 60)
		if a := <-answers; a.at("data.0.subject") != r.id() {
			h.Errorf("%s", a.body)
		}
		go poll("2")
		h.server.Stop()
		if a := <-answers; a.StatusCode != 200 || a.at("nextAfter") != "2" {
			h.Errorf("%s", a.body)
		}
		h.request("GET", "/readyz", "", 503)
	})
}

// TestProcessClockChangesNothing: on a shared database its clock decides, whatever the process's says.
func TestProcessClockChangesNothing(t *testing.T) {
	test := func(t *testing.T, s store.Store) {
		for _, offset := range []time.Duration{-time.Hour, time.Hour} {
			clock := storetest.NewClock()
			clock.Advance(offset - time.Until(clock.Now())) // now, and off
			h := newHarness(t, clock, keptOpen{s}, httpapi.Options{}, engine.Options{})
			id := fmt.Sprint("p", offset.Hours())
			h.product(id, 1)
			hold := h.hold(id, 1, 60)
			if got := h.request("GET", "/v1/reservations/"+hold.id(), "", 200).at("status"); got != "ACTIVE" {
				t.Errorf("with a clock %v off the hold is %v", offset, got)
			}
			if list := h.request("GET", "/v1/reservations?status=EXPIRED", "", 200).at("data").([]any); len(list) != 0 {
				t.Errorf("with a clock %v off these are expired: %v", offset, list)
			}
			expires, err := time.Parse(time.RFC3339, hold.at("expiresAt").(string))
			if left := time.Until(expires); err != nil || left > time.Minute || left < 30*time.Second {
				t.Errorf("with a clock %v off the hold lapses in %v", offset, left)
			}
		}
	}
	for _, kind := range []string{"postgres", "mongodb"} {
		t.Run(kind, func(t *testing.T) {
			s, err := stores[kind](t, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			test(t, s)
		})
	}
}

// keptOpen is a store that outlives its server.
type keptOpen struct{ store.Store }

func (keptOpen) Close() error { return nil }
