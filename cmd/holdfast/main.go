// Command holdfast is the inventory reservation and order server, with its audit and its demonstration.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// Exit codes.
const (
	exitOK = iota
	exitFailure
	exitUsage
)

// commands are what the command line offers, one file each.
type commands struct {
	Serve   serveCommand   `cmd:"" help:"Serve the HTTP API from a store."`
	Worker  workerCommand  `cmd:"" help:"End holds and take events to sinks, beside servers on the same store."`
	Demo    demoCommand    `cmd:"" help:"Watch a sale: 1,000 buyers, 100 units, a crash in the middle, the audit."`
	Bench   benchCommand   `cmd:"" help:"Measure how fast, how fair and how safe it is here."`
	Dev     devCommand     `cmd:"" help:"Serve a temporary store with a few products, for trying things."`
	Events  eventsCommand  `cmd:"" help:"Look at the feed of a server."`
	Listen  listenCommand  `cmd:"" help:"Forward events to a local address, signed as webhooks are."`
	Trigger triggerCommand `cmd:"" help:"Cause an event on a server on this machine."`
	Verify  verifyCommand  `cmd:"" help:"Audit a store: exit 0, or 1 naming each breach."`
	Restore restoreCommand `cmd:"" help:"Put a copy of a store in place, and tell those who follow its feed."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// helpTexts are what help names from elsewhere.
var helpTexts = kong.Vars{"sinks": sinkHelp, "triggers": triggerHelp()}

// environment is what a command may touch. Its Run is given this, and a context that ends when the program is told to
// stop.
type environment struct{ stdout, stderr io.Writer }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, &environment{os.Stdout, os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}

// run is the program. It returns the exit code instead of exiting, so that tests can call it too.
func run(ctx context.Context, env *environment, arguments []string) (code int) {
	var all commands
	exited := -1
	parser, err := kong.New(&all,
		kong.Name("holdfast"),
		kong.Description(
			"Holds stock for a limited time, turns a hold into an order exactly once, and never sells a unit twice."),
		kong.UsageOnError(), kong.DefaultEnvars("HOLDFAST"), kong.Writers(env.stdout, env.stderr),
		kong.Exit(func(code int) { exited = code }), kong.BindTo(ctx, (*context.Context)(nil)),
		helpTexts,
	)
	if err != nil {
		panic(err) // the structs above are wrong
	}
	parsed, err := parser.Parse(arguments)
	if exited >= 0 {
		return exited // --help
	}
	if err != nil {
		fmt.Fprintf(env.stderr, "holdfast: %v\nSee holdfast --help.\n", err)
		return exitUsage
	}
	switch err := parsed.Run(env); {
	case err == nil:
		return exitOK
	case errors.Is(err, errUsage):
		fmt.Fprintf(env.stderr, "holdfast: %v\n", err)
		return exitUsage
	case errors.Is(err, errReported):
		return exitFailure
	default:
		fmt.Fprintf(env.stderr, "holdfast: %v\n", err)
		return exitFailure
	}
}

var (
	// errUsage is an error of whoever wrote the command line.
	errUsage = errors.New("usage")
	// errReported is a failure that was printed already.
	errReported = errors.New("reported already")
)
