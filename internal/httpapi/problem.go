package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/holdfast/holdfast/internal/inventory"
)

// problemType is what a problem code means, on the wire and on its page.
type problemType struct {
	Code    string
	Status  int
	Title   string
	Meaning string // what happened
	Advice  string // what the caller does next; the default detail
}

// problemTypes is the one list of problem codes: the contract, the pages under /problems/ and the tests are held against it.
var problemTypes = []problemType{
	{"invalid-json", 400, "The body is not JSON", "The body could not be read as one JSON value: its syntax is wrong, a member is there twice, or something follows the value.", "Send one JSON object, in UTF-8, with each member once."},
	{"invalid-request", 400, "The request is not what the operation takes", "A member, parameter or header is unknown, missing, of the wrong type or out of its range. Nothing was changed.", "Correct what `errors` names, and send the request again."},
	{"mixed-currencies", 400, "The lines have different currencies", "A reservation has one currency, and the lines that `errors` names have another than the first.", "Make one reservation for each currency."},
	{"total-too-large", 400, "The total is too large", "The sum of quantity times unit price is above 9007199254740991 minor units.", "Split the reservation."},
	{"not-found", 404, "There is nothing here", "No operation has this path.", "See /docs for the operations and their paths."},
	{"product-not-found", 404, "The product does not exist", "There is no product with this id. Ids are case-sensitive.", "Check the product id, or create the product first."},
	{"reservation-not-found", 404, "The reservation does not exist", "There is no reservation with this id.", "Use the id that the reservation was created with."},
	{"order-not-found", 404, "The order does not exist", "There is no order with this id.", "Use the id that the order was created with."},
	{"method-not-allowed", 405, "The method is not allowed here", "This path has operations, but not with this method.", "Use a method that the Allow header names."},
	{"product-exists", 409, "The product exists already", "A product with this id was created before.", "Choose another id, or PATCH the product that is there."},
	{"insufficient-stock", 409, "There is not enough stock", "At least one stock row has fewer available units than were asked for. `shortages` names every one.", "Ask for no more than is available, or try again later: holds that lapse give their units back."},
	{"stock-limit", 409, "The stock would be too large", "A product holds at most 10^15 units over all its locations, of which it has at most 1,000.", "Adjust by less, or use a location that the product has."},
	{"reservation-expired", 409, "The reservation has expired", "Its deadline came before this request. A lapsed hold is never revived.", "Make a new reservation."},
	{"reservation-cancelled", 409, "The reservation was cancelled", "Its units were given back.", "Make a new reservation."},
	{"reservation-confirmed", 409, "The reservation has become an order", "It can no longer be changed; `current.orderId` names the order. On POST /v1/orders: the order was made with another `reference`, so somebody may have paid twice.", "Work with the order that `current.orderId` names."},
	{"hold-limit-reached", 409, "The hold cannot be that long", "The new deadline would be later than the reservation's creation plus the longest hold that this server allows.", "Extend by less, or confirm the reservation."},
	{"order-fulfilled", 409, "The order was fulfilled", "Its units have left, so it can no longer be cancelled.", "Receive returned units with an adjustment."},
	{"order-cancelled", 409, "The order was cancelled", "Its units were given back.", "Make a new reservation."},
	{"version-mismatch", 409, "The product has changed", "It is no longer in the version that the request names. With If-Match the status is 412.", "Read the product again, and repeat the change on what it is now."},
	{"cursor-ahead", 409, "The cursor is beyond the end", "No event with this sequence exists. The store may have been restored from an older backup.", "Rebuild what you derived from the events, starting from after=0."},
	{"body-too-large", 413, "The body is too large", "A body has at most 1 MiB.", "Send a smaller body."},
	{"unsupported-media-type", 415, "The media type is not supported", "Bodies are JSON.", "Send Content-Type: application/json."},
	{"idempotency-key-reused", 422, "The idempotency key was used for another request", "A request with this key succeeded before, and its method, path or body was another.", "Use a fresh Idempotency-Key for each attempt, and repeat a key only with the same request."},
	{"internal", 500, "Something went wrong", "The server failed on this request. Whether it had an effect is not known.", "Repeat the request with the same Idempotency-Key; if it fails again, give the operator the requestId."},
	{"overloaded", 503, "The server is overloaded", "Too many commands are waiting. This one had no effect.", "Repeat the request after the seconds that Retry-After gives."},
	{"not-ready", 503, "The server is not ready", "Commands cannot be committed now. This one had no effect.", "Repeat the request after the seconds that Retry-After gives."},
	{"outcome-unknown", 504, "The outcome is not known", "The command was taken, but its answer could not be learned in time. It may have had its effect.", "Repeat the request with the same Idempotency-Key: the answer is then the true one."},
}

var problemByCode = func() map[string]*problemType {
	m := make(map[string]*problemType, len(problemTypes))
	for i := range problemTypes {
		m[problemTypes[i].Code] = &problemTypes[i]
	}
	return m
}()

// problem is an error answer (RFC 9457).
type problem struct {
	Type      string       `json:"type"`
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail"`
	Code      string       `json:"code"`
	RequestID string       `json:"requestId"`
	Errors    []fieldError `json:"errors,omitempty"`
	Shortages []shortage   `json:"shortages,omitempty"`
	Current   *current     `json:"current,omitempty"`
}

// fieldError is one thing that is wrong with a request.
type fieldError struct {
	Pointer   *string `json:"pointer,omitempty"`   // into the body (RFC 6901)
	Parameter string  `json:"parameter,omitempty"` // of the query, or a header
	Detail    string  `json:"detail"`
}

type shortage struct {
	ProductID string `json:"productId"`
	Location  string `json:"location"`
	Requested int64  `json:"requested"`
	Available int64  `json:"available"`
	Reserved  int64  `json:"reserved"`
}

type current struct {
	Status    string          `json:"status,omitempty"`
	ExpiresAt json.RawMessage `json:"expiresAt,omitempty"`
	EndedAt   json.RawMessage `json:"endedAt,omitempty"`
	OrderID   json.RawMessage `json:"orderId,omitempty"`
	Version   int64           `json:"version,omitempty"`
}

// fail makes a problem with the code's own advice as its detail.
func fail(code string) *problem {
	t := problemByCode[code]
	return &problem{Type: "/problems/" + code, Title: t.Title, Status: t.Status, Detail: t.Advice, Code: code}
}

func failf(code, format string, a ...any) *problem {
	p := fail(code)
	p.Detail = fmt.Sprintf(format, a...)
	return p
}

// invalid reports what is wrong with members of the body.
func invalid(errors ...fieldError) *problem {
	p := fail("invalid-request")
	if len(errors) == 1 {
		p.Detail = errors[0].subject() + " " + errors[0].Detail + "."
	}
	p.Errors = errors
	return p
}

func (e *fieldError) subject() string {
	switch {
	case e.Parameter != "":
		return e.Parameter
	case e.Pointer == nil || *e.Pointer == "":
		return "The body"
	default:
		return *e.Pointer
	}
}

func atPointer(pointer, format string, a ...any) fieldError {
	return fieldError{Pointer: &pointer, Detail: fmt.Sprintf(format, a...)}
}

func atParameter(name, format string, a ...any) fieldError {
	return fieldError{Parameter: name, Detail: fmt.Sprintf(format, a...)}
}

// refused turns a refusal of the domain into its problem. linePointer says where in the body line i was.
func refused(r *inventory.Refusal, linePointer func(i int) string) *problem {
	switch r.Code {
	case inventory.RefusedPreconditionFailed:
		p := fail("version-mismatch")
		p.Status = http.StatusPreconditionFailed
		p.Current = &current{Version: r.Current.Version}
		return p
	case inventory.RefusedMetadataTooLarge:
		return invalid(atPointer("/metadata", "would have more than %d members after the change", inventory.MaxMetadata))
	}
	p := fail(string(r.Code))
	for _, s := range r.Shortages {
		p.Shortages = append(p.Shortages, shortage{s.ProductID, s.Location, s.Requested, s.Available, s.Reserved})
	}
	if len(r.Shortages) > 0 {
		p.Detail = describeShortage(r.Shortages)
	}
	for _, i := range r.Lines {
		detail := "names a product that does not exist"
		if r.Code == inventory.RefusedMixedCurrencies {
			detail = "has another currency than the first line"
		}
		p.Errors = append(p.Errors, atPointer(linePointer(i), "%s", detail))
	}
	if c := r.Current; c != nil {
		p.Current = &current{Status: c.Status, Version: c.Version}
		if c.ExpiresAt != 0 {
			p.Current.ExpiresAt = appendTime(nil, c.ExpiresAt)
		}
		if c.EndedAt != 0 {
			p.Current.EndedAt = appendTime(nil, c.EndedAt)
		}
		if !c.OrderID.IsZero() {
			p.Current.OrderID = appendID(nil, c.OrderID, inventory.OrderPrefix)
		}
	}
	return p
}

func describeShortage(list []inventory.Shortage) string {
	var b strings.Builder
	for i, s := range list {
		if i == 3 {
			fmt.Fprintf(&b, "; and %d more", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s at %s has %d available, %d requested", s.ProductID, s.Location, s.Available, s.Requested)
	}
	b.WriteString(". Ask for no more than is available, or try again later: holds that lapse give their units back.")
	return b.String()
}

// retryAfterSeconds is how long a caller waits after a 503.
const retryAfterSeconds = 1

func (p *problem) write(w http.ResponseWriter, requestID string) {
	p.RequestID = requestID
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // every member is a plain value
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if p.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", strconv.Itoa(retryAfterSeconds))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the caller has gone: nobody is left to tell
}
