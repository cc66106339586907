package httpapi

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

// The feed as Server-Sent Events (html.spec.whatwg.org/multipage/server-sent-events.html). All streams read the one end
// of the journal that the engine keeps, and each has one part of the feed in memory at a time: who does not read gets
// nothing, and is dropped.

// streamBytes is about how much one part of a stream has.
const streamBytes = 64 << 10

// acceptsStream reports whether the caller wants events as a stream.
func (c *call) acceptsStream() bool {
	for _, list := range c.Header.Values("Accept") {
		for accepted := range strings.SplitSeq(list, ",") {
			kind, _, _ := strings.Cut(accepted, ";")
			if strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
				return true
			}
		}
	}
	return false
}

// streamEvents sends the feed from a place on, until the caller or the server ends it. It fails only before it has sent
// anything.
func (s *Server) streamEvents(c *call) error {
	q, err := c.query(feedParameters...)
	if err != nil {
		return err
	}
	query := q.events()
	query.Limit, query.Bytes = maxLimit, streamBytes
	last := c.Header.Get("Last-Event-ID") // of a browser that has lost the stream: it asks with the URL of then
	if last != "" {
		query.After = q.parsePlace("Last-Event-ID", last)
	}
	if err := q.err(); err != nil {
		return err
	}
	if last == "" {
		if err := c.begin(q, &query); err != nil {
			return err
		}
	}
	stream := stream{call: c, controller: http.NewResponseController(c.w)}
	for more := true; more && err == nil; {
		more, err = stream.next(&query)
	}
	if c.w.status != 0 {
		return nil // the caller has gone, or comes back and is told then
	}
	return err
}

// stream is the answer to one who follows the feed.
type stream struct {
	*call
	controller *http.ResponseController
	waited     bool // since something was sent
}

// next sends what there is after a place, or waits for it a while, and moves the place on. It reports false once the
// stream is over.
func (s *stream) next(query *engine.EventQuery) (more bool, err error) {
	if err := s.claimPage(streamBytes); err != nil {
		return false, err
	}
	defer s.keep(0)
	page, err := s.server.o.Engine.Events(s.Context(), *query)
	if err != nil {
		return false, err
	}
	query.After = page.Next
	switch {
	case s.Method == http.MethodHead:
		return false, s.send(nil)
	case len(page.Events) > 0 || s.w.status == 0:
		return true, s.send(appendStream(nil, &page))
	case page.Next != page.End() || s.waited:
		return true, s.send(appendComment(nil, page.Next))
	case s.server.isStopping():
		return false, s.send([]byte("event: end\ndata: {}\n\n"))
	}
	s.keep(0)
	s.waited = true
	query.After, err = s.server.o.Engine.AwaitEvents(s.Context(), *query, s.server.o.StreamQuiet)
	return true, err
}

// send writes a part, which the reader has to take in time.
func (s *stream) send(part []byte) error {
	s.waited = false
	if s.w.status == 0 {
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no") // nginx would keep back what it gets
		s.w.WriteHeader(http.StatusOK)
	}
	deadline := time.Now().Add(s.server.o.StreamPatience) // connections know no other clock
	if err := s.controller.SetWriteDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.w.Write(part); err != nil {
		return err
	}
	return s.controller.Flush()
}

// appendStream appends events as messages, each with the place after it.
func appendStream(b []byte, p *engine.Page) []byte {
	ids := wire.EventIDs{Store: p.Store, Epochs: p.Epochs}
	for i := range p.Events {
		e := &p.Events[i]
		b = p.Epochs.At(e.Seq).Append(append(b, "id: "...))
		b = append(append(b, "\nevent: "...), e.Type.String()...)
		b = wire.AppendEvent(append(b, "\ndata: "...), e, &ids)
		b = append(b, "\n\n"...)
	}
	return b
}

// appendComment appends what readers take no notice of, but for the place: one who comes back need not pass again over
// what his filter has left out.
func appendComment(b []byte, c inventory.Cursor) []byte {
	b = c.Append(append(b, ":\nid: "...))
	return append(b, "\n\n"...)
}
