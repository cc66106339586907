package inventory

import "testing"

func TestEventFilter(t *testing.T) {
	hold, other := ID{1}, ID{2}
	lines := []Line{{ProductID: "mug", Quantity: 1}, {ProductID: "cup", Quantity: 1}}
	events := map[string]*Event{
		"product":     {Type: EventProductUpdated, Product: &Product{ID: "mug"}},
		"adjustment":  {Type: EventStockAdjusted, Product: &Product{ID: "cup"}, Adjustment: &Adjustment{ProductID: "cup"}},
		"reservation": {Type: EventReservationExtended, Reservation: &Reservation{ID: hold, Lines: lines}},
		"order":       {Type: EventOrderCreated, Order: &Order{ID: other, ReservationID: hold, Lines: lines[:1]}},
	}
	types, _ := ParseEventTypes("product.updated,order.created")
	for _, c := range []struct {
		filter EventFilter
		takes  string
	}{
		{EventFilter{}, "product adjustment reservation order"},
		{EventFilter{Types: types}, "product order"},
		{EventFilter{ProductID: "mug"}, "product reservation order"},
		{EventFilter{ProductID: "cup"}, "adjustment reservation"},
		{EventFilter{ReservationID: &hold}, "reservation order"},
		{EventFilter{ReservationID: &other}, ""}, // the id of an order is none of a reservation
		{EventFilter{ReservationID: &ID{}}, ""},
		{EventFilter{Types: types, ReservationID: &hold, ProductID: "mug"}, "order"},
	} {
		taken := ""
		for _, name := range []string{"product", "adjustment", "reservation", "order"} {
			if c.filter.Takes(events[name]) {
				taken += " " + name
			}
		}
		if want := c.takes; taken != "" && taken[1:] != want || taken == "" && want != "" {
			t.Errorf("%+v takes%s, expected %s", c.filter, taken, want)
		}
	}
	for _, text := range []string{"", "order.created,", ",", "Order.created", " order.created", "unknown"} {
		if set, ok := ParseEventTypes(text); ok {
			t.Errorf("%q is read as %b", text, set)
		}
	}
}
