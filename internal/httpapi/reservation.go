package httpapi

import (
	"net/http"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
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
	found, err := s.o.Engine.Reservation(c.Context(), c.pathID(inventory.ReservationPrefix))
	switch {
	case err != nil:
		return err
	case found == nil:
		return fail(CodeReservationNotFound)
	}
	return c.one(reservation{found})
}

func (s *Server) listReservations(c *call) error {
	query, err := c.reservationQuery()
	if err != nil {
		return err
	}
	if err := c.claimPage(pageBytes); err != nil {
		return err
	}
	page, next, err := s.o.Engine.Reservations(c.Context(), query)
	if err != nil {
		return err
	}
	c.send(http.StatusOK, func(b []byte) []byte {
		return wire.AppendPage(b, page, cursor(next), wire.AppendReservation)
	})
	return nil
}

func (c *call) reservationQuery() (query engine.ReservationQuery, err error) {
	q, err := c.query("status", "customerId", "productId", "limit", "cursor")
	if err != nil {
		return query, err
	}
	query = engine.ReservationQuery{
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
