package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/holdfast/holdfast/client"
)

// triggerCommand are the flags of holdfast trigger.
type triggerCommand struct {
	apiFlags
	Event string `arg:"" help:"Type of the event to cause: ${triggers}."`
}

// Run implements holdfast trigger: it does what causes an event, on a product of its own, and waits until it is there.
func (c *triggerCommand) Run(ctx context.Context, env *environment) error {
	cause, known := causes[c.Event]
	if !known {
		return fmt.Errorf("%w: no event is called %q: it is one of %s", errUsage, c.Event, triggerHelp())
	}
	if !isLocal(c.URL) {
		return fmt.Errorf("%w: trigger makes products, holds and orders, so it is for a server on this machine, such as that of "+
			"holdfast dev, and not for %s", errUsage, redact(c.URL))
	}
	t := trigger{c: c.client(), product: "trigger-" + strings.ToLower(rand.Text()[:8])}
	page, err := t.c.EventPage(ctx, "0", 1, 0)
	if err != nil {
		return err
	}
	_, err = t.c.CreateProduct(ctx, client.NewProduct{
		ID: t.product, Name: "Trigger", Price: client.Money{Amount: 1000, Currency: "EUR"}, TotalStock: 10,
	})
	if err == nil {
		err = cause(ctx, &t)
	}
	if err != nil {
		return err
	}
	for event, err := range t.c.Follow(ctx, client.Feed{After: page.Head, Types: []string{c.Event}, ProductID: t.product}) {
		if err == nil {
			_, err = fmt.Fprintf(env.stdout, "%s of %s: event %d, %s\n", event.Type, event.Subject, event.Sequence, event.ID)
		}
		return err
	}
	return nil
}

// trigger is one run of the command.
type trigger struct {
	c       *client.Client
	product string
}

// causes are what to do for each event, once there is a product.
var causes = map[string]func(context.Context, *trigger) error{
	"product.created": func(context.Context, *trigger) error { return nil },
	"product.updated": func(ctx context.Context, t *trigger) error {
		name := "Triggered"
		_, err := t.c.UpdateProduct(ctx, t.product, client.ProductPatch{Name: &name})
		return err
	},
	"stock.adjusted": func(ctx context.Context, t *trigger) error {
		_, _, err := t.c.AdjustStock(ctx, t.product, client.NewAdjustment{Delta: 1, Reason: "triggered"})
		return err
	},
	"reservation.created": func(ctx context.Context, t *trigger) error { return t.hold(ctx, 60, nil) },
	"reservation.expired": func(ctx context.Context, t *trigger) error { return t.hold(ctx, 1, nil) },
	"reservation.extended": func(ctx context.Context, t *trigger) error {
		return t.hold(ctx, 60, func(id string) error { return second(t.c.Extend(ctx, id, 2*time.Minute)) })
	},
	"reservation.cancelled": func(ctx context.Context, t *trigger) error {
		return t.hold(ctx, 60, func(id string) error { return second(t.c.Cancel(ctx, id, "triggered")) })
	},
	"reservation.confirmed": func(ctx context.Context, t *trigger) error { return t.order(ctx, nil) },
	"order.created":         func(ctx context.Context, t *trigger) error { return t.order(ctx, nil) },
	"order.fulfilled": func(ctx context.Context, t *trigger) error {
		return t.order(ctx, func(id string) error { return second(t.c.Fulfill(ctx, id)) })
	},
	"order.cancelled": func(ctx context.Context, t *trigger) error {
		return t.order(ctx, func(id string) error { return second(t.c.CancelOrder(ctx, id, "triggered")) })
	},
}

func second[T any](_ T, err error) error { return err }

// hold holds a unit, and then does more with the hold.
func (t *trigger) hold(ctx context.Context, ttlSeconds int64, then func(id string) error) error {
	r, err := t.c.Reserve(ctx, client.NewReservation{
		Lines: []client.NewLine{{ProductID: t.product, Quantity: 1}}, TTLSeconds: ttlSeconds,
	})
	if err != nil || then == nil {
		return err
	}
	return then(r.ID)
}

// order orders a unit, and then does more with the order.
func (t *trigger) order(ctx context.Context, then func(id string) error) error {
	return t.hold(ctx, 60, func(id string) error {
		o, err := t.c.Confirm(ctx, client.NewOrder{ReservationID: id})
		if err != nil || then == nil {
			return err
		}
		return then(o.ID)
	})
}

// triggerHelp lists the events.
func triggerHelp() string {
	return strings.Join(slices.Sorted(maps.Keys(causes)), ", ")
}

// isLocal reports whether a server is on this machine.
func isLocal(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
