package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

// problem is an error answer (RFC 9457). It is an error itself: an operation that knows its problem returns it.
type problem struct {
	Type      string       `json:"type"`
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail"`
	Code      Code         `json:"code"`
	RequestID string       `json:"requestId"`
	Errors    []fieldError `json:"errors,omitempty"`
	Shortages []shortage   `json:"shortages,omitempty"`
	Current   *current     `json:"current,omitempty"`
	// Results are those of an atomic batch that was refused.
	Results json.RawMessage `json:"results,omitempty"`
	// SharedAfter is the last place in the feed that a cursor from elsewhere has in common with it.
	SharedAfter string `json:"sharedAfter,omitempty"`
}

func (p *problem) Error() string { return string(p.Code) + ": " + p.Detail }

// fieldError is one thing that is wrong with a request. It has either a pointer or a parameter.
type fieldError struct {
	Pointer   *string `json:"pointer,omitempty"`   // into the body (RFC 6901)
	Parameter string  `json:"parameter,omitempty"` // of the query, or the name of a header
	Detail    string  `json:"detail"`
}

type shortage struct {
	ProductID string `json:"productId"`
	Location  string `json:"location"`
	Requested int64  `json:"requested"`
	Available int64  `json:"available"`
	Reserved  int64  `json:"reserved"`
}

// current is the state of the resource that refuses, as far as the refusal is about it.
type current struct {
	Status    string          `json:"status,omitempty"`
	ExpiresAt json.RawMessage `json:"expiresAt,omitempty"`
	EndedAt   json.RawMessage `json:"endedAt,omitempty"`
	OrderID   json.RawMessage `json:"orderId,omitempty"`
	Version   int64           `json:"version,omitempty"`
}

// fail makes the problem of a code. Its detail is the code's advice, unless the caller knows better.
func fail(code Code, detail ...string) *problem {
	t := typeByCode[code]
	p := &problem{Type: "/problems/" + string(code), Title: t.Title, Status: t.Status, Detail: t.Advice, Code: code}
	if len(detail) > 0 {
		p.Detail = strings.Join(detail, " ")
	}
	return p
}

// explain makes the problem of any error; without an error there is none. An error that nobody foresaw is logged, and
// the caller is told nothing of it.
func (c *call) explain(err error) *problem {
	if err == nil {
		return nil
	}
	var known *problem
	var refused *refusal
	var ahead *engine.CursorAheadError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &refused):
		return refused.problem()
	case errors.Is(err, engine.ErrOutcomeUnknown):
		return fail(CodeOutcomeUnknown)
	case errors.Is(err, engine.ErrOverloaded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fail(CodeOverloaded) // the command left the queue without effect
	case errors.As(err, &ahead):
		return elsewhere(ahead)
	case errors.Is(err, engine.ErrNotReady):
		return fail(CodeNotReady)
	}
	if p := explainRequest(err); p != nil {
		return p
	}
	c.server.o.Log.Error("a request failed", "method", c.Method, "path", c.URL.Path, "requestId", c.id, "error", err)
	return fail(CodeInternal)
}

// elsewhere is the problem of a cursor that is not in the feed.
func elsewhere(e *engine.CursorAheadError) *problem {
	if !e.Known {
		return fail(CodeCursorAhead)
	}
	p := fail(CodeCursorAhead, fmt.Sprintf("The store was restored from an older state. What you saw after %q is not in it: "+
		"take that back from what you derived from the events, and go on from after=%s; or rebuild it, starting from "+
		"after=0.", e.Shared, e.Shared))
	p.SharedAfter = e.Shared.String()
	return p
}

// explainRequest makes the problem of a request that is wrong in itself, or nil of any other error.
func explainRequest(err error) *problem {
	var syntax *wire.SyntaxError
	var body *wire.Invalid
	var parameters parameterErrors
	var wrong []fieldError
	switch {
	case errors.As(err, &syntax):
		return fail(CodeInvalidJSON, syntax.Detail)
	case errors.As(err, &body):
		for _, e := range body.Errors {
			wrong = append(wrong, fieldError{Pointer: &e.Pointer, Detail: e.Detail})
		}
	case errors.As(err, &parameters):
		for _, e := range parameters {
			wrong = append(wrong, fieldError{Parameter: cmp.Or(e.Pointer, wholeQuery), Detail: e.Detail})
		}
	default:
		return nil
	}
	p := fail(CodeInvalidRequest)
	if len(wrong) == 1 {
		p.Detail = wrong[0].subject() + " " + wrong[0].Detail + "."
	}
	p.Errors = wrong
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

// wholeQuery stands in the place of a parameter's name where an error is not about a single one.
const wholeQuery = "query"

// parameterErrors is the error of a query or header. What an error of a body has as its pointer is here the
// parameter's name.
type parameterErrors []wire.FieldError

func (e parameterErrors) Error() string { return e[0].Pointer + " " + e[0].Detail }

func badParameter(name, detail string) error { return parameterErrors{{Pointer: name, Detail: detail}} }

// refusal is the error of a command that the domain refused.
type refusal struct {
	*inventory.Refusal
	linePointer func(i int) string // of the product of line i in the body, counted from 0
}

func (r *refusal) Error() string { return string(r.Code) }

func (r *refusal) problem() *problem {
	switch r.Code {
	case inventory.RefusedPreconditionFailed:
		p := fail(CodeVersionMismatch)
		p.Status = http.StatusPreconditionFailed
		p.Current = &current{Version: r.Current.Version}
		return p
	case inventory.RefusedMetadataTooLarge:
		return explainRequest(&wire.Invalid{Errors: []wire.FieldError{{
			Pointer: "/metadata",
			Detail:  fmt.Sprintf("would have more than %d members after the change", inventory.MaxMetadata),
		}}})
	}
	p := fail(Code(r.Code))
	p.Errors = r.lines()
	p.Current = r.current()
	if len(r.Shortages) > 0 {
		p.Shortages = shortagesOf(r.Shortages)
		p.Detail = describeShortages(r.Shortages)
	}
	return p
}

// lines are the errors of the lines that the refusal names.
func (r *refusal) lines() (wrong []fieldError) {
	detail := "names a product that does not exist"
	if r.Code == inventory.RefusedMixedCurrencies {
		detail = "has another currency than the first line"
	}
	for _, i := range r.Lines {
		pointer := r.linePointer(i)
		wrong = append(wrong, fieldError{Pointer: &pointer, Detail: detail})
	}
	return wrong
}

func (r *refusal) current() *current {
	if r.Current == nil {
		return nil
	}
	shown := &current{Status: r.Current.Status, Version: r.Current.Version}
	if at := r.Current.ExpiresAt; at != 0 {
		shown.ExpiresAt = wire.AppendTime(nil, at)
	}
	if at := r.Current.EndedAt; at != 0 {
		shown.EndedAt = wire.AppendTime(nil, at)
	}
	if id := r.Current.OrderID; !id.IsZero() {
		shown.OrderID = wire.AppendID(nil, id, inventory.OrderPrefix)
	}
	return shown
}

func shortagesOf(short []inventory.Shortage) []shortage {
	list := make([]shortage, len(short))
	for i, s := range short {
		list[i] = shortage{s.ProductID, s.Location, s.Requested, s.Available, s.Reserved}
	}
	return list
}

// maxDescribed is how many shortages a detail spells out; all of them are members of the problem.
const maxDescribed = 3

func describeShortages(short []inventory.Shortage) string {
	var b strings.Builder
	for i, s := range short[:min(len(short), maxDescribed)] {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s at %s has %d available, %d requested", s.ProductID, s.Location, s.Available, s.Requested)
	}
	if more := len(short) - maxDescribed; more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String() + ". " + typeByCode[CodeInsufficientStock].Advice
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
	_, _ = w.Write(body) // fails if the caller has gone, and then there is nobody to tell
}
