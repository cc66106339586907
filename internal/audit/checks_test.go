package audit_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// lie is one way in which a store can be wrong although its journal is validly chained.
type lie struct {
	events func(*fake) // changes events and rows, before the journal is chained
	rows   func(*fake) // changes rows, entries and the head, afterwards
	want   []string    // what is named, in any order
	more   bool        // whether more is named than that
	not    string      // what is not named

	receipts bool // whether the store has its receipts, which would only repeat what else is wrong
}

// $name in want stands for the id of a reservation or order of [shop.fill], #name for the sequence of the event that
// made it.
func (f *fake) text(want string) string {
	for name := range f.keys {
		id, prefix := inventory.ID{}, inventory.ReservationPrefix
		for _, events := range f.batches {
			for i := range events {
				switch e := &events[i]; {
				case e.Reservation != nil && e.Reservation.ID.Sequence() == f.keys[name]:
					id = e.Reservation.ID
				case e.Order != nil && e.Order.ID.Sequence() == f.keys[name]:
					id, prefix = e.Order.ID, inventory.OrderPrefix
				}
			}
		}
		want = strings.ReplaceAll(want, name, id.Text(prefix))
	}
	return want
}

func (l *lie) check(t *testing.T) {
	f := newFake(t)
	if !l.receipts {
		f.receipts = nil
	}
	if l.events != nil {
		l.events(f)
		f.chain()
	}
	if l.rows != nil {
		l.rows(f)
	}
	report := run(t, fakeStore{view: f}, audit.Options{})
	all := ""
	for _, b := range report.Breaches {
		all += b.String() + "\n"
	}
	for _, want := range l.want {
		if !strings.Contains(all, f.text(want)) {
			t.Errorf("not named: %s", f.text(want))
		}
	}
	if l.not != "" && strings.Contains(all, l.not) {
		t.Errorf("named: %s", l.not)
	}
	if !l.more && len(report.Breaches) != len(l.want) {
		t.Errorf("%d breaches, want %d", len(report.Breaches), len(l.want))
	}
	if t.Failed() {
		t.Logf("named:\n%s", all)
	}
}

func checkLies(t *testing.T, lies map[string]lie) {
	for name, l := range lies {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) { l.check(t) })
	}
}

func TestFake(t *testing.T) { (&lie{}).check(t) }

// TestJournalLies: what is found by the journal pass.
func TestJournalLies(t *testing.T) {
	mug := inventory.StockKey{ProductID: "mug", Location: inventory.MainLocation}
	checkLies(t, map[string]lie{
		"missing": {
			rows: func(f *fake) { f.entries = append(f.entries[:4:4], f.entries[5:]...) },
			want: []string{"I9: journal entries 5 to 5: are missing"}, more: true,
		},
		"missing at the end": {
			rows: func(f *fake) { f.entries = f.entries[:len(f.entries)-1] },
			want: []string{"I9: journal entries 22 to 22: are missing at the end"}, more: true,
		},
		"changed": {
			rows: func(f *fake) { f.entries[4].BatchID[0]++ },
			want: []string{"I9: journal entry 5: was changed"},
		},
		"gap in sequences": {
			rows: func(f *fake) { f.entries[4].First++; f.link() },
			want: []string{"I9: journal entry 5: its first sequence is 6, after 4"}, more: true,
		},
		"time goes back": {
			rows: func(f *fake) { f.entries[2].At--; f.link() },
			want: []string{"I9: journal entry 3: its time is before that of the entry before"},
		},
		"unreadable": {
			rows: func(f *fake) { f.entries[4].Events = []byte{0xff}; f.link() },
			want: []string{"I9: journal entry 5: journal: event 5 cannot be read"}, more: true,
		},
		"count": {
			rows: func(f *fake) { f.entries[len(f.entries)-1].Count++; f.link() },
			want: []string{"I9: journal entry 22: it says 2 events and holds 1"},
		},
		"negative": {
			events: func(f *fake) {
				f.event(inventory.EventReservationCreated, f.keys["$cart"]).Movements[0].After.Reserved = -1
			},
			want: []string{
				"leaves mug at main with a negative bucket",
				"I9: stock of mug at main: event 8 left it {Available:47 Reserved:-1 Committed:0}, its movements add up to " +
					"{Available:47 Reserved:3 Committed:0}",
			},
		},
		"after": {
			events: func(f *fake) {
				f.event(inventory.EventReservationCreated, f.keys["$cart"]).Movements[0].After.Available++
			},
			want: []string{"I9: stock of mug at main: event 8 left it"},
		},
		"no movement": {
			events: func(f *fake) { f.event(inventory.EventReservationCancelled, f.keys["$cancelled"]).Movements = nil },
			want:   []string{"(reservation.cancelled $cancelled): its movements are not those of such an event"}, more: true,
		},
		"movement elsewhere": {
			events: func(f *fake) {
				f.event(inventory.EventReservationCancelled, f.keys["$cancelled"]).Movements[0].Location = "berlin"
			},
			want: []string{"(reservation.cancelled $cancelled): its movements are not those of such an event"}, more: true,
		},
		"movement of more": {
			events: func(f *fake) {
				m := &f.event(inventory.EventReservationCancelled, f.keys["$cancelled"]).Movements[0]
				m.Delta.Available++
			},
			want: []string{"(reservation.cancelled $cancelled): its movements are not those of such an event"}, more: true,
		},
		"state of a reservation": {
			events: func(f *fake) {
				end := func(r *inventory.Reservation) {
					if r.Status == inventory.ReservationCancelled {
						r.Status, r.EndedAt = inventory.ReservationExpired, r.ExpiresAt
					}
				}
				f.everyReservation("$cancelled", end)
			},
			want: []string{"(reservation.cancelled $cancelled): it leaves the reservation EXPIRED"},
		},
		"state of an order": {
			events: func(f *fake) {
				f.everyOrder("$fulfilled", func(o *inventory.Order) {
					if o.Status == inventory.OrderFulfilled {
						o.Status = inventory.OrderCancelled
					}
				})
			},
			want: []string{"(order.fulfilled $fulfilled): it leaves the order CANCELLED"},
		},
		"confirmed at the deadline": {
			events: func(f *fake) {
				f.everyReservation("$confirmed", func(r *inventory.Reservation) { r.ExpiresAt = f.head.At })
			},
			want: []string{"I7: event 14 (reservation.confirmed $confirmed): it is of"}, more: true,
		},
		"cancelled at the deadline": {
			events: func(f *fake) {
				f.everyReservation("$cancelled", func(r *inventory.Reservation) { r.ExpiresAt = f.head.At })
			},
			want: []string{"(reservation.cancelled $cancelled): it is of"}, more: true,
		},
		"expired before the deadline": {
			events: func(f *fake) {
				f.everyReservation("$expired", func(r *inventory.Reservation) {
					r.ExpiresAt++
					if r.EndedAt > 0 {
						r.EndedAt++
					}
				})
			},
			want: []string{"(reservation.expired $expired): it is of"},
		},
		"confirmed without an order": { // it comes with the next batch
			events: func(f *fake) {
				confirmed := f.event(inventory.EventReservationConfirmed, f.keys["$confirmed"])
				f.split(slices.IndexFunc(f.batches, func(events []inventory.Event) bool { return &events[0] == confirmed }))
			},
			want: []string{"I4: $confirmed: its confirmation in event 14 is not followed by the creation of its order"},
		},
		"confirmed with the order of another": {
			events: func(f *fake) {
				f.everyOrder("$order", func(o *inventory.Order) { o.ReservationID = f.reservation("$active").ID })
			},
			want: []string{"I4: $confirmed: its confirmation in event"}, more: true,
		},
		"confirmed with another order": {
			events: func(f *fake) {
				f.event(inventory.EventReservationConfirmed, f.keys["$confirmed"]).Reservation.OrderID = f.order("$fulfilled").ID
			},
			want: []string{"I4: $confirmed: its confirmation in event"}, more: true,
		},
		"confirmed with something else": {
			events: func(f *fake) {
				f.event(inventory.EventOrderCreated, f.keys["$order"]).Type = inventory.EventOrderCancelled
			},
			want: []string{"I4: $confirmed: its confirmation in event"}, more: true,
		},
		"changed after its end": {
			events: func(f *fake) {
				r := f.reservation("$cancelled")
				r.Seq = f.head.Seq + 1
				f.add(inventory.Event{Type: inventory.EventReservationExtended, Reservation: r})
			},
			want: []string{"I3: $cancelled: it ended in event 12 and changed again in event 26"}, more: true,
		},
		"row newer than its end": {
			rows: func(f *fake) { f.reservation("$cancelled").Seq = 999 },
			want: []string{
				"I3: $cancelled: it ended in event 12 and changed again in event 999",
				"I9: $cancelled: no event made it what it is",
			},
		},
		"reservation missing": {
			rows: func(f *fake) { f.drop("$cancelled") },
			want: []string{"I9: $cancelled: its row is missing; event 12 is about it"},
		},
		"reservation older": {
			rows: func(f *fake) { f.reservation("$cancelled").Seq-- },
			want: []string{"I9: $cancelled: its row is of event 11, but event 12 is about it"}, more: true,
		},
		"order missing": {
			rows: func(f *fake) { f.drop("$fulfilled") },
			want: []string{"I9: $fulfilled: its row is missing; event"}, more: true,
		},
		"order older": {
			rows: func(f *fake) { f.order("$fulfilled").Seq-- },
			want: []string{"I9: $fulfilled: its row is of event"}, more: true,
		},
		"product missing": {
			rows: func(f *fake) { f.products = f.products[1:] },
			want: []string{"I9: product cup: its row is missing or cannot be read; event 1 is about it"}, more: true,
		},
		"product older": {
			rows: func(f *fake) { f.product("mug").Seq-- },
			want: []string{"I9: product mug: its row is of event 3, but event 4 is about it"}, more: true,
		},
		"stock missing": {
			rows: func(f *fake) { p := f.product("mug"); p.Stock = p.Stock[1:] },
			want: []string{"I9: stock of mug at berlin: its row is missing; event 3 moved units there"}, more: true,
		},
		"stock older": {
			rows: func(f *fake) { f.product("mug").At(mug.Location).Seq-- },
			want: []string{"I9: stock of mug at main: its row is of event"}, more: true,
		},
	})
}

// TestHeadLies: the head alone is wrong.
func TestHeadLies(t *testing.T) {
	lies := map[string]lie{}
	for name, change := range map[string]func(*store.Head){
		"sequence": func(h *store.Head) { h.Seq++ },
		"checksum": func(h *store.Head) { h.Chain[0]++ },
		"batch id": func(h *store.Head) { h.BatchID[0]++ },
		"time":     func(h *store.Head) { h.At++ },
	} {
		lies[name] = lie{
			rows: func(f *fake) { change(&f.head) },
			want: []string{"I9: head: its " + name + " is not that of journal entry 22"},
		}
	}
	lies["behind"] = lie{
		rows: func(f *fake) { f.head = f.head.After(&f.entries[20]); f.head.Seq -= 2 },
		want: []string{"I9: head: its batch is 21, but the journal goes on with entry 22"}, more: true,
	}
	lies["entry missing"] = lie{
		rows: func(f *fake) {
			f.head = f.head.After(&f.entries[20])
			f.entries = append(f.entries[:20:20], f.entries[21])
		},
		want: []string{"I9: journal entries 21 to 21: are missing"}, more: true,
		not: "I9: head", // it cannot be compared with the entry after its own
	}
	for name, id := range map[string]string{
		"store too short": "a", "store in capitals": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
	} {
		lies[name] = lie{rows: func(f *fake) { f.head.Store = id }, want: []string{`I9: head: its store "` + id + `" is not`}}
	}
	for name, epochs := range map[string]inventory.Epochs{
		"half an epoch":       "abc",
		"epoch after the end": inventory.Epochs("").Begin(inventory.Epoch{1}, 1000),
		"zero epoch":          inventory.Epochs("").Begin(inventory.Epoch{}, 1),
		"epoch again":         inventory.Epochs("").Begin(inventory.Epoch{1}, 1).Begin(inventory.Epoch{1}, 2),
		"epochs go back":      inventory.Epochs("").Begin(inventory.Epoch{1}, 2).Begin(inventory.Epoch{2}, 1),
	} {
		lies[name] = lie{
			rows: func(f *fake) { f.head.Epochs = epochs }, want: []string{"I9: head: its epochs cannot be"},
		}
	}
	lies["empty"] = lie{
		rows: func(f *fake) { *f = fake{head: store.Head{Store: f.head.Store, Seq: 1}} },
		want: []string{"I9: head: its sequence is not that of journal entry 0"},
	}
	checkLies(t, lies)
}

// TestRowLies: what is found by the row pass and the balance pass.
func TestRowLies(t *testing.T) {
	checkLies(t, map[string]lie{
		"product of no event": {
			rows: func(f *fake) { f.product("cup").Seq = 999 },
			want: []string{"I9: product cup: no event made it what it is: event 999 is not about it"},
		},
		"product of a reservation's event": {
			rows: func(f *fake) { f.product("cup").Seq = 5 },
			want: []string{"I9: product cup: no event made it what it is: event 5 is not about it"},
		},
		"product of an adjustment": {
			rows: func(f *fake) { f.product("mug").Seq = 3 },
			want: []string{"I9: product mug: no event made it what it is: event 3 is not about it"}, more: true,
		},
		"product of another": {
			rows: func(f *fake) { f.product("cup").Seq = 2 },
			want: []string{"I9: product cup: no event made it what it is: event 2 is not about it"},
		},
		"product changed": {
			rows: func(f *fake) { f.product("cup").Name = "cap" },
			want: []string{"I9: product cup: its row is not what event 1 made it"},
		},
		"no main": {
			events: func(f *fake) { p := f.product("lid"); p.Stock = p.Stock[:1] },
			want:   []string{"row: product lid: it has no stock row at main"},
		},
		"negative stock": {
			events: func(f *fake) {
				e := f.event(inventory.EventStockAdjusted, 0)
				e.Adjustment.Delta = -5
				e.Movements[0].Delta.Available, e.Movements[0].After.Available = -5, -5
				f.product("mug").At("berlin").Available = -5
			},
			want: []string{
				"I1: event 3 (stock.adjusted ", "I1: stock of mug at berlin: has a negative bucket: {Available:-5",
			},
		},
		"stock of no event": {
			rows: func(f *fake) { f.product("mug").At("berlin").Seq = 999 },
			want: []string{"I9: stock of mug at berlin: no event made it what it is: there is no event 999"},
		},
		"stock of another event": {
			rows: func(f *fake) { f.product("mug").At("berlin").Seq = 4 },
			want: []string{"I9: stock of mug at berlin: no event made it what it is: event 4 moved nothing there"},
		},
		"stock that no event opened": {
			rows: func(f *fake) { f.product("cup").Put(inventory.Stock{Location: "x", Seq: 1}) },
			want: []string{"I9: stock of cup at x: no event made it what it is: event 1 moved nothing there"},
		},
		"stock opened by another product": {
			rows: func(f *fake) { f.product("cup").Put(inventory.Stock{Location: "berlin", Seq: f.head.Seq}) },
			want: []string{"I9: stock of cup at berlin: no event made it what it is: event 25 moved nothing there"},
		},
		"stock where nothing moved": {
			rows: func(f *fake) { f.product("lid").At(inventory.MainLocation).Available = 1 },
			want: []string{
				"I9: stock of lid at main: no event made it what it is: event 25 moved nothing there",
				"I9: stock of lid at main: its buckets are",
			},
		},
		"stock changed": {
			rows: func(f *fake) { f.product("mug").At("berlin").Available++ },
			want: []string{
				"I9: stock of mug at berlin: its buckets are {Available:6 Reserved:0 Committed:0}, event 3 left",
				"I9: stock of mug at berlin: its buckets are {Available:6 Reserved:0 Committed:0}, its movements add up",
			},
		},
		"reservation of no event": {
			rows: func(f *fake) { f.reservation("$active").Seq = 999 },
			want: []string{"I9: $active: no event made it what it is: event 999 is not about it"},
		},
		"reservation of a product's event": {
			rows: func(f *fake) { f.reservation("$active").Seq = f.head.Seq },
			want: []string{"I9: $active: no event made it what it is: event 25 is not about it"},
		},
		"reservation of another's event": {
			rows: func(f *fake) { f.reservation("$cart").Seq++ },
			want: []string{"I9: $cart: no event made it what it is: event"},
		},
		"reservation changed": {
			rows: func(f *fake) { f.reservation("$active").CustomerID = "eve" },
			want: []string{"I9: $active: its row is not what event 24 made it"},
		},
		"wrong total": {
			events: func(f *fake) {
				f.everyReservation("$cancelled", func(r *inventory.Reservation) { r.Total.Amount++ })
			},
			want: []string{"row: $cancelled: its total is not the sum of its lines"},
		},
		"total too large": {
			events: func(f *fake) {
				f.everyReservation("$cancelled", func(r *inventory.Reservation) {
					r.Lines[0].UnitPrice.Amount, r.Total = inventory.MaxAmount+1, inventory.Money{}
					r.Lines[0].UnitPrice.Currency = ""
				})
			},
			want: []string{"row: $cancelled: its total is not the sum of its lines"},
		},
		"active and ended": {
			events: func(f *fake) {
				f.everyReservation("$active", func(r *inventory.Reservation) { r.EndedAt = r.ExpiresAt })
			},
			want: []string{"I3: $active: it is ACTIVE, but its end is"},
		},
		"expired at another time": {
			events: func(f *fake) {
				f.everyReservation("$expired", func(r *inventory.Reservation) {
					if r.EndedAt > 0 {
						r.EndedAt++
					}
				})
			},
			want: []string{"I3: $expired: it is EXPIRED, but its end is"},
		},
		"active with an order": {
			events: func(f *fake) {
				f.everyReservation("$active", func(r *inventory.Reservation) { r.OrderID = f.order("$order").ID })
			},
			want: []string{
				"I4: $active: it is ACTIVE, but its order is $order", "I4: $active: its order $order is missing or of another",
			}, more: true,
		},
		"order gone": {
			rows: func(f *fake) { f.drop("$fulfilled") },
			want: []string{"its order $fulfilled is missing or of another reservation"}, more: true,
		},
		"order of no event": {
			rows: func(f *fake) { f.order("$order").Seq = 999 },
			want: []string{"I9: $order: no event made it what it is: event 999 is not about it"},
		},
		"order of a product's event": {
			rows: func(f *fake) { f.order("$order").Seq = f.head.Seq },
			want: []string{"I9: $order: no event made it what it is: event 25 is not about it"},
		},
		"order of another's event": {
			rows: func(f *fake) { f.order("$order").Seq = f.order("$fulfilled").Seq },
			want: []string{"I9: $order: no event made it what it is: event"},
		},
		"order changed": {
			rows: func(f *fake) { f.order("$order").Reference = "other" },
			want: []string{"I9: $order: its row is not what event"},
		},
		"order without its reservation": {
			rows: func(f *fake) { f.drop("$confirmed") },
			want: []string{
				"I4: $order: its reservation $confirmed is missing or has another order", "I9: $confirmed: its row is missing",
			},
		},
		"order of a reservation with another": {
			events: func(f *fake) {
				f.everyOrder("$order", func(o *inventory.Order) { o.ReservationID = f.order("$fulfilled").ReservationID })
			},
			want: []string{
				"I4: $order: its reservation", "I4: $confirmed: its order $order is missing or of another reservation",
			},
			more: true,
		},
		"order of other lines": {
			events: func(f *fake) {
				f.everyOrder("$order", func(o *inventory.Order) { o.Lines[0].UnitPrice.Amount++ })
			},
			want: []string{"I4: $order: its lines are not those of its reservation $confirmed"},
		},
		"order of another total": {
			events: func(f *fake) { f.everyOrder("$order", func(o *inventory.Order) { o.Total.Amount++ }) },
			want:   []string{"I4: $order: its lines are not those of its reservation $confirmed"},
		},
		"movements do not add up": {
			events: func(f *fake) {
				f.event(inventory.EventStockAdjusted, 0).Movements[0].After.Available++
				f.product("mug").At("berlin").Available++
			},
			want: []string{
				"I9: stock of mug at berlin: event 3 left it",
				"I9: stock of mug at berlin: its buckets are {Available:6 Reserved:0 Committed:0}, its movements add up",
			},
		},
		"active hold missing": {
			rows: func(f *fake) { f.drop("$active") },
			want: []string{
				"I2: stock of mug at main: reserved is 4, its ACTIVE reservations hold 3", "I9: $active: its row is missing",
			},
		},
		"order missing": {
			rows: func(f *fake) { f.drop("$order") },
			want: []string{"I2: stock of mug at main: committed is 1, its CONFIRMED orders hold 0"}, more: true,
		},
		"bad product": { // it is met by two passes
			rows: func(f *fake) { f.badProduct = true },
			want: []string{"row: product row 9: torn", "row: product row 9: torn"},
		},
		"bad reservation": {
			rows: func(f *fake) { f.badReservation = true },
			want: []string{"row: reservation row 9: torn", "row: reservation row 9: torn"},
		},
		"bad record": {
			rows: func(f *fake) { f.badRecord = true },
			want: []string{"row: record row 9: torn (records after it were not read)"},
		},
		"stray": {
			rows: func(f *fake) { f.strays = []string{"an index entry"} },
			want: []string{"row: bookkeeping: an index entry"},
		},
	})
}
