package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// badRequest is a request that is refused, with the answer that it gets.
type badRequest struct {
	method, path, body string
	status             int
	code               string
	where              string // pointer or parameter of the first error; empty: any
	headers            []string
}

// Beginnings of good bodies, to which rows add what is wrong.
const (
	goodProduct = `{"id":"x","name":"n","price":{"amount":1,"currency":"EUR"}`
	goodHold    = `{"productId":"mug","quantity":1`
	halfOfMost  = `{"productId":"mug","quantity":600000000}`
)

func long(n int) string { return strings.Repeat("ä", n) }

// manyMembers is an object with so many members, each an empty string.
func manyMembers(n int) string {
	members := map[string]string{}
	for i := range n {
		members[fmt.Sprint(i)] = ""
	}
	return jsonOf(members)
}

// TestBadInput: every wrong request gets the answer of the contract, names what is wrong, and changes nothing.
func TestBadInput(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 10)
		r := h.hold("mug", 1, 600).id()
		o := h.request("POST", "/v1/orders", fmt.Sprintf(`{"reservationId":%q}`, h.hold("mug", 1, 600).id()), 201).id()
		before := h.request("GET", "/v1/events?limit=1000", "", 200)
		for _, b := range slices.Concat(
			badSyntax(r), badProducts(), badChanges(), badHolds(r, o), unknownIDs(r, o), badQueries(r), badHeaders(r, o),
			badInSeveralWays(),
		) {
			h.refuses(&b)
		}
		after := h.request("GET", "/v1/events?limit=1000", "", 200)
		if string(before.body) != string(after.body) {
			h.Errorf("something changed:\n%s\n%s", before.body, after.body)
		}
	})
}

// refuses sends a bad request and compares its answer with the one that it should get.
func (h *harness) refuses(b *badRequest) {
	h.Helper()
	headers := b.headers
	if len(headers) > 0 && headers[0] == "Content-Type" {
		h.contentType, headers = headers[1], nil
	}
	a := h.try(b.method, b.path, b.body, headers...)
	h.contentType = ""
	if a.StatusCode != b.status || a.code() != b.code {
		h.Errorf("%s %.100s %.200s %v: %d %s, want %d %s\n%s",
			b.method, b.path, b.body, b.headers, a.StatusCode, a.code(), b.status, b.code, a.body)
		return
	}
	pointer, parameter := a.at("errors.0.pointer"), a.at("errors.0.parameter")
	if b.where != "" && pointer != b.where && parameter != b.where {
		h.Errorf("%s %.100s %.200s: the error is at %v %v, want %s", b.method, b.path, b.body, pointer, parameter, b.where)
	}
}

// badSyntax are bodies that are not JSON.
func badSyntax(r string) []badRequest {
	rsv := "/v1/reservations/" + r
	return []badRequest{
		{"POST", "/v1/products", ``, 400, "invalid-json", "", nil},
		{"POST", "/v1/products", `{`, 400, "invalid-json", "", nil},
		{"POST", "/v1/products", goodProduct + `}}`, 400, "invalid-json", "", nil},
		{"POST", "/v1/products", goodProduct + `} {}`, 400, "invalid-json", "", nil},
		{
			"POST", "/v1/products", `{"id":"x","id":"y","name":"n","price":{"amount":1,"currency":"EUR"}}`,
			400, "invalid-json", "", nil,
		},
		{"POST", "/v1/products", goodProduct + `,"metadata":{"a":"1","a":"2"}}`, 400, "invalid-json", "", nil},
		{"POST", "/v1/products", goodProduct + `,"unknown":1,}`, 400, "invalid-json", "", nil},
		{"POST", "/v1/products", "{\"name\":\"\xff\"}", 400, "invalid-json", "", nil},
		{"POST", "/v1/products", `{"name":"\ud83d"}`, 400, "invalid-json", "", nil},
		{"POST", "/v1/products", `{"name":"\ude00"}`, 400, "invalid-json", "", nil},
		{"POST", rsv + "/cancel", `{"reason":"\ud83d"}`, 400, "invalid-json", "", nil},
		{"POST", "/v1/products", `{'name':1}`, 400, "invalid-json", "", nil},
	}
}

// badProducts are bodies of new products.
func badProducts() []badRequest {
	return []badRequest{
		{"POST", "/v1/products", `null`, 400, "invalid-request", "", nil},
		{"POST", "/v1/products", `[]`, 400, "invalid-request", "", nil},
		{"POST", "/v1/products", `"x"`, 400, "invalid-request", "", nil},
		{"POST", "/v1/products", `{}`, 400, "invalid-request", "/name", nil},
		{"POST", "/v1/products", goodProduct + `,"colour":"red"}`, 400, "invalid-request", "/colour", nil},
		{"POST", "/v1/products", goodProduct + `,"ID":"red"}`, 400, "invalid-request", "/ID", nil},
		{
			"POST", "/v1/products", `{"name":null,"price":{"amount":1,"currency":"EUR"}}`,
			400, "invalid-request", "/name", nil,
		},
		{
			"POST", "/v1/products", `{"name":"n","price":{"amount":null,"currency":"EUR"}}`,
			400, "invalid-request", "/price/amount", nil,
		},
		{"POST", "/v1/products", goodProduct + `,"totalStock":"1"}`, 400, "invalid-request", "/totalStock", nil},
		{"POST", "/v1/products", goodProduct + `,"totalStock":1.0}`, 400, "invalid-request", "/totalStock", nil},
		{"POST", "/v1/products", goodProduct + `,"totalStock":1e3}`, 400, "invalid-request", "/totalStock", nil},
		{"POST", "/v1/products", goodProduct + `,"totalStock":-1}`, 400, "invalid-request", "/totalStock", nil},
		{
			"POST", "/v1/products", goodProduct + `,"totalStock":1000000000000001}`,
			400, "invalid-request", "/totalStock", nil,
		},
		{
			"POST", "/v1/products", goodProduct + `,"totalStock":99999999999999999999}`,
			400, "invalid-request", "/totalStock", nil,
		},
		{"POST", "/v1/products", goodProduct + `,"location":"-x"}`, 400, "invalid-request", "/location", nil},
		{"POST", "/v1/products", goodProduct + `,"location":""}`, 400, "invalid-request", "/location", nil},
		{"POST", "/v1/products", goodProduct + `,"metadata":[]}`, 400, "invalid-request", "/metadata", nil},
		{"POST", "/v1/products", goodProduct + `,"metadata":{"a":1}}`, 400, "invalid-request", "/metadata/a", nil},
		{"POST", "/v1/products", goodProduct + `,"metadata":{"a":null}}`, 400, "invalid-request", "/metadata/a", nil},
		{"POST", "/v1/products", goodProduct + `,"metadata":{"":"1"}}`, 400, "invalid-request", "/metadata/", nil},
		{
			"POST", "/v1/products", goodProduct + `,"metadata":{"a~/b":"\u0000"}}`,
			400, "invalid-request", "/metadata/a~0~1b", nil,
		},
		{
			"POST", "/v1/products", goodProduct + `,"metadata":{"a":"` + long(501) + `"}}`,
			400, "invalid-request", "/metadata/a", nil,
		},
		{
			"POST", "/v1/products", goodProduct + `,"metadata":{"` + long(65) + `":"a"}}`,
			400, "invalid-request", "/metadata/" + long(65), nil,
		},
		{
			"POST", "/v1/products", goodProduct + `,"metadata":` + manyMembers(51) + `}`,
			400, "invalid-request", "/metadata", nil,
		},
		{
			"POST", "/v1/products", `{"name":"` + long(201) + `","price":{"amount":1,"currency":"EUR"}}`,
			400, "invalid-request", "/name", nil,
		},
		{
			"POST", "/v1/products", `{"name":"a\nb","price":{"amount":1,"currency":"EUR"}}`,
			400, "invalid-request", "/name", nil,
		},
		{
			"POST", "/v1/products", `{"name":"a\u0085b","price":{"amount":1,"currency":"EUR"}}`,
			400, "invalid-request", "/name", nil,
		},
		{
			"POST", "/v1/products", `{"name":"","price":{"amount":1,"currency":"EUR"}}`,
			400, "invalid-request", "/name", nil,
		},
		{"POST", "/v1/products", `{"name":"n","price":1999}`, 400, "invalid-request", "/price", nil},
		{
			"POST", "/v1/products", `{"name":"n","price":{"amount":-1,"currency":"EUR"}}`,
			400, "invalid-request", "/price/amount", nil,
		},
		{
			"POST", "/v1/products", `{"name":"n","price":{"amount":9007199254740992,"currency":"EUR"}}`,
			400, "invalid-request", "/price/amount", nil,
		},
		{
			"POST", "/v1/products", `{"name":"n","price":{"amount":1,"currency":"eur"}}`,
			400, "invalid-request", "/price/currency", nil,
		},
		{
			"POST", "/v1/products", `{"name":"n","price":{"amount":1}}`,
			400, "invalid-request", "/price/currency", nil,
		},
		{
			"POST", "/v1/products", `{"name":"n","price":{"amount":1,"currency":"EUR","tax":1}}`,
			400, "invalid-request", "/price/tax", nil,
		},
		{
			"POST", "/v1/products", `{"id":"` + strings.Repeat("x",
				65) + `","name":"n","price":{"amount":1,"currency":"EUR"}}`,
			400, "invalid-request", "/id", nil,
		},
		{
			"POST", "/v1/products", `{"id":"a/b","name":"n","price":{"amount":1,"currency":"EUR"}}`,
			400, "invalid-request", "/id", nil,
		},
		{
			"POST", "/v1/products", `{"id":".a","name":"n","price":{"amount":1,"currency":"EUR"}}`,
			400, "invalid-request", "/id", nil,
		},
		{
			"POST", "/v1/products", `{"id":"ä","name":"n","price":{"amount":1,"currency":"EUR"}}`,
			400, "invalid-request", "/id", nil,
		},
	}
}

// badChanges are bodies of patches and adjustments.
func badChanges() []badRequest {
	return []badRequest{
		{"PATCH", "/v1/products/mug", `{"name":null}`, 400, "invalid-request", "/name", nil},
		{"PATCH", "/v1/products/mug", `{"price":null}`, 400, "invalid-request", "/price", nil},
		{"PATCH", "/v1/products/mug", `{"price":{"amount":null}}`, 400, "invalid-request", "/price/amount", nil},
		{"PATCH", "/v1/products/mug", `{"totalStock":5}`, 400, "invalid-request", "/totalStock", nil},
		{"PATCH", "/v1/products/mug", `{"version":0}`, 400, "invalid-request", "/version", nil},
		{"PATCH", "/v1/products/mug", `{"metadata":{"a":5}}`, 400, "invalid-request", "/metadata/a", nil},
		{"POST", "/v1/products/mug/adjustments", `{"delta":0,"reason":"x"}`, 400, "invalid-request", "/delta", nil},
		{"POST", "/v1/products/mug/adjustments", `{"delta":1}`, 400, "invalid-request", "/reason", nil},
		{
			"POST", "/v1/products/mug/adjustments", `{"delta":1,"reason":"` + long(101) + `"}`,
			400, "invalid-request", "/reason", nil,
		},
		{
			"POST", "/v1/products/mug/adjustments", `{"delta":-1000000000000001,"reason":"x"}`,
			400, "invalid-request", "/delta", nil,
		},
	}
}

// badHolds are bodies about reservations and orders.
func badHolds(r, o string) []badRequest {
	rsv := "/v1/reservations/" + r
	return []badRequest{
		{"POST", "/v1/reservations", `{}`, 400, "invalid-request", "", nil},
		{"POST", "/v1/reservations", `{"productId":"mug"}`, 400, "invalid-request", "/quantity", nil},
		{"POST", "/v1/reservations", `{"quantity":1}`, 400, "invalid-request", "/productId", nil},
		{"POST", "/v1/reservations", `{"productId":"mug","quantity":0}`, 400, "invalid-request", "/quantity", nil},
		{
			"POST", "/v1/reservations", `{"productId":"mug","quantity":1000000001}`,
			400, "invalid-request", "/quantity", nil,
		},
		{
			"POST", "/v1/reservations", `{"productId":"m u g","quantity":1}`,
			400, "invalid-request", "/productId", nil,
		},
		{"POST", "/v1/reservations", goodHold + `,"ttlSeconds":0}`, 400, "invalid-request", "/ttlSeconds", nil},
		{"POST", "/v1/reservations", goodHold + `,"ttlSeconds":86401}`, 400, "invalid-request", "/ttlSeconds", nil},
		{
			"POST", "/v1/reservations", goodHold + `,"ttlSeconds":9223372036854775807}`,
			400, "invalid-request", "/ttlSeconds", nil,
		},
		{"POST", "/v1/reservations", goodHold + `,"customerId":""}`, 400, "invalid-request", "/customerId", nil},
		{
			"POST", "/v1/reservations", goodHold + `,"expiresAt":"2026-01-01T00:00:00Z"}`,
			400, "invalid-request", "/expiresAt", nil,
		},
		{
			"POST", "/v1/reservations", goodHold + `,"lines":[{"productId":"mug","quantity":1}]}`,
			400, "invalid-request", "/lines", nil,
		},
		{"POST", "/v1/reservations", `{"lines":[]}`, 400, "invalid-request", "/lines", nil},
		{"POST", "/v1/reservations", `{"lines":{}}`, 400, "invalid-request", "/lines", nil},
		{"POST", "/v1/reservations", `{"lines":null}`, 400, "invalid-request", "", nil},
		{"POST", "/v1/reservations", `{"lines":[null]}`, 400, "invalid-request", "/lines/0/productId", nil},
		{
			"POST", "/v1/reservations", `{"lines":[{"productId":"mug","quantity":1},{"productId":"mug"}]}`,
			400, "invalid-request", "/lines/1/quantity", nil,
		},
		{
			"POST", "/v1/reservations", `{"lines":[{"productId":"mug","quantity":1,"unitPrice":{"amount":1}}]}`,
			400, "invalid-request", "/lines/0/unitPrice/currency", nil,
		},
		{
			"POST", "/v1/reservations", `{"lines":[` + halfOfMost + `,` + halfOfMost + `]}`,
			400, "invalid-request", "/lines/1/quantity", nil,
		},
		{
			"POST", "/v1/reservations", `{"lines":[` + strings.Repeat(goodHold+`},`, 100) + goodHold + `}]}`,
			400, "invalid-request", "/lines", nil,
		},
		{
			"POST", "/v1/reservations",
			`{"lines":[` + goodHold + `},` + goodHold + `,"unitPrice":{"amount":1,"currency":"USD"}}]}`,
			400, "mixed-currencies", "/lines/1/productId", nil,
		},
		{
			"POST", "/v1/reservations",
			`{"productId":"mug","quantity":2,"unitPrice":{"amount":9007199254740991,"currency":"EUR"}}`,
			400, "total-too-large", "", nil,
		},
		{"POST", rsv + "/cancel", `{"reason":""}`, 400, "invalid-request", "/reason", nil},
		{"POST", rsv + "/cancel", `{"why":"x"}`, 400, "invalid-request", "/why", nil},
		{"POST", rsv + "/cancel", `null`, 400, "invalid-request", "", nil},
		{"POST", rsv + "/extend", ``, 400, "invalid-json", "", nil},
		{"POST", rsv + "/extend", `{}`, 400, "invalid-request", "/ttlSeconds", nil},
		{"POST", rsv + "/extend", `{"ttlSeconds":-5}`, 400, "invalid-request", "/ttlSeconds", nil},
		{"POST", "/v1/orders", `{}`, 400, "invalid-request", "/reservationId", nil},
		{"POST", "/v1/orders", `{"reservationId":5}`, 400, "invalid-request", "/reservationId", nil},
		{
			"POST", "/v1/orders", `{"reservationId":"nonsense","reference":""}`,
			400, "invalid-request", "/reference", nil,
		},
		{"POST", "/v1/orders/" + o + "/fulfill", `{"a":1}`, 400, "invalid-request", "/a", nil},
	}
}

// unknownIDs name what is not there, or cannot be.
func unknownIDs(r, o string) []badRequest {
	return []badRequest{
		{"POST", "/v1/orders", `{"reservationId":"nonsense"}`, 404, "reservation-not-found", "", nil},
		{"POST", "/v1/orders", fmt.Sprintf(`{"reservationId":%q}`, o), 404, "reservation-not-found", "", nil},
		{"GET", "/v1/products/" + strings.Repeat("x", 3000), ``, 404, "product-not-found", "", nil},
		{"GET", "/v1/products/MUG", ``, 404, "product-not-found", "", nil},
		{"GET", "/v1/products/%2e%2e", ``, 404, "not-found", "", nil},
		{"GET", "/v1/products/a%2Fb", ``, 404, "product-not-found", "", nil},
		{"GET", "/v1/products/%00", ``, 404, "product-not-found", "", nil},
		{"GET", "/v1/reservations/mug", ``, 404, "reservation-not-found", "", nil},
		{"GET", "/v1/reservations/" + strings.ToUpper(r), ``, 404, "reservation-not-found", "", nil},
		{"GET", "/v1/orders/" + r, ``, 404, "order-not-found", "", nil},
		{"POST", "/v1/reservations/mug/cancel", ``, 404, "reservation-not-found", "", nil},
		{"POST", "/v1/orders/" + r + "/fulfill", ``, 404, "order-not-found", "", nil},
	}
}

// badQueries have a parameter that is wrong or unknown.
func badQueries(r string) []badRequest {
	rsv := "/v1/reservations/" + r
	return []badRequest{
		{"GET", "/v1/products?limit=0", ``, 400, "invalid-request", "limit", nil},
		{"GET", "/v1/products?limit=1001", ``, 400, "invalid-request", "limit", nil},
		{"GET", "/v1/products?limit=+5", ``, 400, "invalid-request", "limit", nil},
		{"GET", "/v1/products?limit=", ``, 400, "invalid-request", "limit", nil},
		{"GET", "/v1/products?limit=5&limit=6", ``, 400, "invalid-request", "limit", nil},
		{"GET", "/v1/products?offset=5", ``, 400, "invalid-request", "offset", nil},
		{"GET", "/v1/products?cursor=!", ``, 400, "invalid-request", "cursor", nil},
		{"GET", "/v1/products?id=mug&limit=5", ``, 400, "invalid-request", "id", nil},
		{"GET", "/v1/products?id=", ``, 400, "invalid-request", "id", nil},
		{"GET", "/v1/products?" + strings.Repeat("id=mug&", 101), ``, 400, "invalid-request", "id", nil},
		{"GET", "/v1/products?%zz", ``, 400, "invalid-request", "query", nil},
		{"GET", "/v1/products/mug?x=1", ``, 400, "invalid-request", "x", nil},
		{"GET", rsv + "?x=1", ``, 400, "invalid-request", "x", nil},
		{"GET", "/v1/reservations?status=active", ``, 400, "invalid-request", "status", nil},
		{"GET", "/v1/reservations?productId=mug", ``, 400, "invalid-request", "productId", nil},
		{
			"GET", "/v1/reservations?productId=mug&status=ACTIVE&customerId=a", ``,
			400, "invalid-request", "productId", nil,
		},
		{"GET", "/v1/reservations?customerId=", ``, 400, "invalid-request", "customerId", nil},
		{"GET", "/v1/reservations?customerId=%ff", ``, 400, "invalid-request", "customerId", nil},
		{"GET", "/v1/reservations?cursor=abc", ``, 400, "invalid-request", "cursor", nil},
		{"GET", "/v1/orders?status=ACTIVE", ``, 400, "invalid-request", "status", nil},
		{"GET", "/v1/orders?reservationId=", ``, 400, "invalid-request", "reservationId", nil},
		{
			"GET", "/v1/orders?reservationId=" + strings.Repeat("x", 65), ``,
			400, "invalid-request", "reservationId", nil,
		},
		{"GET", "/v1/events?after=-1", ``, 400, "invalid-request", "after", nil},
		{"GET", "/v1/events?after=01", ``, 400, "invalid-request", "after", nil},
		{"GET", "/v1/events?wait=31", ``, 400, "invalid-request", "wait", nil},
		{"GET", "/v1/events?wait=1.5", ``, 400, "invalid-request", "wait", nil},
		{"POST", "/v1/reservations?dry=1", goodHold + `}`, 400, "invalid-request", "dry", nil},
	}
}

// badHeaders have a header, media type, method or size that is wrong.
func badHeaders(r, o string) []badRequest {
	rsv := "/v1/reservations/" + r
	return []badRequest{
		{
			"POST", "/v1/reservations", goodHold + `}`,
			400, "invalid-request", "Idempotency-Key",
			[]string{"Idempotency-Key", ""},
		},
		{
			"POST", "/v1/reservations", goodHold + `}`,
			400, "invalid-request", "Idempotency-Key",
			[]string{"Idempotency-Key", `"`},
		},
		{
			"POST", "/v1/reservations", goodHold + `}`,
			400, "invalid-request", "Idempotency-Key",
			[]string{"Idempotency-Key", `"a`},
		},
		{
			"POST", "/v1/reservations", goodHold + `}`,
			400, "invalid-request", "Idempotency-Key",
			[]string{"Idempotency-Key", `"a"b"`},
		},
		{
			"POST", "/v1/reservations", goodHold + `}`,
			400, "invalid-request", "Idempotency-Key",
			[]string{"Idempotency-Key", strings.Repeat("k", 256)},
		},
		{
			"POST", "/v1/reservations", goodHold + `}`,
			400, "invalid-request", "Idempotency-Key",
			[]string{"Idempotency-Key", "a", "Idempotency-Key", "b"},
		},
		{
			"PATCH", "/v1/products/mug", `{"name":"x"}`,
			400, "invalid-request", "If-Match",
			[]string{"If-Match", "1"},
		},
		{"PATCH", "/v1/products/mug", `{"name":"x"}`, 412, "version-mismatch", "", []string{"If-Match", `W/"1"`}},
		{"GET", "/v1/products/mug", ``, 400, "invalid-request", "If-None-Match", []string{"If-None-Match", `"a`}},
		{
			"POST", "/v1/reservations", goodHold + `}`,
			415, "unsupported-media-type", "",
			[]string{"Content-Type", "text/plain"},
		},
		{
			"POST", "/v1/orders/" + o + "/fulfill", `x=1`,
			415, "unsupported-media-type", "",
			[]string{"Content-Type", "application/x-www-form-urlencoded"},
		},
		{"PUT", "/v1/products/mug", `{}`, 405, "method-not-allowed", "", nil},
		{"DELETE", "/v1/products/mug", ``, 405, "method-not-allowed", "", nil},
		{"POST", "/v1/products/mug", `{}`, 405, "method-not-allowed", "", nil},
		{"GET", rsv + "/cancel", ``, 405, "method-not-allowed", "", nil},
		{
			"POST", "/v1/reservations", `{"metadata":{"a":"` + strings.Repeat("x", 1<<20) + `"}}`,
			413, "body-too-large", "", nil,
		},
	}
}

// TestLenientInput: what looks odd and is right all the same.
func TestLenientInput(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 10)
		h.request("POST", "/v1/products",
			`{"id":"A.b_c:d-9","name":"ü😀","price":{"amount":9007199254740991,"currency":"XXX"},`+
				`"totalStock":1000000000000000,"metadata":{"é":""}}`, 201)
		h.contentType = "application/json; charset=UTF-8"
		r := h.hold("mug", 1, 60).id()
		h.contentType = "text/plain" // no body: any type will do
		h.request("POST", "/v1/reservations/"+r+"/cancel", "", 200)
		h.contentType = ""
		for _, body := range []string{ // sent without Content-Type
			`{"productId":"mug","quantity":1}`,
			`{"productId":"mug","quantity":1,"location":null,"lines":null,"ttlSeconds":null,"metadata":null}`,
			`{"lines":[{"productId":"mug","quantity":1,"location":null,"unitPrice":null}],"customerId":null}`,
		} {
			request, err := http.NewRequest("POST", h.url+"/v1/reservations", strings.NewReader(body))
			if err != nil {
				h.Fatal(err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil || response.StatusCode != 201 {
				h.Fatalf("%s: %v %v", body, response, err)
			}
			response.Body.Close()
		}
		h.request("POST", "/v1/reservations",
			`{"productId":"mug","quantity":1,"unitPrice":{"amount":0,"currency":"USD"}}`,
			201, "Idempotency-Key", `"with \" and \\"`)
		h.request("PATCH", "/v1/products/mug", `{"name":"x"}`, 200, "If-Match", "*")
		h.request("GET", "/v1/products/mug", "", 304, "If-None-Match", "*")
	})
}

// badInSeveralWays are requests that are told what is wrong in the order of the contract: the body as bytes, the query,
// the precondition, what the body says, the key.
func badInSeveralWays() []badRequest {
	const zero = `{"productId":"mug","quantity":0}`
	return []badRequest{
		{
			"POST", "/v1/reservations?x=1", zero,
			415, "unsupported-media-type", "",
			[]string{"Content-Type", "text/plain"},
		},
		{
			"POST", "/v1/reservations?x=1", zero,
			400, "invalid-request", "x",
			[]string{"Idempotency-Key", ""},
		},
		{
			"PATCH", "/v1/products/mug?x=1", `{"name":1}`,
			400, "invalid-request", "x",
			[]string{"If-Match", "1"},
		},
		{
			"PATCH", "/v1/products/mug", `{"name":1}`,
			400, "invalid-request", "If-Match",
			[]string{"If-Match", "1", "Idempotency-Key", ""},
		},
		{
			"POST", "/v1/reservations", zero,
			400, "invalid-request", "/quantity",
			[]string{"Idempotency-Key", ""},
		},
	}
}
