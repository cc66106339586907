// Package httpapi is the HTTP face of Holdfast: requests in, commands through the door, JSON or a problem out.
//
// The contract is api/openapi.yaml; tests compare the routes and every answer with it.
package httpapi

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/holdfast/holdfast/internal/docs"
	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

// Options are what the server is made of. Engine and Spec must be given.
type Options struct {
	Engine *engine.Engine // made with [Render]
	Spec   []byte         // the OpenAPI file, YAML
	// HoldDefault is how long a hold lasts whose request does not say; default 10 minutes.
	HoldDefault time.Duration
	// HoldMax is how long a hold may last, in whole seconds; default 24 hours.
	HoldMax time.Duration
	// RequestTimeout is how long a change waits for its outcome; default 15 seconds.
	RequestTimeout time.Duration
	// BytesLimit bounds the bytes of requests and answers in memory, small ones apart; default 256 MiB.
	BytesLimit int64
	// StreamPatience is how long a reader of a stream may take to accept a part of it; default 10 seconds.
	StreamPatience time.Duration
	// StreamQuiet is how long nothing is sent on a stream where there is nothing; default 10 seconds.
	StreamQuiet time.Duration
	// HealthOnly leaves out the API: for a process that works in the background alone.
	HealthOnly bool
	// Webhooks sends to webhooks; nil: they cannot be tested, and of deliveries only those are shown that are stored.
	Webhooks Webhooks
	// PrivateWebhooks lets webhooks lead to addresses that are not public.
	PrivateWebhooks bool
	Version         Version
	Metrics         http.Handler      // of /metrics; nil: there is no such path
	Observe         func(Observation) // called after every request; nil: nobody counts
	Log             *slog.Logger      // nil: nothing is logged
	Now             func() time.Time  // times requests, and nothing else; default [time.Now]
}

// withDefaults fills in what was left out.
func (o Options) withDefaults() Options {
	if o.HoldDefault == 0 {
		o.HoldDefault = 10 * time.Minute
	}
	if o.HoldMax == 0 {
		o.HoldMax = 24 * time.Hour
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = 15 * time.Second
	}
	if o.BytesLimit == 0 {
		o.BytesLimit = defaultBytesLimit
	}
	if o.StreamPatience == 0 {
		o.StreamPatience = 10 * time.Second
	}
	if o.StreamQuiet == 0 {
		o.StreamQuiet = 10 * time.Second // the contract says 15 at most; proxies and readers see that the stream is alive
	}
	if o.Observe == nil {
		o.Observe = func(Observation) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Observation is one answered request, for metrics.
type Observation struct {
	Operation string // operationId, or "none" where no operation has the path and method
	Status    int
	Code      string // of the problem; empty where there is none
	Took      time.Duration
}

// noOperation is what an Observation has instead of an operationId.
const noOperation = "none"

// Server is an [http.Handler].
type Server struct {
	o        Options
	mux      *http.ServeMux
	patterns []string            // "METHOD /path" of every operation
	methods  map[string][]string // of every path
	pages    *docs.Pages

	requestPrefix string // of the Request-Ids that this server makes
	requestCount  atomic.Int64

	budget   budget
	stopping chan struct{}
	stop     sync.Once
}

var _ http.Handler = (*Server)(nil)

// New makes a server; it fails on an OpenAPI file that cannot be read. Call [Server.Stop] before the HTTP
// server is shut down.
func New(o Options) (*Server, error) {
	pages, err := docs.New(o.Spec, documented())
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o.withDefaults(), mux: http.NewServeMux(), pages: pages,
		methods:       map[string][]string{},
		requestPrefix: strconv.FormatUint(rand.Uint64(), 36) + "-",
		stopping:      make(chan struct{}),
	}
	s.budget.Weighted = semaphore.NewWeighted(s.o.BytesLimit)
	s.routes()
	return s, nil
}

// Render is what the engine is to keep of a product for the server's answers.
func Render(p *inventory.Product) []byte { return wire.AppendProduct(nil, p) }

// Stop answers those who wait for events at once, with what there is. From then on the server is not ready.
func (s *Server) Stop() {
	s.stop.Do(func() {
		close(s.stopping)
		s.o.Engine.StopFollowing()
	})
}

// Patterns are the "METHOD /path" of every operation, sorted. A test compares them with the OpenAPI file.
func (s *Server) Patterns() []string { return slices.Sorted(slices.Values(s.patterns)) }

func (s *Server) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

func (s *Server) routes() {
	s.routeHealth()
	if !s.o.HealthOnly {
		s.routeAPI()
	}
	for path, methods := range s.methods {
		slices.Sort(methods)
		allow := strings.Join(methods, ", ")
		s.mux.HandleFunc(path, s.wrap(noOperation, func(c *call) error {
			c.w.Header().Set("Allow", allow)
			return fail(CodeMethodNotAllowed)
		}))
	}
	s.mux.HandleFunc("/", s.wrap(noOperation, notFound))
}

func (s *Server) routeAPI() {
	for _, m := range mutations {
		s.handle(m.method+" "+m.path, m.operation, m.serve)
	}
	s.routeProducts()
	s.routeReservations()
	s.routeOrders()
	s.routeEvents()
	s.routeWebhooks()
	s.handle("POST /v1/batch", "batch", s.batch)
	s.routePages()
}

func notFound(*call) error { return fail(CodeNotFound) }

// handle serves an operation at a pattern "METHOD /path".
func (s *Server) handle(pattern, operation string, serve func(*call) error) {
	method, path, _ := strings.Cut(pattern, " ")
	s.patterns = append(s.patterns, pattern)
	s.methods[path] = append(s.methods[path], method)
	if method == http.MethodGet {
		s.methods[path] = append(s.methods[path], http.MethodHead)
	}
	s.mux.HandleFunc(pattern, s.wrap(operation, serve))
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isClean(r.URL.Path) { // the mux would redirect it
		s.wrap(noOperation, notFound)(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// isClean reports whether a path has no empty, "." or ".." elements. A slash at its end does not count.
func isClean(p string) bool {
	return p == "/" || strings.HasPrefix(p, "/") && path.Clean(p) == strings.TrimSuffix(p, "/")
}
