package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
)

func (s *Server) routeHealth() {
	s.handle("GET /livez", "livez", s.livez)
	s.handle("GET /readyz", "readyz", s.readyz)
	s.handle("GET /version", "version", s.version)
	if s.o.Metrics != nil {
		s.handle("GET /metrics", "metrics", s.metrics)
	}
}

func (s *Server) livez(c *call) error {
	c.sendText(`{"status":"live"}`)
	return nil
}

// readyTimeout is how long a readiness probe waits for the batch before it.
const readyTimeout = 3 * time.Second

func (s *Server) readyz(c *call) error {
	if s.isStopping() {
		return fail(CodeNotReady, "The server is stopping.")
	}
	ctx, cancel := context.WithTimeout(c.Context(), readyTimeout)
	defer cancel()
	if err := s.o.Engine.Probe(ctx); err != nil {
		s.o.Log.Warn("not ready", "error", err)
		return notReady(err)
	}
	c.sendText(`{"status":"ready"}`)
	return nil
}

func notReady(err error) *problem {
	if errors.Is(err, engine.ErrClockJumped) {
		return fail(CodeNotReady, "The clock has jumped ahead: nothing is committed until it is set back or confirmed.")
	}
	if !errors.Is(err, engine.ErrClockBehind) {
		return fail(CodeNotReady)
	}
	return fail(CodeNotReady, fmt.Sprintf("The server's clock is behind its store by more than %v: "+
		"nothing is committed until the clock is set.", engine.MaxClockLag))
}

// Version is what /version says.
type Version struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	Store    string `json:"store"` // the kind of the store, never its address
}

func (s *Server) version(c *call) error {
	body, err := json.Marshal(s.o.Version)
	if err != nil {
		return err
	}
	c.sendText(string(body))
	return nil
}

func (s *Server) metrics(c *call) error {
	s.o.Metrics.ServeHTTP(c.w, c.Request)
	return nil
}
