package load

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
)

func serve(t *testing.T, handlers map[string]http.HandlerFunc) (host string) {
	t.Helper()
	mux := http.NewServeMux()
	for pattern, h := range handlers {
		mux.HandleFunc(pattern, h)
	}
	mux.HandleFunc("GET /metrics", func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// TestBatch: every operation of a batch counts as it was answered, and one that has no result is an error.
func TestBatch(t *testing.T) {
	id := inventory.NewID(1, 1, 0).Text(inventory.ReservationPrefix)
	good := `{"status":201,"body":{"id":"` + id + `","status":"ACTIVE","metadata":{}}}`
	refused := `{"status":409,"body":{"type":"/problems/insufficient-stock","status":409,"code":"insufficient-stock"}}`
	host := serve(t, map[string]http.HandlerFunc{"POST /v1/batch": func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var sent struct{ Operations []struct{ Operation string } }
		if err := json.Unmarshal(body, &sent); err != nil || len(sent.Operations) != 4 {
			t.Errorf("sent %s: %v", body, err)
		}
		_, _ = io.WriteString(w, `{"results":[`+good+","+refused+","+good+`]}`)
	}})
	w := Workload{Name: "batches", Products: 1, Lines: 1, Batch: 4}
	r, err := Run(t.Context(), RunOptions{Host: host, Workload: w, Prefix: "p", Clients: 1, Duration: Interval})
	if err != nil {
		t.Fatal(err)
	}
	batches := r.Answered / 4
	if batches == 0 || r.Answered != 4*batches || r.Good != 2*batches || len(r.acknowledged) == 0 {
		t.Errorf("%+v", r)
	}
	if int64(r.Refusals["insufficient-stock"]) != batches || int64(r.Errors["an operation without a result"]) != batches {
		t.Errorf("%v %v", r.Refusals, r.Errors)
	}
}

// TestRead: a read that was wanted is good, one that has no answer of that kind is an error.
func TestRead(t *testing.T) {
	host := serve(t, map[string]http.HandlerFunc{
		"GET /there": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") == `"1"` {
				w.WriteHeader(http.StatusNotModified)
			}
		},
	})
	for _, c := range []struct {
		read Read
		good bool
	}{
		{Read{Path: "/there", Status: http.StatusOK}, true},
		{Read{Path: "/there", IfNoneMatch: `"1"`, Status: http.StatusNotModified}, true},
		{Read{Path: "/gone", Status: http.StatusOK}, false},
	} {
		r, err := Run(t.Context(), RunOptions{Host: host, Read: &c.read, Clients: 2, Duration: Interval})
		if err != nil {
			t.Fatal(err)
		}
		if r.Answered == 0 || (r.Good == r.Answered) != c.good || (r.Failed() == nil) != c.good {
			t.Errorf("%+v: %+v", c.read, r)
		}
	}
}

// TestOpenLoop: no more visits are made than arrive.
func TestOpenLoop(t *testing.T) {
	host := serve(t, map[string]http.HandlerFunc{"GET /there": func(http.ResponseWriter, *http.Request) {}})
	read := Read{Path: "/there", Status: http.StatusOK}
	r, err := Run(t.Context(), RunOptions{Host: host, Read: &read, Clients: 2, Duration: 200 * time.Millisecond, Rate: 100})
	if err != nil {
		t.Fatal(err)
	}
	if r.Answered != 20 {
		t.Errorf("%d visits in 0.2 s at 100/s", r.Answered)
	}
}
