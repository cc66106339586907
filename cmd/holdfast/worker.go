package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/metrics"
	"github.com/holdfast/holdfast/internal/relay"
	"github.com/holdfast/holdfast/internal/relay/remote"
)

// workerCommand are the flags of holdfast worker.
type workerCommand struct {
	Store         string        `xor:"source" required:"" help:"Store URL, of a kind that processes can share: postgres://… or mongodb://…/DATABASE."`
	URL           string        `xor:"source" required:"" env:"-" help:"Instead of a store: URL of a server, whose feed is relayed over HTTP. For a store that belongs to one process."`
	PositionFile  string        `env:"HOLDFAST_POSITION_FILE" type:"path" placeholder:"FILE" help:"With --url: where to keep how far each sink has got."`
	Sink          []string      `sep:"none" placeholder:"URL" help:"Take the events to this sink: ${sinks}. Any number."`
	Sweep         bool          `default:"true" negatable:"" help:"End holds at their deadline."`
	Listen        string        `default:"127.0.0.1:8422" help:"Address of /livez, /readyz and /metrics; port 0 picks a free one."`
	Webhook       webhookFlags  `embed:"" prefix:"webhook-"`
	MaxClockJump  time.Duration `default:"1m" help:"Commit nothing once the clock is further ahead of how long the worker has run; SIGHUP confirms it. 0: never mind."`
	AcceptClock   bool          `help:"Commit although the clock is behind the store, or jumps ahead."`
	AcceptNoFsync bool          `help:"Use a database that does not flush its commits."`
	Drain         time.Duration `default:"20s" help:"How long a stop waits for what is under way."`
	LogLevel      slog.Level    `default:"info" help:"debug, info, warn or error."`
}

// Validate is called by kong.
func (c *workerCommand) Validate() error { return c.Webhook.check() }

// Run implements holdfast worker: what serve does in the background, without an API.
func (c *workerCommand) Run(ctx context.Context, env *environment) error {
	if c.URL != "" {
		return c.relayFrom(ctx, env)
	}
	if kind, _, _ := strings.Cut(c.Store, ":"); kind == "memory" || kind == "sqlite" {
		return fmt.Errorf("%w: a worker needs a store that it can share with servers, and %s: belongs to one process: give its "+
			"serve the sinks, or name that with --url", errUsage, kind)
	}
	serve := &serveCommand{
		Store: c.Store, Sink: c.Sink, Sweep: c.Sweep, Relay: true, Listen: c.Listen, MaxClockJump: c.MaxClockJump,
		AcceptClock: c.AcceptClock, AcceptNoFsync: c.AcceptNoFsync, Drain: c.Drain, LogLevel: c.LogLevel, healthOnly: true,
		Webhook: c.Webhook,
	}
	return serve.Run(ctx, env)
}

// relayFrom relays the feed of a server.
func (c *workerCommand) relayFrom(ctx context.Context, env *environment) (err error) {
	if c.PositionFile == "" || len(c.Sink) == 0 {
		return fmt.Errorf("%w: with --url a worker needs a --sink, and --position-file for how far it has got", errUsage)
	}
	sinks, err := openSinks(c.Sink, env.stdout)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: c.LogLevel}))
	defer onHangup(func() { reopen(sinks, log) })()
	from := client.New(c.URL)
	source, err := remote.Open(from, c.PositionFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	version := buildVersion()
	version.Store = "http"
	m := metrics.New(version)
	health, err := serveHealth(c.Listen, from, m, log)
	if err != nil {
		return err
	}
	fmt.Fprintf(env.stderr, "holdfast relays from %s; it is ready on http://%s\n", redact(c.URL), health.Addr)
	var relays sync.WaitGroup
	for _, sink := range sinks {
		m.Sink(sink.name)
		r := relay.New(relay.Options{Source: source, Sink: sink.Sink, Name: sink.name, Log: log, Observe: m.Relay})
		relays.Go(func() { r.Run(ctx) })
	}
	relays.Wait()
	return health.Close()
}

// serveHealth serves /livez, /readyz and /metrics until the server is closed. Its Addr is where. A worker is ready if the
// server that it relays from is.
func serveHealth(address string, from *client.Client, m *metrics.Metrics, log *slog.Logger) (*http.Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w: choose another address with --listen", address, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { tell(w, http.StatusOK, "live") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		if err := from.Ready(ctx); err != nil {
			tell(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		tell(w, http.StatusOK, "ready")
	})
	mux.Handle("GET /metrics", m.Handler())
	server := newHTTPServer(mux, log)
	server.Addr = listener.Addr().String()
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("health is not served any more", "error", err)
		}
	}()
	return server, nil
}

// readyTimeout is how long a worker waits for the server that it relays from.
const readyTimeout = 3 * time.Second

func tell(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": text})
}
