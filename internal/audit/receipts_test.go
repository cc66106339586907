package audit_test

import (
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/inventory"
)

// answer changes the first answer that a test is about.
func (f *fake) answer(about func(*inventory.Outcome) bool, change func(*inventory.Outcome)) {
	for i, r := range f.receipts {
		outcome, err := inventory.DecodeOutcome(r.Answer)
		if err != nil {
			panic(err)
		}
		if about(&outcome) {
			change(&outcome)
			changed := *r
			changed.Answer = inventory.AppendOutcome(nil, &outcome)
			f.receipts[i] = &changed
			return
		}
	}
	panic("there is no such answer")
}

// The answers that tests change: two that show a row as it still is, and two that show it as it was before.
func ofCancel(o *inventory.Outcome) bool {
	return o.Reservation != nil && o.Reservation.Status == inventory.ReservationCancelled
}

func ofFulfill(o *inventory.Outcome) bool {
	return o.Order != nil && o.Order.Status == inventory.OrderFulfilled
}
func ofAdjust(o *inventory.Outcome) bool { return o.Adjustment != nil }
func ofGroup(o *inventory.Outcome) bool  { return o.Results != nil }
func ofProduct(o *inventory.Outcome) bool {
	return o.Product != nil && o.Product.ID == "cup"
}

// lieOf makes the lie of one answer.
func lieOf(about func(*inventory.Outcome) bool, change func(*inventory.Outcome), want string) lie {
	return lie{rows: func(f *fake) { f.answer(about, change) }, want: []string{want}}
}

// beforeOf changes the answer that made a reservation or order, which shows it as it was before.
func beforeOf(name string, change func(*inventory.Outcome), want string) lie {
	return lie{rows: func(f *fake) {
		f.answer(func(o *inventory.Outcome) bool {
			return (o.Reservation != nil && o.Reservation.Seq == f.keys[name]) || (o.Order != nil && o.Order.Seq == f.keys[name])
		}, change)
	}, want: []string{want}}
}

func TestReceiptLies(t *testing.T) {
	other := inventory.NewID(1, 1, 1)
	lies := map[string]lie{
		"unreadable": {
			rows: func(f *fake) { f.receipts[0] = &inventory.Receipt{Answer: []byte{0xff}} },
			want: []string{"I6: receipt 00000000000000000000000000000000: its answer cannot be read"},
		},
		"of the future": lieOf(ofCancel, func(o *inventory.Outcome) { o.Seq = 999 },
			"its answer is of event 999, but"),
		"of nothing": lieOf(ofCancel, func(o *inventory.Outcome) { o.Reservation = nil },
			"is not about one resource, but 0"),
		"of two": lieOf(ofFulfill, func(o *inventory.Outcome) { o.Product = &inventory.Product{} },
			"is not about one resource, but 2"),
		"of an adjustment and a reservation": lieOf(ofCancel, func(o *inventory.Outcome) {
			o.Adjustment = &inventory.Adjustment{}
		}, "is not about one resource, but 1"),
		"no such reservation": lieOf(ofCancel, func(o *inventory.Outcome) { o.Reservation.ID = other },
			"there is no reservation"),
		"reservation newer": lieOf(ofCancel, func(o *inventory.Outcome) { o.Reservation.Seq++ },
			"there is no reservation"),
		"reservation changed": lieOf(ofCancel, func(o *inventory.Outcome) { o.Reservation.CancelReason = "x" },
			"it shows reservation"),
		"lines before": beforeOf("$cancelled", func(o *inventory.Outcome) { o.Reservation.Lines[0].Quantity++ },
			"it shows reservation"),
		"customer before": beforeOf("$cancelled", func(o *inventory.Outcome) { o.Reservation.CustomerID = "eve" },
			"it shows reservation"),
		"no such order": lieOf(ofFulfill, func(o *inventory.Outcome) { o.Order.ID = other },
			"there is no order"),
		"order newer": lieOf(ofFulfill, func(o *inventory.Outcome) { o.Order.Seq++ }, "there is no order"),
		"order changed": lieOf(ofFulfill, func(o *inventory.Outcome) { o.Order.Reference = "x" },
			"it shows order"),
		"order's lines before": beforeOf("$fulfilled", func(o *inventory.Outcome) { o.Order.Lines[0].Quantity++ },
			"it shows order"),
		"order's reservation before": beforeOf("$fulfilled", func(o *inventory.Outcome) { o.Order.ReservationID = other },
			"it shows order"),
		"no such product": lieOf(ofProduct, func(o *inventory.Outcome) { o.Product.ID = "x" },
			"there is no product x"),
		"product newer": lieOf(ofProduct, func(o *inventory.Outcome) { o.Product.Seq++ },
			"there is no product cup as of event 2"),
		"product changed": lieOf(ofProduct, func(o *inventory.Outcome) { o.Product.Name = "x" },
			"it shows product cup"),
		"adjustment of no event": lieOf(ofAdjust, func(o *inventory.Outcome) {
			o.Adjustment.ID = inventory.NewID(1, 999, 1)
		}, "no event made adjustment"),
		"adjustment of another event": lieOf(ofAdjust, func(o *inventory.Outcome) { o.Adjustment.ID = other },
			"no event made adj"),
		"adjustment changed": lieOf(ofAdjust, func(o *inventory.Outcome) { o.Adjustment.Delta++ },
			"no event made adj"),
		"operation of a group": lieOf(ofGroup, func(o *inventory.Outcome) {
			o.Results.Outcomes[1].Reservation.CancelReason = "x"
		}, "operation 1: it shows reservation"),
	}
	for name, l := range lies {
		l.receipts = true
		lies[name] = l
	}
	checkLies(t, lies)
}

func TestRecordLies(t *testing.T) {
	lies := map[string]lie{}
	for name, c := range map[string]struct {
		change func(*inventory.Record)
		want   string
	}{
		"no kind":           {func(r *inventory.Record) { r.Kind = "" }, "its kind is not made of small letters"},
		"kind":              {func(r *inventory.Record) { r.Kind = "Note" }, "its kind is not made of small letters"},
		"not UTF-8":         {func(r *inventory.Record) { r.Key = "\xff" }, "control characters or is not UTF-8"},
		"control character": {func(r *inventory.Record) { r.Key = "a\n" }, "control characters or is not UTF-8"},
		"key too long":      {func(r *inventory.Record) { r.Key = strings.Repeat("k", 509) }, "have 513 bytes, more than"},
		"too large":         {func(r *inventory.Record) { r.Data = make([]byte, 1<<20+1) }, "its data has 1048577 bytes"},
		"version":           {func(r *inventory.Record) { r.Version = 0 }, "its version is 0"},
	} {
		lies[name] = lie{rows: func(f *fake) {
			right := inventory.Record{
				RecordKey: inventory.RecordKey{Kind: "note", Key: strings.Repeat("k", 508)}, Version: 1, Data: make([]byte, 1<<20),
			}
			wrong := right
			c.change(&wrong)
			f.records = []*inventory.Record{&right, &wrong}
		}, want: []string{c.want}}
	}
	checkLies(t, lies)
	f := newFake(t)
	f.records = []*inventory.Record{{RecordKey: inventory.RecordKey{Kind: "note"}, Version: 1}}
	if r := run(t, fakeStore{view: f}, audit.Options{}); r.Records != 1 || r.Receipts != 22 || !r.Clean() {
		t.Errorf("%+v", r)
	}
}
