package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// cancelledInside: a method of a view heeds its own context, which may end before that of View.
func cancelledInside(f *fixture) {
	f.do(newProduct("mug", 1))
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	methods := map[string]func(v store.View) error{
		"Head":         func(v store.View) error { return second(v.Head(ctx)) },
		"Now":          func(v store.View) error { return second(v.Now(ctx)) },
		"Products":     func(v store.View) error { return third(v.Products(ctx, store.ProductQuery{Limit: 1})) },
		"Reservations": func(v store.View) error { return third(v.Reservations(ctx, store.ReservationQuery{Limit: 1})) },
		"Orders":       func(v store.View) error { return third(v.Orders(ctx, store.OrderQuery{Limit: 1})) },
		"Records":      func(v store.View) error { return third(v.Records(ctx, store.RecordQuery{Limit: 1})) },
		"Journal":      func(v store.View) error { return second(v.Journal(ctx, store.JournalPosition{BatchNo: 1}, 1, 1)) },
		"Due":          func(v store.View) error { return second(v.Due(ctx, 1, 1)) },
		"Strays":       func(v store.View) error { return second(v.Strays(ctx, 1)) },
	}
	for name, method := range methods {
		f.view(func(v store.View) error {
			if err := method(v); !errors.Is(err, context.Canceled) {
				f.Errorf("%s: %v", name, err)
			}
			return nil
		})
	}
}

func listReservations(f *fixture) {
	f.do(newProduct("mug", 100), newProduct("cup", 100))
	byAnna := func(id string, ttl time.Duration) inventory.ID {
		c := reserve(id, 1, ttl)
		c.CustomerID = "anna"
		return f.do(c)[0].Reservation.ID
	}
	a := f.hold("mug", 1, time.Minute).ID
	b := byAnna("cup", time.Minute)
	c := byAnna("mug", time.Second)
	d := f.hold("mug", 1, time.Minute).ID
	f.do(&inventory.Cancel{ID: a})
	cart := f.do(&inventory.Reserve{TTL: 60_000, Lines: []inventory.ReserveLine{
		{ProductID: "cup", Location: inventory.MainLocation, Quantity: 1},
		{ProductID: "mug", Location: inventory.MainLocation, Quantity: 1},
		{ProductID: "cup", Location: inventory.MainLocation, Quantity: 1},
	}})[0].Reservation.ID
	for limit := 1; limit <= 6; limit++ {
		same(f, "all", f.listReservations(store.ReservationQuery{Limit: limit}), cart, d, c, b, a)
		same(f, "by customer", f.listReservations(store.ReservationQuery{CustomerID: "anna", Limit: limit}), c, b)
		same(f, "by status", f.listReservations(store.ReservationQuery{Status: inventory.ReservationCancelled, Limit: limit}),
			a)
		same(f, "by product", f.listReservations(store.ReservationQuery{
			ProductID: "mug", Status: inventory.ReservationActive,
			Limit: limit,
		}), cart, d, c)
		same(f, "by both", f.listReservations(store.ReservationQuery{
			CustomerID: "anna",
			Status:     inventory.ReservationConfirmed, Limit: limit,
		}))
		same(f, "of nobody", f.listReservations(store.ReservationQuery{CustomerID: "ann", Limit: limit}))
		due := inventory.Time(Start.UnixMilli() + 1000)
		same(f, "expired, or due", f.listReservations(store.ReservationQuery{
			Status: inventory.ReservationExpired, DueBy: due,
			Limit: limit,
		}), c)
	}
}

// holdsOf makes holds of one unit, newest last.
func (f *fixture) holdsOf(id string, holds int) (ids []inventory.ID) {
	f.Helper()
	batch := make([]inventory.Command, holds)
	for i := range batch {
		batch[i] = reserve(id, 1, time.Minute)
	}
	for each := range slices.Chunk(batch, 1000) {
		for _, o := range f.do(each...) {
			ids = append(ids, o.Reservation.ID)
		}
	}
	return ids
}

// listManyHolds: the list of a product is complete, also where the product, or others since, have more holds than a
// page may look at.
func listManyHolds(f *fixture) {
	const many = store.ScanLimit + 200
	f.do(newProduct("mug", many), newProduct("cup", 2*many))
	mugs, cups := f.holdsOf("mug", many), f.holdsOf("cup", 300)
	f.do(&inventory.Cancel{ID: mugs[5]}, &inventory.Cancel{ID: mugs[many-1]}, &inventory.Cancel{ID: cups[7]})
	mugs = slices.Delete(mugs[:many-1], 5, 6)
	cups = slices.Delete(cups, 7, 8)
	slices.Reverse(mugs)
	slices.Reverse(cups)
	of := func(id string) store.ReservationQuery {
		return store.ReservationQuery{ProductID: id, Status: inventory.ReservationActive, Limit: 1000}
	}
	if got := f.listReservations(of("mug")); !slices.Equal(got, mugs) {
		f.Errorf("of many holds: %d, want %d", len(got), len(mugs))
	}
	if got := f.listReservations(of("cup")); !slices.Equal(got, cups) {
		f.Errorf("of few holds: %d, want %d", len(got), len(cups))
	}
	if got := f.listReservations(of("cap")); len(got) != 0 {
		f.Errorf("of a product that is not there: %d", len(got))
	}
	f.holdsOf("cup", store.ScanLimit) // a page of mugs may end among them
	if got := f.listReservations(of("mug")); !slices.Equal(got, mugs) {
		f.Errorf("of many older holds: %d, want %d", len(got), len(mugs))
	}
}

func listOrders(f *fixture) {
	f.do(newProduct("mug", 100))
	order := func(customer, reference string) *inventory.Order {
		c := reserve("mug", 1, time.Minute)
		c.CustomerID = customer
		return f.do(&inventory.Confirm{ReservationID: f.do(c)[0].Reservation.ID, Reference: reference})[0].Order
	}
	a, b, c := order("anna", "pay1"), order("", "pay2"), order("anna", "")
	f.do(&inventory.Fulfill{ID: b.ID})
	list := func(q store.OrderQuery) (ids []inventory.ID) {
		for {
			var page []*inventory.Order
			f.view(func(v store.View) (err error) {
				page, q.Before, err = v.Orders(f.Context(), q)
				return err
			})
			for _, o := range page {
				ids = append(ids, o.ID)
			}
			if q.Before.IsZero() {
				return ids
			}
		}
	}
	for limit := 1; limit <= 4; limit++ {
		same(f, "all", list(store.OrderQuery{Limit: limit}), c.ID, b.ID, a.ID)
		same(f, "by customer", list(store.OrderQuery{CustomerID: "anna", Limit: limit}), c.ID, a.ID)
		same(f, "by reference", list(store.OrderQuery{Reference: "pay2", Limit: limit}), b.ID)
		same(f, "by reservation", list(store.OrderQuery{ReservationID: a.ReservationID, Limit: limit}), a.ID)
		same(f, "confirmed", list(store.OrderQuery{Status: inventory.OrderConfirmed, Limit: limit}), c.ID, a.ID)
		same(f, "fulfilled", list(store.OrderQuery{Status: inventory.OrderFulfilled, Limit: limit}), b.ID)
		same(f, "by all", list(store.OrderQuery{Status: inventory.OrderFulfilled, CustomerID: "anna", Limit: limit}))
	}
}

func listProducts(f *fixture) {
	for _, id := range []string{"b", "a", "B", "a1", "a-1"} {
		f.do(newProduct(id, 1))
	}
	f.view(func(v store.View) error {
		got, after := "", ""
		for {
			page, next, err := v.Products(f.Context(), store.ProductQuery{After: after, Limit: 2})
			if err != nil {
				return err
			}
			for _, p := range page {
				got += p.ID + " "
			}
			if after = next; after == "" {
				break
			}
		}
		if got != "B a a-1 a1 b " {
			f.Errorf("in byte order: %s", got)
		}
		some, _, err := v.Products(f.Context(), store.ProductQuery{IDs: []string{"a1", "none", "B"}})
		if len(some) != 2 || some[0].ID != "B" || some[1].ID != "a1" {
			f.Errorf("by id: %d products", len(some))
		}
		return err
	})
}

// pageBytes: a page of large rows is short, and its cursor goes on where it ended.
func pageBytes(f *fixture) {
	const rows = 300
	var metadata inventory.Metadata
	for i := range inventory.MaxMetadata {
		metadata = append(metadata, inventory.Member{Name: fmt.Sprintf("%064d", i), Value: strings.Repeat("v", 500)})
	}
	var batch []inventory.Command
	for i := range rows {
		p, hold := newProduct(fmt.Sprintf("p%03d", i), 1), reserve(fmt.Sprintf("p%03d", i), 1, time.Minute)
		p.Metadata, hold.Metadata = metadata, metadata
		if batch = append(batch, p, hold); len(batch) == 30 {
			f.do(batch...)
			batch = nil
		}
	}
	f.view(func(v store.View) error {
		products, reservations, pages := 0, 0, 0
		for after, done := "", false; !done; pages++ {
			page, next, err := v.Products(f.Context(), store.ProductQuery{After: after, Limit: 1000})
			if err != nil {
				return err
			}
			products += len(page)
			after, done = next, next == ""
		}
		for before, done := (inventory.ID{}), false; !done; pages++ {
			page, next, err := v.Reservations(f.Context(), store.ReservationQuery{Before: before, Limit: 1000})
			if err != nil {
				return err
			}
			reservations += len(page)
			before, done = next, next.IsZero()
		}
		if products != rows || reservations != rows || pages < 5 {
			f.Errorf("%d products, %d reservations on %d pages", products, reservations, pages)
		}
		return nil
	})
}

func journal(f *fixture) {
	f.do(newProduct("mug", 100), newProduct("cup", 1))
	r := f.requests(keyed("k", reserve("mug", 1, time.Minute)))[0].Reservation
	f.do(&inventory.Cancel{ID: r.ID})
	f.requests(keyed("nothing", &inventory.Cancel{ID: r.ID})) // a receipt alone: a batch without events
	f.do(reserve("mug", 1, time.Minute), reserve("mug", 1, time.Minute))
	f.checkJournal(6)
	firsts := func(from store.JournalPosition, limit, maxBytes int) (batches []int64) {
		f.view(func(v store.View) error {
			page, err := v.Journal(f.Context(), from, limit, maxBytes)
			for i := range page {
				batches = append(batches, page[i].BatchNo)
			}
			return err
		})
		return batches
	}
	for _, c := range []struct {
		from            store.JournalPosition
		limit, maxBytes int
		want            string
	}{
		{store.JournalPosition{Seq: 1}, 10, 1 << 20, "[1 2 3 4 5]"},
		{store.JournalPosition{Seq: 2}, 2, 1 << 20, "[1 2]"},
		{store.JournalPosition{Seq: 3}, 1, 1 << 20, "[2]"},
		{store.JournalPosition{Seq: 6}, 10, 1 << 20, "[5]"},
		{store.JournalPosition{Seq: 7}, 10, 1 << 20, "[]"},
		{store.JournalPosition{BatchNo: 4}, 10, 1 << 20, "[4 5]"},
		{store.JournalPosition{BatchNo: 1}, 10, 1, "[1]"},
	} {
		if got := fmt.Sprint(firsts(c.from, c.limit, c.maxBytes)); got != c.want {
			f.Errorf("from %+v, at most %d: %s, want %s", c.from, c.limit, got, c.want)
		}
	}
}

// looks: one look is what a view of the same moment shows.
func looks(f *fixture) {
	s, ok := f.Store.(store.Looker)
	if !ok {
		f.Skip("declared: this store has no looks")
	}
	for n := range 4 {
		for after := range int64(n + 2) {
			for _, limits := range [][2]int{{0, 1000}, {1, 1000}, {10, 1 << 20}, {10, 1}} {
				f.expectLook(s, after, limits[0], limits[1])
			}
		}
		f.do(newProduct(fmt.Sprint("mug-", n), 10))
		f.Advance(time.Second)
	}
	ended, cancel := context.WithCancel(f.Context())
	cancel()
	if _, _, _, err := s.Look(ended, 0, 1, 1); !errors.Is(err, context.Canceled) {
		f.Errorf("a look whose context has ended: %v", err)
	}
}

func (f *fixture) expectLook(s store.Looker, after int64, limit, maxBytes int) {
	f.Helper()
	f.view(func(v store.View) error {
		wantHead, err := v.Head(f.Context())
		wantNow, err2 := v.Now(f.Context())
		want, err3 := v.Journal(f.Context(), store.JournalPosition{BatchNo: after + 1}, limit, maxBytes)
		head, now, entries, err4 := s.Look(f.Context(), after, limit, maxBytes)
		if wantHead.BatchNo-after > int64(limit) && entries == nil {
			want = nil // too far behind
		}
		if head != wantHead || now != wantNow || !reflect.DeepEqual(entries, want) {
			f.Errorf("after %d, limits %d and %d: %+v %d %+v, and a view has %+v %d %+v", after, limit, maxBytes, head, now,
				entries, wantHead, wantNow, want)
		}
		return errors.Join(err, err2, err3, err4)
	})
}

// snapshotIsOne: what a view reads does not change while it reads.
func snapshotIsOne(f *fixture) {
	f.do(newProduct("mug", 10))
	if f.backend.Reopen == nil {
		f.Skip("declared: a commit waits for the views of this store")
	}
	f.view(func(v store.View) error {
		before, err := v.Head(f.Context())
		f.hold("mug", 1, time.Minute)
		page, _, err2 := v.Products(f.Context(), store.ProductQuery{IDs: []string{"mug"}})
		after, err3 := v.Head(f.Context())
		if before != after || page[0].Totals().Available != 10 {
			f.Error("a snapshot changed")
		}
		return errors.Join(err, err2, err3)
	})
}

// viewClock: readers go by the clock that decides, but never by a time before the head.
func viewClock(f *fixture) {
	clock := func() (now inventory.Time) {
		f.Helper()
		f.view(func(v store.View) (err error) {
			now, err = v.Now(f.Context())
			return err
		})
		return now
	}
	f.do(newProduct("mug", 1))
	f.Advance(1500 * time.Millisecond)
	if now := clock(); now != inventory.Time(Start.UnixMilli()+1500) {
		f.Errorf("the clock of a view is %d", now)
	}
	f.Advance(-time.Minute)
	if now := clock(); now != f.head().At {
		f.Errorf("the clock of a view is %d, before the head's %d", now, f.head().At)
	}
}
