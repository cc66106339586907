package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/sqlite"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// shop is a store with every kind of row in every state.
type shop struct {
	t     testing.TB
	clock *storetest.Clock
	store store.Store
	n     uint32
}

func newShop(t testing.TB, file string) *shop {
	clock := storetest.NewClock()
	s, err := sqlite.Open(file, sqlite.Options{Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	return shopOn(t, clock, s)
}

func shopOn(t testing.TB, clock *storetest.Clock, s store.Store) *shop {
	t.Cleanup(func() { s.Close() })
	return &shop{t: t, clock: clock, store: s}
}

func (s *shop) do(commands ...inventory.Command) (outcomes []inventory.Outcome) {
	s.t.Helper()
	requests := make([]*inventory.Request, len(commands))
	for i, c := range commands {
		s.n++
		requests[i] = &inventory.Request{Command: c, Salt: s.n}
		if _, ofTime := c.(*inventory.Expire); !ofTime {
			requests[i].Receipt = &inventory.ReceiptID{Key: [16]byte{byte(s.n >> 8), byte(s.n)}}
		}
	}
	err := s.store.Commit(context.Background(), inventory.KeysOf(requests),
		func(state *inventory.State) (changes *inventory.Changes, err error) {
			outcomes, changes, err = inventory.Decide(state, requests)
			return changes, err
		})
	if err != nil {
		s.t.Fatal(err)
	}
	return outcomes
}

func (s *shop) hold(ttl time.Duration, products ...string) inventory.ID {
	s.t.Helper()
	c := &inventory.Reserve{TTL: ttl.Milliseconds(), CustomerID: "anna"}
	for _, p := range products {
		c.Lines = append(c.Lines, inventory.ReserveLine{ProductID: p, Location: inventory.MainLocation, Quantity: 1})
	}
	return s.do(c)[0].Reservation.ID
}

func (s *shop) confirm(id inventory.ID) inventory.ID {
	return s.do(&inventory.Confirm{ReservationID: id, Reference: "pay"})[0].Order.ID
}

// fill makes holds and orders in every state, and names their row keys and journal entries.
func (s *shop) fill() map[string]int64 {
	for _, id := range []string{"cup", "mug"} {
		s.do(&inventory.CreateProduct{
			ID: id, Name: id, Price: inventory.Money{Amount: 5, Currency: "EUR"}, TotalStock: 50,
			Location: inventory.MainLocation,
		})
	}
	s.do(&inventory.Adjust{ProductID: "mug", Location: "berlin", Delta: 5, Reason: "received"})
	name := "Mug"
	s.do(&inventory.UpdateProduct{ID: "mug", Name: &name})
	expired := s.hold(time.Second, "mug")
	overdue := s.hold(time.Second, "mug")
	s.clock.Advance(time.Second)
	s.do(&inventory.Expire{IDs: []inventory.ID{expired}})
	cart := s.hold(time.Hour, "mug", "cup", "mug")
	s.do(&inventory.Extend{ID: s.hold(time.Hour, "cup"), TTL: 7200_000, MaxHold: 1e10})
	cancelled := s.hold(time.Hour, "mug")
	s.do(&inventory.Cancel{ID: cancelled})
	confirmed := s.hold(time.Hour, "mug")
	order := s.confirm(confirmed)
	fulfilled := s.confirm(s.hold(time.Hour, "mug", "cup"))
	s.do(&inventory.Fulfill{ID: fulfilled})
	s.do(&inventory.CancelOrder{ID: s.confirm(s.hold(time.Hour, "mug"))})
	active := s.hold(time.Hour, "mug")
	s.do(&inventory.CreateProduct{
		ID: "lid", Name: "Lid", Price: inventory.Money{Amount: 5, Currency: "EUR"}, TotalStock: 3, Location: "berlin",
	}, &inventory.Group{Operations: []inventory.Operation{
		{Request: &inventory.Request{Command: &inventory.Cancel{ID: inventory.ID{}}}},
		{Request: &inventory.Request{Command: &inventory.Cancel{ID: cancelled}}},
	}})
	keys := map[string]int64{}
	for name, id := range map[string]inventory.ID{
		"$expired": expired, "$overdue": overdue, "$cart": cart, "$cancelled": cancelled, "$confirmed": confirmed,
		"$order": order, "$fulfilled": fulfilled, "$active": active,
	} {
		keys[name] = id.Sequence()
	}
	return keys
}

func run(t testing.TB, s store.Store, o audit.Options) *audit.Report {
	t.Helper()
	report, err := audit.Run(context.Background(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestClean(t *testing.T) {
	s := newShop(t, filepath.Join(t.TempDir(), "shop.db"))
	if r := run(t, s.store, audit.Options{}); !r.Clean() || r.Batches != 0 {
		t.Errorf("an empty store: %+v", r)
	}
	s.fill()
	for _, inMemory := range []int{0, 1} { // one share, and one for every stock row
		r := run(t, s.store, audit.Options{StockRowsInMemory: inMemory})
		if !r.Clean() || r.Products != 3 || r.StockRows != 5 || r.Reservations != 9 || r.Orders != 3 || r.Receipts != 22 {
			t.Errorf("%+v", r)
		}
	}
}

// TestBesideWriters: an audit of a store that is being written to is clean: its pages are of many moments, its verdict
// of one.
func TestBesideWriters(t *testing.T) {
	s := newShop(t, filepath.Join(t.TempDir(), "shop.db"))
	s.fill()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 600 {
			id := s.hold(time.Hour, []string{"mug", "cup"}[i%2])
			switch i % 3 {
			case 0:
				s.do(&inventory.Fulfill{ID: s.confirm(id)})
				s.do(&inventory.Adjust{
					ProductID: []string{"mug", "cup"}[i%2], Location: inventory.MainLocation, Delta: 1,
					Reason: "refill",
				})
			case 1:
				s.do(&inventory.Cancel{ID: id})
			default:
				s.do(&inventory.CancelOrder{ID: s.confirm(id)})
			}
			if i%50 == 0 {
				s.do(&inventory.CreateProduct{
					ID: fmt.Sprint("new", i), Name: "n",
					Price: inventory.Money{Amount: 5, Currency: "EUR"}, TotalStock: 1, Location: "x",
				})
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if r := run(t, s.store, audit.Options{}); !r.Clean() {
			t.Errorf("%v", r.Breaches)
		}
	}
	if r := run(t, s.store, audit.Options{}); !r.Clean() {
		t.Errorf("%v", r.Breaches)
	}
}

// TestEveryBreachIsNamed changes copies of a real file in every way a row can be wrong, and requires each to be named.
func TestEveryBreachIsNamed(t *testing.T) {
	original := filepath.Join(t.TempDir(), "shop.db")
	s := newShop(t, original)
	keys := s.fill()
	keys["$slot"] = int64(inventory.Time(storetest.Start.UnixMilli()) / store.RotateEvery)
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ sql, names string }{
		"available too high": {
			"UPDATE stock SET available = available + 1 WHERE key = 2",
			"I9: stock of mug at main",
		},
		"available too low": {
			"UPDATE stock SET available = available - 1 WHERE key = 2",
			"I9: stock of mug at main",
		},
		"reserved too high": {"UPDATE stock SET reserved = reserved + 1 WHERE key = 2", "I2: stock of mug at main"},
		"committed too low": {
			"UPDATE stock SET committed = committed - 1, available = available + 1 WHERE key = 2",
			"I2: stock of mug at main",
		},
		"moved between buckets": {
			"UPDATE stock SET available = available - 1, reserved = reserved + 1 WHERE key = 1",
			"I2: stock of cup at main",
		},
		"negative bucket":        {"UPDATE stock SET available = -1 WHERE key = 3", "I1: stock of mug at berlin"},
		"stock row missing":      {"DELETE FROM stock WHERE key = 3", "I9: stock of mug at berlin"},
		"main stock row missing": {"DELETE FROM stock WHERE key = 1", "I9: stock of cup at main"},
		"stock row extra": {"INSERT INTO stock (product, location, available, reserved, committed, seq) VALUES " +
			"(1, 'x', 1, 0, 0, 1)", "I9: stock of cup at x"},
		"stock row of no product": {"INSERT INTO stock (product, location, available, reserved, committed, seq) VALUES " +
			"(99, 'x', 1, 0, 0, 1)", "product row 99 is missing"},
		"stock row older": {"UPDATE stock SET seq = seq - 5 WHERE key = 2", "I9: stock of mug at main"},
		"stock row newer": {"UPDATE stock SET seq = 999 WHERE key = 2", "there is no event 999"},
		"product missing": {"DELETE FROM products WHERE id = 'cup'", "I9: product cup"},
		"product renamed": {"UPDATE products SET id = 'cap' WHERE id = 'cup'", "row: product row 1"},
		"product changed": {"UPDATE products SET data = CAST(replace(CAST(data AS TEXT), 'Mug', 'Mut') AS BLOB) " +
			"WHERE id = 'mug'", "I9: product mug"},
		"product unreadable":  {"UPDATE products SET data = x'00' WHERE id = 'cup'", "row: product row 1"},
		"reservation missing": {"DELETE FROM reservations WHERE key = $cancelled", "its row is missing; event"},
		"active hold missing": {"DELETE FROM reservations WHERE key = $active", "I2: stock of mug at main"},
		"reservation extra": {"INSERT INTO reservations SELECT 30, status, expires_at, customer, data FROM " +
			"reservations WHERE key = $cancelled", "row: reservation row 30"},
		"status column changed": {
			"UPDATE reservations SET status = 1 WHERE key = $cancelled",
			"row: reservation row $cancelled",
		},
		"status changed": {"UPDATE reservations SET status = 4, data = CAST(substr(data, 1, 16) || x'04' || substr(data, " +
			"18) AS BLOB) WHERE key = $active", "its row is not what event $active made it"},
		"deadline column changed": {
			"UPDATE reservations SET expires_at = expires_at + 1 WHERE key = $active",
			"column expires_at",
		},
		"customer column changed": {"UPDATE reservations SET customer = NULL WHERE key = $active", "column customer"},
		"reservation older": {"UPDATE reservations SET data = (SELECT data FROM reservations WHERE key = $cart) " +
			"WHERE key = $cancelled", "row: reservation row $cancelled"},
		"reservation unreadable": {
			"UPDATE reservations SET data = substr(data, 1, 20) WHERE key = $confirmed",
			"row: reservation row $confirmed",
		},
		"order missing": {"DELETE FROM orders WHERE key = $order", "I4: rsv_"},
		"order extra": {"INSERT INTO orders SELECT 30, $active, status, customer, reference, data FROM " +
			"orders WHERE key = $order", "row: order row 30"},
		"order status column": {"UPDATE orders SET status = 1 WHERE key = $fulfilled", "row: order row $fulfilled"},
		"order status": {"UPDATE orders SET status = 3, data = CAST(substr(data, 1, 32) || x'03' || " +
			"substr(data, 34) AS BLOB) WHERE key = $order", "its row is not what event $order made it"},
		"order reference column":   {"UPDATE orders SET reference = 'other' WHERE key = $order", "column reference"},
		"order reservation column": {"UPDATE orders SET reservation = $active WHERE key = $order", "column reservation"},
		"hold bookkeeping missing": {"DELETE FROM holds WHERE reservation = $active", "no row in holds for mug"},
		"cart bookkeeping missing": {
			"DELETE FROM holds WHERE reservation = $cart AND stock = 1",
			"no row in holds for cup",
		},
		"hold bookkeeping extra":     {"INSERT INTO holds VALUES (1, 4102444800000, $cancelled)", "no ACTIVE reservation"},
		"hold bookkeeping elsewhere": {"UPDATE holds SET stock = 1 WHERE reservation = $active", "no row in holds for mug"},
		"receipt not in its index": {
			"UPDATE receipt_slots SET indexed = 1",
			"receipts_$slot row 1: its key is not in receipt_keys_$slot",
		},
		"receipt of its index missing": {
			"INSERT INTO receipt_keys_$slot VALUES (x'00', 999)",
			"receipt_keys_$slot row 999: there is no such row",
		},
		"journal entry missing": {"DELETE FROM journal WHERE batch_no = 5", "journal entries 5 to 5: are missing"},
		"last entry missing": {
			"DELETE FROM journal WHERE batch_no = (SELECT max(batch_no) FROM journal)",
			"are missing at the end",
		},
		"journal entry changed": {"UPDATE journal SET events = CAST(replace(CAST(events AS TEXT), 'anna', 'anne') AS " +
			"BLOB) WHERE batch_no = 9", "journal entry 9: was changed"},
		"journal time changed":  {"UPDATE journal SET at = at + 1 WHERE batch_no = 3", "journal entry 3: was changed"},
		"journal count changed": {"UPDATE journal SET count = count + 1 WHERE batch_no = 9", "journal entry 9"},
		"journal checksum changed": {
			"UPDATE journal SET checksum = zeroblob(32) WHERE batch_no = 9",
			"journal entry 9: was changed",
		},
		"journal swapped": {"UPDATE journal SET batch_no = -batch_no WHERE batch_no IN (8, 9); UPDATE journal SET " +
			"batch_no = 17 + batch_no WHERE batch_no < 0", "journal entry 8: was changed"},
		"journal unreadable": {"UPDATE journal SET events = x'ffff' WHERE batch_no = 9", "cannot be read"},
		"head ahead":         {"UPDATE head SET seq = seq + 1", "I9: head"},
		"head behind":        {"UPDATE head SET batch_no = batch_no - 1", "I9: "},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			for name, key := range keys {
				c.sql = strings.ReplaceAll(c.sql, name, fmt.Sprint(key))
				c.names = strings.ReplaceAll(c.names, name, fmt.Sprint(key))
			}
			data, err := os.ReadFile(original)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "copy.db")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			change(t, file, c.sql)
			s, err := sqlite.Open(file, sqlite.Options{ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			report := run(t, s, audit.Options{})
			all := ""
			for _, b := range report.Breaches {
				all += b.String() + "\n"
			}
			if !strings.Contains(all, c.names) {
				t.Errorf("%s\ndoes not name %q:\n%s", c.sql, c.names, all)
			}
		})
	}
}

func change(t *testing.T, file, sql string) {
	t.Helper()
	conn, err := zombie.OpenConn(file, zombie.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := sqlitex.ExecuteScript(conn, "PRAGMA ignore_check_constraints = ON;"+sql, nil); err != nil {
		t.Fatal(err)
	}
	if conn.Changes() == 0 {
		t.Fatalf("%s changes nothing", sql)
	}
}

// TestBlankedPage: the index of due holds has an empty page. No query fails, but overdue holds are not found any more.
func TestBlankedPage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "shop.db")
	s := newShop(t, file)
	s.fill()
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	page, size := rootPage(t, file, "reservations_due")
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// A leaf of an index, with no cells: https://www.sqlite.org/fileformat2.html#b_tree_pages
	empty := append([]byte{10, 0, 0, 0, 0, byte(size >> 8), byte(size)}, make([]byte, size-7)...)
	if _, err := f.WriteAt(empty, (page-1)*size); err != nil {
		t.Fatal(err)
	}
	damaged, err := sqlite.Open(file, sqlite.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer damaged.Close()
	report := run(t, damaged, audit.Options{})
	if len(report.Breaches) == 0 || !strings.Contains(report.Breaches[0].String(), "reservations_due") {
		t.Errorf("%+v", report.Breaches)
	}
}

// rootPage finds the first page of a table or index, and the size of pages.
func rootPage(t *testing.T, file, name string) (page, size int64) {
	t.Helper()
	conn, err := zombie.OpenConn(file, zombie.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for sql, result := range map[string]*int64{
		"PRAGMA wal_checkpoint(TRUNCATE)": new(int64), "PRAGMA page_size": &size,
		"SELECT rootpage FROM sqlite_schema WHERE name = '" + name + "'": &page,
	} {
		err := sqlitex.ExecuteTransient(conn, sql, &sqlitex.ExecOptions{ResultFunc: func(row *zombie.Stmt) error {
			*result = row.ColumnInt64(0)
			return nil
		}})
		if err != nil || (page == 0 && result == &page) {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return page, size
}

// TestUnreadable: what was found before a store could not be read any further is reported.
func TestUnreadable(t *testing.T) {
	f := newFake(t)
	f.strays, f.broken = []string{"a damaged page"}, store.ErrBroken
	report, err := audit.Run(t.Context(), fakeStore{view: f}, audit.Options{})
	if !errors.Is(err, store.ErrBroken) || len(report.Breaches) != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}
