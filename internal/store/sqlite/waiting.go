package sqlite

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

const (
	// sweepEvents is how many events one sweep of the waiting entries takes.
	sweepEvents = 8192
	// stepEntries is how many entries a step of a sweep enters at least, except for the last one.
	stepEntries = 128
)

// entry is a row of holds.
type entry struct {
	stock int64 // row key of the stock row
	place
}

func compareEntries(a, b entry) int {
	return cmp.Or(cmp.Compare(a.stock, b.stock), cmp.Compare(a.at, b.at), cmp.Compare(a.reservation, b.reservation))
}

// waiting are the entries of new holds that are not in the table holds yet.
//
// Entries are in the order of stock rows. If each batch entered those of its own holds, nearly every one would change a
// page of its own when many products are sold. Therefore they wait here, and many are entered together in the order of
// the table, so that neighbours share pages. An entry whose hold ends while it waits never touches the table; that of a
// hold that is extended is entered at once.
//
// Sweeps enter them. A sweep goes through the stock rows in order, in small steps, and enters what waited when it
// began. When it ends, all the holds that were made before it began are in the table, and the row of holds_entered says
// so. What may be missing are the holds made since, which are those of the last two sweeps: readers look at these
// reservations as well, and the next process reads what a crash has left.
//
// Batches change it when they are committed, never before, so there is nothing to undo.
type waiting struct {
	places map[int64][]place // by stock row, each list in order
	count  int

	rows     []int64 // stock rows that the sweep has not finished, in order
	begun    int64   // sequence of the last event before the sweep began
	total    int     // entries that waited when it began
	entered  int     // entries that it has entered
	progress int     // events since it began, or entries of new holds if those are more
	events   int     // that a sweep takes
	least    int     // entries that a step enters, except for the last one
}

func newWaiting(seq int64) waiting {
	return waiting{places: map[int64][]place{}, begun: seq, events: sweepEvents, least: stepEntries}
}

// step is the part of a sweep that one batch does.
type step struct {
	entries []entry // to enter, in order
	rows    []int64 // stock rows that are left then
	ends    bool    // the sweep ends
}

// next returns the step that is due.
func (w *waiting) next() step {
	s := step{rows: w.rows, ends: w.progress >= w.events}
	due := w.total*w.progress/w.events - w.entered
	if s.ends {
		due = w.count
	}
	if due < w.least && !s.ends {
		return s
	}
	s.entries = make([]entry, 0, due)
	for len(s.rows) > 0 {
		for _, p := range w.places[s.rows[0]] {
			if p.reservation > w.begun {
				continue
			}
			if len(s.entries) == due {
				return s
			}
			s.entries = append(s.entries, entry{s.rows[0], p})
		}
		s.rows = s.rows[1:]
	}
	return s
}

// has reports whether the step enters an entry.
func (s *step) has(e entry) bool {
	_, found := slices.BinarySearchFunc(s.entries, e, compareEntries)
	return found
}

func (w *waiting) has(e entry) bool {
	_, found := findPlace(w.places[e.stock], e.place)
	return found
}

// committed takes over what a committed batch has done: its step, and the entries of holds that it ended or made. The
// sequence is that of its last event.
func (w *waiting) committed(s *step, ended, added []entry, seq int64, events int) {
	for rest := s.entries; len(rest) > 0; {
		n := sort.Search(len(rest), func(i int) bool { return rest[i].stock > rest[0].stock })
		w.removeAll(rest[0].stock, rest[:n])
		rest = rest[n:]
	}
	w.rows = s.rows
	w.entered += len(s.entries)
	w.progress += max(events, len(added))
	for _, e := range ended {
		w.remove(e)
	}
	for _, e := range added {
		w.add(e)
	}
	if s.ends {
		w.rows, w.begun = slices.Sorted(maps.Keys(w.places)), seq
		w.total, w.entered, w.progress = w.count, 0, 0
	}
}

func (w *waiting) add(e entry) {
	list := w.places[e.stock]
	i := len(list)
	if i > 0 && e.before(list[i-1]) { // most deadlines come after those before them
		i, _ = findPlace(list, e.place)
	}
	w.places[e.stock] = slices.Insert(list, i, e.place)
	w.count++
}

func (w *waiting) remove(e entry) {
	list := w.places[e.stock]
	i, _ := findPlace(list, e.place)
	w.put(e.stock, slices.Delete(list, i, i+1), 1)
}

// removeAll removes entries of one stock row. Both are in order.
func (w *waiting) removeAll(stock int64, entries []entry) {
	list, n := w.places[stock], len(entries)
	if list[n-1] == entries[n-1].place { // they are the first ones
		w.put(stock, list[n:], n)
		return
	}
	w.put(stock, slices.DeleteFunc(list, func(p place) bool {
		found := len(entries) > 0 && entries[0].place == p
		if found {
			entries = entries[1:]
		}
		return found
	}), n)
}

func (w *waiting) put(stock int64, list []place, removed int) {
	w.count -= removed
	if len(list) == 0 {
		delete(w.places, stock)
		return
	}
	w.places[stock] = list
}

// due returns the places of a stock row whose deadline is at or before now.
func (w *waiting) due(stock int64, now inventory.Time) []place {
	list := w.places[stock]
	return list[:sort.Search(len(list), func(i int) bool { return list[i].at > int64(now) })]
}

func findPlace(list []place, p place) (int, bool) {
	i := sort.Search(len(list), func(i int) bool { return !list[i].before(p) })
	return i, i < len(list) && list[i] == p
}

// holdsEntered returns the sequence up to which the entries of all ACTIVE reservations are in holds.
func holdsEntered(conn *sqlite.Conn) (through int64, err error) {
	err = exec(conn, "SELECT through FROM holds_entered", func(row *sqlite.Stmt) error {
		through = row.ColumnInt64(0)
		return nil
	})
	return through, err
}

func setHoldsEntered(conn *sqlite.Conn, through int64) error {
	return exactly(conn, 1, "UPDATE holds_entered SET through = ?", integer(through))
}

// enterWaiting enters all that waits when a store is closed, so that the next start has less to do. If there is no space
// for it, that start reads it as after a crash.
func (s *Store) enterWaiting() (err error) {
	if s.broken != nil || s.waiting.count == 0 {
		return nil
	}
	defer func() {
		if err = s.rollback(err); errors.Is(translate(err), store.ErrUnavailable) {
			err = nil
		}
	}()
	if err := exec(s.writer, "BEGIN IMMEDIATE", nil); err != nil {
		return err
	}
	if err := s.ownHead(); err != nil {
		return err
	}
	for _, stock := range slices.Sorted(maps.Keys(s.waiting.places)) {
		for _, p := range s.waiting.places[stock] {
			err := exec(s.writer, "INSERT INTO holds VALUES (?, ?, ?)", nil, integer(stock), integer(p.at),
				integer(p.reservation))
			if err != nil {
				return err
			}
		}
	}
	if err := setHoldsEntered(s.writer, s.head.Seq); err != nil {
		return err
	}
	return exec(s.writer, "COMMIT", nil)
}

// readWaiting reads what the process before has not entered. A sweep begins with that.
func readWaiting(conn *sqlite.Conn, seq int64) (waiting, error) {
	w := newWaiting(seq)
	through, err := holdsEntered(conn)
	if err != nil || through == seq {
		return w, err
	}
	entries, err := missingEntries(conn, through)
	if err != nil {
		return w, err
	}
	for _, e := range entries {
		w.add(e)
	}
	w.rows, w.total = slices.Sorted(maps.Keys(w.places)), w.count
	return w, nil
}

// missingEntries are the entries of the ACTIVE reservations after a sequence that are not in the table. Those of damaged
// rows are left out: verify reports these rows.
func missingEntries(conn *sqlite.Conn, through int64) (entries []entry, err error) {
	keys := map[inventory.StockKey]int64{}
	err = exec(conn, selectReservation+"WHERE key > ? AND status = 1", func(row *sqlite.Stmt) error {
		r, err := scanReservation(row)
		if err != nil {
			if store.IsCorrupt(err) {
				return nil
			}
			return err
		}
		for i := range r.Lines {
			key, err := stockRowKey(conn, keys, r.Lines[i].Key())
			if err != nil {
				return err
			}
			if key != 0 {
				entries = append(entries, entry{key, placeOf(r)})
			}
		}
		return nil
	}, integer(through))
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, compareEntries)
	return withoutEntered(conn, slices.Compact(entries))
}

// withoutEntered leaves out the entries that are in the table: a sweep that had begun may have entered them.
func withoutEntered(conn *sqlite.Conn, entries []entry) (missing []entry, err error) {
	missing = entries[:0]
	for _, e := range entries {
		found := false
		err := exec(conn, "SELECT 1 FROM holds WHERE stock = ? AND expires_at = ? AND reservation = ?",
			func(*sqlite.Stmt) error {
				found = true
				return nil
			}, integer(e.stock), integer(e.at), integer(e.reservation))
		if err != nil {
			return nil, err
		}
		if !found {
			missing = append(missing, e)
		}
	}
	return missing, nil
}

// stockRowKey returns the row key of a stock row, or 0 if there is none. It remembers keys that it has read.
func stockRowKey(conn *sqlite.Conn, known map[inventory.StockKey]int64, of inventory.StockKey) (int64, error) {
	key, found := known[of]
	if found {
		return key, nil
	}
	err := exec(conn, "SELECT s.key FROM stock s JOIN products p ON p.key = s.product WHERE p.id = ? AND s.location = ?",
		func(row *sqlite.Stmt) error {
			key = row.ColumnInt64(0)
			return nil
		}, text(of.ProductID), text(of.Location))
	if err != nil {
		return 0, fmt.Errorf("stock of %s at %s: %w", of.ProductID, of.Location, err)
	}
	known[of] = key
	return key, nil
}
