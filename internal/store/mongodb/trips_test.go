package mongodb

import (
	"context"
	"slices"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/event"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// trips notes the commands that are sent for calls, each of which is a round trip.
type trips struct {
	mu   sync.Mutex
	sent []string
}

func (n *trips) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		_, err := e.Command.LookupErr("autocommit") // what is done beside the batches has no transaction
		if level := e.Command.Lookup("readConcern", "level"); err != nil && level.String() != `"linearizable"` {
			return
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.sent = append(n.sent, e.CommandName)
	}}
}

func (n *trips) of(f func()) []string {
	n.mu.Lock()
	n.sent = nil
	n.mu.Unlock()
	f()
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.sent)
}

// TestRoundTrips holds the number of round trips of a batch and of a look at the head.
func TestRoundTrips(t *testing.T) {
	for name, c := range map[string]struct {
		noBulk                                                    bool
		hold, keyed, confirm, refused, shared, cold, look, lookAt int
	}{
		"bulkWrite": {false, 3, 4, 3, 3, 4, 5, 1, 1},
		"plain":     {true, 5, 7, 6, 3, 6, 8, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			address := dbtest.MongoDB(t)
			n := &trips{}
			s := open(t, address, Options{monitor: n.monitor(), noBulk: c.noBulk})
			other := open(t, address, Options{noBulk: c.noBulk})
			storetest.Must(t, other, storetest.Product("mug"))
			storetest.Must(t, s, storetest.Hold("mug", ""))
			storetest.Must(t, s, storetest.Hold("mug", "before"))
			expect := func(what string, want int, f func()) {
				t.Helper()
				if got := n.of(f); len(got) != want {
					t.Errorf("%s: %d round trips, expected %d: %v", what, len(got), want, got)
				}
			}
			var held *inventory.Reservation
			expect("a hold", c.hold, func() { held = storetest.Must(t, s, storetest.Hold("mug", ""))[0].Reservation })
			expect("a hold with a key", c.keyed, func() { storetest.Must(t, s, storetest.Hold("mug", "k")) })
			expect("a confirmation", c.confirm, func() {
				storetest.Must(t, s, &inventory.Request{Command: &inventory.Confirm{ReservationID: held.ID}})
			})
			expect("a refusal", c.refused, func() {
				_, err := storetest.Commit(t.Context(), s, &inventory.Request{Command: &inventory.Confirm{ReservationID: held.ID}})
				if err != nil {
					t.Error(err)
				}
			})
			storetest.Must(t, other, storetest.Hold("mug", ""))
			expect("a hold just after another process", c.shared+1, func() { storetest.Must(t, s, storetest.Hold("mug", "")) })
			storetest.Must(t, other, storetest.Hold("mug", ""))
			expect("a hold among other processes", c.shared, func() {
				held = storetest.Must(t, s, storetest.Hold("mug", ""))[0].Reservation
			})
			storetest.Must(t, other, storetest.Hold("mug", ""))
			expect("a confirmation among other processes", c.cold, func() {
				storetest.Must(t, s, &inventory.Request{Command: &inventory.Confirm{ReservationID: held.ID}})
			})
			var head store.Head
			expect("a look", c.look, func() { head = look(t, s, 0) })
			storetest.Must(t, other, storetest.Hold("mug", ""))
			expect("a look with news", c.lookAt, func() { look(t, s, head.BatchNo) })
		})
	}
}

func look(t *testing.T, s *Store, after int64) store.Head {
	t.Helper()
	head, now, entries, err := s.Look(t.Context(), after, 10, 1<<20)
	if err != nil || now < head.At {
		t.Fatalf("%+v at %d: %v", head, now, err)
	}
	if want := min(10, head.BatchNo-after); int64(len(entries)) != want {
		t.Errorf("%d entries after %d, and the head is %d", len(entries), after, head.BatchNo)
	}
	return head
}
