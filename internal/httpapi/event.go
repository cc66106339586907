package httpapi

import (
	"net/http"
	"time"

	"github.com/holdfast/holdfast/internal/wire"
)

const maxWaitSeconds = 30

func (s *Server) routeEvents() {
	s.handle("GET /v1/events", "listEvents", s.listEvents)
}

func (s *Server) listEvents(c *call) error {
	q, err := c.query("after", "limit", "wait")
	if err != nil {
		return err
	}
	after, limit := q.place("after"), q.limit()
	wait := time.Duration(q.integer("wait", 0, 0, maxWaitSeconds)) * time.Second
	if err := q.err(); err != nil {
		return err
	}
	if wait > 0 {
		if err := s.o.Engine.AwaitEvents(c.Context(), after, wait); err != nil {
			return err
		}
	}
	if err := c.claimPage(); err != nil {
		return err
	}
	page, err := s.o.Engine.Events(c.Context(), after, limit)
	if err != nil {
		return err
	}
	shown := wire.EventPage{Events: page.Events, Next: after, Head: page.Head, Store: page.Store, Epochs: page.Epochs}
	if n := len(page.Events); n > 0 {
		shown.Next = page.Epochs.At(page.Events[n-1].Seq)
	}
	c.send(http.StatusOK, func(b []byte) []byte { return wire.AppendEventPage(b, &shown) })
	return nil
}
