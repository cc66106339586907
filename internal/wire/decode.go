// Package wire is the contract's JSON, both ways: the bodies of requests become commands, and resources and events
// become bytes. It knows nothing of HTTP, so that whoever reads or writes this JSON elsewhere shares it.
//
// A body is refused with one of two errors: a [SyntaxError] where it is not JSON, an [Invalid] where it is JSON, but
// not what the operation takes.
package wire

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/holdfast/holdfast/internal/inventory"
)

// Target is what a command needs besides its body.
type Target struct {
	ID          string        // what the path carries; empty where the operation's path has no id
	HoldDefault time.Duration // of a hold whose request does not say how long
	HoldMax     time.Duration // whole seconds
	// IfMatch are the sequences that an ETag may have for the command to be carried out; nil: it may have any.
	IfMatch []int64
	// PrivateWebhooks lets webhooks lead to addresses that are not public, and be http.
	PrivateWebhooks bool
	// Secret is random, for a command that gives something a new secret.
	Secret string
	// Reference is told of an id in the body that stands for what another operation of the same batch makes; nil: there
	// is no batch, and such a text is an id that no server made.
	Reference func(text string)
}

// product is the id of a product. Text that cannot be one becomes empty, which names nothing: some databases would
// not even take it as text.
func (t *Target) product() string {
	if !IsKey(t.ID) {
		return ""
	}
	return t.ID
}

// reservation is the id of a reservation. One that no server made is zero, which names nothing.
func (t *Target) reservation() inventory.ID {
	id, _ := inventory.ParseID(inventory.ReservationPrefix, t.ID)
	return id
}

// order is the id of an order. One that no server made is zero, which names nothing.
func (t *Target) order() inventory.ID {
	id, _ := inventory.ParseID(inventory.OrderPrefix, t.ID)
	return id
}

// SyntaxError is the error of a body that is not JSON.
type SyntaxError struct {
	Detail string // sentences that say what is wrong and what to send instead
}

func (e *SyntaxError) Error() string { return e.Detail }

// optional is a member that may be left out; null means the same. Whether it is required after all is for its check
// to say.
type optional[T any] struct {
	set   bool
	value T
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (o *optional[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == 'n' {
		_, err := d.ReadToken()
		return err
	}
	o.set = true
	return json.UnmarshalDecode(d, &o.value)
}

// notNull is a member that may be left out, but not be null, because it cannot be removed.
type notNull[T any] struct{ optional[T] }

var errNull = errors.New("must not be null: leave the member out instead")

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (n *notNull[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == 'n' {
		return errNull
	}
	return n.optional.UnmarshalJSONFrom(d)
}

// removable is a member of a merge-patch that null removes.
type removable[T any] struct {
	optional[T]
	null bool
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (r *removable[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	r.null = d.PeekKind() == 'n'
	return r.optional.UnmarshalJSONFrom(d)
}

// bounded is an array of which no more than a limit is kept: what a caller sends beyond it is counted and costs nothing.
type bounded[T any] struct {
	kept []T
	sent int
}

// decode reads the array. Each type of array has its limit.
func (b *bounded[T]) decode(d *jsontext.Decoder, limit int) error {
	if d.PeekKind() != '[' {
		return json.UnmarshalDecode(d, &b.kept) // which says what is wrong
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for b.sent = 0; d.PeekKind() != ']'; b.sent++ {
		if b.sent >= limit {
			if err := d.SkipValue(); err != nil {
				return err
			}
			continue
		}
		b.kept = append(b.kept, *new(T))
		if err := json.UnmarshalDecode(d, &b.kept[b.sent]); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

type moneyBody struct {
	Amount   optional[int64]  `json:"amount"`
	Currency optional[string] `json:"currency"`
}

// metadataBody is the metadata of a new resource. Its values cannot be null: there is nothing to remove yet.
type metadataBody map[string]notNull[string]

// reasonBody is the body of an action that takes nothing but a reason.
type reasonBody struct {
	Reason optional[string] `json:"reason"`
}

func (c *Checker) reason(b *reasonBody) string { return c.text("/reason", &b.Reason, canOmit, 100) }

// emptyBody is the body of an action that takes nothing.
type emptyBody struct{}

// decodeAction decodes the body of an operation of which every member may be left out, and the body with them.
func decodeAction[B any](body []byte) (*B, error) {
	if len(body) == 0 {
		return new(B), nil
	}
	return decode[B](body)
}

// decode reads a body strictly: it refuses unknown members, members that are there twice, and anything after the end.
func decode[B any](body []byte) (*B, error) {
	into := new(B)
	err := json.Unmarshal(body, into, json.RejectUnknownMembers(true))
	if err == nil && firstByte(body) == '{' {
		return into, nil
	}
	// Decoding stops at the first wrong member. If the syntax is wrong further on, that is what the caller is told.
	if err := checkSyntax(body); err != nil {
		return nil, err
	}
	if firstByte(body) != '{' {
		return nil, invalidAt("", "must be a JSON object")
	}
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return nil, invalidAt("", notTaken)
	}
	return nil, invalidAt(string(semantic.JSONPointer), describe(semantic))
}

func firstByte(body []byte) byte {
	for _, c := range body {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c
		}
	}
	return 0
}

func invalidAt(pointer, detail string) *Invalid {
	return &Invalid{Errors: []FieldError{{Pointer: cut(pointer), Detail: detail}}}
}

// checkSyntax returns a [SyntaxError] unless the body is one JSON value.
func checkSyntax(body []byte) error {
	if len(body) == 0 {
		return &SyntaxError{"The body is empty: send a JSON object."}
	}
	var value jsontext.Value
	err := json.Unmarshal(body, &value)
	if err == nil {
		return nil
	}
	var syntactic *jsontext.SyntacticError
	switch {
	case !errors.As(err, &syntactic):
		return &SyntaxError{"The body is not one JSON value: send one JSON object in UTF-8."}
	case errors.Is(err, jsontext.ErrDuplicateName):
		return &SyntaxError{fmt.Sprintf("The member %s is there twice: send each member once.",
			cut(string(syntactic.JSONPointer)))}
	}
	return &SyntaxError{fmt.Sprintf("The body is not JSON from byte %d on: send one JSON object in UTF-8.",
		syntactic.ByteOffset)}
}

const notTaken = "is not what the operation takes"

func describe(e *json.SemanticError) string {
	switch {
	case errors.Is(e.Err, json.ErrUnknownName):
		return "is not a member that the operation takes"
	case errors.Is(e.Err, errNull):
		return errNull.Error()
	case e.GoType == nil:
		return notTaken
	}
	switch e.GoType.Kind().String() {
	case "bool":
		return "must be true or false"
	case "int64":
		return "must be a whole number, written without fraction or exponent, of at most 2^53-1"
	case "string":
		return "must be a string"
	case "slice":
		return "must be an array"
	default:
		return "must be an object"
	}
}
