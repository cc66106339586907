package inventory

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// copyOf copies everything of the state of w that a decision changes.
func copyOf(w *world) *State {
	s := *w.State
	s.Products = map[string]*Product{}
	for id, p := range w.Products {
		s.Products[id] = p.Clone()
	}
	s.Reservations, s.Orders, s.Receipts = maps.Clone(w.Reservations), maps.Clone(w.Orders), maps.Clone(w.Receipts)
	s.Overdue, s.MoreOverdue = maps.Clone(w.Overdue), maps.Clone(w.MoreOverdue)
	return &s
}

// TestGroupsAgainstSingles: a group comes to what its commands come to one by one; an atomic group that is refused
// leaves nothing but the expiries that fell due; and neither disturbs the commands before and behind it.
func TestGroupsAgainstSingles(t *testing.T) {
	refused, done := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for i, id := range []string{"a", "b"} {
			product := &CreateProduct{ID: id, Name: id, Price: Money{100, "EUR"}, TotalStock: 8, Location: MainLocation}
			decideIn(t, w, &Request{Command: product, Salt: uint32(i)})
		}
		for range rapid.IntRange(1, 25).Draw(t, "batches") {
			w.Now += Time(rapid.SampledFrom([]int{0, 1, 1000, 2500}).Draw(t, "pass"))
			before, inside, behind := drawRequests(t, w, 0, 2), drawRequests(t, w, 1, 5), drawRequests(t, w, 0, 2)
			atomic := rapid.Bool().Draw(t, "atomic")
			group := &Group{Atomic: atomic, RequestID: "r"}
			for _, r := range inside {
				group.Operations = append(group.Operations, Operation{Request: r})
			}
			singles := concat(before, inside, behind)
			w.prepare(singles)
			outcome := compareWithSingles(t, w, group, before, inside, behind)
			if outcome.Refusal != nil {
				refused++
			} else {
				done++
			}
		}
	})
	if refused == 0 || done == 0 {
		t.Errorf("%d groups were refused and %d done: the test shows nothing", refused, done)
	}
}

func concat(lists ...[]*Request) (all []*Request) {
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

func drawRequests(t *rapid.T, w *world, low, high int) []*Request {
	list := make([]*Request, rapid.IntRange(low, high).Draw(t, "size"))
	for i := range list {
		list[i] = &Request{Command: drawCommand(t, w), Salt: uint32(i)}
		if rapid.IntRange(0, 3).Draw(t, "keyed") == 0 {
			receipt := &ReceiptID{}
			receipt.Key[0] = byte(rapid.IntRange(0, 5).Draw(t, "key"))
			copy(receipt.Fingerprint[:], fmt.Sprintf("%T", list[i].Command))
			list[i].Receipt = receipt
		}
	}
	return list
}

// compareWithSingles decides the commands with the group on one copy of the state and one by one on another. What the
// group really did then becomes the state of the world.
func compareWithSingles(t *rapid.T, w *world, group *Group, before, inside, behind []*Request) *Outcome {
	grouped, single := copyOf(w), copyOf(w)
	request := &Request{Command: group}
	outcomes, changes, err := Decide(grouped, concat(before, []*Request{request}, behind))
	if err != nil {
		t.Fatalf("the group: %v", err)
	}
	outcome := &outcomes[len(before)]
	middle := inside
	if outcome.Refusal != nil {
		middle = nil
		mustBeRefused(t, single, outcome, before, inside)
	}
	single = copyOf(w)
	expected, want, err := Decide(single, concat(before, middle, behind))
	if err != nil {
		t.Fatalf("one by one: %v", err)
	}
	if outcome.Refusal == nil {
		for i := range inside {
			if !reflect.DeepEqual(outcome.Results.Outcomes[i], expected[len(before)+i]) {
				t.Fatalf("operation %d: %+v, alone %+v", i, outcome.Results.Outcomes[i], expected[len(before)+i])
			}
		}
		if !bytes.Equal(changes.Events, want.Events) || !reflect.DeepEqual(changes, want) {
			t.Fatalf("the group changes\n%+v, alone\n%+v", changes, want)
		}
	} else if difference := sameButLapsed(copyOf(&world{State: grouped}), single); difference != "" {
		t.Fatalf("a refused group left something: %s", difference)
	}
	w.State = grouped
	w.Seq += int64(changes.EventCount)
	for _, c := range changes.Reservations {
		w.name("r", c.After.ID)
	}
	for _, c := range changes.Orders {
		w.name("o", c.After.ID)
	}
	return outcome
}

// mustBeRefused requires that one of the commands alone is refused, with the same answer, and that those before it were
// as the results say.
func mustBeRefused(t *rapid.T, single *State, outcome *Outcome, before, inside []*Request) {
	if outcome.Refusal.Code != RefusedBatch {
		t.Fatalf("refused: %+v", outcome.Refusal)
	}
	results := outcome.Refusal.Results.Outcomes
	expected, _, err := Decide(single, concat(before, inside[:len(results)]))
	if err != nil || !reflect.DeepEqual(expected[len(before):], results) {
		t.Fatalf("results %+v, alone %+v (%v)", results, expected[len(before):], err)
	}
	for i := range results {
		if isLast := i == len(results)-1; isLast != (results[i].Refusal != nil) {
			t.Fatalf("result %d of %d: %+v", i+1, len(results), results[i])
		}
	}
}

// sameButLapsed names a difference between two states other than holds that only one of them has expired.
func sameButLapsed(a, b *State) string {
	for _, s := range []*State{a, b} {
		settle(s)
	}
	if x, y := countHolds(a), countHolds(b); !maps.Equal(x, y) {
		return fmt.Sprintf("holds %v and %v", x, y)
	}
	if len(a.Reservations) != len(b.Reservations) || len(a.Orders) != len(b.Orders) || len(a.Receipts) != len(b.Receipts) {
		return "another number of rows"
	}
	for id, p := range a.Products {
		for _, s := range p.Stock {
			if other := b.Products[id].At(s.Location); other == nil || other.Buckets != s.Buckets {
				return fmt.Sprintf("stock of %s at %s: %+v and %+v", id, s.Location, s, other)
			}
		}
		if len(p.Stock) != len(b.Products[id].Stock) {
			return "another number of stock rows of " + id
		}
	}
	return ""
}

// countHolds counts holds that are alike but for their ids, which differ where one more or less was expired before.
func countHolds(s *State) map[string]int {
	counts := map[string]int{}
	for _, r := range s.Reservations {
		counts[fmt.Sprint(r.Status, r.Lines, r.CreatedAt, r.ExpiresAt, r.EndedAt, r.Version, r.OrderID.IsZero())]++
	}
	return counts
}

// settle expires whatever is due.
func settle(s *State) {
	expire := &Expire{}
	for id := range s.Reservations {
		expire.IDs = append(expire.IDs, id)
	}
	if _, _, err := Decide(s, []*Request{{Command: expire}}); err != nil {
		panic(err)
	}
}

func decideIn(t *rapid.T, w *world, requests ...*Request) []Outcome {
	w.prepare(requests)
	outcomes, changes, err := Decide(w.State, requests)
	if err != nil {
		t.Fatal(err)
	}
	w.Seq += int64(changes.EventCount)
	return outcomes
}

// groupWorld has ten mugs.
func groupWorld(t *testing.T) *world {
	w := newWorld()
	w.Now = 1000
	w.decide(t, &Request{Command: &CreateProduct{
		ID: "mug", Name: "Mug", Price: Money{1999, "EUR"},
		TotalStock: 10, Location: MainLocation,
	}})
	return w
}

func holdOf(quantity int64) *Request {
	return &Request{Command: &Reserve{
		Lines: []ReserveLine{{ProductID: "mug", Location: MainLocation, Quantity: quantity}},
		TTL:   60_000,
	}}
}

func keyOf(text string) *ReceiptID {
	id := &ReceiptID{}
	copy(id.Key[:], text)
	copy(id.Fingerprint[:], text)
	return id
}

// TestNamedReplay: an operation about what an older request with the same key made is decided once that is loaded.
func TestNamedReplay(t *testing.T) {
	w := groupWorld(t)
	hold := holdOf(2)
	hold.Receipt = keyOf("cart")
	made, _ := w.decide(t, hold)
	id := made[0].Reservation.ID

	group := &Request{Command: &Group{Operations: []Operation{
		{Request: hold}, {Request: &Request{Command: &Confirm{}}, Names: 1},
	}}}
	if keys := KeysOf([]*Request{group}); len(keys.Reservations) != 0 || len(keys.Receipts) != 1 {
		t.Fatalf("keys %+v, expected the receipt alone", keys)
	}
	stored := w.Reservations[id]
	delete(w.Reservations, id) // as if no command had named it
	first, changes := w.decide(t, group)
	if !first[0].Deferred || first[0].Again == nil || !changes.Empty() {
		t.Fatalf("the first try: %+v", first[0])
	}
	again := &Request{Command: first[0].Again}
	if keys := KeysOf([]*Request{again}); len(keys.Reservations) != 1 || keys.Reservations[0] != id {
		t.Fatalf("keys %+v, expected the reservation", keys)
	}
	w.Reservations[id] = stored
	second, _ := w.decide(t, again)
	results := second[0].Results
	if results == nil || !results.Outcomes[0].Replayed || results.Outcomes[1].Order == nil ||
		!results.Outcomes[1].Created {
		t.Fatalf("the second try: %+v", second[0])
	}
}

// TestNamedOfAnotherKind: a command that names an operation on another kind of resource, or one that was refused, finds
// nothing.
func TestNamedOfAnotherKind(t *testing.T) {
	for _, c := range []struct {
		first  Command
		second Command
		code   Code
	}{
		{holdOf(1).Command, &Fulfill{}, RefusedOrderNotFound},
		{holdOf(1).Command, &Adjust{Location: MainLocation, Delta: -1}, RefusedProductNotFound},
		{holdOf(11).Command, &Confirm{}, RefusedReservationNotFound},
		{&Adjust{ProductID: "mug", Location: MainLocation, Delta: 1}, &Cancel{}, RefusedReservationNotFound},
	} {
		w := groupWorld(t)
		outcomes, _ := w.decide(t, &Request{Command: &Group{Operations: []Operation{
			{Request: &Request{Command: c.first}}, {Request: &Request{Command: c.second}, Names: 1},
		}}})
		if refusal := outcomes[0].Results.Outcomes[1].Refusal; refusal == nil || refusal.Code != c.code {
			t.Errorf("%T about %T: %+v, expected %s", c.second, c.first, outcomes[0].Results.Outcomes[1], c.code)
		}
	}
}

// TestGroupReceipt: a group with a key is answered again as it was the first time, refusals and request id included.
func TestGroupReceipt(t *testing.T) {
	w := groupWorld(t)
	request := &Request{Receipt: keyOf("all"), Command: &Group{RequestID: "first", Operations: []Operation{
		{Request: holdOf(3)},
		{Request: holdOf(9)},
		{Request: &Request{Command: &Confirm{}}, Names: 1},
		{Request: &Request{Command: &Cancel{ID: NewID(1, 1, 1)}}},
		{Request: &Request{Command: &Confirm{}}, Names: 1},
	}}}
	first, _ := w.decide(t, request)
	second, changes := w.decide(t, request)
	if !second[0].Replayed || !changes.Empty() {
		t.Fatalf("the second time: %+v", second[0])
	}
	second[0].Replayed = false
	if !reflect.DeepEqual(first[0], second[0]) {
		t.Errorf("first\n%+v, then\n%+v", first[0].Results, second[0].Results)
	}
	if codes := codesOf(first[0].Results); codes != "ok insufficient-stock ok reservation-not-found ok" {
		t.Errorf("outcomes: %s", codes)
	}
}

func codesOf(r *Results) string {
	var list []string
	for i := range r.Outcomes {
		code := "ok"
		if refusal := r.Outcomes[i].Refusal; refusal != nil {
			code = string(refusal.Code)
		}
		list = append(list, code)
	}
	return strings.Join(list, " ")
}

// TestLargeGroup: a group that would write more than a commit may is refused whole, and leaves nothing.
func TestLargeGroup(t *testing.T) {
	w := groupWorld(t)
	metadata := Metadata{}
	for i := range MaxMetadata {
		metadata = append(metadata, Member{fmt.Sprintf("m%02d", i), strings.Repeat("x", 500)})
	}
	group := &Group{}
	for i := range 200 {
		group.Operations = append(group.Operations, Operation{Request: &Request{
			Receipt: keyOf(fmt.Sprint("product ", i)),
			Command: &CreateProduct{
				ID: fmt.Sprint("p", i), Name: "P", Price: Money{1, "EUR"},
				Location: "here", Metadata: metadata,
			},
		}})
	}
	before := len(w.Products)
	outcomes, changes := w.decide(t, &Request{Command: group}, holdOf(1))
	if r := outcomes[0].Refusal; r == nil || r.Code != RefusedBatchTooLarge {
		t.Errorf("the group: %+v", outcomes[0])
	}
	if outcomes[1].Reservation == nil || changes.EventCount != 1 || len(w.Products) != before || len(w.Receipts) != 0 {
		t.Errorf("behind it: %+v; %d events, %d products, %d receipts", outcomes[1],
			changes.EventCount, len(w.Products), len(w.Receipts))
	}
}

// TestGroupOfLargeHolds: what a group writes is bounded also where it answers with little. An order does not show the
// metadata of its hold, but the event of the confirmation does.
func TestGroupOfLargeHolds(t *testing.T) {
	w := groupWorld(t)
	group := &Group{}
	for range 5 {
		hold := holdOf(1)
		hold.Command.(*Reserve).Metadata = Metadata{{"m", strings.Repeat("x", MaxBatchBytes/4)}}
		made, _ := w.decide(t, hold)
		group.Operations = append(group.Operations,
			Operation{Request: &Request{Command: &Confirm{ReservationID: made[0].Reservation.ID}}})
	}
	outcomes, changes := w.decide(t, &Request{Command: group})
	if r := outcomes[0].Refusal; r == nil || r.Code != RefusedBatchTooLarge || changes.EventCount != 0 {
		t.Errorf("%+v; %d events", outcomes[0], changes.EventCount)
	}
}

// TestBrokenOperation: a panic names the operation. It can be left out if the group is not atomic.
func TestBrokenOperation(t *testing.T) {
	for _, atomic := range []bool{false, true} {
		w := groupWorld(t)
		request := &Request{Command: &Group{Atomic: atomic, Operations: []Operation{
			{Request: holdOf(1)}, {Request: &Request{Command: poison{}}}, {Request: holdOf(1)},
		}}}
		_, _, err := Decide(w.State, []*Request{holdOf(1), request})
		poisoned, is := err.(*Poison)
		if !is || poisoned.Index != 1 || poisoned.Operation != 1 {
			t.Fatalf("deciding: %v", err)
		}
		rest, more := request.WithoutOperation(poisoned.Operation)
		if more == atomic {
			t.Fatalf("atomic %v: something is left: %v", atomic, more)
		}
		if atomic {
			continue
		}
		w = groupWorld(t)
		outcomes, _ := w.decide(t, rest)
		results := outcomes[0].Results.Outcomes
		if results[0].Reservation == nil || !results[1].Broken || results[2].Reservation == nil {
			t.Errorf("without it: %+v", results)
		}
	}
	if _, more := holdOf(1).WithoutOperation(noOperation); more {
		t.Error("a command that is no group has something left without itself")
	}
}

// TestDeferredGroup: a group that needs more expiries than were loaded waits as a whole, and what was expired stands.
func TestDeferredGroup(t *testing.T) {
	w := groupWorld(t)
	w.decide(t, &Request{Command: &Reserve{
		Lines: []ReserveLine{{ProductID: "mug", Location: MainLocation, Quantity: 10}},
		TTL:   1000,
	}})
	w.Now += 5000
	group := &Request{Command: &Group{Operations: []Operation{{Request: holdOf(4)}, {Request: holdOf(7)}}}}
	w.prepare([]*Request{group})
	w.MoreOverdue[StockKey{"mug", MainLocation}] = true
	outcomes, changes, err := Decide(w.State, []*Request{group})
	if err != nil || !outcomes[0].Deferred {
		t.Fatalf("%+v (%v)", outcomes[0], err)
	}
	again := KeysOf([]*Request{{Command: outcomes[0].Again}}).Stock
	if len(again) != 1 || again[0].StockKey != (StockKey{"mug", MainLocation}) || again[0].Units != 11 {
		t.Errorf("the next batch loads %+v", again)
	}
	if changes.EventCount != 1 || len(changes.Reservations) != 1 ||
		changes.Reservations[0].After.Status != ReservationExpired {
		t.Errorf("changes %+v, expected the expiry alone", changes)
	}
}
