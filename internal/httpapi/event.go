package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

const maxWaitSeconds = 30

func (s *Server) routeEvents() {
	s.handle("GET /v1/events", "listEvents", s.listEvents)
	s.handle("GET /v1/events/{sequence}", "getEvent", s.getEvent)
}

func (s *Server) listEvents(c *call) error {
	if c.acceptsStream() {
		return s.streamEvents(c)
	}
	q, err := c.query(append(feedParameters, "limit", "wait")...)
	if err != nil {
		return err
	}
	query := q.events()
	query.Limit = q.limit()
	wait := time.Duration(q.integer("wait", 0, 0, maxWaitSeconds)) * time.Second
	if err := q.err(); err != nil {
		return err
	}
	if err := c.begin(q, &query); err != nil {
		return err
	}
	if wait > 0 {
		if query.After, err = s.o.Engine.AwaitEvents(c.Context(), query, wait); err != nil {
			return err
		}
	}
	if err := c.claimPage(pageBytes); err != nil {
		return err
	}
	page, err := s.o.Engine.Events(c.Context(), query)
	if err != nil {
		return err
	}
	shown := wire.EventPage{Events: page.Events, Next: page.Next, Head: page.Head, Store: page.Store, Epochs: page.Epochs}
	c.send(http.StatusOK, func(b []byte) []byte { return wire.AppendEventPage(b, &shown) })
	return nil
}

// feedParameters say what of the feed is asked for.
var feedParameters = []string{"after", "types", "productId", "reservationId"}

// events reads them.
func (q *query) events() (query engine.EventQuery) {
	query.After = q.place("after")
	if text, given := q.get("types"); given {
		var known bool
		if query.Filter.Types, known = inventory.ParseEventTypes(text); !known {
			q.add("types", "must be names of event types, with commas between them")
		}
	}
	query.Filter.ProductID = q.text("productId", 200)
	if text := q.text("reservationId", 64); text != "" {
		id, _ := inventory.ParseID(inventory.ReservationPrefix, text) // zero for what no server made, which nothing has
		query.Filter.ReservationID = &id
	}
	return query
}

// begin lets the feed of a reservation begin where that was made, unless the caller says where.
func (c *call) begin(q *query, query *engine.EventQuery) (err error) {
	if id := query.Filter.ReservationID; id != nil && !q.has("after") {
		query.After, err = c.server.o.Engine.Origin(c.Context(), *id)
	}
	return err
}

// getEvent shows one event.
func (s *Server) getEvent(c *call) error {
	if err := c.noQuery(); err != nil {
		return err
	}
	text := c.PathValue("sequence")
	seq, err := strconv.ParseInt(text, 10, 64)
	if err != nil || text != strconv.FormatInt(seq, 10) {
		return fail(CodeEventNotFound)
	}
	if err := c.claimPage(pageBytes); err != nil {
		return err
	}
	page, err := s.o.Engine.Event(c.Context(), seq)
	switch {
	case err != nil:
		return err
	case len(page.Events) == 0:
		return fail(CodeEventNotFound)
	}
	ids := wire.EventIDs{Store: page.Store, Epochs: page.Epochs}
	c.send(http.StatusOK, func(b []byte) []byte { return wire.AppendEvent(b, &page.Events[0], &ids) })
	return nil
}
