package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast/holdfast/api"
	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/expiry"
	"github.com/holdfast/holdfast/internal/httpapi"
	"github.com/holdfast/holdfast/internal/metrics"
	"github.com/holdfast/holdfast/internal/relay"
	"github.com/holdfast/holdfast/internal/relay/webhook"
	"github.com/holdfast/holdfast/internal/store"
)

// serveCommand are the flags of holdfast serve.
type serveCommand struct {
	Listen        string        `default:"127.0.0.1:8420" help:"Address to listen on; port 0 picks a free one."`
	Store         string        `default:"sqlite:holdfast.db" help:"Store URL: memory:, sqlite:PATH, postgres://… or mongodb://…/DATABASE."`
	Create        string        `default:"auto" enum:"auto,always,never" help:"What to do where there is no SQLite file: auto makes it unless there are signs of an older store, always makes it, never refuses (for production)."`
	HoldDefault   time.Duration `default:"10m" help:"How long a hold lasts when the request does not say."`
	HoldMax       time.Duration `default:"24h" help:"How long a hold may last, from its creation, extensions included."`
	QueueLimit    int           `default:"8192" help:"Commands that may wait for a commit; more are answered 503."`
	Sweep         bool          `default:"true" negatable:"" help:"End holds at their deadline. Without it they still stop counting, but are shown until somebody looks."`
	Sink          []string      `sep:"none" placeholder:"URL" help:"Take the events to this sink: ${sinks}. Any number."`
	Relay         bool          `default:"true" negatable:"" help:"Take events to the sinks and webhooks. Without it a worker does."`
	Webhook       webhookFlags  `embed:"" prefix:"webhook-"`
	MaxClockJump  time.Duration `default:"1m" help:"Commit nothing once the clock is further ahead of how long the server has run; SIGHUP confirms it. 0: never mind."`
	AcceptClock   bool          `help:"Commit although the clock is behind the store (time stands still until it has caught up), or jumps ahead."`
	AcceptNoFsync bool          `help:"Serve a database that does not flush its commits: a crash of its machine may lose acknowledged orders."`
	Drain         time.Duration `default:"20s" help:"How long a stop waits for requests under way."`
	LogLevel      slog.Level    `default:"info" help:"debug, info, warn or error."`

	healthOnly bool // of a worker, which has no API
	seed       func(ctx context.Context, url string) error
}

// Validate is called by kong.
func (c *serveCommand) Validate() error {
	switch {
	case c.HoldMax < time.Second || c.HoldMax%time.Second != 0 || c.HoldMax > maxHold:
		return fmt.Errorf("--hold-max must be whole seconds, from 1s to %v", maxHold)
	case c.HoldDefault < time.Second || c.HoldDefault%time.Second != 0:
		return errors.New("--hold-default must be whole seconds, at least 1s")
	case c.HoldDefault > c.HoldMax:
		return errors.New("--hold-default must not be longer than --hold-max")
	case c.MaxClockJump < 0:
		return errors.New("--max-clock-jump must not be negative; 0 lets the clock jump")
	case c.QueueLimit < 1 || c.QueueLimit > 1_000_000:
		return errors.New("--queue-limit must be from 1 to 1000000")
	}
	return c.Webhook.check()
}

// maxHold is the longest hold that --hold-max may allow: the contract's ttlSeconds goes no further.
const maxHold = 365 * 24 * time.Hour

// Run implements holdfast serve.
func (c *serveCommand) Run(ctx context.Context, env *environment) error {
	tuneGC()
	log := c.log(env)
	sinks, err := openSinks(c.Sink, env.stdout)
	if err != nil {
		return err
	}
	clock := store.NewClock(c.AcceptClock, c.MaxClockJump, sinceStart())
	defer onHangup(func() {
		clock.Confirm()
		log.Info("the clock is taken as it is, as SIGHUP says")
		reopen(sinks, log)
	})()
	stored, kind, err := openStore(ctx, c.Store, storeOptions{
		clock: clock, acceptNoFsync: c.AcceptNoFsync, create: c.Create, log: log,
	})
	if err != nil {
		return err
	}
	return c.serve(ctx, env, log, stored, kind, sinks)
}

// onHangup calls f for each SIGHUP, until stop is called.
func onHangup(f func()) (stop func()) {
	hangups, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	var listening sync.WaitGroup
	listening.Go(func() {
		for {
			select {
			case <-hangups:
				f()
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(hangups)
		close(done)
		listening.Wait()
	}
}

func (c *serveCommand) log(env *environment) *slog.Logger {
	return slog.New(slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: c.LogLevel}))
}

// serve runs until the context ends, or the store or the listener fails. It closes the store.
func (c *serveCommand) serve(
	ctx context.Context, env *environment, log *slog.Logger, stored store.Store, kind string, sinks []*sink,
) error {
	tellAge(ctx, log, stored)
	s, err := startServer(c, log, stored, kind, sinks...)
	if err != nil {
		return err
	}
	if c.seed != nil {
		if err := c.seed(ctx, "http://"+s.address); err != nil {
			return errors.Join(err, s.stop(c.Drain))
		}
	}
	ready := env.stdout
	if slices.Contains(c.Sink, "stdout:") {
		ready = env.stderr // what is printed there is events alone
	}
	what := "API and docs at /docs"
	if c.healthOnly {
		what = "a worker, without an API"
	}
	fmt.Fprintf(ready, "holdfast is ready on http://%s (store %s; %s)\n", s.address, redact(c.Store), what)
	var failure error
	select {
	case <-ctx.Done():
		log.Info("stopping: requests under way are answered first")
	case <-s.engine.Broken():
		failure = fmt.Errorf("%w: see the log; run holdfast verify before serving this store again", store.ErrBroken)
	case err := <-s.failed:
		failure = fmt.Errorf("serving: %w", err)
	}
	return errors.Join(failure, s.stop(c.Drain))
}

// oldHead is how old the last batch of a store is for its age to be told.
const oldHead = time.Hour

// tellAge logs how old the last batch is, for an operator who knows better: it may be an old copy of the store, or the
// clock may be wrong. A shop that rested is as likely, so nothing else comes of it. A store that cannot be read now says
// so itself.
func tellAge(ctx context.Context, log *slog.Logger, stored store.Store) {
	_ = stored.View(ctx, func(v store.View) error {
		head, err := v.Head(ctx)
		if err != nil || head.BatchNo == 0 {
			return err
		}
		now, err := v.Now(ctx)
		if age := time.Duration(now-head.At) * time.Millisecond; err == nil && age >= oldHead {
			log.Info("the last batch of this store is old: see that this is the newest copy, and the clock right",
				"age", age.Round(time.Second), "at", time.UnixMilli(int64(head.At)).UTC(), "batch", head.BatchNo)
		}
		return err
	})
}

// Few objects live long here, so collecting garbage less often costs little memory and saves processor time. When a
// full queue holds much memory, the limit makes collections frequent again.
const (
	gcPercent   = 400
	memoryLimit = 512 << 20
)

// tuneGC leaves alone what the operator has set.
func tuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// server is everything that serve runs. A test starts one on port 0.
type server struct {
	address string
	engine  *engine.Engine
	api     *httpapi.Server
	http    *http.Server
	failed  chan error

	background sync.WaitGroup // the sweeper and the watch
	stopping   context.CancelFunc
}

func startServer(
	c *serveCommand, log *slog.Logger, stored store.Store, kind string, sinks ...*sink,
) (_ *server, err error) {
	s := &server{failed: make(chan error, 1)}
	version := buildVersion()
	version.Store = kind
	m := metrics.New(version)
	s.engine = engine.Open(stored, engine.Options{
		QueueLimit: c.QueueLimit, Log: log, OnBatch: m.Batch, Render: httpapi.Render,
	})
	m.QueueDepth(s.engine.Depth)
	m.DamagedRows(s.engine.DamagedRows)
	sender := webhook.New(webhook.Options{
		Engine: s.engine, Retries: c.Webhook.Retries, DisableAfter: c.Webhook.DisableAfter, Private: c.Webhook.AllowPrivate,
		Log: log, Observe: m.Webhook,
	})
	s.api, err = httpapi.New(httpapi.Options{
		Engine: s.engine, Spec: api.OpenAPI, HoldDefault: c.HoldDefault, HoldMax: c.HoldMax,
		Version: version, Metrics: m.Handler(), Observe: m.Request, Log: log, HealthOnly: c.healthOnly,
		Webhooks: sender, PrivateWebhooks: c.Webhook.AllowPrivate,
	})
	if err != nil {
		return nil, errors.Join(err, s.stop(time.Second))
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, errors.Join(
			fmt.Errorf("listening on %s: %w: choose another address with --listen", c.Listen, err), s.stop(time.Second))
	}
	s.address = listener.Addr().String()
	s.http = newHTTPServer(s.api, log)
	go func() {
		if err := s.http.Serve(s.api.Listener(listener)); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- err
		}
	}()
	var ctx context.Context
	ctx, s.stopping = context.WithCancel(context.Background())
	if c.Sweep {
		sweeper := expiry.New(expiry.Options{Engine: s.engine, Log: log, Observe: m.Sweep})
		s.background.Go(func() { sweeper.Run(ctx) })
	}
	if c.Relay {
		s.relay(ctx, sinks, log, m)
		s.background.Go(func() { sender.Run(ctx) })
	}
	if kind == "sqlite" {
		s.background.Go(func() { s.watch(ctx) })
	}
	return s, nil
}

// relay takes events to sinks until the context ends.
func (s *server) relay(ctx context.Context, sinks []*sink, log *slog.Logger, m *metrics.Metrics) {
	source := relay.FromEngine(s.engine)
	for _, sink := range sinks {
		r := relay.New(relay.Options{Source: source, Sink: sink.Sink, Name: sink.name, Log: log, Observe: m.Relay})
		m.Sink(sink.name)
		s.background.Go(func() { r.Run(ctx) })
	}
}

// watchEvery is how often an idle server makes sure that its store file is still there.
const watchEvery = time.Second

// watch probes the store until the context ends. A probe that finds the store broken ends the server.
func (s *server) watch(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_ = s.engine.Probe(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       20 * time.Second,
		WriteTimeout:      60 * time.Second, // longer than the longest poll
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// stop answers the requests under way, drains the queue and closes the store, in this order.
func (s *server) stop(drain time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if s.api != nil {
		s.api.Stop()
	}
	if s.http != nil {
		if err = s.http.Shutdown(ctx); err != nil {
			err = errors.Join(fmt.Errorf("some requests were not answered in time: %w", err), s.http.Close())
		}
	}
	if s.stopping != nil {
		s.stopping()
		s.background.Wait()
	}
	return errors.Join(err, s.engine.Close(ctx))
}
