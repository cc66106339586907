package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/holdfast/holdfast/internal/bench"
)

// benchNothingCommand serves what the speed is measured against.
type benchNothingCommand struct {
	Fsync  string `xor:"what" env:"-" help:"A file to write and flush before each answer."`
	Answer string `xor:"what" env:"-" help:"A file with a recorded answer, which every GET is given."`
}

// Run implements holdfast bench nothing.
func (c *benchNothingCommand) Run(ctx context.Context, env *environment) error {
	handler, done, err := c.handler()
	if err != nil {
		return err
	}
	return errors.Join(serveBare(ctx, env, "nothing", handler), done())
}

func (c *benchNothingCommand) handler() (h http.Handler, done func() error, err error) {
	done = func() error { return nil }
	if c.Answer != "" {
		h, err = c.recorded()
		return h, done, err
	}
	if c.Fsync == "" {
		return bench.Nothing(nil), done, nil
	}
	file, err := os.Create(c.Fsync)
	if err != nil {
		return nil, done, err
	}
	return bench.Nothing(file), file.Close, nil
}

func (c *benchNothingCommand) recorded() (http.Handler, error) {
	text, err := os.ReadFile(c.Answer)
	if err != nil {
		return nil, err
	}
	var answer bench.Answer
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("%s holds no answer: %w", c.Answer, err)
	}
	return bench.Bare(&answer), nil
}

// serveBare serves a handler from a bare server on a free port until the context ends, and says where.
func serveBare(ctx context.Context, env *environment, name string, handler http.Handler) error {
	tuneGC()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintf(env.stdout, "%s is ready on http://%s (for measurements)\n", name, listener.Addr())
	ended, cancel := context.WithCancel(ctx)
	var closing sync.WaitGroup
	closing.Go(func() {
		<-ended.Done()
		_ = server.Close()
	})
	err = server.Serve(listener)
	cancel()
	closing.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
