package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/holdfast/holdfast/api"
	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/httpapi"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
	"github.com/holdfast/holdfast/internal/store/mongodb"
	"github.com/holdfast/holdfast/internal/store/postgres"
	"github.com/holdfast/holdfast/internal/store/sqlite"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// contract is the OpenAPI file, loaded once.
var contract = sync.OnceValues(func() (routers.Router, error) {
	document, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		return nil, err
	}
	if err := document.Validate(context.Background()); err != nil {
		return nil, err
	}
	return gorillamux.NewRouter(document)
})

func TestMain(m *testing.M) {
	openapi3filter.RegisterBodyDecoder("application/merge-patch+json", openapi3filter.JSONBodyDecoder)
	for _, media := range []string{"text/html", "application/yaml"} {
		openapi3filter.RegisterBodyDecoder(media, openapi3filter.PlainBodyDecoder)
	}
	dbtest.Main(m)
}

// harness is a server on a fresh store, whose every request and answer is held against the contract.
type harness struct {
	*testing.T
	*storetest.Clock
	store  store.Store
	engine *engine.Engine
	server *httpapi.Server
	url    string

	contentType string // of the requests; default application/json where there is a body
}

// stores open an empty store of each kind, with this clock, or its own if there is none.
var stores = map[string]func(t *testing.T, now func() time.Time) (store.Store, error){
	"memory": func(_ *testing.T, now func() time.Time) (store.Store, error) {
		return memory.Open(memory.Options{Now: now}), nil
	},
	"sqlite": func(t *testing.T, now func() time.Time) (store.Store, error) {
		return sqlite.Open(filepath.Join(t.TempDir(), "store.db"), sqlite.Options{Now: now})
	},
	"postgres": func(t *testing.T, now func() time.Time) (store.Store, error) {
		return postgres.Open(t.Context(), dbtest.Postgres(t), postgres.Options{Now: now})
	},
	"mongodb": func(t *testing.T, now func() time.Time) (store.Store, error) {
		return mongodb.Open(t.Context(), dbtest.MongoDB(t), mongodb.Options{Now: now})
	},
}

// onEveryStore runs a test on each kind of store.
func onEveryStore(t *testing.T, test func(*harness)) {
	for kind, open := range stores {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			clock := storetest.NewClock()
			s, err := open(t, clock.Now)
			if err != nil {
				t.Fatal(err)
			}
			test(newHarness(t, clock, s, httpapi.Options{}, engine.Options{}))
		})
	}
}

// newMemoryHarness is for what does not depend on the store.
func newMemoryHarness(t *testing.T, clock *storetest.Clock) *harness {
	return newHarness(t, clock, memory.Open(memory.Options{Now: clock.Now}), httpapi.Options{}, engine.Options{})
}

func newHarness(t *testing.T, clock *storetest.Clock, s store.Store, o httpapi.Options, c engine.Options) *harness {
	h := &harness{T: t, Clock: clock, store: s}
	c.Render = httpapi.Render
	h.engine = engine.Open(keptOpen{s}, c)
	o.Engine, o.Spec, o.Now = h.engine, api.OpenAPI, clock.Now
	o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintln(w, "metrics")
	})
	var err error
	if h.server, err = httpapi.New(o); err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(h.server)
	h.url = listener.URL
	t.Cleanup(func() {
		h.server.Stop()
		listener.Close()
		if err := h.engine.Close(context.Background()); err != nil {
			t.Error(err)
		}
		h.verify()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// verify audits the store: after every test, whatever it did.
func (h *harness) verify() {
	h.Helper()
	report, err := audit.Run(context.Background(), h.store, audit.Options{})
	if err != nil {
		h.Fatal(err)
	}
	for _, b := range report.Breaches {
		h.Errorf("audit: %v", b)
	}
}

// answer is a response that was read to its end.
type answer struct {
	*http.Response
	body []byte
	json map[string]any
}

// request sends a request, checks its answer against the contract, and fails where the status is not one of those
// wanted. Headers are pairs of name and value.
func (h *harness) request(method, path, body string, wantStatus int, headers ...string) *answer {
	h.Helper()
	a := h.try(method, path, body, headers...)
	if a.StatusCode != wantStatus {
		h.Fatalf("%s %s %s: %d, want %d: %s", method, path, body, a.StatusCode, wantStatus, a.body)
	}
	return a
}

func (h *harness) try(method, path, body string, headers ...string) *answer {
	h.Helper()
	r, err := http.NewRequest(method, h.url+path, strings.NewReader(body))
	if err != nil {
		h.Fatal(err)
	}
	if h.contentType != "" {
		r.Header.Set("Content-Type", h.contentType)
	} else if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		h.Fatal(err)
	}
	defer response.Body.Close()
	a := &answer{Response: response}
	if a.body, err = io.ReadAll(response.Body); err != nil {
		h.Fatal(err)
	}
	_ = json.Unmarshal(a.body, &a.json)
	h.holdAgainstContract(r, body, a)
	return a
}

func (h *harness) holdAgainstContract(r *http.Request, body string, a *answer) {
	h.Helper()
	router, err := contract()
	if err != nil {
		h.Fatalf("the OpenAPI file: %v", err)
	}
	if a.Header.Get("Request-Id") == "" {
		h.Errorf("%s %s: no Request-Id", r.Method, r.URL)
	}
	if a.StatusCode >= 400 && r.Method != http.MethodHead {
		h.checkProblem(a)
	}
	request := r.Clone(context.Background())
	request.URL.Scheme, request.URL.Host, request.Host = "", "", ""
	request.Body = io.NopCloser(strings.NewReader(body))
	route, parameters, err := router.FindRoute(request)
	if err != nil {
		if r.Method != http.MethodHead && a.StatusCode != http.StatusNotFound &&
			a.StatusCode != http.StatusMethodNotAllowed {
			h.Errorf("%s %s: %d, but the contract does not know the operation", r.Method, r.URL.Path, a.StatusCode)
		}
		return
	}
	input := &openapi3filter.RequestValidationInput{Request: request, PathParams: parameters, Route: route}
	if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil && a.StatusCode < 300 {
		h.Errorf("%s %s %s: accepted, but the contract refuses it: %v", r.Method, r.URL, body, err)
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: a.StatusCode, Header: a.Header, Body: io.NopCloser(bytes.NewReader(a.body)),
	})
	if err != nil {
		h.Errorf("%s %s: the answer is not in the contract: %v\n%s", r.Method, r.URL, err, a.body)
	}
}

// checkProblem holds an error answer to RFC 9457 and to its page.
func (h *harness) checkProblem(a *answer) {
	h.Helper()
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		h.Errorf("%d with Content-Type %s: %s", a.StatusCode, got, a.body)
	}
	if a.json["requestId"] != a.Header.Get("Request-Id") || a.json["status"] != float64(a.StatusCode) ||
		a.json["type"] != "/problems/"+fmt.Sprint(a.json["code"]) {
		h.Errorf("problem: %s", a.body)
	}
	if detail, _ := a.json["detail"].(string); !strings.HasSuffix(detail, ".") {
		h.Errorf("the detail is no sentence: %s", a.body)
	}
	if strings.Contains(string(a.body), "internal/") || strings.Contains(string(a.body), "goroutine") {
		h.Errorf("internal text leaks: %s", a.body)
	}
}

// code is the problem code of an answer.
func (a *answer) code() string {
	code, _ := a.json["code"].(string)
	return code
}

// at reads a value by a path such as "current.orderId" or "lines.0.quantity"; nil where there is none.
func (a *answer) at(path string) any {
	var value any = a.json
	for _, step := range strings.Split(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[step]
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

func (a *answer) id() string { return a.at("id").(string) }

// product makes a product with this stock at main.
func (h *harness) product(id string, units int64) {
	h.Helper()
	h.request("POST", "/v1/products", fmt.Sprintf(
		`{"id":%q,"name":"Product","price":{"amount":250,"currency":"EUR"},"totalStock":%d}`, id, units), 201)
}

// hold reserves units of a product.
func (h *harness) hold(id string, quantity, ttlSeconds int) *answer {
	h.Helper()
	return h.request("POST", "/v1/reservations",
		fmt.Sprintf(`{"productId":%q,"quantity":%d,"ttlSeconds":%d}`, id, quantity, ttlSeconds), 201)
}

// stock requires the buckets of a product.
func (h *harness) stock(id string, available, reserved, committed float64) {
	h.Helper()
	p := h.request("GET", "/v1/products/"+id, "", 200)
	if p.at("availableStock") != available || p.at("reservedStock") != reserved ||
		p.at("committedStock") != committed || p.at("totalStock") != available+reserved+committed {
		h.Errorf("stock of %s, want %v/%v/%v: %s", id, available, reserved, committed, p.body)
	}
}
