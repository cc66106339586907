package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// TestDeadEntries: whatever happens to holds, in whatever order, the entries that count are those of the ACTIVE
// reservations.
func TestDeadEntries(t *testing.T) {
	folder, files := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		files++
		path := filepath.Join(folder, fmt.Sprint(files, ".db"))
		defer os.Remove(path)
		m := &entriesMachine{T: t, path: path, clock: storetest.NewClock()}
		m.sweep = rapid.IntRange(1, 40).Draw(t, "events of a sweep")
		m.step = rapid.IntRange(1, 5).Draw(t, "entries of a step")
		m.open()
		defer func() { m.store.Close() }()
		for i := range machineProducts {
			p := product(fmt.Sprint("p", i))
			p.TotalStock = 40
			m.do(p)
		}
		t.Repeat(map[string]func(*rapid.T){
			"hold": m.hold, "cancel": m.cancel, "confirm": m.confirm, "extend": m.extend, "expire": m.expire,
			"sweep": m.expireDue, "wait": m.wait, "reopen": m.reopen, "crash": m.crash, "fail": m.fail, "look": m.look,
			"overdue": m.overdue, "": m.check,
		})
	})
}

const machineProducts = 3

// entriesMachine does to a store what may happen to it.
type entriesMachine struct {
	*rapid.T
	path   string
	clock  *storetest.Clock
	store  *Store
	sweep  int            // how many events a sweep takes
	step   int            // how many entries a step enters at least
	active []inventory.ID // reservations that were ACTIVE at the last check, or are new
}

func (m *entriesMachine) open() {
	var err error
	if m.store, err = Open(m.path, Options{Now: m.clock.Now}); err != nil {
		m.Fatal(err)
	}
	m.store.waiting.events, m.store.waiting.least = m.sweep, m.step
}

func (m *entriesMachine) reopen(*rapid.T) {
	m.store.Close()
	m.open()
}

// crash goes on with the file as it is while the store is open.
func (m *entriesMachine) crash(*rapid.T) {
	files := map[string][]byte{}
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(m.path + suffix)
		if err != nil {
			m.Fatal(err)
		}
		files[suffix] = data
	}
	m.store.Close()
	for suffix, data := range files {
		if err := os.WriteFile(m.path+suffix, data, 0o600); err != nil {
			m.Fatal(err)
		}
	}
	m.open()
}

// fail has a batch fail that ends a hold and makes one. SQLite itself rolls it back.
func (m *entriesMachine) fail(t *rapid.T) {
	id := m.one(t)
	hold := &inventory.Reserve{TTL: 1000, Lines: []inventory.ReserveLine{
		{ProductID: "p0", Location: inventory.MainLocation, Quantity: 1},
	}}
	refusing(t, m.store, "ROLLBACK", func() {
		if _, err := commitPlain(m.store, &inventory.Cancel{ID: id}, hold); err == nil {
			t.Fatal("the batch was committed")
		}
	})
}

func (m *entriesMachine) do(commands ...inventory.Command) []inventory.Outcome {
	outcomes, err := commitPlain(m.store, commands...)
	if err != nil {
		m.Fatal(err)
	}
	return outcomes
}

func (m *entriesMachine) wait(t *rapid.T) {
	m.clock.Advance(time.Duration(rapid.IntRange(1, 3000).Draw(t, "milliseconds")) * time.Millisecond)
}

func (m *entriesMachine) hold(t *rapid.T) {
	few := rapid.IntRange(1, 3)
	var commands []inventory.Command
	for range few.Draw(t, "holds") {
		r := &inventory.Reserve{TTL: rapid.Int64Range(1, 5).Draw(t, "seconds") * 1000}
		for range few.Draw(t, "lines") {
			r.Lines = append(r.Lines, inventory.ReserveLine{
				ProductID: fmt.Sprint("p", rapid.IntRange(0, machineProducts-1).Draw(t, "product")),
				Location:  inventory.MainLocation,
				Quantity:  rapid.Int64Range(1, 10).Draw(t, "units"),
			})
		}
		commands = append(commands, r)
	}
	for _, o := range m.do(commands...) {
		if o.Reservation != nil {
			m.active = append(m.active, o.Reservation.ID)
		}
	}
}

func (m *entriesMachine) one(t *rapid.T) inventory.ID {
	if len(m.active) == 0 {
		t.Skip("there is none")
	}
	return rapid.SampledFrom(m.active).Draw(t, "reservation")
}

func (m *entriesMachine) cancel(t *rapid.T)  { m.do(&inventory.Cancel{ID: m.one(t)}) }
func (m *entriesMachine) confirm(t *rapid.T) { m.do(&inventory.Confirm{ReservationID: m.one(t)}) }
func (m *entriesMachine) expire(t *rapid.T)  { m.do(&inventory.Expire{IDs: []inventory.ID{m.one(t)}}) }

func (m *entriesMachine) extend(t *rapid.T) {
	m.do(&inventory.Extend{
		ID: m.one(t), TTL: rapid.Int64Range(1, 9).Draw(t, "seconds") * 1000,
		MaxHold: time.Hour.Milliseconds(),
	})
}

func (m *entriesMachine) expireDue(t *rapid.T) {
	m.do(&inventory.Expire{IDs: firstDue(m, m.store, rapid.IntRange(1, 5).Draw(t, "pass"))})
}

// firstDue are the reservations that fall due first, whether or not they have.
func firstDue(t rapid.TB, s *Store, n int) (ids []inventory.ID) {
	err := s.View(context.Background(), func(v store.View) error {
		list, err := v.Due(context.Background(), math.MaxInt64, n)
		for _, d := range list {
			ids = append(ids, d.ID)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// check compares the entries that count with the ACTIVE reservations.
func (m *entriesMachine) check(t *rapid.T) {
	if live, _ := entries(t, m.store); !maps.Equal(live, m.wanted(t)) {
		t.Fatalf("entries %v, want %v", live, m.wanted(t))
	}
}

// wanted are the entries of the ACTIVE reservations, by product and place.
func (m *entriesMachine) wanted(t *rapid.T) map[string]bool {
	want := map[string]bool{}
	m.active = slices.DeleteFunc(m.active, func(id inventory.ID) bool {
		r, err := readReservation(m.store.writer, id)
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != inventory.ReservationActive {
			return true
		}
		for i := range r.Lines {
			want[fmt.Sprint(r.Lines[i].ProductID, placeOf(r))] = true
		}
		return false
	})
	return want
}

// look compares what lists and the audit make of the entries with the ACTIVE reservations.
func (m *entriesMachine) look(t *rapid.T) {
	listed := map[string]int{}
	for entry := range m.wanted(t) {
		id, _, _ := strings.Cut(entry, "{")
		listed[id]++
	}
	err := m.store.View(context.Background(), func(v store.View) error {
		if strays, err := v.Strays(context.Background(), 9); err != nil || len(strays) > 0 {
			t.Fatalf("strays: %v %v", strays, err)
		}
		for i := range machineProducts {
			id := fmt.Sprint("p", i)
			found := 0
			for q := (store.ReservationQuery{ProductID: id, Status: inventory.ReservationActive, Limit: 2, Check: true}); ; {
				page, next, err := v.Reservations(context.Background(), q)
				if err != nil {
					t.Fatal(err)
				}
				found += len(page)
				if q.Before = next; next.IsZero() {
					break
				}
			}
			if found != listed[id] {
				t.Fatalf("%s has %d ACTIVE reservations, listed are %d", id, listed[id], found)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// overdue requires that a batch is handed the overdue holds of a stock row in order, whether their entries wait or not.
func (m *entriesMachine) overdue(t *rapid.T) {
	names, err := stockNames(m.store)
	if err != nil {
		t.Fatal(err)
	}
	first, err := readFirstActive(m.store.writer)
	if err != nil {
		t.Fatal(err)
	}
	now := inventory.Time(m.clock.Now().UnixMilli())
	skip, limit := rapid.IntRange(0, 3).Draw(t, "skip"), rapid.IntRange(1, 5).Draw(t, "limit")
	for key, product := range names {
		var all []place
		for _, r := range m.activeHolds(product) {
			if r.ExpiresAt <= now {
				all = append(all, placeOf(r))
			}
		}
		slices.SortFunc(all, func(a, b place) int {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.reservation, b.reservation))
		})
		want := all[min(skip, len(all)):min(skip+limit, len(all))]
		stock := inventory.StockKey{ProductID: product, Location: inventory.MainLocation}
		l := loader{
			conn: m.store.writer, state: inventory.NewState(now, 0, ""), waiting: &m.store.waiting,
			stock: map[inventory.StockKey]int64{stock: key},
		}
		var got []place
		more, err := l.overdueOf(stock, first, skip, limit, func(r *inventory.Reservation, _ int) bool {
			got = append(got, placeOf(r))
			return true
		})
		if err != nil || !slices.Equal(got, want) || more != (len(all) > skip+limit) {
			t.Fatalf("overdue of %s after %d, at most %d: %v, more: %v, %v; want %v of %v", product, skip, limit, got, more,
				err, want, all)
		}
	}
}

// activeHolds are the ACTIVE reservations of a product, as their rows have them.
func (m *entriesMachine) activeHolds(product string) (holds []*inventory.Reservation) {
	err := exec(m.store.writer, selectReservation+"WHERE status = 1", func(row *sqlite.Stmt) error {
		r, err := scanReservation(row)
		if err == nil && slices.ContainsFunc(r.Lines, func(l inventory.Line) bool { return l.ProductID == product }) {
			holds = append(holds, r)
		}
		return err
	})
	if err != nil {
		m.Fatal(err)
	}
	return holds
}

// entries are those that count, by product and place, and the number of dead ones. No entry waits that is in the table.
func entries(t rapid.TB, s *Store) (live map[string]bool, dead int) {
	live = map[string]bool{}
	names, err := stockNames(s)
	if err != nil {
		t.Fatal(err)
	}
	for stock, list := range s.waiting.places {
		for _, at := range list {
			live[fmt.Sprint(names[stock], at)] = true
		}
	}
	waiting := len(live)
	if waiting != s.waiting.count {
		t.Fatalf("%d entries wait, counted are %d", waiting, s.waiting.count)
	}
	first, err := readFirstActive(s.writer)
	if err == nil {
		err = exec(s.writer, `SELECT p.id, h.expires_at, h.reservation FROM holds h JOIN stock s ON s.key = h.stock
			JOIN products p ON p.key = s.product`,
			func(row *sqlite.Stmt) error {
				if at := (place{row.ColumnInt64(1), row.ColumnInt64(2)}); at.before(first) {
					dead++
				} else {
					name := fmt.Sprint(row.ColumnText(0), at)
					if live[name] {
						return fmt.Errorf("%s waits, and is in the table", name)
					}
					live[name] = true
				}
				return nil
			})
	}
	if err != nil {
		t.Fatal(err)
	}
	return live, dead
}

// stockNames are the products of the stock rows, by row key.
func stockNames(s *Store) (map[int64]string, error) {
	names := map[int64]string{}
	const query = "SELECT s.key, p.id FROM stock s JOIN products p ON p.key = s.product"
	err := exec(s.writer, query, func(row *sqlite.Stmt) error {
		names[row.ColumnInt64(0)] = row.ColumnText(1)
		return nil
	})
	return names, err
}

// TestSweepStepByStep: while holds are made and cancelled at every stage of a sweep, the entries that count are those of
// the ACTIVE ones, also for a process that goes on after a crash.
func TestSweepStepByStep(t *testing.T) {
	for age := 1; age <= 5; age += 2 { // of a hold when it is cancelled, in batches
		path := filepath.Join(t.TempDir(), "store.db")
		s := openFile(t, path, time.Now)
		s.waiting.events, s.waiting.least = 4, 1
		p := product("a")
		p.TotalStock = 100
		made, err := commitPlain(s, p, holdOf("a", 30)) // before it, entries would be dead
		if err != nil {
			t.Fatal(err)
		}
		var active []*inventory.Reservation
		for i := range 20 {
			commands := []inventory.Command{holdOf("a", 60)}
			if i >= age {
				commands = append(commands, &inventory.Cancel{ID: active[0].ID})
				active = active[1:]
			}
			outcomes, err := commitPlain(s, commands...)
			if err != nil {
				t.Fatal(err)
			}
			active = append(active, outcomes[0].Reservation)
			want := map[string]bool{fmt.Sprint("a", placeOf(made[1].Reservation)): true}
			for _, r := range active {
				want[fmt.Sprint("a", placeOf(r))] = true
			}
			for when, s := range map[string]*Store{"now": s, "after a crash": crashed(t, path)} {
				if live, _ := entries(t, s); !maps.Equal(live, want) {
					t.Fatalf("cancelled after %d batches, hold %d, %s: entries %v, want %v", age, i, when, live, want)
				}
			}
		}
	}
}

// crashed opens a copy of the files of a store that is open.
func crashed(t *testing.T, path string) *Store {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "store.db")
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + suffix)
		if err == nil {
			err = os.WriteFile(copied+suffix, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return openFile(t, copied, time.Now)
}

func holdOf(id string, seconds int64) *inventory.Reserve {
	return &inventory.Reserve{TTL: seconds * 1000, Lines: []inventory.ReserveLine{
		{ProductID: id, Location: inventory.MainLocation, Quantity: 1},
	}}
}

// TestLapsedBeforeAnother: the entries of a hold that lapses while one with an earlier deadline is still ACTIVE are taken
// out of the table at once: they do not come before the first ACTIVE one, and would not count as dead.
func TestLapsedBeforeAnother(t *testing.T) {
	clock := storetest.NewClock()
	path := filepath.Join(t.TempDir(), "store.db")
	s := openFile(t, path, clock.Now)
	made, err := commitPlain(s, product("a"), product("b"), holdOf("a", 1), holdOf("b", 2))
	if err != nil {
		t.Fatal(err)
	}
	s.Close() // enters all that waits
	s = openFile(t, path, clock.Now)
	clock.Advance(time.Minute)
	if _, err := commitPlain(s, &inventory.Expire{IDs: []inventory.ID{made[3].Reservation.ID}}); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{fmt.Sprint("a", placeOf(made[2].Reservation)): true}
	if live, dead := entries(t, s); !maps.Equal(live, want) || dead != 0 {
		t.Errorf("entries %v and %d dead ones, want %v", live, dead, want)
	}
}

// TestCollector: dead entries do not pile up, of one product or of many.
func TestCollector(t *testing.T) {
	for _, products := range []int{1, 50} {
		clock := storetest.NewClock()
		path := filepath.Join(t.TempDir(), "store.db")
		s := openFile(t, path, clock.Now)
		const holds = 2000
		var commands []inventory.Command
		for i := range products {
			p := product(fmt.Sprint("p", i))
			p.TotalStock = holds
			commands = append(commands, p)
		}
		for i := range holds {
			commands = append(commands, &inventory.Reserve{TTL: 1000 + int64(i%7), Lines: []inventory.ReserveLine{
				{ProductID: fmt.Sprint("p", i%products), Location: inventory.MainLocation, Quantity: 1},
			}})
		}
		if _, err := commitPlain(s, commands...); err != nil {
			t.Fatal(err)
		}
		s.Close() // enters all that waits
		s = openFile(t, path, clock.Now)
		clock.Advance(time.Minute)
		most, dead := 0, 0
		for pass := 1; ; pass++ {
			due := firstDue(t, s, pass)
			if len(due) == 0 {
				break
			}
			if _, err := commitPlain(s, &inventory.Expire{IDs: due}); err != nil {
				t.Fatal(err)
			}
			_, dead = entries(t, s)
			most = max(most, dead)
		}
		t.Logf("%d products: %d dead entries at the most, %d in the end", products, most, dead)
		if limit := products * collectedPerStep; most > limit || most == 0 {
			t.Errorf("%d products: %d dead entries at the most, want 1 to %d", products, most, limit)
		}
	}
}
