package httpapi

import (
	"net/http"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

var orderMutations = []mutation{
	{
		operation: "createOrder", method: http.MethodPost, path: "/v1/orders",
		decode: wire.CreateOrder, result: resultOrder,
	},
	{
		operation: "fulfillOrder", method: http.MethodPost, path: "/v1/orders/{id}/fulfill",
		decode: wire.FulfillOrder, result: resultOrder,
	},
	{
		operation: "cancelOrder", method: http.MethodPost, path: "/v1/orders/{id}/cancel",
		decode: wire.CancelOrder, result: resultOrder,
	},
}

func (s *Server) routeOrders() {
	s.handle("GET /v1/orders", "listOrders", s.listOrders)
	s.handle("GET /v1/orders/{id}", "getOrder", s.getOrder)
}

// order is an order as an answer.
type order struct{ *inventory.Order }

func resultOrder(o *inventory.Outcome) resource { return order{o.Order} }

func (o order) version() int64         { return o.Version }
func (o order) path() string           { return "/v1/orders/" + o.ID.Text(inventory.OrderPrefix) }
func (o order) append(b []byte) []byte { return wire.AppendOrder(b, o.Order) }

func (s *Server) getOrder(c *call) error {
	if err := c.noQuery(); err != nil {
		return err
	}
	found, err := s.o.Engine.Order(c.Context(), c.pathID(inventory.OrderPrefix))
	switch {
	case err != nil:
		return err
	case found == nil:
		return fail(CodeOrderNotFound)
	}
	return c.one(order{found})
}

func (s *Server) listOrders(c *call) error {
	query, nothing, err := c.orderQuery()
	if err != nil {
		return err
	}
	if err := c.claimPage(pageBytes); err != nil {
		return err
	}
	var page []*inventory.Order
	var next inventory.ID
	if !nothing {
		page, next, err = s.o.Engine.Orders(c.Context(), query)
	}
	if err != nil {
		return err
	}
	c.send(http.StatusOK, func(b []byte) []byte {
		return wire.AppendPage(b, page, cursor(next), wire.AppendOrder)
	})
	return nil
}

// orderQuery reads the query of a list of orders. It reports nothing where no order can match: the query names a
// reservation by an id that no server made.
func (c *call) orderQuery() (query engine.OrderQuery, nothing bool, err error) {
	q, err := c.query("status", "customerId", "reference", "reservationId", "limit", "cursor")
	if err != nil {
		return query, false, err
	}
	query = engine.OrderQuery{
		Limit: q.limit(), Before: q.cursor(),
		CustomerID: q.text("customerId", 200), Reference: q.text("reference", 200),
	}
	if name, given := q.get("status"); given {
		var known bool
		if query.Status, known = inventory.ParseOrderStatus(name); !known {
			q.add("status", "must be CONFIRMED, FULFILLED or CANCELLED")
		}
	}
	if text := q.text("reservationId", 64); text != "" {
		id, known := inventory.ParseID(inventory.ReservationPrefix, text)
		query.ReservationID, nothing = id, !known
	}
	return query, nothing, q.err()
}
