package inventory

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// model is Holdfast as one would first write it: no buckets, no batches, no receipts in bytes. What is available is
// counted anew for every question, from the units received and the holds and orders that still count.
type model struct {
	now      Time
	received map[StockKey]int64 // by adjustments, less what was shipped
	holds    []*modelHold
	orders   map[ID]ID // the reservation of an order
}

type modelHold struct {
	id       ID
	needs    map[StockKey]int64
	deadline Time
	ended    string // "", cancelled, confirmed
	order    string // "", confirmed, fulfilled, cancelled
}

func (h *modelHold) counts(now Time) bool {
	switch h.ended {
	case "":
		return now < h.deadline
	case "confirmed":
		return h.order == "confirmed"
	}
	return false
}

func (m *model) available(key StockKey) int64 {
	n := m.received[key]
	for _, h := range m.holds {
		if h.counts(m.now) {
			n -= h.needs[key]
		}
	}
	return n
}

func (m *model) find(id ID) *modelHold {
	for _, h := range m.holds {
		if h.id == id {
			return h
		}
	}
	return nil
}

// step runs a command on the model and returns what the outcome must be: "ok", or the code of the refusal.
func (m *model) step(c Command, made *Outcome) string {
	switch c := c.(type) {
	case *Adjust:
		key := StockKey{c.ProductID, c.Location}
		if c.Delta < 0 && m.available(key) < -c.Delta {
			return string(RefusedInsufficientStock)
		}
		m.received[key] += c.Delta
	case *Reserve:
		h := &modelHold{needs: map[StockKey]int64{}, deadline: m.now + Time(c.TTL)}
		for _, l := range c.Lines {
			h.needs[StockKey{l.ProductID, l.Location}] += l.Quantity
		}
		for key, n := range h.needs {
			if m.available(key) < n {
				return string(RefusedInsufficientStock)
			}
		}
		if made.Reservation != nil {
			h.id = made.Reservation.ID
		}
		m.holds = append(m.holds, h)
	case *Cancel:
		if code := m.ended(c.ID); code != "" && code != string(RefusedReservationCancelled) {
			return code
		}
		m.find(c.ID).ended = "cancelled"
	case *Extend:
		if code := m.ended(c.ID); code != "" {
			return code
		}
		h := m.find(c.ID)
		h.deadline = max(h.deadline, m.now+Time(c.TTL))
	case *Confirm:
		code := m.ended(c.ReservationID)
		if code == string(RefusedReservationConfirmed) {
			if m.find(c.ReservationID).order == "cancelled" {
				return string(RefusedOrderCancelled)
			}
			return "ok"
		}
		if code != "" {
			return code
		}
		h := m.find(c.ReservationID)
		h.ended, h.order = "confirmed", "confirmed"
	case *Fulfill:
		h := m.ofOrder(c.ID)
		if h.order == "cancelled" {
			return string(RefusedOrderCancelled)
		}
		if h.order == "confirmed" {
			for key, n := range h.needs {
				m.received[key] -= n
			}
		}
		h.order = "fulfilled"
	case *CancelOrder:
		h := m.ofOrder(c.ID)
		if h.order == "fulfilled" {
			return string(RefusedOrderFulfilled)
		}
		h.order = "cancelled"
	}
	return "ok"
}

// ended is why a hold can no longer be changed, or "".
func (m *model) ended(id ID) string {
	h := m.find(id)
	switch {
	case h == nil:
		return string(RefusedReservationNotFound)
	case h.ended != "":
		return "reservation-" + h.ended
	case m.now >= h.deadline:
		return string(RefusedReservationExpired)
	}
	return ""
}

func (m *model) ofOrder(id ID) *modelHold { return m.find(m.orders[id]) }

// TestDecideAgainstModel runs random commands in random batches, and compares every outcome, and the stock after every
// batch, with the model. It also checks the invariants and what the events say.
func TestDecideAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		m := &model{received: map[StockKey]int64{}, orders: map[ID]ID{}}
		replayed := map[StockKey]Buckets{}
		for _, id := range []string{"a", "b"} {
			runAndCheck(t, w, m, replayed,
				&Request{Command: &CreateProduct{ID: id, Name: id, Price: Money{100, "EUR"}, Location: MainLocation}})
			runAndCheck(t, w, m, replayed,
				&Request{Command: &Adjust{ProductID: id, Location: MainLocation, Delta: 6, Reason: "r"}})
		}
		for range rapid.IntRange(1, 40).Draw(t, "batches") {
			w.Now += Time(rapid.SampledFrom([]int{0, 1, 1000, 2500}).Draw(t, "pass"))
			m.now = w.Now
			requests := make([]*Request, rapid.IntRange(1, 6).Draw(t, "size"))
			for i := range requests {
				requests[i] = &Request{Command: drawCommand(t, w), Salt: uint32(i)}
			}
			runAndCheck(t, w, m, replayed, requests...)
		}
	})
}

func drawCommand(t *rapid.T, w *world) Command {
	key := func() StockKey {
		return StockKey{
			rapid.SampledFrom([]string{"a", "b"}).Draw(t, "product"),
			rapid.SampledFrom([]string{MainLocation, MainLocation, "x"}).Draw(t, "location"),
		}
	}
	var holds, orders []ID
	for i := 1; w.names[fmt.Sprint("r", i)] != (ID{}); i++ {
		holds = append(holds, w.names[fmt.Sprint("r", i)])
	}
	for i := 1; w.names[fmt.Sprint("o", i)] != (ID{}); i++ {
		orders = append(orders, w.names[fmt.Sprint("o", i)])
	}
	kind := rapid.IntRange(0, 9).Draw(t, "kind")
	switch {
	case kind == 0:
		k := key()
		delta := rapid.Int64Range(-4, 4).Draw(t, "delta")
		if delta == 0 {
			delta = 1
		}
		return &Adjust{ProductID: k.ProductID, Location: k.Location, Delta: delta, Reason: "r"}
	case kind <= 4 || len(holds) == 0:
		c := &Reserve{TTL: rapid.Int64Range(1, 4).Draw(t, "ttl") * 1000}
		for range rapid.IntRange(1, 3).Draw(t, "lines") {
			k := key()
			c.Lines = append(c.Lines,
				ReserveLine{ProductID: k.ProductID, Location: k.Location, Quantity: rapid.Int64Range(1, 3).Draw(t, "quantity")})
		}
		return c
	case kind == 5:
		return &Cancel{ID: rapid.SampledFrom(holds).Draw(t, "hold")}
	case kind == 6:
		return &Extend{
			ID:  rapid.SampledFrom(holds).Draw(t, "hold"),
			TTL: rapid.Int64Range(1, 5).Draw(t, "ttl") * 1000, MaxHold: 1e9,
		}
	case kind == 7 || len(orders) == 0:
		return &Confirm{ReservationID: rapid.SampledFrom(holds).Draw(t, "hold")}
	case kind == 8:
		return &Fulfill{ID: rapid.SampledFrom(orders).Draw(t, "order")}
	default:
		return &CancelOrder{ID: rapid.SampledFrom(orders).Draw(t, "order")}
	}
}

func runAndCheck(t *rapid.T, w *world, m *model, replayed map[StockKey]Buckets, requests ...*Request) {
	w.prepare(requests)
	first := w.Seq + 1
	outcomes, changes, err := Decide(w.State, requests)
	if err != nil {
		t.Fatalf("Decide: %v", err)
	}
	w.Seq += int64(changes.EventCount)
	for i := range outcomes {
		o := &outcomes[i]
		if o.Created && o.Reservation != nil {
			w.name("r", o.Reservation.ID)
		}
		if o.Created && o.Order != nil {
			w.name("o", o.Order.ID)
			m.orders[o.Order.ID] = o.Order.ReservationID
		}
		got := "ok"
		if o.Refusal != nil {
			got = string(o.Refusal.Code)
		}
		if want := m.step(requests[i].Command, o); got != want {
			t.Fatalf("%T %+v: %s, the model says %s", requests[i].Command, requests[i].Command, got, want)
		}
	}
	checkStock(t, w, m)
	checkEvents(t, w, replayed, first, changes)
}

// checkStock holds I1 and I2 against the rows, and the buckets against the model. Rows may trail deadlines: until
// somebody needs its units, an overdue hold is still shown as reserved.
func checkStock(t *rapid.T, w *world, m *model) {
	reserved, committed, overdue := map[StockKey]int64{}, map[StockKey]int64{}, map[StockKey]int64{}
	for _, r := range w.Reservations {
		if r.Status != ReservationActive {
			continue
		}
		for _, n := range needs(r.Lines) {
			reserved[n.StockKey] += n.Quantity
			if r.Due(w.Now) {
				overdue[n.StockKey] += n.Quantity
			}
		}
	}
	for _, o := range w.Orders {
		if o.Status == OrderConfirmed {
			for _, n := range needs(o.Lines) {
				committed[n.StockKey] += n.Quantity
			}
		}
	}
	for id, p := range w.Products {
		for _, s := range p.Stock {
			key := StockKey{id, s.Location}
			if !s.Valid() || s.Reserved != reserved[key] || s.Committed != committed[key] ||
				s.Available+overdue[key] != m.available(key) {
				t.Fatalf("%v: %+v; reserved in holds %d, committed in orders %d, overdue %d, available in the model %d",
					key, s.Buckets, reserved[key], committed[key], overdue[key], m.available(key))
			}
		}
	}
}

// checkEvents reads the events back and requires that replaying them gives the rows (I9).
func checkEvents(t *rapid.T, w *world, replayed map[StockKey]Buckets, first int64, changes *Changes) {
	events, err := DecodeEvents(first, w.Now, changes.Events)
	if err != nil || len(events) != changes.EventCount {
		t.Fatalf("%d events of %d: %v", len(events), changes.EventCount, err)
	}
	for i := range events {
		e := &events[i]
		expected := e.ExpectedMovements()
		if len(expected) != len(e.Movements) {
			t.Fatalf("%v: %d movements, expected %d", e.Type, len(e.Movements), len(expected))
		}
		for j, m := range e.Movements {
			replayed[m.StockKey] = replayed[m.StockKey].Add(m.Delta)
			if m.After != replayed[m.StockKey] || m.Delta != expected[j].Delta {
				t.Fatalf("%v: after %+v, adding up gives %+v", e.Type, m.After, replayed[m.StockKey])
			}
		}
	}
	for key, buckets := range replayed {
		if s := w.Stock(key); s.Buckets != buckets {
			t.Fatalf("%v: stored %+v, replayed %+v", key, s.Buckets, buckets)
		}
	}
	for _, c := range changes.Reservations {
		if c.Before != nil && c.Before.Status != ReservationActive {
			t.Fatalf("%v was changed after its end", c.After.ID)
		}
	}
}

func TestIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := Time(rapid.Int64Range(0, 1<<48-1).Draw(t, "at"))
		seq := rapid.Int64Range(1, maxSequence).Draw(t, "seq")
		id := NewID(at, seq, rapid.Uint32().Draw(t, "salt"))
		if id.Time() != at || id.Sequence() != seq {
			t.Fatalf("%x: time %d, sequence %d", id, id.Time(), id.Sequence())
		}
		text := id.Text(ReservationPrefix)
		if back, ok := ParseID(ReservationPrefix, text); !ok || back != id {
			t.Fatalf("%s does not come back", text)
		}
		later := NewID(at+1, seq, 0)
		if at < 1<<48-1 && (bytes.Compare(id[:], later[:]) >= 0 || text >= later.Text(ReservationPrefix)) {
			t.Fatalf("%s does not sort before %s", text, later.Text(ReservationPrefix))
		}
	})
	for _, bad := range []string{
		"", "rsv_", "ord_01m855hbq1e008000002td6m00", "rsv_01M855HBQ1E008000002TD6M00",
		"rsv_81m855hbq1e008000002td6m00", "rsv_01m855hbq1e008000002td6m0u", "rsv_00000000000000000000000000",
	} {
		if _, ok := ParseID(ReservationPrefix, bad); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// TestIDSalt: two ids of one time and sequence differ in each of the 20 bits of their salt.
func TestIDSalt(t *testing.T) {
	seen := map[ID]bool{NewID(1, 1, 0): true}
	for bit := range 20 {
		seen[NewID(1, 1, 1<<bit)] = true
	}
	if len(seen) != 21 {
		t.Errorf("%d different ids, want 21", len(seen))
	}
}

// TestPoison: a panic names its command, and nothing else is lost with it.
func TestPoison(t *testing.T) {
	w := newWorld()
	requests := []*Request{
		{Command: &CreateProduct{ID: "a", Name: "a", Price: Money{1, "EUR"}, Location: MainLocation}},
		{Command: poison{}},
	}
	_, _, err := Decide(w.State, requests)
	p, ok := err.(*Poison)
	if !ok || p.Index != 1 || p.Value != "bad command" {
		t.Fatalf("got %v", err)
	}
}

type poison struct{}

func (poison) addKeys(*Keys)                   {}
func (poison) decide(*batch, *Request) Outcome { panic("bad command") }
func (poison) size() int                       { return 0 }

// TestDeferred: while more overdue holds are left than were loaded, a command waits instead of being refused.
func TestDeferred(t *testing.T) {
	w := newWorld()
	w.decide(t, &Request{Command: &CreateProduct{
		ID: "a", Name: "a", Price: Money{1, "EUR"},
		TotalStock: 3000, Location: MainLocation,
	}})
	for range 3000 {
		w.decide(t,
			&Request{Command: &Reserve{Lines: []ReserveLine{{ProductID: "a", Location: MainLocation, Quantity: 1}}, TTL: 1000}})
	}
	w.Now = 1000
	all := &Request{Command: &Reserve{
		Lines: []ReserveLine{{ProductID: "a", Location: MainLocation, Quantity: 3000}},
		TTL:   1000,
	}}
	for batch := 1; ; batch++ {
		outcomes, changes := w.decide(t, all)
		if changes.Tally[EventReservationExpired] > MaxOverdueLoaded {
			t.Fatalf("%d holds expired in one batch", changes.Tally[EventReservationExpired])
		}
		if !outcomes[0].Deferred {
			if outcomes[0].Refusal != nil || batch != 3 {
				t.Fatalf("batch %d: %+v", batch, outcomes[0])
			}
			return
		}
	}
}

// TestEventsWithoutRoom: what stays in memory of a batch of which most was refused is as large as what it wrote.
func TestEventsWithoutRoom(t *testing.T) {
	w := newWorld()
	w.decide(t, &Request{Command: &CreateProduct{
		ID: "a", Name: "a", Price: Money{1, "EUR"}, Location: MainLocation, TotalStock: 1,
	}})
	holds := make([]*Request, 1024)
	for i := range holds {
		lines := []ReserveLine{{ProductID: "a", Location: MainLocation, Quantity: 1}}
		holds[i] = &Request{Command: &Reserve{TTL: 1000, Lines: lines}, Salt: uint32(i)}
	}
	_, changes := w.decide(t, holds...)
	if events := changes.Events; changes.EventCount != 1 || cap(events) > 2*len(events) {
		t.Errorf("%d events of %d bytes take %d", changes.EventCount, len(events), cap(events))
	}
}

// TestBatchBytes: an event of a product with many locations is large, so a batch ends when it has written enough, and
// the other commands wait for the next one.
func TestBatchBytes(t *testing.T) {
	w := newWorld()
	w.decide(t, &Request{Command: &CreateProduct{ID: "a", Name: "a", Price: Money{1, "EUR"}, Location: MainLocation}})
	for i := range MaxLocations - 1 {
		w.decide(t, &Request{Command: &Adjust{
			ProductID: "a",
			Location:  fmt.Sprint("a-location-with-a-long-name-", i), Delta: 1, Reason: "r",
		}})
	}
	if o, _ := w.decide(t, &Request{Command: &Adjust{
		ProductID: "a", Location: "one-more", Delta: 1,
		Reason: "r",
	}}); o[0].Refusal == nil || o[0].Refusal.Code != RefusedStockLimit {
		t.Fatalf("a 1,001st location: %+v", o[0])
	}
	waiting := make([]*Request, 500)
	for i := range waiting {
		waiting[i] = &Request{Command: &Adjust{ProductID: "a", Location: MainLocation, Delta: 1, Reason: "r"}}
	}
	batches := 0
	for ; len(waiting) > 0; batches++ {
		outcomes, changes := w.decide(t, waiting...)
		if len(changes.Events) > MaxBatchBytes+100_000 {
			t.Fatalf("%d bytes of events in a batch", len(changes.Events))
		}
		var deferred []*Request
		for i := range outcomes {
			if outcomes[i].Deferred {
				deferred = append(deferred, waiting[i])
			}
		}
		waiting = deferred
	}
	if batches < 3 || w.Stock(StockKey{"a", MainLocation}).Available != 500 {
		t.Fatalf("%d batches", batches)
	}
}

func FuzzDecodeEvents(f *testing.F) {
	w := newWorld()
	_, changes := w.decide(f, &Request{Command: &CreateProduct{
		ID: "a", Name: "a", Price: Money{1, "EUR"},
		TotalStock: 5, Location: "x", Metadata: Metadata{{"k", "v"}},
	}},
		&Request{Command: &Reserve{
			Lines: []ReserveLine{{ProductID: "a", Location: "x", Quantity: 2}},
			TTL:   1000, CustomerID: "c",
		}})
	f.Add(changes.Events)
	w.Now = 2000
	_, changes = w.decide(f, &Request{Command: &Expire{IDs: []ID{w.names["r1"]}}})
	f.Add(changes.Events)
	f.Fuzz(func(t *testing.T, data []byte) {
		events, err := DecodeEvents(1, 0, data)
		if err != nil {
			return
		}
		var again []byte
		for i := range events {
			again = AppendEvent(again, &events[i])
		}
		back, err := DecodeEvents(1, 0, again)
		if err != nil || !reflect.DeepEqual(events, back) {
			t.Fatalf("written again, the events are others: %v", err)
		}
	})
}

func FuzzDecodeOutcome(f *testing.F) {
	w := newWorld()
	outcomes, _ := w.decide(f,
		&Request{Command: &CreateProduct{ID: "a", Name: "a", Price: Money{1, "EUR"}, TotalStock: 5, Location: MainLocation}},
		&Request{Command: &Reserve{Lines: []ReserveLine{{ProductID: "a", Location: MainLocation, Quantity: 2}}, TTL: 1000}},
		&Request{Command: &Adjust{ProductID: "a", Location: "y", Delta: 2, Reason: "r"}})
	for i := range outcomes {
		f.Add(AppendOutcome(nil, &outcomes[i]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := DecodeOutcome(data)
		if err != nil {
			return
		}
		back, err := DecodeOutcome(AppendOutcome(nil, &o))
		if err != nil || !reflect.DeepEqual(o, back) {
			t.Fatalf("written again, the outcome is another: %v", err)
		}
	})
}
