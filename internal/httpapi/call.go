package httpapi

import (
	"net/http"
	"runtime/debug"
	"strconv"

	"github.com/holdfast/holdfast/internal/inventory"
)

// call is one request with its answer.
type call struct {
	*http.Request
	w      *responseWriter
	server *Server
	id     string // Request-Id

	claimed int64 // bytes of the server's budget
}

// responseWriter remembers the status for the metrics.
type responseWriter struct {
	http.ResponseWriter
	status int
}

func (w *responseWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets [http.ResponseController] reach the writer below.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// noCache lets a copy be kept, but asks for its ETag each time: nobody is to be shown old stock from a cache.
var noCache = []string{"no-cache"}

// wrap makes an HTTP handler of an operation: it writes the problem where the operation returns an error, and counts
// the call.
func (s *Server) wrap(operation string, serve func(*call) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := s.o.Now()
		c := &call{Request: r, w: &responseWriter{ResponseWriter: w}, server: s, id: s.requestID(r)}
		h := w.Header()
		h["Request-Id"] = []string{c.id}
		h["Cache-Control"] = noCache
		defer c.keep(0)
		code := ""
		if p := s.guard(c, serve); p != nil {
			code = string(p.Code)
			p.write(c.w, c.id)
		}
		s.o.Observe(Observation{Operation: operation, Status: c.w.status, Code: code, Took: s.o.Now().Sub(start)})
	}
}

// guard turns a panic into a 500 that tells the caller nothing of it.
func (s *Server) guard(c *call, serve func(*call) error) (p *problem) {
	defer func() {
		value := recover()
		if value == nil {
			return
		}
		if value == http.ErrAbortHandler {
			panic(value)
		}
		s.o.Log.Error("a request panicked", "method", c.Method, "path", c.URL.Path, "requestId", c.id,
			"panic", value, "stack", string(debug.Stack()))
		p = fail(CodeInternal)
	}()
	return c.explain(serve(c))
}

// maxRequestIDBytes bounds the Request-Id that a caller may choose.
const maxRequestIDBytes = 128

func (s *Server) requestID(r *http.Request) string {
	given := r.Header["Request-Id"]
	if len(given) == 1 && len(given[0]) <= maxRequestIDBytes && isPrintable(given[0]) {
		return given[0]
	}
	return s.newRequestID()
}

func (s *Server) newRequestID() string {
	return s.requestPrefix + strconv.FormatInt(s.requestCount.Add(1), 36)
}

// isPrintable reports whether s is at least one character, and each of them printable ASCII.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// pathID is the id in the path. One that no server made is zero, which names nothing.
func (c *call) pathID(prefix string) inventory.ID {
	id, _ := inventory.ParseID(prefix, c.PathValue("id"))
	return id
}
