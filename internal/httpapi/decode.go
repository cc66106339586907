package httpapi

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/holdfast/holdfast/internal/inventory"
)

// optional is a member that may be left out, but not be null.
type optional[T any] struct {
	set   bool
	value T
}

var errNull = errors.New("must not be null: leave the member out instead")

// UnmarshalJSONFrom implements the decoder's interface.
func (o *optional[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == 'n' {
		return errNull
	}
	o.set = true
	return json.UnmarshalDecode(d, &o.value)
}

// nullable is a member of a merge-patch: null removes.
type nullable[T any] struct {
	set, null bool
	value     T
}

// UnmarshalJSONFrom implements the decoder's interface.
func (n *nullable[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	n.set = true
	if d.PeekKind() == 'n' {
		n.null = true
		_, err := d.ReadToken()
		return err
	}
	return json.UnmarshalDecode(d, &n.value)
}

type moneyBody struct {
	Amount   optional[int64]  `json:"amount"`
	Currency optional[string] `json:"currency"`
}

type productBody struct {
	ID         optional[string]       `json:"id"`
	Name       optional[string]       `json:"name"`
	Price      optional[moneyBody]    `json:"price"`
	TotalStock optional[int64]        `json:"totalStock"`
	Location   optional[string]       `json:"location"`
	Metadata   optional[metadataBody] `json:"metadata"`
}

type metadataBody map[string]optional[string]

type patchBody struct {
	Name     optional[string]                      `json:"name"`
	Price    optional[moneyBody]                   `json:"price"`
	Metadata nullable[map[string]nullable[string]] `json:"metadata"`
	Version  optional[int64]                       `json:"version"`
}

type adjustmentBody struct {
	Delta     optional[int64]  `json:"delta"`
	Reason    optional[string] `json:"reason"`
	Reference optional[string] `json:"reference"`
	Location  optional[string] `json:"location"`
}

type lineBody struct {
	ProductID optional[string]    `json:"productId"`
	Quantity  optional[int64]     `json:"quantity"`
	Location  optional[string]    `json:"location"`
	UnitPrice optional[moneyBody] `json:"unitPrice"`
}

type reservationBody struct {
	ProductID  optional[string]       `json:"productId"`
	Quantity   optional[int64]        `json:"quantity"`
	Location   optional[string]       `json:"location"`
	UnitPrice  optional[moneyBody]    `json:"unitPrice"`
	Lines      optional[[]lineBody]   `json:"lines"`
	TTLSeconds optional[int64]        `json:"ttlSeconds"`
	CustomerID optional[string]       `json:"customerId"`
	Metadata   optional[metadataBody] `json:"metadata"`
}

type reasonBody struct {
	Reason optional[string] `json:"reason"`
}

func (b *reasonBody) reason() (string, *problem) {
	var c checker
	reason := c.text("/reason", &b.Reason, false, 100)
	return reason, c.problem()
}

type extendBody struct {
	TTLSeconds optional[int64] `json:"ttlSeconds"`
}

type orderBody struct {
	ReservationID optional[string]       `json:"reservationId"`
	Reference     optional[string]       `json:"reference"`
	Metadata      optional[metadataBody] `json:"metadata"`
}

type emptyBody struct{}

// decode reads a body strictly: unknown and duplicate members are refused, and so is anything after the end.
func decode(body []byte, into any) *problem {
	err := json.Unmarshal(body, into, json.RejectUnknownMembers(true))
	if err == nil && firstByte(body) == '{' {
		return nil
	}
	if !jsontext.Value(body).IsValid() {
		return describeSyntax(body, err)
	}
	if firstByte(body) != '{' {
		return invalid(atPointer("", "must be a JSON object"))
	}
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return invalid(atPointer("", "is not what the operation takes"))
	}
	return invalid(atPointer(string(semantic.JSONPointer), "%s", describeSemantic(semantic)))
}

func firstByte(body []byte) byte {
	for _, c := range body {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c
		}
	}
	return 0
}

func describeSyntax(body []byte, err error) *problem {
	var syntactic *jsontext.SyntacticError
	switch {
	case len(body) == 0:
		return failf("invalid-json", "The body is empty: send a JSON object.")
	case errors.As(err, &syntactic) && errors.Is(syntactic.Err, jsontext.ErrDuplicateName):
		return failf("invalid-json", "The member %s is there twice: send each member once.", syntactic.JSONPointer)
	case syntactic != nil:
		return failf("invalid-json", "The body is not JSON from byte %d on: send one JSON object in UTF-8.", syntactic.ByteOffset)
	default:
		return fail("invalid-json")
	}
}

func describeSemantic(e *json.SemanticError) string {
	switch {
	case errors.Is(e.Err, json.ErrUnknownName):
		return "is not a member that the operation takes"
	case errors.Is(e.Err, errNull):
		return errNull.Error()
	case e.GoType == nil:
		return "is not what the operation takes"
	}
	switch kind := e.GoType.Kind().String(); kind {
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

// checker collects everything that is wrong with a request, so that one answer names it all.
type checker struct{ errors []fieldError }

func (c *checker) problem() *problem {
	if len(c.errors) == 0 {
		return nil
	}
	return invalid(c.errors...)
}

func (c *checker) add(pointer, format string, a ...any) {
	c.errors = append(c.errors, atPointer(pointer, format, a...))
}

func checkText(s string, maxLength int) string {
	switch n := utf8.RuneCountInString(s); {
	case n == 0:
		return "must not be empty"
	case n > maxLength:
		return fmt.Sprintf("must have at most %d characters, it has %d", maxLength, n)
	case hasControl(s):
		return "must not contain control characters"
	}
	return ""
}

func hasControl(s string) bool {
	for _, r := range s {
		if r < 0x20 || (r >= 0x7f && r <= 0x9f) {
			return true
		}
	}
	return false
}

func (c *checker) text(pointer string, field *optional[string], required bool, maxLength int) string {
	if !field.set {
		if required {
			c.add(pointer, "is required")
		}
		return ""
	}
	if detail := checkText(field.value, maxLength); detail != "" {
		c.add(pointer, "%s", detail)
	}
	return field.value
}

func (c *checker) integer(pointer string, field *optional[int64], required bool, low, high int64) int64 {
	if !field.set {
		if required {
			c.add(pointer, "is required")
		}
		return 0
	}
	if field.value < low || field.value > high {
		c.add(pointer, "must be from %d to %d", low, high)
	}
	return field.value
}

const keyRule = "must be 1 to 64 characters of A-Z a-z 0-9 . _ : - and begin with a letter or digit"

// isKey reports whether s can be the id of a product or the name of a location.
func isKey(s string) bool {
	if len(s) == 0 || len(s) > 64 || strings.IndexByte("._:-", s[0]) >= 0 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte("._:-", c) < 0 {
			return false
		}
	}
	return true
}

func (c *checker) key(pointer string, field *optional[string], required bool) string {
	if !field.set {
		if required {
			c.add(pointer, "is required")
		}
		return ""
	}
	if !isKey(field.value) {
		c.add(pointer, keyRule)
	}
	return field.value
}

func (c *checker) location(pointer string, field *optional[string]) string {
	if !field.set {
		return inventory.MainLocation
	}
	return c.key(pointer, field, true)
}

func isCurrency(s string) bool {
	return len(s) == 3 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z' && s[2] >= 'A' && s[2] <= 'Z'
}

func (c *checker) money(pointer string, field *optional[moneyBody], required bool) inventory.Money {
	if !field.set {
		if required {
			c.add(pointer, "is required")
		}
		return inventory.Money{}
	}
	m := inventory.Money{Amount: c.integer(pointer+"/amount", &field.value.Amount, true, 0, inventory.MaxAmount)}
	m.Currency = c.currency(pointer+"/currency", &field.value.Currency, true)
	return m
}

func (c *checker) currency(pointer string, field *optional[string], required bool) string {
	switch {
	case !field.set && required:
		c.add(pointer, "is required")
	case field.set && !isCurrency(field.value):
		c.add(pointer, "must be three capital letters (ISO 4217)")
	}
	return field.value
}

func (c *checker) metadata(field *optional[metadataBody]) inventory.Metadata {
	if len(field.value) > inventory.MaxMetadata {
		c.add("/metadata", "must have at most %d members, it has %d", inventory.MaxMetadata, len(field.value))
		return nil
	}
	values := make(map[string]string, len(field.value))
	for name, value := range field.value {
		c.member(name, &value.value)
		values[name] = value.value
	}
	return inventory.NewMetadata(values)
}

func (c *checker) member(name string, value *string) {
	pointer := "/metadata/" + escapePointer(name)
	if detail := checkText(name, 64); detail != "" {
		c.add(pointer, "its name %s", detail)
	}
	if value == nil || *value == "" {
		return
	}
	if detail := checkText(*value, 500); detail != "" {
		c.add(pointer, "%s", detail)
	}
}

func escapePointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

func (b *productBody) command() (*inventory.CreateProduct, *problem) {
	var c checker
	command := &inventory.CreateProduct{
		ID:         c.key("/id", &b.ID, false),
		Name:       c.text("/name", &b.Name, true, 200),
		Price:      c.money("/price", &b.Price, true),
		TotalStock: c.integer("/totalStock", &b.TotalStock, false, 0, inventory.MaxStock),
		Location:   c.location("/location", &b.Location),
		Metadata:   c.metadata(&b.Metadata),
	}
	return command, c.problem()
}

func (b *patchBody) command(id string, ifMatch []int64) (*inventory.UpdateProduct, *problem) {
	var c checker
	command := &inventory.UpdateProduct{ID: id, IfMatch: ifMatch, Version: c.integer("/version", &b.Version, false, 1, inventory.MaxAmount)}
	if b.Name.set {
		c.text("/name", &b.Name, false, 200)
		command.Name = &b.Name.value
	}
	if amount := &b.Price.value.Amount; amount.set {
		c.integer("/price/amount", amount, false, 0, inventory.MaxAmount)
		command.Amount = &amount.value
	}
	if currency := &b.Price.value.Currency; currency.set {
		c.currency("/price/currency", currency, false)
		command.Currency = &currency.value
	}
	if b.Metadata.set {
		command.Metadata = c.metadataPatch(&b.Metadata)
	}
	return command, c.problem()
}

func (c *checker) metadataPatch(field *nullable[map[string]nullable[string]]) *inventory.MetadataPatch {
	patch := &inventory.MetadataPatch{Clear: field.null, Set: make(map[string]*string, len(field.value))}
	for name, value := range field.value {
		if value.null {
			patch.Set[name] = nil
			continue
		}
		c.member(name, &value.value)
		patch.Set[name] = &value.value
	}
	return patch
}

func (b *adjustmentBody) command(productID string) (*inventory.Adjust, *problem) {
	var c checker
	command := &inventory.Adjust{
		ProductID: productID,
		Delta:     c.integer("/delta", &b.Delta, true, -inventory.MaxStock, inventory.MaxStock),
		Reason:    c.text("/reason", &b.Reason, true, 100),
		Reference: c.text("/reference", &b.Reference, false, 200),
		Location:  c.location("/location", &b.Location),
	}
	if b.Delta.set && command.Delta == 0 {
		c.add("/delta", "must not be 0")
	}
	return command, c.problem()
}

func (b *reservationBody) command(holdDefault, holdMax time.Duration) (*inventory.Reserve, *problem) {
	var c checker
	command := &inventory.Reserve{
		Lines:      b.lines(&c),
		TTL:        c.ttl(&b.TTLSeconds, false, holdMax),
		CustomerID: c.text("/customerId", &b.CustomerID, false, 200),
		Metadata:   c.metadata(&b.Metadata),
	}
	if !b.TTLSeconds.set {
		command.TTL = holdDefault.Milliseconds()
	}
	return command, c.problem()
}

func (c *checker) ttl(field *optional[int64], required bool, holdMax time.Duration) int64 {
	limit := int64(holdMax / time.Second)
	seconds := c.integer("/ttlSeconds", field, required, 1, limit)
	if seconds < 1 || seconds > limit {
		return 0 // refused above; the product below must not overflow
	}
	return seconds * 1000
}

func (b *reservationBody) lines(c *checker) []inventory.ReserveLine {
	if !b.Lines.set {
		line := lineBody{b.ProductID, b.Quantity, b.Location, b.UnitPrice}
		if !b.ProductID.set && !b.Quantity.set {
			c.add("", "must have either productId and quantity, or lines")
			return nil
		}
		return []inventory.ReserveLine{line.line(c, "")}
	}
	if b.ProductID.set || b.Quantity.set || b.Location.set || b.UnitPrice.set {
		c.add("/lines", "must not stand beside productId, quantity, location or unitPrice: put them into the lines")
	}
	if n := len(b.Lines.value); n == 0 || n > inventory.MaxLines {
		c.add("/lines", "must have 1 to %d entries, it has %d", inventory.MaxLines, n)
		return nil
	}
	lines := make([]inventory.ReserveLine, len(b.Lines.value))
	sums := make(map[inventory.StockKey]int64, len(lines))
	for i := range lines {
		pointer := "/lines/" + strconv.Itoa(i)
		lines[i] = b.Lines.value[i].line(c, pointer)
		key := inventory.StockKey{ProductID: lines[i].ProductID, Location: lines[i].Location}
		if sums[key] += lines[i].Quantity; lines[i].Quantity <= inventory.MaxQuantity && sums[key] > inventory.MaxQuantity {
			c.add(pointer+"/quantity", "makes more than %d units of one product at one location", inventory.MaxQuantity)
			sums[key] = 0
		}
	}
	return lines
}

func (b *lineBody) line(c *checker, pointer string) inventory.ReserveLine {
	line := inventory.ReserveLine{
		ProductID: c.key(pointer+"/productId", &b.ProductID, true),
		Location:  c.location(pointer+"/location", &b.Location),
		Quantity:  c.integer(pointer+"/quantity", &b.Quantity, true, 1, inventory.MaxQuantity),
	}
	if b.UnitPrice.set {
		price := c.money(pointer+"/unitPrice", &b.UnitPrice, true)
		line.UnitPrice = &price
	}
	return line
}

func (b *orderBody) command() (*inventory.Confirm, *problem) {
	var c checker
	command := &inventory.Confirm{
		Reference: c.text("/reference", &b.Reference, false, 200),
		Metadata:  c.metadata(&b.Metadata),
	}
	if !b.ReservationID.set {
		c.add("/reservationId", "is required")
	}
	// An id that no server made names nothing: that is a 404, after whatever else is wrong.
	command.ReservationID, _ = inventory.ParseID(inventory.ReservationPrefix, b.ReservationID.value)
	return command, c.problem()
}
