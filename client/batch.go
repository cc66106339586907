package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Batch is several operations that are sent in one request and take effect in one commit:
//
//	b := client.NewBatch(true)
//	hold := b.Reserve(client.NewReservation{…})
//	order := b.Confirm(client.NewOrder{ReservationID: hold.Ref()})
//	err := c.Send(ctx, b)
//	o, err := order.Get()
//
// It has 1 to 1,000 operations, and 8 MiB at most. A batch is filled and sent by one goroutine, once.
type Batch struct {
	atomic     bool
	operations []operation
	results    []result
	err        error // of encoding
}

// NewBatch makes an empty batch. An atomic one takes effect as a whole or not at all; in one that is not, each operation
// stands for itself.
func NewBatch(atomic bool) *Batch { return &Batch{atomic: atomic} }

// result is what an operation came to.
type result struct {
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body"`
}

// Pending is an operation of a batch, and, once that was sent, what it came to.
type Pending[T any] struct {
	batch *Batch
	at    int
}

// Ref stands for the id of what this operation makes, as the id that a later operation of the same batch is about.
func (p *Pending[T]) Ref() string { return "#" + strconv.Itoa(p.at) }

// errNoResult: the batch was not sent, or was refused before this operation was decided.
var errNoResult = errors.New("holdfast: the operation was not carried out: see the error of the batch")

// Get is what the operation came to. The error is an [*Error] where it was refused.
func (p *Pending[T]) Get() (*T, error) {
	if p.at >= len(p.batch.results) || p.batch.results[p.at].Status == 0 {
		return nil, errNoResult
	}
	content, err := p.batch.results[p.at].content()
	if err != nil {
		return nil, err
	}
	return decode[T](content)
}

// content is the body of a success; the error is that of a refusal.
func (r *result) content() ([]byte, error) {
	if r.Status < http.StatusBadRequest {
		return r.Body, nil
	}
	problem := &Error{}
	if err := json.Unmarshal(r.Body, problem); err != nil {
		return nil, fmt.Errorf("holdfast: the answer is not what it should be: %w", err)
	}
	problem.Status = r.Status
	return nil, problem
}

func add[T any](b *Batch, o operation) *Pending[T] {
	body, err := o.encode()
	b.err = errors.Join(b.err, err)
	o.Body = body
	b.operations = append(b.operations, o)
	return &Pending[T]{b, len(b.operations) - 1}
}

// CreateProduct adds a product.
func (b *Batch) CreateProduct(p NewProduct) *Pending[Product] {
	return add[Product](b, createProduct(p))
}

// UpdateProduct changes the catalogue part of a product.
func (b *Batch) UpdateProduct(id string, p ProductPatch) *Pending[Product] {
	return add[Product](b, updateProduct(id, p))
}

// AdjustStock receives units or takes available ones away.
func (b *Batch) AdjustStock(productID string, a NewAdjustment) *Pending[Adjusted] {
	return add[Adjusted](b, adjustStock(productID, a))
}

// Reserve holds units for a limited time.
func (b *Batch) Reserve(r NewReservation) *Pending[Reservation] {
	return add[Reservation](b, createReservation(r))
}

// Cancel gives the units of a reservation back. The reason may be empty.
func (b *Batch) Cancel(reservationID, reason string) *Pending[Reservation] {
	return add[Reservation](b, cancelReservation(reservationID, reason))
}

// Extend moves the deadline of a reservation to ttl from now (whole seconds), never back.
func (b *Batch) Extend(reservationID string, ttl time.Duration) *Pending[Reservation] {
	return add[Reservation](b, extendReservation(reservationID, ttl))
}

// Confirm turns a reservation into an order.
func (b *Batch) Confirm(o NewOrder) *Pending[Order] { return add[Order](b, createOrder(o)) }

// Fulfill ships an order.
func (b *Batch) Fulfill(orderID string) *Pending[Order] { return add[Order](b, fulfillOrder(orderID)) }

// CancelOrder cancels an order that was not shipped. The reason may be empty.
func (b *Batch) CancelOrder(orderID, reason string) *Pending[Order] {
	return add[Order](b, cancelOrder(orderID, reason))
}

type batchInput struct {
	Atomic     bool        `json:"atomic"`
	Operations []operation `json:"operations"`
}

type batchAnswer struct {
	Results []result `json:"results"`
}

// Send sends a batch, with one idempotency key for all of it, and repeats it as other calls are repeated. The error is
// about the batch as a whole: [BatchRefused] where one operation of an atomic batch was refused, and then that one's Get
// says why. In a batch that is not atomic, ask each operation.
func (c *Client) Send(ctx context.Context, b *Batch) error {
	if b.err != nil {
		return b.err
	}
	body, err := json.Marshal(batchInput{b.atomic, b.operations})
	if err != nil {
		return fmt.Errorf("holdfast: encoding a batch: %w", err)
	}
	answer, err := send[batchAnswer](ctx, c, http.MethodPost, "/v1/batch", keyOf(ctx), body)
	if err == nil {
		b.results = answer.Results
		return nil
	}
	var problem *Error
	if errors.As(err, &problem) {
		b.results = problem.results
	}
	return err
}
