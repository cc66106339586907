package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/holdfast/holdfast/internal/load"
)

// Answer is an answer of Holdfast, kept so that a handler that does nothing else can give it again.
type Answer struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// record asks a server once.
func record(ctx context.Context, host string, read *load.Read) (*Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+read.Path, nil)
	if err != nil {
		return nil, err
	}
	if read.IfNoneMatch != "" {
		r.Header.Set("If-None-Match", read.IfNoneMatch)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	a := &Answer{Status: response.StatusCode, Header: response.Header}
	a.Header.Del("Date") // every server of Go writes its own
	if a.Body, err = io.ReadAll(response.Body); err != nil {
		return nil, err
	}
	if a.Status != read.Status {
		return nil, fmt.Errorf("GET %s: status %d instead of %d: %s", read.Path, a.Status, read.Status, a.Body)
	}
	return a, nil
}

// Bare answers every GET with one recorded answer: what reading is measured against.
func Bare(a *Answer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", noMetrics)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		for name, values := range a.Header {
			h[name] = values
		}
		w.WriteHeader(a.Status)
		_, _ = w.Write(a.Body)
	})
	return mux
}
