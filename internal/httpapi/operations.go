package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// noLines is for commands without lines.
func noLines(int) string { return "" }

// submit reads a body of this shape, makes a command of it and sends it through the door.
func submit[B any](c *call, command func(*B) (inventory.Command, *problem), mediaTypes ...string) *problem {
	var body B
	if p := c.read(&body, mediaTypes...); p != nil {
		return p
	}
	made, p := command(&body)
	if p != nil {
		return p
	}
	return c.mutate(made, noLines)
}

func (s *Server) createProduct(c *call) *problem {
	return submit(c, func(b *productBody) (inventory.Command, *problem) { return b.command() })
}

func (s *Server) updateProduct(c *call) *problem {
	return submit(c, func(b *patchBody) (inventory.Command, *problem) {
		ifMatch, p := c.ifMatch()
		if p != nil {
			return nil, p
		}
		return b.command(c.pathProduct(), ifMatch)
	}, "application/merge-patch+json")
}

func (s *Server) adjustStock(c *call) *problem {
	return submit(c, func(b *adjustmentBody) (inventory.Command, *problem) { return b.command(c.pathProduct()) })
}

func (s *Server) createReservation(c *call) *problem {
	var body reservationBody
	if p := c.read(&body); p != nil {
		return p
	}
	command, p := body.command(s.o.HoldDefault, s.o.HoldMax)
	if p != nil {
		return p
	}
	return c.mutate(command, func(i int) string {
		if body.Lines.set {
			return fmt.Sprintf("/lines/%d/productId", i)
		}
		return "/productId"
	})
}

func (s *Server) cancelReservation(c *call) *problem {
	return submit(c, func(b *reasonBody) (inventory.Command, *problem) {
		reason, p := b.reason()
		return &inventory.Cancel{ID: c.pathID(inventory.ReservationPrefix), Reason: reason}, p
	})
}

func (s *Server) extendReservation(c *call) *problem {
	return submit(c, func(b *extendBody) (inventory.Command, *problem) {
		var check checker
		ttl := check.ttl(&b.TTLSeconds, true, s.o.HoldMax)
		return &inventory.Extend{ID: c.pathID(inventory.ReservationPrefix), TTL: ttl, MaxHold: s.o.HoldMax.Milliseconds()}, check.problem()
	})
}

func (s *Server) createOrder(c *call) *problem {
	return submit(c, func(b *orderBody) (inventory.Command, *problem) { return b.command() })
}

func (s *Server) fulfillOrder(c *call) *problem {
	return submit(c, func(*emptyBody) (inventory.Command, *problem) {
		return &inventory.Fulfill{ID: c.pathID(inventory.OrderPrefix)}, nil
	})
}

func (s *Server) cancelOrder(c *call) *problem {
	return submit(c, func(b *reasonBody) (inventory.Command, *problem) {
		reason, p := b.reason()
		return &inventory.CancelOrder{ID: c.pathID(inventory.OrderPrefix), Reason: reason}, p
	})
}

func (s *Server) getProduct(c *call) *problem {
	if p := c.noQuery(); p != nil {
		return p
	}
	var page []*inventory.Product
	p := c.view(func(ctx context.Context, v store.View) (err error) {
		page, _, err = v.Products(ctx, store.ProductQuery{IDs: []string{c.pathProduct()}})
		return err
	})
	switch {
	case p != nil:
		return p
	case len(page) == 0:
		return fail("product-not-found")
	}
	return c.one(page[0].LastSeq(), func(b []byte) []byte { return appendProduct(b, page[0]) })
}

func (s *Server) getReservation(c *call) *problem {
	if p := c.noQuery(); p != nil {
		return p
	}
	var page []*inventory.Reservation
	p := c.settled(func(ctx context.Context, v store.View, _ inventory.Time) (_ []*inventory.Reservation, err error) {
		page, _, err = v.Reservations(ctx, store.ReservationQuery{IDs: []inventory.ID{c.pathID(inventory.ReservationPrefix)}})
		return page, err
	})
	if p != nil {
		return p
	}
	if len(page) == 0 {
		return fail("reservation-not-found")
	}
	return c.one(page[0].Version, func(b []byte) []byte { return appendReservation(b, page[0]) })
}

// settled reads reservations so that no reader ever sees two endings (I3): where one of the page is past its deadline, its
// expiry is sent through the door, once for the page, and the committed result is read.
func (c *call) settled(read func(context.Context, store.View, inventory.Time) ([]*inventory.Reservation, error)) *problem {
	var due []inventory.ID
	p := c.view(func(ctx context.Context, v store.View) error {
		now, err := v.Now(ctx)
		if err != nil {
			return err
		}
		page, err := read(ctx, v, now)
		for _, r := range page {
			if r.Due(now) {
				due = append(due, r.ID)
			}
		}
		return err
	})
	if p != nil {
		return p
	}
	if due == nil {
		return nil
	}
	if _, p := c.do(&inventory.Expire{IDs: due}); p != nil {
		return p
	}
	return c.view(func(ctx context.Context, v store.View) error {
		now, err := v.Now(ctx)
		if err == nil {
			_, err = read(ctx, v, now)
		}
		return err
	})
}

func (s *Server) getOrder(c *call) *problem {
	if p := c.noQuery(); p != nil {
		return p
	}
	var page []*inventory.Order
	p := c.view(func(ctx context.Context, v store.View) (err error) {
		page, _, err = v.Orders(ctx, store.OrderQuery{IDs: []inventory.ID{c.pathID(inventory.OrderPrefix)}})
		return err
	})
	switch {
	case p != nil:
		return p
	case len(page) == 0:
		return fail("order-not-found")
	}
	return c.one(page[0].Version, func(b []byte) []byte { return appendOrder(b, page[0]) })
}

func (s *Server) listProducts(c *call) *problem {
	q, p := c.query("id", "limit", "cursor")
	if p != nil {
		return p
	}
	ids, limit, after := q.ids("id", 100), q.limit(), q.productCursor()
	if ids != nil && (q.has("limit") || q.has("cursor")) {
		q.add("id", "cannot stand beside limit or cursor")
	}
	if p := q.problem(); p != nil {
		return p
	}
	var page []*inventory.Product
	var next string
	p = c.view(func(ctx context.Context, v store.View) (err error) {
		page, next, err = v.Products(ctx, store.ProductQuery{IDs: ids, After: after, Limit: limit})
		return err
	})
	if p != nil {
		return p
	}
	c.send(http.StatusOK, func(b []byte) []byte { return appendPage(b, page, productCursor(next), appendProduct) })
	return nil
}

func (s *Server) listReservations(c *call) *problem {
	q, p := c.query("status", "customerId", "productId", "limit", "cursor")
	if p != nil {
		return p
	}
	query := store.ReservationQuery{
		Limit: q.limit(), Before: q.cursor(), CustomerID: q.text("customerId", 200), ProductID: q.text("productId", 64),
	}
	if name, given := q.get("status"); given {
		var ok bool
		if query.Status, ok = inventory.ParseReservationStatus(name); !ok {
			q.add("status", "must be ACTIVE, CONFIRMED, EXPIRED or CANCELLED")
		}
	}
	if query.ProductID != "" && (query.Status != inventory.ReservationActive || query.CustomerID != "") {
		q.add("productId", "needs status=ACTIVE beside it, and no customerId")
	}
	if p := q.problem(); p != nil {
		return p
	}
	var page []*inventory.Reservation
	var next inventory.ID
	p = c.settled(func(ctx context.Context, v store.View, now inventory.Time) (_ []*inventory.Reservation, err error) {
		query.DueBy = now
		page, next, err = v.Reservations(ctx, query)
		return page, err
	})
	if p != nil {
		return p
	}
	c.send(http.StatusOK, func(b []byte) []byte { return appendPage(b, page, cursor(next), appendReservation) })
	return nil
}

func (s *Server) listOrders(c *call) *problem {
	q, p := c.query("status", "customerId", "reference", "reservationId", "limit", "cursor")
	if p != nil {
		return p
	}
	query := store.OrderQuery{Limit: q.limit(), Before: q.cursor(), CustomerID: q.text("customerId", 200), Reference: q.text("reference", 200)}
	if name, given := q.get("status"); given {
		var ok bool
		if query.Status, ok = inventory.ParseOrderStatus(name); !ok {
			q.add("status", "must be CONFIRMED, FULFILLED or CANCELLED")
		}
	}
	nowhere := false
	if text := q.text("reservationId", 64); text != "" {
		id, ok := inventory.ParseID(inventory.ReservationPrefix, text)
		query.ReservationID, nowhere = id, !ok
	}
	if p := q.problem(); p != nil {
		return p
	}
	var page []*inventory.Order
	var next inventory.ID
	if !nowhere { // an id that no server made has no orders
		p = c.view(func(ctx context.Context, v store.View) (err error) {
			page, next, err = v.Orders(ctx, query)
			return err
		})
	}
	if p != nil {
		return p
	}
	c.send(http.StatusOK, func(b []byte) []byte { return appendPage(b, page, cursor(next), appendOrder) })
	return nil
}

// maxPageBytes bounds the stored events that one page of the feed reads.
const maxPageBytes = 1 << 20

// feedPage is a part of the event feed.
type feedPage struct {
	events []inventory.Event
	head   store.Head
}

func (s *Server) listEvents(c *call) *problem {
	q, p := c.query("after", "limit", "wait")
	if p != nil {
		return p
	}
	after := q.sequence("after")
	limit := q.limit()
	wait := q.integer("wait", 0, 0, maxWaitSeconds)
	if p := q.problem(); p != nil {
		return p
	}
	page, p := s.waitForEvents(c, after, limit, time.Duration(wait)*time.Second)
	if p != nil {
		return p
	}
	next := after
	if n := len(page.events); n > 0 {
		next = page.events[n-1].Seq
	}
	digest := storeDigest(page.head.Store)
	c.send(http.StatusOK, func(b []byte) []byte {
		b = append(b, `{"data":[`...)
		for i := range page.events {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendEvent(b, &page.events[i], digest)
		}
		b = append(b, `],"nextAfter":"`...)
		b = appendInt(b, next)
		b = append(b, `","head":"`...)
		b = appendInt(b, page.head.Seq)
		b = append(b, `","store":`...)
		b = appendString(b, page.head.Store)
		return append(b, '}')
	})
	return nil
}

func (s *Server) waitForEvents(c *call, after int64, limit int, wait time.Duration) (feedPage, *problem) {
	ctx, cancel := context.WithTimeout(c.Context(), wait)
	defer cancel()
	poll := time.NewTicker(feedPoll)
	defer poll.Stop()
	for {
		changed := s.feed.wait() // before looking, so that nothing is missed between the two
		page, p := s.readEvents(c, after, limit)
		if p != nil || len(page.events) > 0 || wait == 0 {
			return page, p
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

func (s *Server) readEvents(c *call, after int64, limit int) (page feedPage, p *problem) {
	var entries []store.Entry
	p = c.view(func(ctx context.Context, v store.View) (err error) {
		if page.head, err = v.Head(ctx); err != nil || after >= page.head.Seq {
			return err
		}
		entries, err = v.Journal(ctx, store.JournalPosition{Seq: after + 1}, limit, maxPageBytes)
		return err
	})
	if p != nil {
		return page, p
	}
	if after > page.head.Seq {
		return page, fail("cursor-ahead")
	}
	for i := range entries {
		events, err := inventory.DecodeEvents(entries[i].First, entries[i].At, entries[i].Events)
		if err != nil {
			return page, c.failed(err)
		}
		for j := range events {
			if events[j].Seq > after && len(page.events) < limit {
				page.events = append(page.events, events[j])
			}
		}
	}
	return page, nil
}

func (q *query) sequence(name string) int64 {
	text, given := q.get(name)
	if !given {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || text != strconv.FormatInt(n, 10) {
		q.add(name, "must be a nextAfter, head or Holdfast-Sequence that this server gave, or 0")
		return 0
	}
	return n
}
