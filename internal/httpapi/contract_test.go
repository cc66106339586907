package httpapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/holdfast/holdfast/api"
	"github.com/holdfast/holdfast/client"
)

// TestRoutesAreTheContract: every pattern of the server is in the OpenAPI file and the other way round.
func TestRoutesAreTheContract(t *testing.T) {
	document, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	var inFile []string
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			inFile = append(inFile, method+" "+path)
			if operation.OperationID == "" || operation.Summary == "" || len(operation.Tags) != 1 {
				t.Errorf("%s %s: operationId, summary and one tag are needed", method, path)
			}
		}
	}
	slices.Sort(inFile)
	onEveryStore(t, func(h *harness) {
		if served := h.server.Patterns(); !slices.Equal(served, inFile) {
			h.Errorf("served:\n%s\nin the file:\n%s", strings.Join(served, "\n"), strings.Join(inFile, "\n"))
		}
	})
}

// TestSchemas: integers have a maximum and no format; only requests are closed; response enums are not.
func TestSchemas(t *testing.T) {
	document, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(where string, s *openapi3.SchemaRef, input bool)
	walk = func(where string, ref *openapi3.SchemaRef, input bool) {
		if ref == nil || ref.Value == nil || (ref.Ref != "" && strings.Count(where, "/") > 0) {
			return
		}
		s := ref.Value
		if s.Type.Includes("integer") && (s.Max == nil || s.Format != "") {
			t.Errorf("%s: an integer without maximum, or with a format", where)
		}
		if !input && len(s.Enum) > 0 {
			t.Errorf("%s: an answer with a closed enum", where)
		}
		if !input && s.AdditionalProperties.Has != nil && !*s.AdditionalProperties.Has {
			t.Errorf("%s: an answer with a closed object", where)
		}
		if input && s.Type.Is("object") && len(s.Properties) > 0 &&
			(s.AdditionalProperties.Has == nil || *s.AdditionalProperties.Has) {
			t.Errorf("%s: a request with an open object", where)
		}
		for name, property := range s.Properties {
			walk(where+"/"+name, property, input)
		}
		walk(where+"/[]", s.Items, input)
	}
	for name, s := range document.Components.Schemas {
		walk(name, s, strings.HasSuffix(name, "Input") || strings.HasSuffix(name, "Patch"))
	}
}

// TestProblemPages: every code has its page, and the client knows every code.
func TestProblemPages(t *testing.T) {
	codes := []client.Code{
		client.InvalidJSON, client.InvalidRequest, client.MixedCurrencies, client.TotalTooLarge, client.NotFound,
		client.ProductNotFound, client.ReservationNotFound, client.OrderNotFound, client.MethodNotAllowed,
		client.ProductExists, client.InsufficientStock, client.StockLimit, client.ReservationExpired,
		client.ReservationCancelled, client.ReservationConfirmed, client.HoldLimitReached, client.OrderFulfilled,
		client.OrderCancelled, client.VersionMismatch, client.CursorAhead, client.BodyTooLarge,
		client.UnsupportedMediaType, client.IdempotencyKeyReused, client.Internal, client.Overloaded,
		client.NotReady, client.OutcomeUnknown, client.BatchRefused, client.BatchTooLarge,
		client.EventNotFound, client.WebhookNotFound, client.DeliveryNotFound,
	}
	onEveryStore(t, func(h *harness) {
		for _, code := range codes {
			page := h.request("GET", "/problems/"+string(code), "", 200)
			if !strings.Contains(string(page.body), string(code)) {
				h.Errorf("%s: the page does not name it", code)
			}
		}
		docs := string(h.request("GET", "/docs", "", 200).body)
		if n := strings.Count(docs, `<td><a href="/problems/`); n != len(codes) {
			h.Errorf("/docs lists %d codes, the client knows %d", n, len(codes))
		}
		docs = strings.ReplaceAll(docs, "https://shop.example", "") // of an example
		if strings.Contains(docs, "https://") ||
			strings.Contains(docs, "http://") && !strings.Contains(docs, "http://$HOST") {
			h.Error("/docs loads something from elsewhere")
		}
		for _, operation := range []string{"createProduct", "createReservation", "createOrder", "listEvents"} {
			if !strings.Contains(docs, `id="`+operation+`"`) {
				h.Errorf("/docs lacks %s", operation)
			}
		}
		h.request("GET", "/problems/none", "", 404)
	})
}

func TestServerPages(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		for _, path := range []string{
			"/livez", "/readyz", "/version", "/openapi.yaml", "/openapi.json", "/docs", "/metrics",
		} {
			h.request("GET", path, "", 200)
			if a := h.request("HEAD", path, "", 200); len(a.body) != 0 {
				h.Errorf("HEAD %s has a body", path)
			}
			a := h.request("DELETE", path, "", 405)
			if a.Header.Get("Allow") != "GET, HEAD" {
				h.Errorf("%s: Allow %q", path, a.Header.Get("Allow"))
			}
		}
		if got := string(h.request("GET", "/openapi.yaml", "", 200).body); got != string(api.OpenAPI) {
			h.Error("/openapi.yaml is another file")
		}
		for _, path := range []string{
			"/", "/v1", "/v1/", "/v1/products/", "/v2/products", "/v1/products/mug/",
			"/v1/products/mug/adjustments/1", "/v1//products", "/v1/../livez", "/problems/", "/docs/",
		} {
			if a := h.request("GET", path, "", http.StatusNotFound); a.code() != "not-found" {
				h.Errorf("%s: %s", path, a.code())
			}
		}
		if a := h.request("GET", "/livez", "", 200, "Request-Id", "my-id"); a.Header.Get("Request-Id") != "my-id" {
			h.Error("Request-Id is not echoed")
		}
	})
}
