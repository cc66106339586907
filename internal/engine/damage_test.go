package engine

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// damagedStore is a store in which some rows cannot be read.
type damagedStore struct {
	*memory.Store
	ids  map[inventory.ID]bool
	keys map[string]bool
}

func (s *damagedStore) View(ctx context.Context, read func(store.View) error) error {
	return s.Store.View(ctx, func(v store.View) error { return read(damagedView{v, s}) })
}

type damagedView struct {
	store.View
	s *damagedStore
}

func (v damagedView) Reservations(ctx context.Context, q store.ReservationQuery) (
	[]*inventory.Reservation, inventory.ID, error,
) {
	page, next, err := v.View.Reservations(ctx, q)
	for i, r := range page {
		if v.s.ids[r.ID] {
			return page[:i], inventory.ID{}, &store.CorruptRow{Row: "row " + r.ID.Text(inventory.ReservationPrefix), ID: r.ID}
		}
	}
	return page, next, err
}

func (v damagedView) Orders(ctx context.Context, q store.OrderQuery) ([]*inventory.Order, inventory.ID, error) {
	page, next, err := v.View.Orders(ctx, q)
	for i, o := range page {
		if v.s.ids[o.ID] {
			return page[:i], inventory.ID{}, &store.CorruptRow{Row: "row " + o.ID.Text(inventory.OrderPrefix), ID: o.ID}
		}
	}
	return page, next, err
}

func (v damagedView) Products(ctx context.Context, q store.ProductQuery) ([]*inventory.Product, string, error) {
	page, next, err := v.View.Products(ctx, q)
	for i, p := range page {
		if v.s.keys[p.ID] {
			return page[:i], "", &store.CorruptRow{Row: "product " + p.ID, Key: p.ID}
		}
	}
	return page, next, err
}

// all reads a list to its end, and returns how many rows it has.
func all[Row, Cursor comparable](t *testing.T, read func(Cursor) ([]Row, Cursor, error)) (rows int) {
	t.Helper()
	var cursor, none Cursor
	for range 100 {
		page, next, err := read(cursor)
		if err != nil {
			t.Fatal(err)
		}
		if rows += len(page); next == none {
			return rows
		}
		cursor = next
	}
	t.Fatal("the list does not end")
	return 0
}

// TestListsPassDamage: a list leaves out what cannot be read, and goes on past it, also at its beginning and end.
func TestListsPassDamage(t *testing.T) {
	s := &damagedStore{
		Store: memory.Open(memory.Options{}), ids: map[inventory.ID]bool{},
		keys: map[string]bool{"p0": true, "p3": true, "p4": true},
	}
	var log strings.Builder
	e := open(t, s, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	for _, id := range []string{"p0", "p1", "p2", "p3", "p4"} {
		do(t, e, create(id, 100))
	}
	for i := range 6 {
		r := do(t, e, hold("p1", 1)).Reservation
		o := do(t, e, &inventory.Confirm{ReservationID: r.ID}).Order
		s.ids[r.ID], s.ids[o.ID] = i == 0 || i == 3 || i == 5, i == 2 || i == 3
	}
	for _, limit := range []int{1, 2, 10} {
		products := all(t, func(after string) ([]*inventory.Product, string, error) {
			return e.Products(t.Context(), after, limit)
		})
		reservations := all(t, func(before inventory.ID) ([]*inventory.Reservation, inventory.ID, error) {
			return e.Reservations(t.Context(), ReservationQuery{Before: before, Limit: limit})
		})
		orders := all(t, func(before inventory.ID) ([]*inventory.Order, inventory.ID, error) {
			return e.Orders(t.Context(), OrderQuery{Before: before, Limit: limit})
		})
		if products != 2 || reservations != 3 || orders != 4 {
			t.Errorf("pages of %d: %d products, %d reservations, %d orders", limit, products, reservations, orders)
		}
	}
	if said := strings.Count(log.String(), "damaged row"); said != 8 || e.DamagedRows() != 8 {
		t.Errorf("%d damaged rows were logged, and %d counted, of 8", said, e.DamagedRows())
	}
	for id := range s.ids {
		if !s.ids[id] {
			continue
		}
		_, err1 := e.Reservation(t.Context(), id)
		_, err2 := e.Order(t.Context(), id)
		if err1 == nil && err2 == nil {
			t.Errorf("%v is damaged, and asking for it is no error", id)
		}
	}
}
