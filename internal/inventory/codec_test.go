package inventory

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// TestRoundTrip: every field of what is stored comes back, in its own place, and nothing else is read.
func TestRoundTrip(t *testing.T) {
	p, r, o, a := &Product{}, &Reservation{}, &Order{}, &Adjustment{}
	for i, row := range []any{p, r, o, a} {
		fill(reflect.ValueOf(row).Elem(), 1000*(i+1))
	}
	for i, salted := range []*ID{&r.ID, &r.OrderID, &o.ID, &o.ReservationID, &a.ID} {
		*salted = NewID(Time(5000+i), int64(i+1), uint32(7*i))
	}
	// These are not stored by themselves: a resource was made when its id says, and its lines have one currency.
	r.CreatedAt, o.CreatedAt, a.CreatedAt = r.ID.Time(), o.ID.Time(), a.ID.Time()
	for _, lines := range [][]Line{r.Lines, o.Lines} {
		for i := range lines {
			lines[i].UnitPrice.Currency = "EUR"
		}
	}
	r.Total.Currency, o.Total.Currency = "EUR", "EUR"
	bare := *p
	bare.Stock = nil
	check(t, "product", &bare, AppendProduct(nil, &bare), DecodeProduct)
	check(t, "reservation", r, AppendReservation(nil, r), DecodeReservation)
	check(t, "order", o, AppendOrder(nil, o), DecodeOrder)
	// The parts of this outcome never occur together; the codec does not mind.
	all := &Outcome{Created: true, Product: p, Adjustment: a, Reservation: r, Order: o, Seq: 9}
	check(t, "outcome", all, AppendOutcome(nil, all), func(data []byte) (*Outcome, error) {
		outcome, err := DecodeOutcome(data)
		return &outcome, err
	})
}

func check[T any](t *testing.T, name string, row *T, stored []byte, decode func([]byte) (*T, error)) {
	t.Helper()
	if found, err := decode(stored); err != nil || !reflect.DeepEqual(found, row) {
		t.Errorf("%s: %v\nread    %+v\nwritten %+v", name, err, found, row)
	}
	if _, err := decode(append(stored, 0)); err == nil {
		t.Errorf("%s: a byte behind the end is not seen", name)
	}
	for n := range stored {
		if _, err := decode(stored[:n]); err == nil {
			t.Errorf("%s: the first %d of %d bytes are taken for all", name, n, len(stored))
			return
		}
	}
}

// fill gives every field a value of its own, counted from n on, and returns the next.
func fill(v reflect.Value, n int) int {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			n = fill(v.Field(i), n)
		}
		return n
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			n = fill(v.Index(i), n)
		}
		return n
	case reflect.String:
		v.SetString(strings.Repeat("x", n%5+1) + fmt.Sprint(n))
	case reflect.Int64:
		v.SetInt(int64(n) + 10_000)
	case reflect.Uint8: // a status
		v.SetUint(2)
	case reflect.Array: // an id
	default:
		panic(v.Kind())
	}
	return n + 1
}
