package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast/holdfast/client"
)

// apiFlags are how commands that are clients of a server reach it.
type apiFlags struct {
	URL string `default:"http://127.0.0.1:8420" env:"HOLDFAST_URL" help:"URL of the server."`
}

func (f *apiFlags) client() *client.Client { return client.New(f.URL) }

// eventsCommand are the commands about the feed.
type eventsCommand struct {
	Tail tailCommand `cmd:"" help:"Print events as they are committed."`
}

// feedFlags select events.
type feedFlags struct {
	Type        []string `placeholder:"TYPE" help:"Only events of these types, for example reservation.expired."`
	Product     string   `placeholder:"ID" help:"Only events that concern this product."`
	Reservation string   `placeholder:"ID" help:"Only events of this reservation and of its order."`
	After       string   `placeholder:"CURSOR" help:"Begin after this place; 0 is the beginning. Default: now."`
}

// feed is what the flags select. Without a place it begins at the end of the feed.
func (f *feedFlags) feed(ctx context.Context, c *client.Client) (client.Feed, error) {
	feed := client.Feed{After: f.After, Types: f.Type, ProductID: f.Product, ReservationID: f.Reservation}
	if feed.After != "" || feed.ReservationID != "" {
		return feed, nil
	}
	page, err := c.EventPage(ctx, "0", 1, 0)
	if err != nil {
		return feed, err
	}
	feed.After = page.Head
	return feed, nil
}

// tailCommand are the flags of holdfast events tail.
type tailCommand struct {
	apiFlags
	feedFlags
	JSON  bool `help:"Print each event as JSON, one a line."`
	Count int  `placeholder:"N" help:"End after so many events. Default: never."`
}

// Run implements holdfast events tail.
func (c *tailCommand) Run(ctx context.Context, env *environment) error {
	hf := c.client()
	feed, err := c.feed(ctx, hf)
	if err != nil {
		return err
	}
	n := 0
	for event, err := range hf.Follow(ctx, feed) {
		if errors.Is(err, context.Canceled) {
			return nil // whoever looks has seen enough
		}
		if err == nil {
			err = c.print(env.stdout, event)
		}
		if n++; err != nil || n == c.Count {
			return err
		}
	}
	return nil
}

func (c *tailCommand) print(w io.Writer, e *client.Event) error {
	if c.JSON {
		_, err := fmt.Fprintf(w, "%s\n", e.Raw)
		return err
	}
	_, err := fmt.Fprintf(w, "%8d  %s  %-22s %-31s %s\n", e.Sequence, e.Time.Local().Format(time.TimeOnly), e.Type, e.Subject,
		describeMovements(e.Data.Movements))
	return err
}

// describeMovements says which units an event moved, for people: "mug -2 available +2 reserved".
func describeMovements(list []client.Movement) string {
	var parts []string
	for i := range list {
		m := &list[i]
		part := m.ProductID
		if m.Location != "main" {
			part += "@" + m.Location
		}
		for _, bucket := range []struct {
			name  string
			delta int64
		}{{"available", m.Delta.Available}, {"reserved", m.Delta.Reserved}, {"committed", m.Delta.Committed}} {
			if bucket.delta != 0 {
				part += fmt.Sprintf(" %+d %s", bucket.delta, bucket.name)
			}
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}
