package mongodb

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// fetches counts the documents that lists get, and the commands that they take.
type fetches struct {
	mu        sync.Mutex
	views     map[int64]bool // requests of views, not of what is done beside
	documents int
	commands  []string
}

func (f *fetches) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{
		Started: func(_ context.Context, e *event.CommandStartedEvent) {
			_, err := e.Command.LookupErr("autocommit")
			f.mu.Lock()
			defer f.mu.Unlock()
			f.views[e.RequestID] = err == nil
			if e.CommandName == "killCursors" {
				f.commands = append(f.commands, e.CommandName)
			}
		},
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			f.mu.Lock()
			defer f.mu.Unlock()
			batch, ok := e.Reply.Lookup("cursor", "firstBatch").ArrayOK()
			if f.views[e.RequestID] && (ok || e.CommandName == "getMore") {
				values, _ := batch.Values()
				f.documents += len(values)
				f.commands = append(f.commands, e.CommandName)
			}
		},
	}
}

// of returns what a read takes, and begins anew.
func (f *fetches) of(t *testing.T, s *Store, read func(store.View) error) (documents int, commands string) {
	t.Helper()
	f.mu.Lock()
	f.documents, f.commands = 0, nil
	f.mu.Unlock()
	if err := s.View(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.documents, strings.Join(f.commands, " ")
}

// TestListsFetchWhatTheyShow: a page gets as many documents as it has, by one command that leaves no cursor, also where
// no index serves the status.
func TestListsFetchWhatTheyShow(t *testing.T) {
	f := &fetches{views: map[int64]bool{}}
	s := open(t, dbtest.MongoDB(t), Options{monitor: f.monitor()})
	storetest.Must(t, s, &inventory.Request{Command: &inventory.CreateProduct{
		ID: "mug", Name: "Mug", Price: inventory.Money{Amount: 1, Currency: "EUR"}, TotalStock: 1000, Location: "main",
	}})
	var held []*inventory.Request
	for range 150 {
		held = append(held, storetest.Hold("mug", ""))
	}
	outcomes := storetest.Must(t, s, held...)
	for i := range 20 {
		storetest.Must(t, s, &inventory.Request{Command: &inventory.Cancel{ID: outcomes[i].Reservation.ID}})
	}
	for name, q := range map[string]store.ReservationQuery{
		"all":           {Limit: 10},
		"of a customer": {CustomerID: "anna", Limit: 10},
		"of a product":  {ProductID: "mug", Status: inventory.ReservationActive, Limit: 10},
		"cancelled":     {Status: inventory.ReservationCancelled, Limit: 10},
		"long":          {Limit: 120},
	} {
		documents, commands := f.of(t, s, func(v store.View) error {
			page, next, err := v.Reservations(t.Context(), q)
			if len(page) != q.Limit || next.IsZero() {
				t.Errorf("%s: a page of %d, then %v", name, len(page), next)
			}
			return err
		})
		if documents != q.Limit || strings.Contains(commands, " ") {
			t.Errorf("%s: %d documents by %s", name, documents, commands)
		}
	}
	documents, commands := f.of(t, s, func(v store.View) error {
		q := store.ReservationQuery{Status: inventory.ReservationExpired, Limit: 10}
		page, next, err := v.Reservations(t.Context(), q)
		if len(page) != 0 || !next.IsZero() {
			t.Errorf("expired: a page of %d, then %v", len(page), next)
		}
		return err
	})
	if documents != 0 || commands != "aggregate find" {
		t.Errorf("expired: %d documents by %s", documents, commands)
	}
}

// TestScanEnds: a page by status ends once the server has looked at as many documents as a page may, and the next one
// goes on there.
func TestScanEnds(t *testing.T) {
	address := dbtest.MongoDB(t)
	s := open(t, address, Options{})
	id := func(n int) inventory.ID { return inventory.NewID(0, int64(n), 0) }
	var all []any
	for n := 1; n <= store.ScanLimit+2; n++ {
		status := inventory.ReservationActive
		if n == 1 {
			status = inventory.ReservationCancelled
		}
		all = append(all, reservationOf(&inventory.Reservation{ID: id(n), Status: status, Lines: []inventory.Line{}}))
	}
	with(t, address, func(db *mongo.Database) {
		if _, err := db.Collection(reservationsName).InsertMany(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	})
	err := s.View(t.Context(), func(v store.View) error {
		q := store.ReservationQuery{Status: inventory.ReservationCancelled, Limit: 10}
		page, next, err := v.Reservations(t.Context(), q)
		if err != nil || len(page) != 0 || next != id(3) {
			t.Fatalf("%d, then %v: %v", len(page), next, err)
		}
		q.Before = next
		page, next, err = v.Reservations(t.Context(), q)
		if err != nil || len(page) != 1 || page[0].ID != id(1) || !next.IsZero() {
			t.Fatalf("%d, then %v: %v", len(page), next, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestReadersHaveTheirOwnConnections: batches need none of those that views use.
func TestReadersHaveTheirOwnConnections(t *testing.T) {
	s := open(t, dbtest.MongoDB(t), Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	if err := s.readers.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.View(t.Context(), func(v store.View) error { _, err := v.Head(t.Context()); return err }); err == nil {
		t.Error("a view without the connections of readers")
	}
	storetest.Must(t, s, storetest.Hold("mug", ""))
}

// TestRouted: behind a router, readers go by the clock of the server that has the data, as batches do, and a view sees
// what was acknowledged through another router.
func TestRouted(t *testing.T) {
	n := &trips{}
	s := open(t, dbtest.MongoDB(t), Options{monitor: n.monitor()})
	storetest.Must(t, s, storetest.Product("mug"))
	s.routed = true
	ahead := time.Now().Add(time.Hour)
	s.process.clock.Store(&reading{ahead, time.Now().Add(time.Hour)}) // so that no heartbeat changes it unseen
	_, before, _, err := s.Look(t.Context(), 0, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	s.process.stop() // no more heartbeats
	s.process.running.Wait()
	s.process.clock.Store(&reading{ahead, time.Now()})
	_, now, _, err := s.Look(t.Context(), 0, 1, 1)
	if err != nil || time.Duration(now-before)*time.Millisecond < 50*time.Minute {
		t.Errorf("the clock of the data is an hour ahead, and readers went from %d to %d: %v", before, now, err)
	}
	sent := n.of(func() {
		if err := s.View(t.Context(), func(v store.View) error { _, err := v.Head(t.Context()); return err }); err != nil {
			t.Error(err)
		}
	})
	if fmt.Sprint(sent) != "[find aggregate commitTransaction]" {
		t.Errorf("a view sends %v", sent)
	}
}

// TestDivided: collections on several shards are refused with a sentence.
func TestDivided(t *testing.T) {
	if err := divided(map[string][]string{"a": {"head", "stock"}}); err != nil {
		t.Error(err)
	}
	err := divided(map[string][]string{"b": {"stock"}, "a": {"head", "orders"}})
	if err == nil || !strings.Contains(err.Error(), "a has head, orders; b has stock") {
		t.Errorf("%v", err)
	}
	if err := oneShard(t.Context(), open(t, dbtest.MongoDB(t), Options{}).db); err != nil {
		t.Errorf("a server without shards: %v", err)
	}
}

// TestStrays goes through several pages, without a transaction.
func TestStrays(t *testing.T) {
	address := dbtest.MongoDB(t)
	n := &trips{}
	s := open(t, address, Options{monitor: n.monitor()})
	storetest.Must(t, s, storetest.Product("mug"))
	var all []any
	for i := range 2 * straysPage {
		all = append(all, stockDocument{ID: fmt.Sprintf("mug/l%05d", i), ProductID: "mug", Location: fmt.Sprintf("l%05d", i)})
	}
	all = append(all, stockDocument{ID: "nug/main", ProductID: "mug", Location: "main2"},
		stockDocument{ID: "zug/main", ProductID: "zug", Location: "main"})
	with(t, address, func(db *mongo.Database) {
		if _, err := db.Collection(stockName).InsertMany(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	})
	for limit, want := range map[int]int{1: 1, 10: 2} {
		sent := n.of(func() {
			err := s.View(t.Context(), func(v store.View) error {
				list, err := v.Strays(t.Context(), limit)
				if len(list) != want || !strings.Contains(list[0], "nug/main: its id is not that") {
					t.Errorf("%v", list)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
		if len(sent) > 0 {
			t.Errorf("within a transaction: %v", sent)
		}
	}
}
