package load

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
)

// nothingAnswer is as long as what Holdfast answers to a hold.
const nothingAnswer = `{"id":"rsv_01m855hbq1e008000002td6m00","status":"ACTIVE","lines":[{"line":1,"productId":"p0","location":"main","quantity":1,"unitPrice":{"amount":1999,"currency":"EUR"}}],"total":{"amount":1999,"currency":"EUR"},"customerId":null,"metadata":{},"createdAt":"2026-11-23T21:38:33.825Z","updatedAt":"2026-11-23T21:38:33.825Z","expiresAt":"2026-11-23T21:48:33.825Z","endedAt":null,"cancelReason":null,"orderId":null,"version":1}`

// Nothing is what Holdfast's speed is measured against: the same server, route, headers and size of answer, and nothing stored.
// With a file it writes and flushes 16 KiB before each answer, which is the least that a durable store has to pay.
func Nothing(flushed *os.File) http.Handler {
	var mu sync.Mutex
	page := make([]byte, 16<<10)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/reservations", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		if flushed != nil {
			mu.Lock()
			_, err := flushed.Write(page)
			if err == nil {
				err = flushed.Sync()
			}
			mu.Unlock()
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		h := w.Header()
		h["Request-Id"] = []string{"1x7vqmx2j3k0a-4k2"}
		h["Cache-Control"] = []string{"no-cache"}
		h["Holdfast-Sequence"] = []string{"1234567"}
		h["Etag"] = []string{`"1"`}
		h["Location"] = []string{"/v1/reservations/rsv_01m855hbq1e008000002td6m00"}
		h["Content-Type"] = []string{"application/json"}
		h["Content-Length"] = []string{strconv.Itoa(len(nothingAnswer))}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, nothingAnswer)
	})
	return mux
}
