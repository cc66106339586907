package client

import (
	"fmt"
	"net/http"
	"time"
)

// Code is a problem code of the contract. It is an error, so that
//
//	errors.Is(err, client.InsufficientStock)
//
// tells refusals apart.
type Code string

// Error implements error.
func (c Code) Error() string { return string(c) }

// The problem codes.
const (
	InvalidJSON          Code = "invalid-json"
	InvalidRequest       Code = "invalid-request"
	MixedCurrencies      Code = "mixed-currencies"
	TotalTooLarge        Code = "total-too-large"
	NotFound             Code = "not-found"
	ProductNotFound      Code = "product-not-found"
	ReservationNotFound  Code = "reservation-not-found"
	OrderNotFound        Code = "order-not-found"
	MethodNotAllowed     Code = "method-not-allowed"
	ProductExists        Code = "product-exists"
	InsufficientStock    Code = "insufficient-stock"
	StockLimit           Code = "stock-limit"
	ReservationExpired   Code = "reservation-expired"
	ReservationCancelled Code = "reservation-cancelled"
	ReservationConfirmed Code = "reservation-confirmed"
	HoldLimitReached     Code = "hold-limit-reached"
	OrderFulfilled       Code = "order-fulfilled"
	OrderCancelled       Code = "order-cancelled"
	VersionMismatch      Code = "version-mismatch"
	CursorAhead          Code = "cursor-ahead"
	EventNotFound        Code = "event-not-found"
	WebhookNotFound      Code = "webhook-not-found"
	DeliveryNotFound     Code = "delivery-not-found"
	BodyTooLarge         Code = "body-too-large"
	UnsupportedMediaType Code = "unsupported-media-type"
	IdempotencyKeyReused Code = "idempotency-key-reused"
	Internal             Code = "internal"
	Overloaded           Code = "overloaded"
	NotReady             Code = "not-ready"
	OutcomeUnknown       Code = "outcome-unknown"
	BatchRefused         Code = "batch-refused"
	BatchTooLarge        Code = "batch-too-large"
)

// Error is a problem that the server answered with.
type Error struct {
	Code      Code         `json:"code"`
	Status    int          `json:"status"`
	Title     string       `json:"title"`
	Detail    string       `json:"detail"` // a sentence that says what to do
	RequestID string       `json:"requestId"`
	Errors    []FieldError `json:"errors"`
	Shortages []Shortage   `json:"shortages"` // every short stock row, for InsufficientStock
	Current   *Current     `json:"current"`   // state of the resource that refuses
	// SharedAfter is the last place that the feed has in common with the one that the cursor is of, for CursorAhead;
	// empty where it is not known.
	SharedAfter string `json:"sharedAfter"`

	results    []result // of an atomic batch, for BatchRefused
	retryAfter time.Duration
}

// FieldError is one thing that is wrong with a request.
type FieldError struct {
	Pointer   string `json:"pointer"`
	Parameter string `json:"parameter"`
	Detail    string `json:"detail"`
}

// Shortage is a stock row that has too little.
type Shortage struct {
	ProductID string `json:"productId"`
	Location  string `json:"location"`
	Requested int64  `json:"requested"`
	Available int64  `json:"available"`
	Reserved  int64  `json:"reserved"`
}

// Current is the state of the resource that refuses, as far as it applies.
type Current struct {
	Status    Status     `json:"status"`
	ExpiresAt *time.Time `json:"expiresAt"`
	EndedAt   *time.Time `json:"endedAt"`
	OrderID   string     `json:"orderId"`
	Version   int64      `json:"version"`
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("holdfast: %s (%d): %s", e.Code, e.Status, e.Detail)
}

// Is makes errors.Is work with a [Code].
func (e *Error) Is(target error) bool { return target == e.Code }

// temporary reports whether the same request may be sent again: nothing happened, or it has an idempotency key.
func (e *Error) temporary() bool { return e.Status >= 500 || e.Status == http.StatusTooManyRequests }

// Unanswered is the error of a change that may have had its effect: no attempt was answered with what became of it. The call
// can be repeated with the same key ([WithKey]), also by another process, and then gives the true answer.
type Unanswered struct {
	Key string // the idempotency key of all attempts
	Err error  // of the last one
}

// Error implements error.
func (e *Unanswered) Error() string {
	return fmt.Sprintf("%v (not known whether it took effect: repeat it with the idempotency key %q)", e.Err, e.Key)
}

// Unwrap implements the interface of errors.Is and errors.As.
func (e *Unanswered) Unwrap() error { return e.Err }

// unanswered wraps the error of a change; a read has no key, and no effect.
func unanswered(key string, err error) error {
	if key == "" {
		return err
	}
	return &Unanswered{key, err}
}
