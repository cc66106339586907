package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// What a list can be asked for. Their fields say it.
type (
	// ReservationQuery selects reservations; see [store.ReservationQuery].
	ReservationQuery = store.ReservationQuery
	// OrderQuery selects orders; see [store.OrderQuery].
	OrderQuery = store.OrderQuery
	// Deadline is when a reservation falls due.
	Deadline = store.Deadline
)

// Product is a product with all its stock rows, or nil. Like everything read from an engine, it is as it was at some
// moment after the call began: whatever was acknowledged before, by any process, is in it.
func (e *Engine) Product(ctx context.Context, id string) (*Product, error) {
	if err := e.check(ctx); err != nil {
		return nil, err
	}
	if p := e.memory.product(id); p != nil {
		return p, nil
	}
	list, err := e.loadProducts(ctx, []string{id})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

// ProductsByID are those of the named products that exist, in the byte order of their ids, all as of one moment. Each id
// is named once.
func (e *Engine) ProductsByID(ctx context.Context, ids []string) ([]*Product, error) {
	if err := e.check(ctx); err != nil {
		return nil, err
	}
	ids = slices.Sorted(slices.Values(ids))
	if list, all := e.memory.all(ids); all {
		return list, nil
	}
	return e.loadProducts(ctx, ids)
}

// loadProducts reads products from the store and keeps them.
func (e *Engine) loadProducts(ctx context.Context, ids []string) ([]*Product, error) {
	load := e.memory.begin(ids, nil)
	defer load.abandon()
	var page []*inventory.Product
	head, err := e.snapshot(ctx, func(ctx context.Context, v store.View) (err error) {
		page, _, err = v.Products(ctx, store.ProductQuery{IDs: ids})
		return err
	})
	if err != nil {
		return nil, err
	}
	load.enter(&head, page, nil)
	list := make([]*Product, len(page))
	for i, p := range page {
		list[i] = &Product{Product: p, Rendered: e.options.Render(p)}
	}
	return list, nil
}

// Products are the products after an id, in byte order, up to limit. Where there are more, next is the after of the rest.
// A page may be shorter than limit although there are more. A product that is damaged is left out of a list, as
// reservations and orders are.
func (e *Engine) Products(ctx context.Context, after string, limit int) (page []*inventory.Product, next string, err error) {
	err = e.view(ctx, func(ctx context.Context, v store.View) (err error) {
		page, next, err = v.Products(ctx, store.ProductQuery{After: after, Limit: limit})
		next, err = past(e, next, err, func(bad *store.CorruptRow) string { return bad.Key })
		return err
	})
	return page, next, err
}

// Reservation is a reservation, or nil. One whose deadline has come is expired first, so that nobody ever sees two
// endings of it (I3).
func (e *Engine) Reservation(ctx context.Context, id inventory.ID) (*inventory.Reservation, error) {
	r, due, err := e.reservation(ctx, id)
	if err != nil || !due {
		return r, err
	}
	if err := e.expire(ctx, []inventory.ID{id}); err != nil {
		return nil, err
	}
	r, _, err = e.reservation(ctx, id)
	return r, err
}

// reservation also says whether it is due.
func (e *Engine) reservation(ctx context.Context, id inventory.ID) (r *inventory.Reservation, due bool, err error) {
	if err := e.check(ctx); err != nil {
		return nil, false, err
	}
	if r = e.memory.held(id); r == nil {
		if r, err = e.loadReservation(ctx, id); r == nil || err != nil {
			return nil, false, err
		}
	}
	return r, r.Due(e.now()), nil
}

func (e *Engine) loadReservation(ctx context.Context, id inventory.ID) (*inventory.Reservation, error) {
	load := e.memory.begin(nil, []inventory.ID{id})
	defer load.abandon()
	var page []*inventory.Reservation
	head, err := e.snapshot(ctx, func(ctx context.Context, v store.View) (err error) {
		page, _, err = v.Reservations(ctx, store.ReservationQuery{IDs: []inventory.ID{id}})
		return err
	})
	if err != nil {
		return nil, err
	}
	load.enter(&head, nil, page)
	if len(page) == 0 {
		return nil, nil
	}
	return page[0], nil
}

// expire ends those of the reservations that are due.
func (e *Engine) expire(ctx context.Context, ids []inventory.ID) error {
	_, err := e.Do(ctx, &inventory.Request{Command: &inventory.Expire{IDs: ids}})
	return err
}

// expiriesPerPage is how often the holds of a page that have fallen due are expired.
const expiriesPerPage = 3

// Reservations are the reservations that a query selects, newest first. Where there may be more, next is the Before of
// the rest. Those past their deadline are expired first, and the committed result is read. Others may have fallen due
// meanwhile, or taken the places of those on the page. So this is repeated until the page shows none, a few times, and
// then those are left out: nobody is shown an ACTIVE hold past its deadline.
func (e *Engine) Reservations(
	ctx context.Context, q ReservationQuery,
) (page []*inventory.Reservation, next inventory.ID, err error) {
	for expiries := 0; ; expiries++ {
		var due []inventory.ID
		page, next, due, err = e.reservations(ctx, q)
		if err != nil || due == nil {
			return page, next, err
		}
		if expiries == expiriesPerPage {
			return without(page, due), next, nil
		}
		if err := e.expire(ctx, due); errors.Is(err, ErrInternal) {
			return without(page, due), next, nil // one of them cannot be ended: the sweeper sets it aside
		} else if err != nil {
			return nil, next, err
		}
	}
}

func without(page []*inventory.Reservation, ids []inventory.ID) []*inventory.Reservation {
	return slices.DeleteFunc(page, func(r *inventory.Reservation) bool { return slices.Contains(ids, r.ID) })
}

// reservations also says which of them are due.
func (e *Engine) reservations(ctx context.Context, q ReservationQuery) (page []*inventory.Reservation, next inventory.ID, due []inventory.ID, err error) {
	err = e.view(ctx, func(ctx context.Context, v store.View) error {
		now, err := v.Now(ctx)
		if err != nil {
			return err
		}
		q.DueBy, due = now, nil
		page, next, err = v.Reservations(ctx, q)
		if q.IDs == nil {
			next, err = past(e, next, err, rowID)
		}
		for _, r := range page {
			if r.Due(now) {
				due = append(due, r.ID)
			}
		}
		return err
	})
	return page, next, due, err
}

// Order is an order, or nil.
func (e *Engine) Order(ctx context.Context, id inventory.ID) (*inventory.Order, error) {
	page, _, err := e.Orders(ctx, OrderQuery{IDs: []inventory.ID{id}})
	if err != nil || len(page) == 0 {
		return nil, err
	}
	return page[0], nil
}

// Orders are the orders that a query selects, newest first. Where there may be more, next is the Before of the rest.
func (e *Engine) Orders(ctx context.Context, q OrderQuery) (page []*inventory.Order, next inventory.ID, err error) {
	err = e.view(ctx, func(ctx context.Context, v store.View) (err error) {
		page, next, err = v.Orders(ctx, q)
		if q.IDs == nil {
			next, err = past(e, next, err, rowID)
		}
		return err
	})
	return page, next, err
}

func rowID(bad *store.CorruptRow) inventory.ID { return bad.ID }

// Due are reservations whose deadline has come or comes within so long, earliest first, up to limit, with the time by
// the clock that decides.
func (e *Engine) Due(ctx context.Context, within time.Duration, limit int) (list []Deadline, now inventory.Time, err error) {
	err = e.view(ctx, func(ctx context.Context, v store.View) (err error) {
		if now, err = v.Now(ctx); err == nil {
			list, err = v.Due(ctx, now+inventory.Time(within.Milliseconds()), limit)
		}
		return err
	})
	return list, now, err
}

// Records are those of the named records that exist, in the order of their keys, all as of one moment.
func (e *Engine) Records(ctx context.Context, keys []inventory.RecordKey) (list []*inventory.Record, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	err = e.view(ctx, func(ctx context.Context, v store.View) (err error) {
		list, _, err = v.Records(ctx, store.RecordQuery{Keys: keys})
		return err
	})
	return list, err
}

// RecordRange are the records of a range, in the byte order of their keys. Where there may be more, next is the After of
// the rest. A page may be shorter than the limit although there are more. A record that is damaged is left out.
func (e *Engine) RecordRange(
	ctx context.Context, r inventory.RecordRange,
) (page []*inventory.Record, next string, err error) {
	err = e.view(ctx, func(ctx context.Context, v store.View) (err error) {
		page, next, err = v.Records(ctx, store.RecordQuery{Kind: r.Kind, Prefix: r.Prefix, After: r.After, Limit: r.Limit})
		next, err = past(e, next, err, func(bad *store.CorruptRow) string { return bad.Key })
		return err
	})
	return page, next, err
}

// End is the place after the last event.
func (e *Engine) End(ctx context.Context) (inventory.Cursor, error) { return e.end(ctx) }
