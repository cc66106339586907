package httpapi

import (
	"net/http"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/wire"
)

var reservationMutations = []mutation{
	{
		operation: "createReservation", method: http.MethodPost, path: "/v1/reservations",
		decode: wire.CreateReservation, lines: wire.ReservationLines, result: resultReservation,
	},
	{
		operation: "cancelReservation", method: http.MethodPost, path: "/v1/reservations/{id}/cancel",
		decode: wire.CancelReservation, result: resultReservation,
	},
	{
		operation: "extendReservation", method: http.MethodPost, path: "/v1/reservations/{id}/extend",
		decode: wire.ExtendReservation, result: resultReservation,
	},
}

func (s *Server) routeReservations() {
	s.handle("GET /v1/reservations", "listReservations", s.listReservations)
	s.handle("GET /v1/reservations/{id}", "getReservation", s.getReservation)
}

// reservation is a reservation as an answer.
type reservation struct{ *inventory.Reservation }

func resultReservation(o *inventory.Outcome) resource { return reservation{o.Reservation} }

func (r reservation) version() int64 { return r.Version }
func (r reservation) path() string {
	return "/v1/reservations/" + r.ID.Text(inventory.ReservationPrefix)
}
func (r reservation) append(b []byte) []byte { return wire.AppendReservation(b, r.Reservation) }

func (s *Server) getReservation(c *call) error {
	if err := c.noQuery(); err != nil {
		return err
	}
	query := store.ReservationQuery{IDs: []inventory.ID{c.pathID(inventory.ReservationPrefix)}}
	var found []*inventory.Reservation
	err := c.settled(func(v store.View, _ inventory.Time) (_ []*inventory.Reservation, err error) {
		found, _, err = v.Reservations(c.Context(), query)
		return found, err
	})
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return fail(CodeReservationNotFound)
	}
	return c.one(reservation{found[0]})
}

func (s *Server) listReservations(c *call) error {
	query, err := c.reservationQuery()
	if err != nil {
		return err
	}
	var page []*inventory.Reservation
	var next inventory.ID
	err = c.settled(func(v store.View, now inventory.Time) (_ []*inventory.Reservation, err error) {
		query.DueBy = now
		page, next, err = v.Reservations(c.Context(), query)
		return page, err
	})
	if err != nil {
		return err
	}
	c.send(http.StatusOK, func(b []byte) []byte {
		return wire.AppendPage(b, page, cursor(next), wire.AppendReservation)
	})
	return nil
}

func (c *call) reservationQuery() (query store.ReservationQuery, err error) {
	q, err := c.query("status", "customerId", "productId", "limit", "cursor")
	if err != nil {
		return query, err
	}
	query = store.ReservationQuery{
		Limit: q.limit(), Before: q.cursor(),
		CustomerID: q.text("customerId", 200), ProductID: q.text("productId", 64),
	}
	if name, given := q.get("status"); given {
		var known bool
		if query.Status, known = inventory.ParseReservationStatus(name); !known {
			q.add("status", "must be ACTIVE, CONFIRMED, EXPIRED or CANCELLED")
		}
	}
	if query.ProductID != "" && (query.Status != inventory.ReservationActive || query.CustomerID != "") {
		q.add("productId", "needs status=ACTIVE beside it, and no customerId")
	}
	return query, q.err()
}

// settled reads reservations in such a way that nobody ever sees two different endings of one (I3). If some of the
// page are past their deadline, it sends one expiry for all of them through the door, and then reads what was
// committed.
func (c *call) settled(read func(store.View, inventory.Time) ([]*inventory.Reservation, error)) error {
	var due []inventory.ID
	err := c.view(func(v store.View) error {
		now, err := v.Now(c.Context())
		if err != nil {
			return err
		}
		page, err := read(v, now)
		for _, r := range page {
			if r.Due(now) {
				due = append(due, r.ID)
			}
		}
		return err
	})
	if err != nil || due == nil {
		return err
	}
	if _, err := c.do(&inventory.Request{Command: &inventory.Expire{IDs: due}}); err != nil {
		return err
	}
	return c.view(func(v store.View) error {
		now, err := v.Now(c.Context())
		if err == nil {
			_, err = read(v, now)
		}
		return err
	})
}
