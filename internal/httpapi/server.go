// Package httpapi is the HTTP face of Holdfast: requests in, commands through the door, JSON or a problem out.
//
// The contract is api/openapi.yaml; tests hold the routes, the answers and that file together.
package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"mime"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/internal/commit"
	"github.com/holdfast/holdfast/internal/docs"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

const (
	maxBodyBytes   = 1 << 20
	maxWaitSeconds = 30
	// feedPoll is how often a waiting reader of the feed looks for events that another process committed.
	feedPoll = 500 * time.Millisecond
)

// Options are what the server is made of. Door, Store and Spec must be given.
type Options struct {
	Door        *commit.Door
	Store       store.Store
	Spec        []byte        // the OpenAPI file, YAML
	HoldDefault time.Duration // default 10 minutes
	HoldMax     time.Duration // default 24 hours; whole seconds
	// RequestTimeout is how long a request waits for its outcome; default 15 seconds.
	RequestTimeout time.Duration
	Version        Version
	Metrics        http.Handler // of /metrics; nil: none
	Observe        func(Observation)
	Log            *slog.Logger
	Now            func() time.Time
}

// Version is what /version says.
type Version struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	Store    string `json:"store"` // the kind of the store, never its address
}

// Observation is one request, for metrics.
type Observation struct {
	Operation string // operationId, or "none"
	Status    int
	Code      string // of the problem, if there is one
	Took      time.Duration
}

// Server is an [http.Handler].
type Server struct {
	o        Options
	mux      *http.ServeMux
	patterns map[string][]string // path pattern: methods
	names    map[string]string   // pattern: operationId
	spec     *docs.Pages

	requestPrefix string
	requestCount  atomic.Int64

	feed     broadcast
	stopping chan struct{}
	stop     sync.Once
}

// New makes a server. Call [Server.Committed] after every batch, and [Server.Stop] before the HTTP server is shut down.
func New(o Options) (*Server, error) {
	if o.HoldDefault == 0 {
		o.HoldDefault = 10 * time.Minute
	}
	if o.HoldMax == 0 {
		o.HoldMax = 24 * time.Hour
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = 15 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observe == nil {
		o.Observe = func(Observation) {}
	}
	pages, err := docs.New(o.Spec, documented())
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, mux: http.NewServeMux(), spec: pages,
		patterns: map[string][]string{}, names: map[string]string{},
		requestPrefix: strconv.FormatUint(rand.Uint64(), 36) + "-",
		stopping:      make(chan struct{}),
	}
	s.feed.wake = make(chan struct{})
	s.routes()
	return s, nil
}

// Committed wakes those who wait for events.
func (s *Server) Committed() { s.feed.send() }

// Stop answers those who wait for events with what there is.
func (s *Server) Stop() { s.stop.Do(func() { close(s.stopping) }) }

// Patterns returns every "METHOD /path" that the server answers, for the test that holds it against the OpenAPI file.
func (s *Server) Patterns() []string { return slices.Sorted(maps.Keys(s.names)) }

func (s *Server) routes() {
	s.handle("POST /v1/products", "createProduct", s.createProduct)
	s.handle("GET /v1/products", "listProducts", s.listProducts)
	s.handle("GET /v1/products/{id}", "getProduct", s.getProduct)
	s.handle("PATCH /v1/products/{id}", "updateProduct", s.updateProduct)
	s.handle("POST /v1/products/{id}/adjustments", "adjustStock", s.adjustStock)
	s.handle("POST /v1/reservations", "createReservation", s.createReservation)
	s.handle("GET /v1/reservations", "listReservations", s.listReservations)
	s.handle("GET /v1/reservations/{id}", "getReservation", s.getReservation)
	s.handle("POST /v1/reservations/{id}/cancel", "cancelReservation", s.cancelReservation)
	s.handle("POST /v1/reservations/{id}/extend", "extendReservation", s.extendReservation)
	s.handle("POST /v1/orders", "createOrder", s.createOrder)
	s.handle("GET /v1/orders", "listOrders", s.listOrders)
	s.handle("GET /v1/orders/{id}", "getOrder", s.getOrder)
	s.handle("POST /v1/orders/{id}/fulfill", "fulfillOrder", s.fulfillOrder)
	s.handle("POST /v1/orders/{id}/cancel", "cancelOrder", s.cancelOrder)
	s.handle("GET /v1/events", "listEvents", s.listEvents)

	s.handle("GET /livez", "livez", s.livez)
	s.handle("GET /readyz", "readyz", s.readyz)
	s.handle("GET /version", "version", s.version)
	s.handle("GET /openapi.yaml", "openapiYAML", s.openapiYAML)
	s.handle("GET /openapi.json", "openapiJSON", s.openapiJSON)
	s.handle("GET /docs", "docs", s.docs)
	s.handle("GET /problems/{code}", "problem", s.problemPage)
	if s.o.Metrics != nil {
		s.handle("GET /metrics", "metrics", func(c *call) *problem {
			s.o.Metrics.ServeHTTP(c.w, c.Request)
			return nil
		})
	}
	for pattern, methods := range s.patterns {
		s.mux.HandleFunc(pattern, s.wrap("none", func(c *call) *problem {
			c.w.Header().Set("Allow", strings.Join(methods, ", "))
			return fail("method-not-allowed")
		}))
	}
	s.mux.HandleFunc("/", s.wrap("none", func(*call) *problem { return fail("not-found") }))
}

func (s *Server) handle(pattern, operation string, serve func(*call) *problem) {
	method, path, _ := strings.Cut(pattern, " ")
	s.names[pattern] = operation
	s.patterns[path] = append(s.patterns[path], method)
	if method == http.MethodGet {
		s.patterns[path] = append(s.patterns[path], http.MethodHead)
	}
	s.mux.HandleFunc(pattern, s.wrap(operation, serve))
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The mux would redirect a path that is not clean; here it is simply not there.
	if p := r.URL.Path; p == "" || p[0] != '/' || (p != "/" && path.Clean(p) != strings.TrimSuffix(p, "/")) {
		s.wrap("none", func(*call) *problem { return fail("not-found") })(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// call is one request with its answer.
type call struct {
	*http.Request
	w       *responseWriter
	server  *Server
	body    []byte
	receipt *inventory.ReceiptID
	id      string // Request-Id
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

func (s *Server) wrap(operation string, serve func(*call) *problem) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := s.o.Now()
		c := &call{Request: r, w: &responseWriter{ResponseWriter: w}, server: s, id: s.requestID(r)}
		h := w.Header()
		h["Request-Id"] = []string{c.id}
		h["Cache-Control"] = noCache
		code := ""
		if p := s.guard(c, serve); p != nil {
			code = p.Code
			p.write(c.w, c.id)
		}
		s.o.Observe(Observation{Operation: operation, Status: c.w.status, Code: code, Took: s.o.Now().Sub(start)})
	}
}

// noCache lets a copy be kept, but asks for its ETag each time: stock is never to be shown from a cache unasked.
var noCache = []string{"no-cache"}

// guard turns a panic into a 500 that says nothing of it.
func (s *Server) guard(c *call, serve func(*call) *problem) (p *problem) {
	defer func() {
		value := recover()
		if value == nil {
			return
		}
		if value == http.ErrAbortHandler {
			panic(value)
		}
		s.o.Log.Error("a request panicked", "method", c.Method, "path", c.URL.Path, "requestId", c.id, "panic", value, "stack", string(debug.Stack()))
		p = fail("internal")
	}()
	return serve(c)
}

func (s *Server) requestID(r *http.Request) string {
	if given := r.Header["Request-Id"]; len(given) == 1 && isHeaderText(given[0], 128) {
		return given[0]
	}
	return s.requestPrefix + strconv.FormatInt(s.requestCount.Add(1), 36)
}

func isHeaderText(s string, maxLength int) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= maxLength
}

// read checks the parts of a mutation in the contract's order (415, 413, 400) and decodes its body into a struct.
func (c *call) read(into any, mediaTypes ...string) *problem {
	if c.ContentLength != 0 {
		if p := c.checkMediaType(mediaTypes); p != nil {
			return p
		}
	}
	body, p := c.readBody()
	if p != nil {
		return p
	}
	c.body = body
	if p := c.noQuery(); p != nil {
		return p
	}
	if len(body) > 0 || !isOptionalBody(into) {
		if p := decode(body, into); p != nil {
			return p
		}
	}
	return c.readKey()
}

// isOptionalBody reports whether nothing at all is as good as {}.
func isOptionalBody(into any) bool {
	switch into.(type) {
	case *emptyBody, *reasonBody:
		return true
	}
	return false
}

func (c *call) readBody() ([]byte, *problem) {
	if c.ContentLength > maxBodyBytes {
		return nil, fail("body-too-large")
	}
	if c.ContentLength == 0 {
		return nil, nil
	}
	body := make([]byte, 0, max(c.ContentLength, 512))
	limited := io.LimitReader(c.Request.Body, maxBodyBytes+1)
	for {
		n, err := limited.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > maxBodyBytes:
			return nil, fail("body-too-large")
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, failf("invalid-json", "The body could not be read to its end: send all of it, within the time limit.")
		case len(body) == cap(body):
			body = slices.Grow(body, cap(body))
		}
	}
}

func (c *call) checkMediaType(accepted []string) *problem {
	given := c.Header["Content-Type"]
	if len(given) == 0 {
		return nil
	}
	if len(given) == 1 && given[0] == "application/json" {
		return nil
	}
	mediaType, parameters, err := mime.ParseMediaType(given[0])
	charset, hasCharset := parameters["charset"]
	if len(given) == 1 && err == nil && (mediaType == "application/json" || slices.Contains(accepted, mediaType)) && (!hasCharset || strings.EqualFold(charset, "utf-8")) {
		return nil
	}
	return fail("unsupported-media-type")
}

// noQuery refuses query parameters where the operation takes none.
func (c *call) noQuery() *problem {
	if c.URL.RawQuery == "" {
		return nil
	}
	_, p := c.query()
	return p
}

// pathID reads an id of the path. One that no server made names nothing; the door then says so, in its turn.
func (c *call) pathID(prefix string) inventory.ID {
	id, _ := inventory.ParseID(prefix, c.PathValue("id"))
	return id
}

// pathProduct reads a product's id of the path. One that cannot be an id becomes none, which names nothing: a database may not even
// take it as text.
func (c *call) pathProduct() string {
	if id := c.PathValue("id"); isKey(id) {
		return id
	}
	return ""
}

// do sends a command through the door.
func (c *call) do(command inventory.Command) (inventory.Outcome, *problem) {
	request := &inventory.Request{Command: command, Receipt: c.receipt, Salt: rand.Uint32()}
	outcome, err := c.server.o.Door.DoWithin(c.Context(), c.server.o.RequestTimeout, request)
	if err != nil {
		return outcome, c.failed(err)
	}
	return outcome, nil
}

// failed turns an error of the door or the store into a problem that leaks nothing.
func (c *call) failed(err error) *problem {
	switch {
	case errors.Is(err, commit.ErrOutcomeUnknown):
		return fail("outcome-unknown")
	case errors.Is(err, commit.ErrOverloaded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fail("overloaded") // the command left the queue without effect
	case errors.Is(err, commit.ErrNotReady), errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrClosed):
		return fail("not-ready")
	}
	c.server.o.Log.Error("a request failed", "method", c.Method, "path", c.URL.Path, "requestId", c.id, "error", err)
	return fail("internal")
}

// mutate sends a command and writes its answer.
func (c *call) mutate(command inventory.Command, linePointer func(int) string) *problem {
	outcome, p := c.do(command)
	if p != nil {
		return p
	}
	if outcome.Refusal != nil {
		return refused(outcome.Refusal, linePointer)
	}
	c.answer(&outcome)
	return nil
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

const maxPooledBytes = 64 << 10

// answer writes the resource that an outcome is about.
func (c *call) answer(o *inventory.Outcome) {
	h := c.w.Header()
	h["Holdfast-Sequence"] = []string{strconv.FormatInt(o.Seq, 10)}
	if o.Replayed {
		h.Set("Idempotent-Replayed", "true")
	}
	status := http.StatusOK
	if o.Created {
		status = http.StatusCreated
	}
	c.send(status, func(b []byte) []byte {
		switch {
		case o.Adjustment != nil:
			b = append(b, `{"adjustment":`...)
			b = appendAdjustment(b, o.Adjustment)
			b = append(b, `,"product":`...)
			b = appendProduct(b, o.Product)
			return append(b, '}')
		case o.Product != nil:
			c.tag(o.Seq, o.Created, "/v1/products/", o.Product.ID)
			return appendProduct(b, o.Product)
		case o.Reservation != nil:
			location := ""
			if o.Created {
				location = o.Reservation.ID.Text(inventory.ReservationPrefix)
			}
			c.tag(o.Reservation.Version, o.Created, "/v1/reservations/", location)
			return appendReservation(b, o.Reservation)
		default:
			location := ""
			if o.Created {
				location = o.Order.ID.Text(inventory.OrderPrefix)
			}
			c.tag(o.Order.Version, o.Created, "/v1/orders/", location)
			return appendOrder(b, o.Order)
		}
	})
}

func (c *call) tag(version int64, created bool, path, id string) {
	h := c.w.Header()
	h["Etag"] = []string{etag(version)}
	if created {
		h["Location"] = []string{path + id}
	}
}

func etag(version int64) string {
	b := make([]byte, 0, 24)
	b = append(b, '"')
	b = strconv.AppendInt(b, version, 10)
	return string(append(b, '"'))
}

var jsonType = []string{"application/json"}

// send writes a JSON answer that build appends to a pooled buffer.
func (c *call) send(status int, build func([]byte) []byte) {
	buffer := buffers.Get().(*[]byte)
	body := build((*buffer)[:0])
	h := c.w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body) // the caller has gone: nobody is left to tell
	if cap(body) <= maxPooledBytes {
		*buffer = body
		buffers.Put(buffer)
	}
}

// one writes a resource that was read, or 304 where the caller has it already.
func (c *call) one(version int64, build func([]byte) []byte) *problem {
	tag := etag(version)
	if given := c.Header.Values("If-None-Match"); len(given) > 0 {
		tags, any, ok := parseETags(given)
		if !ok {
			return invalid(atParameter("If-None-Match", `must be * or a list of quoted entity tags`))
		}
		if any || slices.Contains(tags, tag) || slices.Contains(tags, "W/"+tag) {
			c.w.Header()["Etag"] = []string{tag}
			c.w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	c.w.Header()["Etag"] = []string{tag}
	c.send(http.StatusOK, build)
	return nil
}

// view reads from the store in one snapshot.
func (c *call) view(read func(store.View) error) *problem {
	ctx, cancel := context.WithTimeout(c.Context(), c.server.o.RequestTimeout)
	defer cancel()
	if err := c.server.o.Store.View(ctx, read); err != nil {
		return c.failed(err)
	}
	return nil
}

func (s *Server) livez(c *call) *problem {
	c.send(http.StatusOK, func(b []byte) []byte { return append(b, `{"status":"live"}`...) })
	return nil
}

// readyTimeout is how long a readiness probe waits for the batch before it.
const readyTimeout = 3 * time.Second

func (s *Server) readyz(c *call) *problem {
	select {
	case <-s.stopping:
		return failf("not-ready", "The server is stopping.")
	default:
	}
	ctx, cancel := context.WithTimeout(c.Context(), readyTimeout)
	defer cancel()
	if err := s.o.Door.Probe(ctx); err != nil {
		s.o.Log.Warn("not ready", "error", err)
		if errors.Is(err, store.ErrClockBehind) {
			return failf("not-ready", "The server's clock is behind its store by more than %v: nothing is committed until the clock is set.", store.MaxClockLag)
		}
		return fail("not-ready")
	}
	c.send(http.StatusOK, func(b []byte) []byte { return append(b, `{"status":"ready"}`...) })
	return nil
}

func (s *Server) version(c *call) *problem {
	v := s.o.Version
	c.send(http.StatusOK, func(b []byte) []byte {
		b = append(b, `{"version":`...)
		b = appendString(b, v.Version)
		b = append(b, `,"revision":`...)
		b = appendString(b, v.Revision)
		b = append(b, `,"go":`...)
		b = appendString(b, v.Go)
		b = append(b, `,"store":`...)
		b = appendString(b, v.Store)
		return append(b, '}')
	})
	return nil
}

// broadcast wakes everybody who waits.
type broadcast struct {
	mu   sync.Mutex
	wake chan struct{}
}

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wake
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.wake)
	b.wake = make(chan struct{})
}
