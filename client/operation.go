package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// operation is one change, as it stands in a batch; method and route say how it is sent alone.
type operation struct {
	Operation string          `json:"operation"`    // its operationId in the OpenAPI file
	ID        string          `json:"id,omitempty"` // what the path would carry
	Key       string          `json:"idempotencyKey,omitempty"`
	Body      json.RawMessage `json:"body,omitempty"`

	method string
	route  string // the path, with {id} in the place of the id
	input  any    // of which the body is made; nil: none
}

func (o *operation) path() string {
	return strings.Replace(o.route, "{id}", url.PathEscape(o.ID), 1)
}

// refers reports whether the operation would be about what another one makes if it stood in a batch: then its id, which
// its caller may have from anybody, must not stand in a batch of others.
func (o *operation) refers() bool {
	order, is := o.input.(NewOrder)
	return strings.HasPrefix(o.ID, "#") || is && strings.HasPrefix(order.ReservationID, "#")
}

// encode makes the body; nil where the operation takes none.
func (o *operation) encode() ([]byte, error) {
	if o.input == nil {
		return nil, nil
	}
	body, err := json.Marshal(o.input)
	if err != nil {
		return nil, fmt.Errorf("holdfast: encoding a request: %w", err)
	}
	return body, nil
}

func post(name, id, route string, input any) operation {
	return operation{Operation: name, ID: id, method: http.MethodPost, route: route, input: input}
}

type reasonInput struct {
	Reason string `json:"reason,omitempty"`
}

type extendInput struct {
	TTLSeconds seconds `json:"ttlSeconds"`
}

// seconds is a duration that the contract has in whole seconds. Any other is an error, not cut.
type seconds time.Duration

// MarshalJSON implements [json.Marshaler].
func (s seconds) MarshalJSON() ([]byte, error) {
	d := time.Duration(s)
	if d%time.Second != 0 {
		return nil, fmt.Errorf("the time to hold must be in whole seconds, %v is not", d)
	}
	return strconv.AppendInt(nil, int64(d/time.Second), 10), nil
}

func createProduct(p NewProduct) operation { return post("createProduct", "", "/v1/products", p) }

func updateProduct(id string, p ProductPatch) operation {
	o := post("updateProduct", id, "/v1/products/{id}", p)
	o.method = http.MethodPatch
	return o
}

func adjustStock(productID string, a NewAdjustment) operation {
	return post("adjustStock", productID, "/v1/products/{id}/adjustments", a)
}

func createReservation(r NewReservation) operation {
	return post("createReservation", "", "/v1/reservations", r)
}

func cancelReservation(id, reason string) operation {
	return post("cancelReservation", id, "/v1/reservations/{id}/cancel", reasonInput{reason})
}

func extendReservation(id string, ttl time.Duration) operation {
	return post("extendReservation", id, "/v1/reservations/{id}/extend", extendInput{seconds(ttl)})
}

func createOrder(o NewOrder) operation { return post("createOrder", "", "/v1/orders", o) }

func fulfillOrder(id string) operation {
	return post("fulfillOrder", id, "/v1/orders/{id}/fulfill", nil)
}

func cancelOrder(id, reason string) operation {
	return post("cancelOrder", id, "/v1/orders/{id}/cancel", reasonInput{reason})
}
