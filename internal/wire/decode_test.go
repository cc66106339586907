package wire

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
)

// decoders are the operations by name.
var decoders = map[string]func([]byte, Target) (inventory.Command, error){
	"createProduct": CreateProduct, "updateProduct": UpdateProduct, "adjustStock": AdjustStock,
	"createReservation": CreateReservation, "cancelReservation": CancelReservation, "extendReservation": ExtendReservation,
	"createOrder": CreateOrder, "fulfillOrder": FulfillOrder, "cancelOrder": CancelOrder,
}

// to is a target that suits every operation but for the id.
func to(id string) Target {
	return Target{ID: id, HoldDefault: 10 * time.Minute, HoldMax: 24 * time.Hour}
}

// pointers decodes a body and returns where it is wrong; "syntax" where it is not JSON.
func pointers(t *testing.T, operation, body string) (where []string) {
	t.Helper()
	_, err := decoders[operation]([]byte(body), to("mug"))
	var syntax *SyntaxError
	var invalid *Invalid
	switch {
	case err == nil:
	case errors.As(err, &syntax):
		where = append(where, "syntax")
	case errors.As(err, &invalid):
		for _, e := range invalid.Errors {
			where = append(where, e.Pointer)
		}
	default:
		t.Fatalf("%s %s: %v", operation, body, err)
	}
	return where
}

// TestTarget: what a command takes from elsewhere than the body reaches it; text that is no id becomes one that names
// nothing.
func TestTarget(t *testing.T) {
	id := inventory.NewID(5, 7, 3)
	rsv, ord := id.Text(inventory.ReservationPrefix), id.Text(inventory.OrderPrefix)
	target := Target{HoldDefault: 10 * time.Second, HoldMax: 20 * time.Second, IfMatch: []int64{4}}
	for _, c := range []struct{ operation, id, body, want string }{
		{
			"updateProduct", "mug", `{"version":3}`,
			"&{ID:mug Name:<nil> Amount:<nil> Currency:<nil> Metadata:<nil> IfMatch:[4] Version:3}",
		},
		{"updateProduct", "m/g", `{}`, "&{ID: Name:<nil> Amount:<nil> Currency:<nil> Metadata:<nil> IfMatch:[4] Version:0}"},
		{
			"adjustStock", "mug", `{"delta":1,"reason":"x"}`,
			"&{ProductID:mug Location:main Delta:1 Reason:x Reference:}",
		},
		{
			"createReservation", "", `{"productId":"mug","quantity":2}`,
			"&{Lines:[{ProductID:mug Location:main Quantity:2 UnitPrice:<nil>}] TTL:10000 CustomerID: Metadata:[]}",
		},
		{"cancelReservation", rsv, ``, fmt.Sprintf("%+v", &inventory.Cancel{ID: id})},
		{"cancelReservation", ord, ``, fmt.Sprintf("%+v", &inventory.Cancel{})},
		{
			"extendReservation", rsv, `{"ttlSeconds":20}`,
			fmt.Sprintf("%+v", &inventory.Extend{ID: id, TTL: 20_000, MaxHold: 20_000}),
		},
		{"fulfillOrder", ord, `{}`, fmt.Sprintf("%+v", &inventory.Fulfill{ID: id})},
		{"fulfillOrder", rsv, ``, fmt.Sprintf("%+v", &inventory.Fulfill{})},
		{"cancelOrder", ord, `{"reason":"x"}`, fmt.Sprintf("%+v", &inventory.CancelOrder{ID: id, Reason: "x"})},
	} {
		target.ID = c.id
		command, err := decoders[c.operation]([]byte(c.body), target)
		if got := fmt.Sprintf("%+v", command); err != nil || got != c.want {
			t.Errorf("%s %s %s:\ngot  %s, %v\nwant %s", c.operation, c.id, c.body, got, err, c.want)
		}
	}
	if where := pointers(t, "extendReservation", `{"ttlSeconds":86401}`); len(where) != 1 || where[0] != "/ttlSeconds" {
		t.Errorf("a hold above the maximum: %v", where)
	}
}

// TestSyntax: what is not JSON is told apart from what is wrong in it, and the sentence says where.
func TestSyntax(t *testing.T) {
	for body, want := range map[string]string{
		``:                      "The body is empty",
		`  `:                    "not JSON from byte 2",
		`{`:                     "not JSON from byte 1",
		`{"name":1,}`:           "not JSON from byte 10",
		`{"unknown":1} x`:       "not JSON from byte 14",
		`{"name":"a","name":1}`: "The member /name is there twice",
		"{\"name\":\"\xff\"}":   "not JSON from byte",
		`{"name":"\ud83d"}`:     "not JSON from byte",
		`{"name":"\ude00"}`:     "not JSON from byte",
		`{"name":"\ud83dx"}`:    "not JSON from byte",
		`{"\ud83d":1}`:          "not JSON from byte",
	} {
		_, err := CreateProduct([]byte(body), to(""))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || !strings.Contains(syntax.Detail, want) ||
			!strings.HasSuffix(syntax.Detail, ".") {
			t.Errorf("%q: %v, want %s", body, err, want)
		}
	}
}

// TestNullIsLeftOut: null for an optional member means the same as leaving it out, in every body and in its lines.
func TestNullIsLeftOut(t *testing.T) {
	for _, c := range []struct{ operation, body, same string }{
		{
			"createProduct",
			`{"id":null,"name":"n","price":{"amount":1,"currency":"EUR"},"totalStock":null,"location":null,"metadata":null}`,
			`{"name":"n","price":{"amount":1,"currency":"EUR"}}`,
		},
		{"updateProduct", `{"name":"n","version":null}`, `{"name":"n"}`},
		{"adjustStock", `{"delta":1,"reason":"x","reference":null,"location":null}`, `{"delta":1,"reason":"x"}`},
		{
			"createReservation",
			`{"productId":"mug","quantity":1,"location":null,"unitPrice":null,"lines":null,` +
				`"ttlSeconds":null,"customerId":null,"metadata":null}`,
			`{"productId":"mug","quantity":1}`,
		},
		{
			"createReservation",
			`{"lines":[{"productId":"mug","quantity":1,"location":null,"unitPrice":null}],` +
				`"productId":null,"quantity":null,"location":null,"unitPrice":null}`,
			`{"lines":[{"productId":"mug","quantity":1}]}`,
		},
		{"cancelReservation", `{"reason":null}`, ``},
		{"createOrder", `{"reservationId":"rsv_x","reference":null,"metadata":null}`, `{"reservationId":"rsv_x"}`},
		{"cancelOrder", `{"reason":null}`, `{}`},
	} {
		withNull, err := decoders[c.operation]([]byte(c.body), to("mug"))
		if err != nil {
			t.Errorf("%s %s: %v", c.operation, c.body, err)
		}
		without, err := decoders[c.operation]([]byte(c.same), to("mug"))
		if err != nil || !reflect.DeepEqual(withNull, without) {
			t.Errorf("%s: %s is %+v, but %s is %+v, %v", c.operation, c.body, withNull, c.same, without, err)
		}
	}
}

// TestNullIsRefused: a required member that is null is missing; what cannot be removed cannot be null; a body, a line
// or an action's body is an object.
func TestNullIsRefused(t *testing.T) {
	for _, c := range []struct{ operation, body, where, detail string }{
		{"createProduct", `{"name":null,"price":{"amount":1,"currency":"EUR"}}`, "/name", "is required"},
		{"createProduct", `{"name":"n","price":null}`, "/price", "is required"},
		{"createProduct", `{"name":"n","price":{"amount":null,"currency":"EUR"}}`, "/price/amount", "is required"},
		{"createProduct", `{"name":"n","price":{"amount":1,"currency":null}}`, "/price/currency", "is required"},
		{
			"createProduct", `{"name":"n","price":{"amount":1,"currency":"EUR"},"metadata":{"a":null}}`,
			"/metadata/a", errNull.Error(),
		},
		{"updateProduct", `{"name":null}`, "/name", errNull.Error()},
		{"updateProduct", `{"price":null}`, "/price", errNull.Error()},
		{"updateProduct", `{"price":{"amount":null}}`, "/price/amount", errNull.Error()},
		{"updateProduct", `{"price":{"currency":null}}`, "/price/currency", errNull.Error()},
		{"adjustStock", `{"delta":null,"reason":"x"}`, "/delta", "is required"},
		{"adjustStock", `{"delta":1,"reason":null}`, "/reason", "is required"},
		{"createReservation", `{"productId":null,"quantity":1}`, "/productId", "is required"},
		{"createReservation", `{"productId":"mug","quantity":null}`, "/quantity", "is required"},
		{"createReservation", `{"lines":null}`, "", "must have either productId and quantity, or lines"},
		{"createReservation", `{"lines":[{"productId":null,"quantity":1}]}`, "/lines/0/productId", "is required"},
		{"createReservation", `{"lines":[{"productId":"mug","quantity":null}]}`, "/lines/0/quantity", "is required"},
		{
			"createReservation", `{"productId":"mug","quantity":1,"unitPrice":{"amount":null,"currency":"EUR"}}`,
			"/unitPrice/amount", "is required",
		},
		{"createReservation", `{"productId":"mug","quantity":1,"metadata":{"a":null}}`, "/metadata/a", errNull.Error()},
		{"extendReservation", `{"ttlSeconds":null}`, "/ttlSeconds", "is required"},
		{"createOrder", `{"reservationId":null}`, "/reservationId", "is required"},
		{"createOrder", `{"reservationId":"rsv_x","metadata":{"a":null}}`, "/metadata/a", errNull.Error()},
		{"fulfillOrder", `null`, "", "must be a JSON object"},
	} {
		_, err := decoders[c.operation]([]byte(c.body), to("mug"))
		var invalid *Invalid
		if !errors.As(err, &invalid) || len(invalid.Errors) != 1 ||
			invalid.Errors[0] != (FieldError{c.where, c.detail}) {
			t.Errorf("%s %s: %v, want %q %s", c.operation, c.body, err, c.where, c.detail)
		}
	}
	where := pointers(t, "createReservation", `{"lines":[null]}`)
	if len(where) != 2 || where[0] != "/lines/0/productId" {
		t.Errorf("a line that is null: %v", where)
	}
}

// TestNullRemoves: in a merge-patch null removes metadata or a member of it.
func TestNullRemoves(t *testing.T) {
	all, err := UpdateProduct([]byte(`{"metadata":null}`), to("mug"))
	if patch := all.(*inventory.UpdateProduct).Metadata; err != nil || !patch.Clear || len(patch.Set) != 0 {
		t.Errorf("%+v %v", patch, err)
	}
	one, err := UpdateProduct([]byte(`{"metadata":{"a":null,"b":""}}`), to("mug"))
	patch := one.(*inventory.UpdateProduct).Metadata
	value, there := patch.Set["a"]
	if err != nil || patch.Clear || !there || value != nil || patch.Set["b"] == nil || *patch.Set["b"] != "" {
		t.Errorf("%+v %v", patch, err)
	}
	none, err := UpdateProduct([]byte(`{"name":"n"}`), to("mug"))
	if patch := none.(*inventory.UpdateProduct).Metadata; err != nil || patch != nil {
		t.Errorf("%+v %v", patch, err)
	}
}

// TestErrorsAreBounded: a request names at most a hundred errors, the last saying how many more there are, and
// however long a caller's names are, the errors stay short.
func TestErrorsAreBounded(t *testing.T) {
	for count, want := range map[int]string{
		99: "must not contain control characters", 100: "must not contain control characters",
		101: "has 2 more errors", 5000: "has 4901 more errors",
	} {
		names := make([]string, count)
		for i := range names {
			names[i] = fmt.Sprintf(`"%d":"\u0000"`, i)
		}
		_, err := UpdateProduct([]byte(`{"metadata":{`+strings.Join(names, ",")+`}}`), to("mug"))
		var invalid *Invalid
		if !errors.As(err, &invalid) || len(invalid.Errors) != min(count, MaxErrors) {
			t.Fatalf("%d errors: %v", count, err)
		}
		if last := invalid.Errors[len(invalid.Errors)-1]; last.Detail != want ||
			(last.Pointer == "") != (count > MaxErrors) {
			t.Errorf("%d errors, the last: %+v, want %s", count, last, want)
		}
	}
	long := strings.Repeat("ä", 100_000)
	for _, body := range []string{
		`{"metadata":{"` + long + `":""}}`, `{"` + long + `":1}`,
		`{"` + long + `":1,"` + long + `":1}`,
	} {
		_, err := UpdateProduct([]byte(body), to("mug"))
		if err == nil || len(err.Error()) > 2*maxPointerBytes || !strings.Contains(err.Error(), "ä…") {
			t.Errorf("a long name: %v", err)
		}
	}
}

// TestUnder: the errors of a body that stands inside another one say so, and the body's own stay as they are.
func TestUnder(t *testing.T) {
	_, err := CreateReservation([]byte(`{"lines":[{"productId":"mug"}],"customerId":""}`), to(""))
	var invalid *Invalid
	if !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	moved := invalid.Under("/operations/3/body")
	if len(moved.Errors) != 2 || moved.Errors[0].Pointer != "/operations/3/body/lines/0/quantity" ||
		moved.Errors[1].Pointer != "/operations/3/body/customerId" || invalid.Errors[0].Pointer != "/lines/0/quantity" {
		t.Errorf("%+v %+v", moved, invalid)
	}
}

// TestReservationLines: a line is named where the body has it.
func TestReservationLines(t *testing.T) {
	if got := ReservationLines([]byte(`{"lines":[{"productId":"mug","quantity":1}]}`))(4); got != "/lines/4/productId" {
		t.Error(got)
	}
	if got := ReservationLines([]byte(`{"productId":"mug","quantity":1}`))(0); got != "/productId" {
		t.Error(got)
	}
}

// FuzzBodies: no body makes a decoder panic, or gives a command that breaks the limits of the domain.
func FuzzBodies(f *testing.F) {
	f.Add([]byte(`{"productId":"mug","quantity":1,"ttlSeconds":5,"unitPrice":{"amount":1,"currency":"EUR"},` +
		`"metadata":{"a":"b"}}`))
	f.Add([]byte(`{"lines":[{"productId":"mug","quantity":1}],"customerId":"x"}`))
	f.Add([]byte(`{"id":"x","name":"n","price":{"amount":1,"currency":"EUR"},"totalStock":5,"location":"b"}`))
	f.Add([]byte(`{"delta":-4,"reason":"r","reference":"q"}`))
	f.Add([]byte(`{"metadata":{"a":null},"price":{"amount":4},"version":3}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for operation, decode := range decoders {
			command, err := decode(body, to("mug"))
			if err == nil {
				checkLimits(t, body, command)
				continue
			}
			var syntax *SyntaxError
			var invalid *Invalid
			if !errors.As(err, &syntax) && !errors.As(err, &invalid) {
				t.Fatalf("%s %s: %v", operation, body, err)
			}
		}
	})
}

func checkLimits(t *testing.T, body []byte, command inventory.Command) {
	ok := true
	switch c := command.(type) {
	case *inventory.CreateProduct:
		ok = c.TotalStock >= 0 && c.TotalStock <= inventory.MaxStock && isCurrency(c.Price.Currency) && c.Name != ""
	case *inventory.Adjust:
		ok = c.Delta != 0 && magnitude(c.Delta) <= inventory.MaxStock && IsKey(c.Location)
	case *inventory.Reserve:
		ok = c.TTL >= 1000 && c.TTL <= 86_400_000 && !HasControl(c.CustomerID) &&
			len(c.Metadata) <= inventory.MaxMetadata &&
			linesWithinLimits(c.Lines)
	case *inventory.Extend:
		ok = c.TTL >= 1000 && c.TTL <= c.MaxHold
	}
	if !ok {
		t.Fatalf("%s: %+v", body, command)
	}
}

func linesWithinLimits(lines []inventory.ReserveLine) bool {
	sums := map[inventory.StockKey]int64{}
	for _, l := range lines {
		key := inventory.StockKey{ProductID: l.ProductID, Location: l.Location}
		sums[key] += l.Quantity
		if l.Quantity < 1 || sums[key] > inventory.MaxQuantity || !IsKey(l.ProductID) || !IsKey(l.Location) {
			return false
		}
	}
	return len(lines) > 0 && len(lines) <= inventory.MaxLines
}
