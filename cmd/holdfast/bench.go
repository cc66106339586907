package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/holdfast/holdfast/internal/bench"
)

// benchCommand are the measurements, one file each.
type benchCommand struct {
	Run     benchRunCommand     `cmd:"" default:"withargs" help:"Load a server, audit it, and print a table."`
	Compare benchCompareCommand `cmd:"" help:"Compare Holdfast with what people would use instead, and with a handler that stores nothing."`
	Sheet   benchSheetCommand   `cmd:"" help:"Measure everything that the embedded store should reach, in one sitting: about twenty minutes."`
	Nothing benchNothingCommand `cmd:"" hidden:"" help:"Serve a handler that stores nothing."`
	Peer    benchPeerCommand    `cmd:"" hidden:"" help:"Serve what people would use instead."`
}

// measuring is what a measurement has started, and must clean up.
type measuring struct {
	*environment
	progress bool
	folder   string
	stop     []func() error // the last one first
}

func startMeasuring(env *environment) *measuring {
	return &measuring{environment: env, progress: isTerminal(env.stderr)}
}

// say shows what is being done, on a terminal.
func (m *measuring) say(line string) {
	if m.progress {
		fmt.Fprint(m.stderr, clearLine, line)
	}
}

func (m *measuring) temporary() (folder string, err error) {
	if m.folder == "" {
		if m.folder, err = os.MkdirTemp("", "holdfast-bench-"); err != nil {
			return "", err
		}
		m.stop = append(m.stop, func() error { return os.RemoveAll(m.folder) })
	}
	return m.folder, nil
}

// scratch makes an empty place in a database, or in a temporary SQLite file.
func (m *measuring) scratch(ctx context.Context, address string) (string, error) {
	folder, err := m.temporary()
	if err != nil {
		return "", err
	}
	if address == "" {
		address = "sqlite:"
	}
	scratch, remove, err := bench.Scratch(ctx, address, folder)
	if err != nil {
		return "", fmt.Errorf("%w: use %s", err, storeHelp)
	}
	m.stop = append(m.stop, func() error { remove(); return nil })
	return scratch, nil
}

// keep has a server that was started stopped at the end.
func (m *measuring) keep(server *childServer, err error) (*childServer, error) {
	if err == nil {
		m.stop = append(m.stop, server.stop)
	}
	return server, err
}

// serve starts Holdfast on a store.
func (m *measuring) serve(ctx context.Context, store string, more ...string) (*childServer, error) {
	return m.keep(startChild(ctx, "127.0.0.1:0", store, more...))
}

// program starts this program with other arguments, which make it serve something.
func (m *measuring) program(ctx context.Context, arguments ...string) (*childServer, error) {
	return m.keep(startProgram(ctx, arguments...))
}

// peer starts what people would use instead on a database, in a process of its own.
func (m *measuring) peer(ctx context.Context, kind, address string) (*childServer, error) {
	return m.program(ctx, "bench", "peer", kind, address)
}

// redisChild is the peer on a Redis server, and that server.
type redisChild struct {
	*childServer
	server *bench.RedisServer
}

// Stop implements [bench.Child].
func (c *redisChild) Stop() error { return errors.Join(c.stop(), c.server.Stop()) }

// redis starts a Redis server that flushes like this, and the peer on it.
func (m *measuring) redis(ctx context.Context, appendfsync string) (*redisChild, error) {
	folder, err := m.temporary()
	if err != nil {
		return nil, err
	}
	server, err := bench.StartRedis(ctx, folder, appendfsync)
	if err != nil {
		return nil, err
	}
	m.stop = append(m.stop, server.Stop)
	peer, err := m.peer(ctx, bench.Redis, server.URL)
	return &redisChild{peer, server}, err
}

func (m *measuring) cleanUp() (err error) {
	for _, stop := range slices.Backward(m.stop) {
		err = errors.Join(err, stop())
	}
	return err
}

// machine describes where this program measures, and how it was called, without passwords.
func machine() bench.Machine {
	v := buildVersion()
	return bench.Machine{
		Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: v.Go, Version: v.Version,
		Command: "holdfast " + strings.Join(redactFlags(os.Args[1:]), " "), At: time.Now().UTC(),
	}
}

// redactFlags takes the passwords out of the flags that are database URLs.
func redactFlags(arguments []string) []string {
	arguments = slices.Clone(arguments)
	for i, argument := range arguments {
		flag, address, joined := strings.Cut(argument, "=")
		switch {
		case joined && isDatabaseFlag(flag):
			arguments[i] = flag + "=" + redact(address)
		case i > 0 && isDatabaseFlag(arguments[i-1]):
			arguments[i] = redact(argument)
		}
	}
	return arguments
}

func isDatabaseFlag(name string) bool { return name == "--store" || name == "--postgres" }

// heading says what was measured, and where.
func heading(m *bench.Machine) string {
	return fmt.Sprintf("%s\n%s, %d cores, %s; the load runs on the same cores", m.Command, m.System, m.Cores, m.Go)
}

// freshFiles names new SQLite files in a folder.
func freshFiles(folder string) func() string {
	files := 0
	return func() string {
		files++
		return filepath.Join(folder, fmt.Sprintf("%d.db", files))
	}
}
