package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// workerCommand are the flags of holdfast worker.
type workerCommand struct {
	Store         string        `required:"" help:"Store URL, of a kind that processes can share: postgres://… or mongodb://…/DATABASE."`
	Sink          []string      `sep:"none" placeholder:"URL" help:"Take the events to this sink: ${sinks}. Any number."`
	Sweep         bool          `default:"true" negatable:"" help:"End holds at their deadline."`
	Listen        string        `default:"127.0.0.1:8422" help:"Address of /livez, /readyz and /metrics; port 0 picks a free one."`
	MaxClockJump  time.Duration `default:"1m" help:"Commit nothing once the clock is further ahead of how long the worker has run; SIGHUP confirms it. 0: never mind."`
	AcceptClock   bool          `help:"Commit although the clock is behind the store, or jumps ahead."`
	AcceptNoFsync bool          `help:"Use a database that does not flush its commits."`
	Drain         time.Duration `default:"20s" help:"How long a stop waits for what is under way."`
	LogLevel      slog.Level    `default:"info" help:"debug, info, warn or error."`
}

// Run implements holdfast worker: what serve does in the background, without an API.
func (c *workerCommand) Run(ctx context.Context, env *environment) error {
	if kind, _, _ := strings.Cut(c.Store, ":"); kind == "memory" || kind == "sqlite" {
		return fmt.Errorf("%w: a worker needs a store that it can share with servers, and %s: belongs to one process: give its "+
			"serve the sinks", errUsage, kind)
	}
	serve := &serveCommand{
		Store: c.Store, Sink: c.Sink, Sweep: c.Sweep, Relay: true, Listen: c.Listen, MaxClockJump: c.MaxClockJump,
		AcceptClock: c.AcceptClock, AcceptNoFsync: c.AcceptNoFsync, Drain: c.Drain, LogLevel: c.LogLevel, healthOnly: true,
	}
	return serve.Run(ctx, env)
}
