package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Feed says which events to follow, and from where on. The zero Feed is all of them from the beginning.
type Feed struct {
	After         string   // Event.Cursor of the last event that was dealt with, or EventPage.NextAfter
	Types         []string // for example reservation.expired; none: all
	ProductID     string   // events of this product, and of reservations and orders with a line of it
	ReservationID string   // events of this reservation and of its order; without After from where it was made
}

func (f *Feed) query() url.Values {
	return values("after", f.After, "types", strings.Join(f.Types, ","), "productId", f.ProductID, "reservationId",
		f.ReservationID)
}

// Follow yields events as they are committed, each at least once and in order, until ctx ends. Where the connection or
// the server goes away it comes back and goes on behind the last event. It ends with an error that repeating cannot
// mend, such as [CursorAhead] after a restore.
//
// Whoever wants to go on after a restart of his own keeps [Event.Cursor] together with what he did about the event.
func (c *Client) Follow(ctx context.Context, f Feed) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		s := follower{client: c, feed: f, yield: yield}
		for s.attempt = 1; ; s.attempt++ {
			err := s.follow(ctx)
			var problem *Error
			switch {
			case err == nil:
			case errors.Is(err, errEnough):
				return
			case errors.As(err, &problem) && !problem.temporary():
				yield(nil, err)
				return
			case ctx.Err() != nil, pause(ctx, backoff(s.attempt, err)) != nil:
				yield(nil, ctx.Err())
				return
			}
		}
	}
}

// errEnough: whoever ranges over the events has stopped.
var errEnough = errors.New("holdfast: enough events")

// follower is one Follow.
type follower struct {
	client  *Client
	feed    Feed
	yield   func(*Event, error) bool
	attempt int  // since something was heard
	polls   bool // the server does not stream
}

func (s *follower) follow(ctx context.Context) error {
	if s.polls {
		return s.poll(ctx)
	}
	return s.stream(ctx)
}

// heard notes a place in the feed.
func (s *follower) heard(cursor string) {
	s.attempt = 1
	if cursor != "" {
		s.feed.After = cursor
	}
}

func (s *follower) give(e *Event) error {
	s.heard(e.Cursor)
	if !s.yield(e, nil) {
		return errEnough
	}
	return nil
}

// longestSilence is how long a stream may be silent before it is taken for dead: the server says something every ten
// seconds.
const longestSilence = 25 * time.Second

// stream reads Server-Sent Events until the stream ends.
func (s *follower) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(longestSilence, cancel)
	defer silence.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.client.base+"/v1/events?"+s.feed.query().Encode(), nil)
	if err != nil {
		return fmt.Errorf("holdfast: %w", err)
	}
	request.Header.Set("Accept", "text/event-stream")
	response, err := s.client.http.Do(request)
	if err != nil {
		return fmt.Errorf("holdfast: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 400 {
		content, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
		return problemOf(response, content)
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != "text/event-stream" {
		s.polls = true // an older server
		return s.poll(ctx)
	}
	return s.read(response.Body, func() { silence.Reset(longestSilence) })
}

// read takes messages off a stream. It calls alive for each line.
func (s *follower) read(body io.Reader, alive func()) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxAnswerBytes)
	var cursor, data string
	for lines.Scan() {
		alive()
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "id":
			cursor = value
		case name == "data":
			data = value
		case name == "event" && value == "end":
			return errors.New("holdfast: the server is stopping")
		case lines.Text() == "" && data == "":
			s.heard(cursor) // a comment: there was nothing for this feed up to here
		case lines.Text() == "":
			event := &Event{Cursor: cursor}
			if err := json.Unmarshal([]byte(data), event); err != nil {
				return fmt.Errorf("holdfast: an event is not what it should be: %w", err)
			}
			if err := s.give(event); err != nil {
				return err
			}
			data = ""
		}
	}
	return fmt.Errorf("holdfast: the stream of events ended: %w", errors.Join(lines.Err(), io.ErrUnexpectedEOF))
}

// poll reads one page, and waits for it where there is nothing yet.
func (s *follower) poll(ctx context.Context) error {
	query := s.feed.query()
	query.Set("wait", "30")
	query.Set("limit", "1000")
	patient := *s.client
	patient.timeout += longestPoll
	page, err := get[EventPage](ctx, &patient, "/v1/events?"+query.Encode())
	if err != nil {
		return err
	}
	for i := range page.Data {
		if i == len(page.Data)-1 {
			page.Data[i].Cursor = page.NextAfter
		}
		if err := s.give(&page.Data[i]); err != nil {
			return err
		}
	}
	s.heard(page.NextAfter)
	return nil
}
