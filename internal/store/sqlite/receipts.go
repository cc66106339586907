package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

const (
	// slotsKept is how many slots are kept: a receipt lives for one to two slots.
	slotsKept = 2
	// A generation is closed once it has as many keys as a generationShare of the receipts in its slot, within these
	// limits.
	generationShare, shortestGeneration, longestGeneration = 16, 8192, 65_536
	// stepKeys is how many keys a step enters at least, except for the last one.
	stepKeys = 128
	// A batch deletes at least retiredPerBatch receipts of a slot that is not kept, and at least retiredPerReceipt for
	// each that it writes.
	retiredPerBatch, retiredPerReceipt = 64, 4
)

// slots are the tables of receipts. Each slot has two, which are written to for a day, so that old receipts are found and
// deleted together. Slots are numbered by the day on which they began, or else by the next number.
//
//	receipts_N      (row, key, fingerprint, answer)   in the order in which they were written
//	receipt_keys_N  (key, row)                        the index
//
// Keys are random. If each batch entered its keys into the index, every key would change a page of its own, which costs
// more than all the rest of a request with a key. Receipts are therefore appended to the first table, and many keys are
// entered into the index together, in key order, so that neighbours share pages. Until then the keys are kept in
// memory, in generations: new keys join the open one, and closed ones are entered, oldest first, in steps that batches
// share among them. receipt_slots says up to which row all keys are in the index; the keys after it are read when the
// store is opened.
//
// Batches change this once they are committed, never before, so there is nothing to undo.
type slots struct {
	live    []int64        // newest first
	retired []int64        // not kept any more, and not deleted yet
	since   inventory.Time // since when the newest slot is written to (see [store.Head.ReceiptsSince])
	row     int64          // last row of the newest slot
	open    *generation
	closed  []*generation // oldest first
	owed    int           // keys to enter before the next step is due

	insertReceipts *statements // into the newest slot
}

// generation are keys of one slot that are in memory.
type generation struct {
	slot, last int64 // of the last row
	count      int
	buckets    [1 << bucketBits][]receiptKey // by the first bits of the key
	bucket     int                           // buckets before it are entered
	insert     *statements                   // into the index
}

const bucketBits = 10

type receiptKey struct {
	key [16]byte
	row int64
}

func receiptTable(slot int64) string { return fmt.Sprintf("receipts_%d", slot) }
func indexTable(slot int64) string   { return fmt.Sprintf("receipt_keys_%d", slot) }

// newGeneration makes an empty one. After a crash some of its keys may be in the index already.
func newGeneration(slot int64) *generation {
	insert := newInserter(indexTable(slot), 2)
	const again = " ON CONFLICT DO UPDATE SET row = excluded.row"
	return &generation{slot: slot, insert: &statements{insert.width, insert.one + again, insert.many + again}}
}

func bucketOf(key *[16]byte) int { return int(binary.BigEndian.Uint16(key[:])) >> (16 - bucketBits) }

func (g *generation) add(key [16]byte, row int64) {
	bucket := &g.buckets[bucketOf(&key)]
	*bucket = append(*bucket, receiptKey{key, row})
	g.last = row
	g.count++
}

// find returns the row of a key, or 0.
func (g *generation) find(key *[16]byte) int64 {
	bucket := g.buckets[bucketOf(key)]
	for i := range bucket {
		if bucket[i].key == *key {
			return bucket[i].row
		}
	}
	return 0
}

// load reads the slots from the file, and the keys that their indexes may lack.
func (s *slots) load(conn *sqlite.Conn) error {
	*s = slots{}
	all, err := readSlots(conn)
	if err != nil || len(all) == 0 {
		return err
	}
	var numbers []int64
	for _, slot := range all {
		numbers = append(numbers, slot.number)
	}
	s.keep(numbers)
	for _, slot := range slices.Backward(all[:len(s.live)]) {
		s.begin(slot.number, slot.indexed)
		if err := s.loadKeys(conn); err != nil {
			return err
		}
	}
	return exec(conn, "SELECT since FROM receipt_slots WHERE slot = ?", func(row *sqlite.Stmt) error {
		s.since = inventory.Time(row.ColumnInt64(0))
		return nil
	}, integer(s.live[0]))
}

// slot is a row of receipt_slots: the index of its receipts has all keys up to the row indexed.
type slot struct{ number, indexed int64 }

// readSlots reads the slots that there are, newest first.
func readSlots(conn *sqlite.Conn) (all []slot, err error) {
	err = exec(conn, "SELECT slot, indexed FROM receipt_slots ORDER BY slot DESC", func(row *sqlite.Stmt) error {
		all = append(all, slot{row.ColumnInt64(0), row.ColumnInt64(1)})
		return nil
	})
	return all, err
}

// loadKeys reads the keys of a slot that are behind its last row, which is that of its index. It closes all their
// generations: the index then advances with each, even if the process never lives long enough to enter all of them.
func (s *slots) loadKeys(conn *sqlite.Conn) error {
	err := exec(conn, "SELECT row, key FROM "+receiptTable(s.open.slot)+" WHERE row > ? ORDER BY row",
		func(row *sqlite.Stmt) error {
			var key [16]byte
			row.ColumnBytes(1, key[:])
			s.row = row.ColumnInt64(0)
			s.open.add(key, s.row)
			if s.full() {
				s.close()
			}
			return nil
		}, integer(s.row))
	if s.open.count > 0 {
		s.close()
	}
	return err
}

// keep divides slots, newest first, into those that are kept and the others.
func (s *slots) keep(all []int64) {
	n := min(len(all), slotsKept)
	s.live, s.retired = all[:n], all[n:]
}

// begin goes on with a slot behind its last row.
func (s *slots) begin(slot, row int64) {
	s.open, s.row, s.insertReceipts = newGeneration(slot), row, newInserter(receiptTable(slot), 4)
}

// full reports whether the open generation has as many keys as it should.
func (s *slots) full() bool {
	return s.open.count >= min(max(int(s.row/generationShare), shortestGeneration), longestGeneration)
}

// close closes the open generation, and opens another.
func (s *slots) close() {
	s.closed = append(s.closed, s.open)
	s.open = newGeneration(s.open.slot)
}

// find returns those receipts that exist.
func (s *slots) find(conn *sqlite.Conn, keys [][16]byte) (found []*inventory.Receipt, err error) {
	add := func(slot, row int64, key [16]byte) error {
		r, err := readReceipt(conn, slot, row, key)
		found = append(found, r)
		return err
	}
	var rest [][16]byte
	for i := range keys {
		if g, row := s.remembered(&keys[i]); g == nil {
			rest = append(rest, keys[i])
		} else if err := add(g.slot, row, keys[i]); err != nil {
			return nil, err
		}
	}
	for _, slot := range s.live {
		for part := range slices.Chunk(rest, rowsPerStatement) {
			rows, err := indexedRows(conn, slot, part)
			if err != nil {
				return nil, err
			}
			for _, r := range rows {
				if err := add(slot, r.row, r.key); err != nil {
					return nil, err
				}
			}
		}
	}
	return found, nil
}

// remembered finds the row of a key in memory.
func (s *slots) remembered(key *[16]byte) (*generation, int64) {
	if s.open == nil {
		return nil, 0
	}
	if row := s.open.find(key); row != 0 {
		return s.open, row
	}
	for _, g := range s.closed {
		if row := g.find(key); row != 0 {
			return g, row
		}
	}
	return nil, 0
}

// indexedRows finds up to rowsPerStatement keys in the index of a slot.
func indexedRows(conn *sqlite.Conn, slot int64, keys [][16]byte) (found []receiptKey, err error) {
	n, where := 1, " WHERE key = ?"
	if len(keys) > 1 {
		n, where = rowsPerStatement, whereKeyIn
	}
	var arguments [rowsPerStatement]value
	for i := range n {
		arguments[i] = blob(keys[min(i, len(keys)-1)][:]) // the last one again and again, if there are fewer
	}
	err = exec(conn, "SELECT key, row FROM "+indexTable(slot)+where, func(row *sqlite.Stmt) error {
		r := receiptKey{row: row.ColumnInt64(1)}
		row.ColumnBytes(0, r.key[:])
		found = append(found, r)
		return nil
	}, arguments[:n]...)
	return found, err
}

var whereKeyIn = " WHERE key IN " + placeholders(1, rowsPerStatement)

func readReceipt(conn *sqlite.Conn, slot, row int64, key [16]byte) (found *inventory.Receipt, err error) {
	err = exec(conn, "SELECT fingerprint, answer FROM "+receiptTable(slot)+" WHERE row = ?",
		func(stmt *sqlite.Stmt) error {
			found = &inventory.Receipt{ReceiptID: inventory.ReceiptID{Key: key}, Answer: column(stmt, 1)}
			stmt.ColumnBytes(0, found.Fingerprint[:])
			return nil
		}, integer(row))
	if err == nil && found == nil {
		err = fmt.Errorf("%s has no row %d, which its index names", receiptTable(slot), row)
	}
	return found, err
}

// receiptsWritten is what a batch does to the tables of receipts.
type receiptsWritten struct {
	receipts []*inventory.Receipt
	since    inventory.Time
	all      []int64 // slots, if a new one was begun: newest first
	bucket   int     // where the next step begins in the oldest closed generation
	entered  int     // keys
	deleted  bool    // the first retired slot
}

// write adds receipts to the newest slot, within the transaction of the batch. If that has been written to for a day, it
// begins another. Since is when it began, as it has to be from this batch on.
func (s *slots) write(conn *sqlite.Conn, receipts []*inventory.Receipt, since, now inventory.Time) (
	w receiptsWritten, err error,
) {
	w = receiptsWritten{receipts: receipts, since: since}
	begins := len(receipts) > 0 && (len(s.live) == 0 || now-store.RotateEvery >= since)
	if !begins && since != s.since {
		err = exactly(conn, 1, "UPDATE receipt_slots SET since = ? WHERE slot = ?", integer(int64(since)), integer(s.live[0]))
	}
	if err != nil || len(receipts) == 0 {
		return w, err
	}
	added, row := rows{statements: s.insertReceipts}, s.row
	if begins {
		slot := s.next(now)
		if err := createSlot(conn, slot, now); err != nil {
			return w, err
		}
		w.since, w.all = now, slices.Concat([]int64{slot}, s.live, s.retired)
		added.statements, row = newInserter(receiptTable(slot), 4), 0
	}
	for _, r := range receipts {
		row++
		if err := added.add(conn, integer(row), blob(r.Key[:]), blob(r.Fingerprint[:]), blob(r.Answer)); err != nil {
			return w, err
		}
	}
	if err := added.flush(conn); err != nil {
		return w, err
	}
	if err := s.enter(conn, &w); err != nil {
		return w, err
	}
	return w, s.delete(conn, &w)
}

// next is the number of a slot that begins now.
func (s *slots) next(now inventory.Time) int64 {
	day := int64(now / store.RotateEvery)
	if len(s.live) > 0 {
		return max(s.live[0]+1, day)
	}
	return day
}

func createSlot(conn *sqlite.Conn, slot int64, since inventory.Time) error {
	for _, statement := range []string{
		"CREATE TABLE " + receiptTable(slot) + " (row INTEGER PRIMARY KEY, key BLOB NOT NULL, fingerprint BLOB NOT NULL, " +
			"answer BLOB NOT NULL) STRICT",
		"CREATE TABLE " + indexTable(slot) + " (key BLOB PRIMARY KEY, row INTEGER NOT NULL) STRICT, WITHOUT ROWID",
		fmt.Sprintf("INSERT INTO receipt_slots (slot, indexed, since) VALUES (%d, 0, %d)", slot, since),
	} {
		if err := exec(conn, statement, nil); err != nil {
			return err
		}
	}
	return nil
}

// enter enters keys of the oldest closed generation into the index: twice as many as the batch has added, so that it is
// entered before the next one closes.
func (s *slots) enter(conn *sqlite.Conn, w *receiptsWritten) error {
	if len(s.closed) == 0 || s.owed+2*len(w.receipts) < stepKeys {
		return nil
	}
	g := s.closed[0]
	added := rows{statements: g.insert}
	for w.bucket = g.bucket; w.bucket < len(g.buckets) && w.entered < s.owed+2*len(w.receipts); w.bucket++ {
		bucket := slices.Clone(g.buckets[w.bucket])
		slices.SortFunc(bucket, func(a, b receiptKey) int { return bytes.Compare(a.key[:], b.key[:]) })
		for i := range bucket {
			if err := added.add(conn, blob(bucket[i].key[:]), integer(bucket[i].row)); err != nil {
				return err
			}
		}
		w.entered += len(bucket)
	}
	if err := added.flush(conn); err != nil || w.bucket < len(g.buckets) {
		return err
	}
	return exactly(conn, 1, "UPDATE receipt_slots SET indexed = ? WHERE slot = ?", integer(g.last), integer(g.slot))
}

// delete deletes some of the receipts that are not kept any more. Dropping their tables while they are full
// would keep a batch waiting: that takes as long as writing all their pages.
func (s *slots) delete(conn *sqlite.Conn, w *receiptsWritten) error {
	if len(s.retired) == 0 || w.all != nil {
		return nil
	}
	slot, limit := s.retired[0], max(retiredPerBatch, retiredPerReceipt*len(w.receipts))
	empty := true
	for table, key := range map[string]string{receiptTable(slot): "row", indexTable(slot): "key"} {
		some := fmt.Sprintf("DELETE FROM %s WHERE %s IN (SELECT %[2]s FROM %[1]s ORDER BY %[2]s LIMIT ?)", table, key)
		if err := exec(conn, some, nil, integer(int64(limit))); err != nil {
			return err
		}
		empty = empty && conn.Changes() < limit
	}
	if !empty {
		return nil
	}
	w.deleted = true
	for _, statement := range []string{
		"DROP TABLE " + receiptTable(slot), "DROP TABLE " + indexTable(slot),
		fmt.Sprintf("DELETE FROM receipt_slots WHERE slot = %d", slot),
	} {
		if err := exec(conn, statement, nil); err != nil {
			return err
		}
	}
	return nil
}

// committed takes over what a committed batch has written.
func (s *slots) committed(w *receiptsWritten) {
	s.since = w.since
	if len(w.receipts) == 0 {
		return
	}
	if len(s.closed) > 0 {
		s.step(w)
	}
	if w.deleted {
		s.retired = s.retired[1:]
	}
	if w.all != nil {
		s.rotate(w)
	}
	for _, r := range w.receipts {
		s.row++
		s.open.add(r.Key, s.row)
	}
	if s.full() && len(s.closed) == 0 {
		s.close()
	}
}

func (s *slots) step(w *receiptsWritten) {
	s.owed = max(s.owed+2*len(w.receipts)-w.entered, 0)
	if w.bucket == 0 {
		return // none was due
	}
	g := s.closed[0]
	if g.bucket = w.bucket; g.bucket == len(g.buckets) {
		s.closed, s.owed = s.closed[1:], 0
	}
}

// rotate begins with a new slot.
func (s *slots) rotate(w *receiptsWritten) {
	s.keep(w.all)
	if s.open != nil && s.open.count > 0 {
		s.closed = append(s.closed, s.open)
	}
	s.closed = slices.DeleteFunc(s.closed, func(g *generation) bool { return !slices.Contains(s.live, g.slot) })
	s.begin(s.live[0], 0)
}

// Receipts implements [store.Lister], slot by slot, oldest first.
func (v *view) Receipts(
	ctx context.Context, after store.ReceiptCursor, limit int,
) (list []*inventory.Receipt, next store.ReceiptCursor, err error) {
	defer v.during(ctx, &err)()
	all, err := readSlots(v.conn)
	if err != nil {
		return nil, next, err
	}
	for _, slot := range slices.Backward(all) {
		if slot.number < after.Table {
			continue
		}
		if slot.number > after.Table {
			after.Row = 0
		}
		list, next, err = v.receiptsOf(slot.number, after.Row, limit)
		if err == nil && next.Table == 0 && slot != all[0] {
			next.Table = slot.number + 1
		}
		return list, next, err
	}
	return nil, next, nil
}

func (v *view) receiptsOf(slot, after int64, limit int) ([]*inventory.Receipt, store.ReceiptCursor, error) {
	page := store.NewPage[inventory.Receipt, store.ReceiptCursor](limit)
	err := scan(v.conn, "SELECT row, key, fingerprint, answer FROM "+receiptTable(slot)+" WHERE row > ? ORDER BY row",
		func(row *sqlite.Stmt) (more bool, err error) {
			r := &inventory.Receipt{Answer: column(row, 3)}
			row.ColumnBytes(1, r.Key[:])
			row.ColumnBytes(2, r.Fingerprint[:])
			page.Add(r, store.ReceiptCursor{Table: slot, Row: row.ColumnInt64(0)}, len(r.Answer))
			return !page.Done(), nil
		}, integer(after))
	if err != nil {
		return nil, store.ReceiptCursor{}, err
	}
	return page.Result()
}
