package bench

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"

	"github.com/holdfast/holdfast/internal/inventory"
)

// The answer to a hold, as long as Holdfast's, in two parts: the id comes between them.
const (
	holdAnswerBegins = `{"id":"`
	holdAnswerEnds   = `","status":"ACTIVE","lines":[{"line":1,"productId":"p0","location":"main","quantity":1,` +
		`"unitPrice":{"amount":1999,"currency":"EUR"}}],"total":{"amount":1999,"currency":"EUR"},"customerId":null,` +
		`"metadata":{},"createdAt":"2026-11-23T21:38:33.825Z","updatedAt":"2026-11-23T21:38:33.825Z",` +
		`"expiresAt":"2026-11-23T21:48:33.825Z","endedAt":null,"cancelReason":null,"orderId":null,"version":1}`
)

// holdID is the id of a reservation in answers, as long as Holdfast's.
func holdID(key int64) string {
	const sequences = 1 << 44
	id := inventory.NewID(inventory.Time(key/1_000_000), key%sequences, 0)
	return id.Text(inventory.ReservationPrefix)
}

// answerHold writes an answer with the headers and the size of Holdfast's.
func answerHold(w http.ResponseWriter, id string) {
	h := w.Header()
	setCommonHeaders(h)
	h["Holdfast-Sequence"] = []string{"1234567"}
	h["Etag"] = []string{`"1"`}
	h["Location"] = []string{"/v1/reservations/" + id}
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(holdAnswerBegins) + len(id) + len(holdAnswerEnds))}
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, holdAnswerBegins+id+holdAnswerEnds)
}

func setCommonHeaders(h http.Header) {
	h["Request-Id"] = []string{"1x7vqmx2j3k0a-4k2"}
	h["Cache-Control"] = []string{"no-cache"}
}

// Nothing is what Holdfast's speed is measured against: the same server, route, headers and size of answer, and nothing
// stored. With a file it writes and flushes 16 KiB before each answer, the least that a durable store has to pay.
func Nothing(flushed *os.File) http.Handler {
	id := holdID(1)
	flush := flusher(flushed)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", noMetrics)
	mux.HandleFunc("POST /v1/reservations", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		if err := flush(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answerHold(w, id)
	})
	return mux
}

// noMetrics answers the load, which asks every server for its metrics.
func noMetrics(http.ResponseWriter, *http.Request) {}

func flusher(file *os.File) (flush func() error) {
	if file == nil {
		return func() error { return nil }
	}
	var mu sync.Mutex
	page := make([]byte, 16<<10)
	return func() error {
		mu.Lock()
		defer mu.Unlock()
		if _, err := file.Write(page); err != nil {
			return err
		}
		return file.Sync()
	}
}
