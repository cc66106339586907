package httpapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/wire"
)

const (
	maxWaitSeconds = 30
	// feedPoll is how often somebody who waits for events looks for those that another process committed.
	feedPoll = 500 * time.Millisecond
	// feedPageBytes bounds the stored events that one page of the feed is made of.
	feedPageBytes = 1 << 20
)

func (s *Server) routeEvents() {
	s.handle("GET /v1/events", "listEvents", s.listEvents)
}

// feedPage is a part of the feed, with the head that it was read at.
type feedPage struct {
	events []inventory.Event
	head   store.Head
}

func (s *Server) listEvents(c *call) error {
	q, err := c.query("after", "limit", "wait")
	if err != nil {
		return err
	}
	after, limit := q.sequence("after"), q.limit()
	wait := time.Duration(q.integer("wait", 0, 0, maxWaitSeconds)) * time.Second
	if err := q.err(); err != nil {
		return err
	}
	page, err := s.waitForEvents(c, after, limit, wait)
	if err != nil {
		return err
	}
	next := after
	if n := len(page.events); n > 0 {
		next = page.events[n-1].Seq
	}
	shown := wire.EventPage{Events: page.events, Next: next, Head: page.head.Seq, Store: page.head.Store}
	c.send(http.StatusOK, func(b []byte) []byte { return wire.AppendEventPage(b, &shown) })
	return nil
}

func (s *Server) waitForEvents(c *call, after int64, limit int, wait time.Duration) (feedPage, error) {
	ctx, cancel := context.WithTimeout(c.Context(), wait)
	defer cancel()
	poll := time.NewTicker(feedPoll)
	defer poll.Stop()
	for {
		changed := s.feed.wait() // taken before reading, so that no event falls between the two
		page, err := s.readEvents(c, after, limit)
		if err != nil || len(page.events) > 0 || wait == 0 {
			return page, err
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-s.stopping:
			return page, nil
		case <-ctx.Done():
			return page, nil
		}
	}
}

func (s *Server) readEvents(c *call, after int64, limit int) (page feedPage, err error) {
	var entries []store.Entry
	err = c.view(func(v store.View) (err error) {
		if page.head, err = v.Head(c.Context()); err != nil || after >= page.head.Seq {
			return err
		}
		entries, err = v.Journal(c.Context(), store.JournalPosition{Seq: after + 1}, limit, feedPageBytes)
		return err
	})
	if err != nil {
		return page, err
	}
	if after > page.head.Seq {
		return page, fail(CodeCursorAhead)
	}
	for i := range entries {
		events, err := inventory.DecodeEvents(entries[i].First, entries[i].At, entries[i].Events)
		if err != nil {
			return page, err
		}
		for j := range events {
			if events[j].Seq > after && len(page.events) < limit {
				page.events = append(page.events, events[j])
			}
		}
	}
	return page, nil
}

// broadcast wakes everybody who waits.
type broadcast struct {
	mu   sync.Mutex
	wake chan struct{}
}

// wait returns a channel that the next send closes.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wake
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.wake)
	b.wake = make(chan struct{})
}
