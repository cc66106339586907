package wire

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/holdfast/holdfast/internal/inventory"
)

// MaxErrors bounds the errors of one request.
const MaxErrors = 100

// maxPointerBytes bounds a pointer. Every member that the contract has is shorter; a caller's own name need not be.
const maxPointerBytes = 300

// FieldError is one thing that is wrong with a request.
type FieldError struct {
	Pointer string // of the member in the body (RFC 6901), cut and with … if it is long; empty: the body itself
	Detail  string // what is wrong, as the rest of a sentence that begins with the member: "must not be empty"
}

// Invalid is the error of a body that is JSON, but not what the operation takes.
type Invalid struct {
	Errors []FieldError // 1 to MaxErrors
}

func (e *Invalid) Error() string {
	first := e.Errors[0]
	return fmt.Sprintf("%d errors in the body; %q %s", len(e.Errors), first.Pointer, first.Detail)
}

// Under returns the same errors for a body that is itself a member of a larger one, at this pointer.
func (e *Invalid) Under(pointer string) *Invalid {
	moved := &Invalid{Errors: make([]FieldError, len(e.Errors))}
	for i, f := range e.Errors {
		moved.Errors[i] = FieldError{Pointer: pointer + f.Pointer, Detail: f.Detail}
	}
	return moved
}

// Checker collects what is wrong with a request, so that one answer names it all, up to [MaxErrors].
type Checker struct {
	errors []FieldError
	more   int // errors beyond those
}

// Add notes that the member at this pointer is wrong.
func (c *Checker) Add(pointer, format string, a ...any) {
	if len(c.errors) == MaxErrors {
		c.more++
		return
	}
	c.errors = append(c.errors, FieldError{Pointer: cut(pointer), Detail: fmt.Sprintf(format, a...)})
}

// Errors are those that were noted, in the order of their noting. If they are too many, the last says how many more
// there are.
func (c *Checker) Errors() []FieldError {
	if c.more == 0 {
		return c.errors
	}
	named := c.errors[:MaxErrors-1]
	return append(slices.Clone(named), FieldError{Detail: fmt.Sprintf("has %d more errors", c.more+1)})
}

// cut shortens a pointer to maxPointerBytes, between two characters.
func cut(pointer string) string {
	if len(pointer) <= maxPointerBytes {
		return pointer
	}
	end := maxPointerBytes
	for end > maxPointerBytes-utf8.UTFMax && !utf8.RuneStart(pointer[end]) {
		end--
	}
	return pointer[:end] + "…"
}

// Err is an [Invalid] with what was noted, or nil where nothing was.
func (c *Checker) Err() error {
	if len(c.errors) == 0 {
		return nil
	}
	return &Invalid{Errors: c.Errors()}
}

// presence says whether a member has to be there.
type presence bool

const (
	required presence = true
	canOmit  presence = false
)

// given reports whether a member was sent, and notes an error if it was not, but is required.
func (c *Checker) given(pointer string, sent bool, p presence) bool {
	if !sent && p == required {
		c.Add(pointer, "is required")
	}
	return sent
}

func (c *Checker) text(pointer string, field *optional[string], p presence, maxLength int) string {
	if c.given(pointer, field.set, p) {
		c.note(pointer, CheckText(field.value, maxLength))
	}
	return field.value
}

// note adds a detail unless it is empty.
func (c *Checker) note(pointer, detail string) {
	if detail != "" {
		c.Add(pointer, "%s", detail)
	}
}

// CheckText says what is wrong with a text of 1 to maxLength characters (code points) without control characters;
// nothing if it is one.
func CheckText(s string, maxLength int) string {
	switch n := utf8.RuneCountInString(s); {
	case n == 0:
		return "must not be empty"
	case n > maxLength:
		return fmt.Sprintf("must have at most %d characters, it has %d", maxLength, n)
	case HasControl(s):
		return "must not contain control characters"
	}
	return ""
}

// HasControl reports whether s contains a control character: U+0000 to U+001F or U+007F to U+009F.
func HasControl(s string) bool {
	for _, r := range s {
		if r < 0x20 || (r >= 0x7f && r <= 0x9f) {
			return true
		}
	}
	return false
}

// integer checks a number from low to high, both included.
func (c *Checker) integer(pointer string, field *optional[int64], p presence, low, high int64) int64 {
	if c.given(pointer, field.set, p) && (field.value < low || field.value > high) {
		c.Add(pointer, "must be from %d to %d", low, high)
	}
	return field.value
}

// KeyRule is the detail of a FieldError about text that is not a key.
const KeyRule = "must be 1 to 64 characters of A-Z a-z 0-9 . _ : - and begin with a letter or digit"

// IsKey reports whether s can be the id of a product or the name of a location.
func IsKey(s string) bool {
	if len(s) == 0 || len(s) > 64 || isKeyMark(s[0]) {
		return false
	}
	for i := range len(s) {
		if !isLetterOrDigit(s[i]) && !isKeyMark(s[i]) {
			return false
		}
	}
	return true
}

func isLetterOrDigit(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isKeyMark(c byte) bool { return strings.IndexByte("._:-", c) >= 0 }

func (c *Checker) key(pointer string, field *optional[string], p presence) string {
	if c.given(pointer, field.set, p) && !IsKey(field.value) {
		c.Add(pointer, KeyRule)
	}
	return field.value
}

// location checks the name of a location; left out, it is the main one.
func (c *Checker) location(pointer string, field *optional[string]) string {
	if !field.set {
		return inventory.MainLocation
	}
	return c.key(pointer, field, required)
}

func (c *Checker) money(pointer string, field *optional[moneyBody], p presence) inventory.Money {
	if !c.given(pointer, field.set, p) {
		return inventory.Money{}
	}
	return inventory.Money{
		Amount:   c.amount(pointer+"/amount", &field.value.Amount, required),
		Currency: c.currency(pointer+"/currency", &field.value.Currency, required),
	}
}

func (c *Checker) amount(pointer string, field *optional[int64], p presence) int64 {
	return c.integer(pointer, field, p, 0, inventory.MaxAmount)
}

func (c *Checker) currency(pointer string, field *optional[string], p presence) string {
	if c.given(pointer, field.set, p) && !isCurrency(field.value) {
		c.Add(pointer, "must be three capital letters (ISO 4217)")
	}
	return field.value
}

func isCurrency(s string) bool {
	return len(s) == 3 && isCapital(s[0]) && isCapital(s[1]) && isCapital(s[2])
}

func isCapital(c byte) bool { return c >= 'A' && c <= 'Z' }

func (c *Checker) metadata(field *optional[metadataBody]) inventory.Metadata {
	if n := len(field.value); n > inventory.MaxMetadata {
		c.Add("/metadata", "must have at most %d members, it has %d", inventory.MaxMetadata, n)
		return nil
	}
	values := make(map[string]string, len(field.value))
	for name, value := range field.value {
		c.metadataMember(name, value.value)
		values[name] = value.value
	}
	return inventory.NewMetadata(values)
}

// metadataMember checks a name of 1 to 64 characters and a value of at most 500.
func (c *Checker) metadataMember(name, value string) {
	pointer := "/metadata/" + escapePointer(name)
	if detail := CheckText(name, 64); detail != "" {
		c.Add(pointer, "its name %s", detail)
	}
	if value != "" {
		c.note(pointer, CheckText(value, 500))
	}
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

func escapePointer(name string) string { return pointerEscapes.Replace(name) }
