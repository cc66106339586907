package audit

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// rows is the pass over the rows.
func (a *auditor) rows(ctx context.Context) error {
	a.options.Progress("rows: products")
	lookup := &lookup{auditor: a}
	err := a.eachProduct(ctx, func(v store.View, page []*inventory.Product, _ int64) error {
		for _, p := range page {
			a.report.Products++
			a.report.StockRows += int64(len(p.Stock))
		}
		return lookup.products(ctx, v, page)
	}, func(string, int64) {})
	if err != nil {
		return err
	}
	a.options.Progress("rows: reservations")
	err = a.eachReservation(ctx, 0, func(v store.View, page []*inventory.Reservation) error {
		a.report.Reservations += int64(len(page))
		return lookup.reservations(ctx, v, page)
	}, func(int64, int64) {})
	if err != nil {
		return err
	}
	a.options.Progress("rows: orders")
	err = a.eachOrder(ctx, 0, func(v store.View, page []*inventory.Order) error {
		a.report.Orders += int64(len(page))
		return lookup.orders(ctx, v, page)
	}, func(int64, int64) {})
	return err
}

// bookkeeping is the pass over what the store keeps for itself.
func (a *auditor) bookkeeping(ctx context.Context) error {
	a.options.Progress("what the store keeps for itself")
	return a.store.View(ctx, func(v store.View) error {
		strays, err := v.Strays(ctx, strayLimit)
		for _, stray := range strays {
			a.breach("row", "bookkeeping", "%s", stray)
		}
		return err
	})
}

// eachProduct reads all products, each page in a snapshot of its own. It calls visit with the products and the sequence
// of the snapshot, and page with the last id of a page and that sequence.
func (a *auditor) eachProduct(ctx context.Context,
	visit func(v store.View, page []*inventory.Product, seq int64) error, page func(upTo string, seq int64),
) error {
	for after, done := "", false; !done; {
		err := a.store.View(ctx, func(v store.View) error {
			head, err := v.Head(ctx)
			if err != nil {
				return err
			}
			products, next, err := v.Products(ctx, store.ProductQuery{After: after, Limit: rowsPerPage})
			bad, err := corruptRow(err)
			if err != nil {
				return err
			}
			if err := visit(v, products, head.Seq); err != nil {
				return err
			}
			if bad != nil {
				next = bad.Key
				a.breach("row", bad.Row, "%s", bad.Detail)
			}
			after = next
			if done = next == ""; done {
				next = lastID
			}
			page(next, head.Seq)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lastID comes after every product id, in byte order.
const lastID = "\xff"

func (a *auditor) eachReservation(ctx context.Context, status inventory.ReservationStatus,
	visit func(store.View, []*inventory.Reservation) error, page func(downTo, seq int64),
) error {
	return eachRow(ctx, a, func(v store.View, before inventory.ID) ([]*inventory.Reservation, inventory.ID, error) {
		return v.Reservations(ctx, store.ReservationQuery{
			Before: before, Status: status, Limit: rowsPerPage,
			Check: status == 0,
		})
	}, visit, page)
}

func (a *auditor) eachOrder(ctx context.Context, status inventory.OrderStatus,
	visit func(store.View, []*inventory.Order) error, page func(downTo, seq int64),
) error {
	return eachRow(ctx, a, func(v store.View, before inventory.ID) ([]*inventory.Order, inventory.ID, error) {
		return v.Orders(ctx, store.OrderQuery{Before: before, Status: status, Limit: rowsPerPage})
	}, visit, page)
}

// eachRow reads rows, newest first, each page in a snapshot of its own. It calls visit with the rows, and page with the
// lowest key of a page and the sequence of its snapshot.
func eachRow[T any](
	ctx context.Context, a *auditor, read func(v store.View, before inventory.ID) ([]*T, inventory.ID, error),
	visit func(store.View, []*T) error, page func(downTo, seq int64),
) error {
	var before inventory.ID
	for done := false; !done; {
		err := a.store.View(ctx, func(v store.View) error {
			head, err := v.Head(ctx)
			if err != nil {
				return err
			}
			rows, next, err := read(v, before)
			bad, err := corruptRow(err)
			if err != nil {
				return err
			}
			if err := visit(v, rows); err != nil {
				return err
			}
			if bad != nil {
				next = bad.ID
				a.breach("row", bad.Row, "%s", bad.Detail)
			}
			done = next.IsZero()
			before = next
			if done {
				page(math.MinInt64, head.Seq)
			} else {
				page(next.Sequence(), head.Seq)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lookup lets rows be compared with the events that changed them last. The rows of a page ask first, and are answered
// together, so that each journal entry is decoded once for a page. Only the entry that was decoded last stays in
// memory, because an entry may have megabytes.
type lookup struct {
	*auditor
	wants  []want
	first  int64
	events []inventory.Event // of one entry; first is the sequence of the first
}

// want is a check that needs an event. It is called with nil if there is no event with that sequence.
type want struct {
	seq   int64
	check func(*inventory.Event)
}

func (l *lookup) want(seq int64, check func(*inventory.Event)) {
	l.wants = append(l.wants, want{seq, check})
}

// answer makes the checks that wait, in the snapshot of their rows. It begins with the latest event, because the pages
// of reservations and orders go back in time.
func (l *lookup) answer(ctx context.Context, v store.View) error {
	slices.SortStableFunc(l.wants, func(a, b want) int { return cmp.Compare(b.seq, a.seq) })
	for _, w := range l.wants {
		e, err := l.event(ctx, v, w.seq)
		if err != nil {
			return err
		}
		w.check(e)
	}
	clear(l.wants)
	l.wants = l.wants[:0]
	return nil
}

func (l *lookup) event(ctx context.Context, v store.View, seq int64) (*inventory.Event, error) {
	if e := l.decoded(seq); e != nil {
		return e, nil
	}
	entries, err := v.Journal(ctx, store.JournalPosition{Seq: seq}, 1, 1)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	l.first = entries[0].First
	// If they cannot be decoded, the journal pass has named the entry, and here it has no events.
	l.events, _ = inventory.DecodeEvents(l.first, entries[0].At, entries[0].Events)
	return l.decoded(seq), nil
}

func (l *lookup) decoded(seq int64) *inventory.Event {
	if i := seq - l.first; i >= 0 && i < int64(len(l.events)) {
		return &l.events[i]
	}
	return nil
}

func (l *lookup) products(ctx context.Context, v store.View, page []*inventory.Product) error {
	for _, p := range page {
		l.want(p.Seq, func(e *inventory.Event) { l.product(p, e) })
		for i := range p.Stock {
			l.want(p.Stock[i].Seq, func(e *inventory.Event) { l.stock(p.ID, &p.Stock[i], e) })
		}
	}
	return l.answer(ctx, v)
}

func (l *lookup) product(p *inventory.Product, e *inventory.Event) {
	name := "product " + p.ID
	if e == nil || e.Product == nil || e.Adjustment != nil || e.Product.ID != p.ID {
		l.breach("I9", name, "no event made it what it is: event %d is not about it", p.Seq)
	} else if !bytes.Equal(inventory.AppendProduct(nil, e.Product), inventory.AppendProduct(nil, p)) {
		l.breach("I9", name, "its row is not what event %d made it", p.Seq)
	}
	if p.At(inventory.MainLocation) == nil {
		l.breach("row", name, "it has no stock row at %s", inventory.MainLocation)
	}
}

func (l *lookup) stock(product string, s *inventory.Stock, e *inventory.Event) {
	key := inventory.StockKey{ProductID: product, Location: s.Location}
	if !s.Valid() {
		l.breach("I1", stockName(key), "has a negative bucket: %+v", s.Buckets)
	}
	if e == nil {
		l.breach("I9", stockName(key), "no event made it what it is: there is no event %d", s.Seq)
		return
	}
	for i := range e.Movements {
		if e.Movements[i].StockKey == key {
			if e.Movements[i].After != s.Buckets {
				l.breach("I9", stockName(key), "its buckets are %+v, event %d left %+v", s.Buckets, s.Seq, e.Movements[i].After)
			}
			return
		}
	}
	opened := e.Type == inventory.EventProductCreated && e.Product.ID == product && e.Product.At(s.Location) != nil
	if !opened || s.Buckets != (inventory.Buckets{}) {
		l.breach("I9", stockName(key), "no event made it what it is: event %d moved nothing there", s.Seq)
	}
}

// reservations checks a page of reservations with their orders. An order that cannot be used counts as missing; the
// pass over orders names it.
func (l *lookup) reservations(ctx context.Context, v store.View, page []*inventory.Reservation) error {
	var ids []inventory.ID
	for _, r := range page {
		if !r.OrderID.IsZero() {
			ids = append(ids, r.OrderID)
		}
	}
	orders, _, err := ordersByID(ctx, v, ids)
	if err != nil {
		return err
	}
	for _, r := range page {
		l.want(r.Seq, func(e *inventory.Event) { l.reservation(r, orders[r.OrderID], e) })
	}
	return l.answer(ctx, v)
}

func (l *lookup) reservation(r *inventory.Reservation, order *inventory.Order, e *inventory.Event) {
	name := r.ID.Text(inventory.ReservationPrefix)
	if e == nil || e.Reservation == nil || e.Reservation.ID != r.ID {
		l.breach("I9", name, "no event made it what it is: event %d is not about it", r.Seq)
	} else if !bytes.Equal(inventory.AppendReservation(nil, e.Reservation), inventory.AppendReservation(nil, r)) {
		l.breach("I9", name, "its row is not what event %d made it", r.Seq)
	}
	if total, ok := inventory.Total(r.Lines); !ok || total != r.Total {
		l.breach("row", name, "its total is not the sum of its lines")
	}
	if (r.Status == inventory.ReservationActive) != (r.EndedAt == 0) ||
		(r.Status == inventory.ReservationExpired && r.EndedAt != r.ExpiresAt) {
		l.breach("I3", name, "it is %v, but its end is %d and its deadline %d", r.Status, r.EndedAt, r.ExpiresAt)
	}
	if (r.Status == inventory.ReservationConfirmed) != !r.OrderID.IsZero() {
		l.breach("I4", name, "it is %v, but its order is %s", r.Status, r.OrderID.Text(inventory.OrderPrefix))
	}
	if !r.OrderID.IsZero() && (order == nil || order.ReservationID != r.ID) {
		l.breach("I4", name, "its order %s is missing or of another reservation", r.OrderID.Text(inventory.OrderPrefix))
	}
}

// orders checks a page of orders with their reservations. A reservation that cannot be used counts as missing.
func (l *lookup) orders(ctx context.Context, v store.View, page []*inventory.Order) error {
	ids := make([]inventory.ID, len(page))
	for i, o := range page {
		ids[i] = o.ReservationID
	}
	reservations, _, err := reservationsByID(ctx, v, ids)
	if err != nil {
		return err
	}
	for _, o := range page {
		l.want(o.Seq, func(e *inventory.Event) { l.order(o, reservations[o.ReservationID], e) })
	}
	return l.answer(ctx, v)
}

func (l *lookup) order(o *inventory.Order, r *inventory.Reservation, e *inventory.Event) {
	name := o.ID.Text(inventory.OrderPrefix)
	if e == nil || e.Order == nil || e.Order.ID != o.ID {
		l.breach("I9", name, "no event made it what it is: event %d is not about it", o.Seq)
	} else if !bytes.Equal(inventory.AppendOrder(nil, e.Order), inventory.AppendOrder(nil, o)) {
		l.breach("I9", name, "its row is not what event %d made it", o.Seq)
	}
	if r == nil || r.OrderID != o.ID {
		l.breach("I4", name, "its reservation %s is missing or has another order",
			o.ReservationID.Text(inventory.ReservationPrefix))
		return
	}
	if !slices.Equal(r.Lines, o.Lines) || r.Total != o.Total {
		l.breach("I4", name, "its lines are not those of its reservation %s", r.ID.Text(inventory.ReservationPrefix))
	}
}
