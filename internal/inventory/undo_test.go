package inventory

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func operations(commands ...Command) (list []Operation) {
	for _, c := range commands {
		list = append(list, Operation{Request: &Request{Command: c}})
	}
	return list
}

func renamed(id string) *UpdateProduct {
	name := "Cup"
	return &UpdateProduct{ID: id, Name: &name}
}

// TestUndoOfStockBehindAChangedProduct: a refused group gives back the units that it took, also if it had changed the
// product before that and opens another location of it afterwards.
func TestUndoOfStockBehindAChangedProduct(t *testing.T) {
	w := groupWorld(t)
	w.Products["mug"] = &Product{
		ID: "mug", Name: "Mug", Price: Money{1999, "EUR"}, Version: 1, Seq: 1,
		Stock: []Stock{{Location: MainLocation, Buckets: Buckets{Available: 10}, Seq: 1}}, // no room for a second row
	}
	group := &Request{Command: &Group{Atomic: true, Operations: operations(
		renamed("mug"),
		&Adjust{ProductID: "mug", Location: MainLocation, Delta: 1000, Reason: "r"},
		&Adjust{ProductID: "mug", Location: "attic", Delta: 1, Reason: "r"},
		holdOf(5000).Command,
	)}}
	outcomes, changes := w.decide(t, group, holdOf(500))
	if r := outcomes[0].Refusal; r == nil || r.Code != RefusedBatch {
		t.Fatalf("the group: %+v", outcomes[0])
	}
	if outcomes[1].Refusal == nil {
		t.Errorf("500 of 10 mugs were held behind a group that was refused: %+v, stock %+v",
			outcomes[1].Reservation, w.Products["mug"].Stock)
	}
	if !changes.Empty() {
		t.Errorf("something is written: %+v", changes)
	}
}

// TestNamedAdjustMakesRoom: an adjustment whose product is named by an earlier operation can take the units of overdue
// holds (I8).
func TestNamedAdjustMakesRoom(t *testing.T) {
	w := groupWorld(t)
	w.decide(t, &Request{Command: &Reserve{
		Lines: []ReserveLine{{ProductID: "mug", Location: MainLocation, Quantity: 10}},
		TTL:   1000,
	}})
	w.Now += 5000
	group := &Request{Command: &Group{Operations: []Operation{
		{Request: &Request{Command: renamed("mug")}},
		{Request: &Request{Command: &Adjust{Location: MainLocation, Delta: -4, Reason: "broken"}}, Names: 1},
	}}}
	wanted := int64(0)
	for _, d := range KeysOf([]*Request{group}).Stock {
		wanted += d.Units
	}
	if wanted < 4 {
		t.Errorf("the store is asked to make room for %d units, and 4 are taken", wanted)
	}
	w.prepare([]*Request{group})
	outcomes, _ := w.decide(t, group)
	if r := outcomes[0].Results.Outcomes[1].Refusal; r != nil {
		t.Errorf("refused: %+v, although all 10 mugs are held by an overdue hold alone", r)
	}
}

// TestLapsedHoldsAreNotTheGroups: holds that lapsed do not count towards the bytes that a group may write, because an
// overdue hold never makes a new request fail (I8).
func TestLapsedHoldsAreNotTheGroups(t *testing.T) {
	w := groupWorld(t)
	metadata := Metadata{}
	for i := range MaxMetadata {
		metadata = append(metadata, Member{fmt.Sprintf("m%02d", i), strings.Repeat("x", 500)})
	}
	w.decide(t, &Request{Command: &Adjust{ProductID: "mug", Location: MainLocation, Delta: 190, Reason: "r"}})
	for range 200 {
		w.decide(t, &Request{Command: &Reserve{
			Lines: []ReserveLine{{ProductID: "mug", Location: MainLocation, Quantity: 1}}, TTL: 1000, Metadata: metadata,
		}})
	}
	w.Now += 5000
	single := holdOf(200)
	group := &Request{Command: &Group{Operations: []Operation{{Request: single}}}}
	w.prepare([]*Request{group})
	outcomes, _ := w.decide(t, group)
	if r := outcomes[0].Refusal; r != nil {
		t.Errorf("a batch of one small hold: %+v; alone it comes to %+v", r, func() Outcome {
			alone, _ := w.decide(t, single)
			return alone[0]
		}())
	}
}

// TestRefusalsCount: what a group answers is bounded, its refusals included.
func TestRefusalsCount(t *testing.T) {
	w := groupWorld(t)
	group := &Group{}
	for range MaxOperations {
		c := &Reserve{TTL: 1000}
		for i := range 60 { // with their JSON around them, 1,000 such operations fit into 8 MiB
			at := fmt.Sprintf("%02d%s", i, strings.Repeat("l", 62))
			c.Lines = append(c.Lines, ReserveLine{ProductID: "mug", Location: at, Quantity: 1})
		}
		group.Operations = append(group.Operations, Operation{Request: &Request{Command: c}})
	}
	outcomes, changes := w.decide(t, &Request{Receipt: keyOf("all"), Command: group})
	if outcomes[0].Refusal == nil && len(changes.Receipts[0].Answer) > MaxBatchBytes {
		t.Errorf("the stored answer has %d bytes, at most %d are allowed", len(changes.Receipts[0].Answer), MaxBatchBytes)
	}
}

// TestOneReceiptForAKey: a group cannot have the key of one of its operations.
func TestOneReceiptForAKey(t *testing.T) {
	w := groupWorld(t)
	hold := holdOf(1)
	hold.Receipt = keyOf("same")
	group := &Request{Receipt: keyOf("same"), Command: &Group{Operations: []Operation{{Request: hold}}}}
	group.Receipt.Fingerprint[0]++
	_, changes := w.decide(t, group)
	if len(changes.Receipts) > 1 {
		t.Errorf("%d receipts of one key are written", len(changes.Receipts))
	}
}

// TestUndoOfReceiptsAndCounts: a group that was taken back leaves no receipt, event or count, and no units moved.
func TestUndoOfReceiptsAndCounts(t *testing.T) {
	w := groupWorld(t)
	hold := holdOf(2)
	hold.Receipt = keyOf("taken back")
	group := &Group{Atomic: true, Operations: append([]Operation{{Request: hold}}, operations(&Fulfill{})...)}
	outcomes, changes := w.decide(t, &Request{Command: group}, holdOf(1))
	if r := outcomes[0].Refusal; r == nil || r.Code != RefusedBatch || outcomes[1].Reservation == nil {
		t.Fatalf("%+v", outcomes)
	}
	want := Tally{}
	want[EventReservationCreated] = 1
	if len(changes.Receipts) != 0 || len(w.Receipts) != 0 || changes.EventCount != 1 || changes.Tally != want {
		t.Errorf("%d receipts, %d events, %v", len(changes.Receipts), changes.EventCount, changes.Tally)
	}
	events, err := DecodeEvents(w.Seq, w.Now, changes.Events)
	if err != nil || len(events) != 1 || events[0].Reservation.ID != outcomes[1].Reservation.ID {
		t.Errorf("%+v, %v", events, err)
	}
	if left := w.Products["mug"].Totals(); left != (Buckets{Available: 9, Reserved: 1}) {
		t.Errorf("left %+v", left)
	}
}

// TestUndoLeavesNothing: if no hold is due, a refused atomic group leaves every row, and the commands beside it, as if
// it had not been there. That does not depend on the capacity of the slices of stock rows.
func TestUndoLeavesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for i, id := range []string{"a", "b"} {
			decideIn(t, w, &Request{Salt: uint32(i), Command: &CreateProduct{
				ID: id, Name: id, Price: Money{100, "EUR"}, TotalStock: 8, Location: MainLocation,
			}})
		}
		for range rapid.IntRange(1, 12).Draw(t, "batches") {
			settle(w.State)
			for _, id := range slices.Sorted(maps.Keys(w.Products)) {
				tight := *w.Products[id]
				tight.Stock = append(make([]Stock, 0, len(tight.Stock)+rapid.IntRange(0, 1).Draw(t, "room")), tight.Stock...)
				w.Products[id] = &tight
			}
			group := &Group{Atomic: true}
			for range rapid.IntRange(3, 7).Draw(t, "operations") {
				group.Operations = append(group.Operations, Operation{Request: &Request{Command: drawAny(t, w)}})
			}
			group.Operations = append(group.Operations, operations(&Fulfill{})...) // there is no such order
			before, behind := &Request{Command: drawAny(t, w), Salt: 1}, &Request{Command: drawAny(t, w), Salt: 2}
			compareWithout(t, w, before, &Request{Command: group}, behind)
		}
	})
}

func drawAny(t *rapid.T, w *world) Command {
	id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "product")
	at := rapid.SampledFrom([]string{"a", "m", MainLocation, "q", "zz"}).Draw(t, "location")
	switch rapid.IntRange(0, 3).Draw(t, "any") {
	case 0:
		return renamed(id)
	case 1:
		return &Adjust{ProductID: id, Location: at, Delta: 3, Reason: "r"}
	case 2:
		return &CreateProduct{ID: id, Name: "x", Price: Money{100, "EUR"}, TotalStock: 8, Location: at}
	default:
		return drawCommand(t, w)
	}
}

// compareWithout decides two requests with and without a refused group between them.
func compareWithout(t *rapid.T, w *world, before, group, behind *Request) {
	without := copyOf(w)
	want, _, err := Decide(without, []*Request{before, behind})
	if err != nil {
		t.Fatal(err)
	}
	w.prepare([]*Request{before, group, behind})
	got, changes, err := Decide(w.State, []*Request{before, group, behind})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(want, []Outcome{got[0], got[2]}) {
		t.Fatalf("beside the group %+v and %+v, without it %+v", got[0], got[2], want)
	}
	if !reflect.DeepEqual(without.Products, w.Products) || !reflect.DeepEqual(without.Reservations, w.Reservations) ||
		!reflect.DeepEqual(without.Orders, w.Orders) {
		t.Fatal("the rows are not the same")
	}
	w.Seq += int64(changes.EventCount)
	for _, c := range changes.Reservations {
		w.name("r", c.After.ID)
	}
	for _, c := range changes.Orders {
		w.name("o", c.After.ID)
	}
}
