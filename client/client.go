// Package client is the Go client of Holdfast.
//
// Every call that changes something carries an idempotency key and is repeated, with the same key, when its answer was lost or
// the server says that it may be: a retried hold is never doubled.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	defaultAttempts = 6
	firstBackoff    = 50 * time.Millisecond
	longestBackoff  = 5 * time.Second
	longestPoll     = 30 * time.Second
	attemptTimeout  = 20 * time.Second // of one attempt, beyond what it waits for events
	maxAnswerBytes  = 64 << 20
)

// Client calls one Holdfast. It is safe for concurrent use.
type Client struct {
	base     string
	http     *http.Client
	attempts int
	timeout  time.Duration // of one attempt
	coalesce *coalescer    // nil: every call is a request of its own
}

// Option changes a new client.
type Option func(*Client)

// WithHTTPClient has requests sent by this HTTP client. Its Timeout ends one attempt, not the call; it should be longer than 30
// seconds if events are followed.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithAttempts says how often a request is sent at most; 1 is no retries, the default 6.
func WithAttempts(n int) Option { return func(c *Client) { c.attempts = max(n, 1) } }

// WithAttemptTimeout says how long the answer to one attempt may take before the next begins; default 20 seconds. Time that
// the server was asked to wait for events comes on top.
func WithAttemptTimeout(d time.Duration) Option { return func(c *Client) { c.timeout = d } }

// New makes a client of the Holdfast at a URL such as http://127.0.0.1:8420.
func New(baseURL string, options ...Option) *Client {
	c := &Client{base: strings.TrimRight(baseURL, "/"), http: http.DefaultClient, attempts: defaultAttempts, timeout: attemptTimeout}
	for _, option := range options {
		option(c)
	}
	return c
}

type keyOfContext struct{}

// WithKey has the next call use this idempotency key instead of a random one: a caller that may crash and start again keeps the
// key with its own data, and repeats the call with it. Use one key per attempt to do something, and for one call only.
func WithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, keyOfContext{}, key)
}

// CreateProduct adds a product.
func (c *Client) CreateProduct(ctx context.Context, p NewProduct) (*Product, error) {
	return change[Product](ctx, c, createProduct(p))
}

// UpdateProduct changes the catalogue part of a product.
func (c *Client) UpdateProduct(ctx context.Context, id string, p ProductPatch) (*Product, error) {
	return change[Product](ctx, c, updateProduct(id, p))
}

// Product reads a product.
func (c *Client) Product(ctx context.Context, id string) (*Product, error) {
	return get[Product](ctx, c, "/v1/products/"+url.PathEscape(id))
}

// ProductsByID reads up to 100 products; unknown ones are left out.
func (c *Client) ProductsByID(ctx context.Context, ids ...string) ([]Product, error) {
	page, err := get[page[Product]](ctx, c, "/v1/products?"+url.Values{"id": ids}.Encode())
	if err != nil {
		return nil, err
	}
	return page.Data, nil
}

// Products lists all products by id.
func (c *Client) Products(ctx context.Context) iter.Seq2[*Product, error] {
	return list[Product](ctx, c, "/v1/products", url.Values{})
}

// AdjustStock receives units or takes available ones away.
func (c *Client) AdjustStock(ctx context.Context, productID string, a NewAdjustment) (*Adjustment, *Product, error) {
	answer, err := change[Adjusted](ctx, c, adjustStock(productID, a))
	if err != nil {
		return nil, nil, err
	}
	return answer.Adjustment, answer.Product, nil
}

// Reserve holds units for a limited time. [InsufficientStock] says that there are not enough.
func (c *Client) Reserve(ctx context.Context, r NewReservation) (*Reservation, error) {
	return change[Reservation](ctx, c, createReservation(r))
}

// Reservation reads a reservation.
func (c *Client) Reservation(ctx context.Context, id string) (*Reservation, error) {
	return get[Reservation](ctx, c, "/v1/reservations/"+url.PathEscape(id))
}

// Reservations lists reservations, newest first.
func (c *Client) Reservations(ctx context.Context, f ReservationFilter) iter.Seq2[*Reservation, error] {
	query := values("status", string(f.Status), "customerId", f.CustomerID, "productId", f.ProductID)
	return list[Reservation](ctx, c, "/v1/reservations", query)
}

// Cancel gives the units of a reservation back. The reason may be empty.
func (c *Client) Cancel(ctx context.Context, reservationID, reason string) (*Reservation, error) {
	return change[Reservation](ctx, c, cancelReservation(reservationID, reason))
}

// Extend moves the deadline of a reservation to ttl from now, never back. A ttl that is not in whole seconds is an error.
func (c *Client) Extend(ctx context.Context, reservationID string, ttl time.Duration) (*Reservation, error) {
	return change[Reservation](ctx, c, extendReservation(reservationID, ttl))
}

// Confirm turns a reservation into an order, once: confirming again gives the same order.
func (c *Client) Confirm(ctx context.Context, o NewOrder) (*Order, error) {
	return change[Order](ctx, c, createOrder(o))
}

// Order reads an order.
func (c *Client) Order(ctx context.Context, id string) (*Order, error) {
	return get[Order](ctx, c, "/v1/orders/"+url.PathEscape(id))
}

// Orders lists orders, newest first.
func (c *Client) Orders(ctx context.Context, f OrderFilter) iter.Seq2[*Order, error] {
	query := values("status", string(f.Status), "customerId", f.CustomerID, "reference", f.Reference, "reservationId", f.ReservationID)
	return list[Order](ctx, c, "/v1/orders", query)
}

// Fulfill ships an order: its units leave the stock.
func (c *Client) Fulfill(ctx context.Context, orderID string) (*Order, error) {
	return change[Order](ctx, c, fulfillOrder(orderID))
}

// CancelOrder cancels an order that was not shipped. The reason may be empty.
func (c *Client) CancelOrder(ctx context.Context, orderID, reason string) (*Order, error) {
	return change[Order](ctx, c, cancelOrder(orderID, reason))
}

// EventPage reads up to limit events (1 to 1000) after a place in the feed ("0" is the beginning), and waits up to wait where
// there is none yet: rounded up to whole seconds, at most 30.
func (c *Client) EventPage(ctx context.Context, after string, limit int, wait time.Duration) (*EventPage, error) {
	seconds := int((min(wait, longestPoll) + time.Second - 1) / time.Second)
	query := values("after", after, "limit", strconv.Itoa(limit), "wait", strconv.Itoa(seconds))
	patient := *c
	patient.timeout += time.Duration(seconds) * time.Second
	return get[EventPage](ctx, &patient, "/v1/events?"+query.Encode())
}

// Events follows all events after a place ("0" is the beginning): see [Client.Follow].
func (c *Client) Events(ctx context.Context, after string) iter.Seq2[*Event, error] {
	return c.Follow(ctx, Feed{After: after})
}

// Event reads the event with a sequence.
func (c *Client) Event(ctx context.Context, sequence int64) (*Event, error) {
	return get[Event](ctx, c, fmt.Sprintf("/v1/events/%d", sequence))
}

// Ready reports whether the server can commit now: nil, or why not.
func (c *Client) Ready(ctx context.Context) error {
	_, err := get[struct{}](ctx, c, "/readyz")
	return err
}

// quoted escapes what a structured-field string (RFC 9651) needs escaped.
var quoted = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// keyHeader writes an idempotency key as its header has it, and an operation of a batch.
func keyHeader(key string) string { return `"` + quoted.Replace(key) + `"` }

func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

type page[T any] struct {
	Data       []T     `json:"data"`
	NextCursor *string `json:"nextCursor"`
}

func list[T any](ctx context.Context, c *Client, path string, query url.Values) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		query := maps.Clone(query) // ranging again begins anew
		query.Set("limit", "1000")
		for {
			p, err := get[page[T]](ctx, c, path+"?"+query.Encode())
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range p.Data {
				if !yield(&p.Data[i], nil) {
					return
				}
			}
			if p.NextCursor == nil {
				return
			}
			query.Set("cursor", *p.NextCursor)
		}
	}
}

func get[T any](ctx context.Context, c *Client, path string) (*T, error) {
	return send[T](ctx, c, http.MethodGet, path, "", nil)
}

// change carries an operation out, in a request of its own or together with others.
func change[T any](ctx context.Context, c *Client, o operation) (*T, error) {
	body, err := o.encode()
	if err != nil {
		return nil, err
	}
	key := keyOf(ctx)
	if c.coalesce == nil || o.refers() {
		return send[T](ctx, c, o.method, o.path(), key, body)
	}
	o.Key, o.Body = key, body
	content, err := c.coalesce.do(ctx, c, &o)
	if err != nil {
		return nil, err
	}
	return decode[T](content)
}

// keyOf is the caller's idempotency key, or a fresh one.
func keyOf(ctx context.Context) string {
	if key, _ := ctx.Value(keyOfContext{}).(string); key != "" {
		return key
	}
	return rand.Text()
}

// send makes a call, and repeats it while that can help. An error of the transport, a time-out of one attempt included, says
// nothing of what happened: that is what the key is for.
func send[T any](ctx context.Context, c *Client, method, path, key string, body []byte) (*T, error) {
	for attempt := 1; ; attempt++ {
		content, err := c.once(ctx, method, path, key, body)
		if err == nil {
			return decode[T](content)
		}
		var problem *Error
		switch {
		case errors.As(err, &problem) && !problem.temporary():
			return nil, err
		case attempt == c.attempts, ctx.Err() != nil, pause(ctx, backoff(attempt, err)) != nil:
			return nil, unanswered(key, err)
		}
	}
}

func decode[T any](content []byte) (*T, error) {
	answer := new(T)
	if err := json.Unmarshal(content, answer); err != nil {
		return nil, fmt.Errorf("holdfast: the answer is not what it should be: %w", err)
	}
	return answer, nil
}

// backoff doubles from attempt to attempt, with full jitter (Brooker, "Exponential Backoff And Jitter", 2015), and is never
// shorter than the server asks for.
func backoff(attempt int, err error) time.Duration {
	ceiling := min(firstBackoff<<min(attempt-1, 16), longestBackoff) // shifted further, it would be negative, and then nothing
	wait := mathrand.N(ceiling) + time.Millisecond
	var problem *Error
	if errors.As(err, &problem) {
		wait += problem.retryAfter
	}
	return wait
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// once sends one request and returns the body of its answer.
func (c *Client) once(ctx context.Context, method, path, key string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("holdfast: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", keyHeader(key))
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("holdfast: %w", err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return nil, fmt.Errorf("holdfast: reading the answer: %w", err)
	}
	if response.StatusCode >= 400 {
		return nil, problemOf(response, content)
	}
	return content, nil
}

func problemOf(response *http.Response, content []byte) error {
	problem := &Error{}
	if err := json.Unmarshal(content, problem); err != nil || problem.Code == "" { // something between us and the server
		problem = &Error{Detail: "the answer is not a problem of Holdfast: " + http.StatusText(response.StatusCode)}
	}
	problem.Status = response.StatusCode
	if problem.Code == BatchRefused {
		var answer batchAnswer
		if json.Unmarshal(content, &answer) == nil {
			problem.results = answer.Results
		}
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		problem.retryAfter = min(time.Duration(seconds)*time.Second, longestBackoff)
	}
	return problem
}
