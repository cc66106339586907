package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

const (
	// slotLength is how long receipts are written to the tables of one slot.
	slotLength = store.RotateEvery
	// slotsKept is how many slots are kept: a receipt lives for one to two slots.
	slotsKept = 2
	// tailLimit is how many receipts are found through memory before they are entered into the index, all at once.
	tailLimit = 2048
)

// slots are the tables of receipts. Each time slot has two, so that old receipts are dropped with their tables, not row
// by row.
//
//	receipts_N      (row, key, fingerprint, answer)   in the order in which they were written
//	receipt_keys_N  (key, row)                        the index, which lacks at most the last tailLimit receipts
//
// Keys are random. If each batch entered its keys into the index, every key would change a page of its own, which costs
// more than all the rest of a request with a key. Receipts are therefore appended to the first table, and many keys are
// entered into the index together, in key order, so that neighbours share pages. The receipts that the index lacks are
// the tail, which is kept in memory and read again when the store is opened.
type slots struct {
	live []int64 // newest first
	tail map[[16]byte]int64
	row  int64 // last row of the newest slot

	insertReceipts, insertKeys *statements // into the tables of the newest slot
}

func receiptTable(slot int64) string { return fmt.Sprintf("receipts_%d", slot) }
func indexTable(slot int64) string   { return fmt.Sprintf("receipt_keys_%d", slot) }

// load reads the slots and the tail from the file. It is called when the store is opened, and after a batch that was
// rolled back.
func (s *slots) load(conn *sqlite.Conn) error {
	s.live, s.tail, s.row = nil, map[[16]byte]int64{}, 0
	live, err := readSlots(conn)
	if err != nil || len(live) == 0 {
		return err
	}
	for _, slot := range live {
		s.live = append(s.live, slot.number)
	}
	s.row = live[0].indexed
	s.insertReceipts, s.insertKeys = newInserter(receiptTable(s.live[0]), 4), newInserter(indexTable(s.live[0]), 2)
	return exec(conn, "SELECT row, key FROM "+receiptTable(s.live[0])+" WHERE row > ? ORDER BY row",
		func(row *sqlite.Stmt) error {
			s.row = row.ColumnInt64(0)
			s.tail[[16]byte(column(row, 1))] = s.row
			return nil
		}, integer(live[0].indexed))
}

// slot is a row of receipt_slots: the index of its receipts has all keys up to the row indexed.
type slot struct{ number, indexed int64 }

// readSlots reads the slots that there are, newest first.
func readSlots(conn *sqlite.Conn) (live []slot, err error) {
	err = exec(conn, "SELECT slot, indexed FROM receipt_slots ORDER BY slot DESC", func(row *sqlite.Stmt) error {
		live = append(live, slot{row.ColumnInt64(0), row.ColumnInt64(1)})
		return nil
	})
	return live, err
}

// find returns the receipt of a key, or nil.
func (s *slots) find(conn *sqlite.Conn, key [16]byte) (*inventory.Receipt, error) {
	if row, found := s.tail[key]; found {
		return s.read(conn, s.live[0], row, key)
	}
	for _, slot := range s.live {
		row := int64(0)
		err := exec(conn, "SELECT row FROM "+indexTable(slot)+" WHERE key = ?", func(stmt *sqlite.Stmt) error {
			row = stmt.ColumnInt64(0)
			return nil
		}, blob(key[:]))
		if err != nil {
			return nil, err
		}
		if row != 0 {
			return s.read(conn, slot, row, key)
		}
	}
	return nil, nil
}

func (s *slots) read(conn *sqlite.Conn, slot, row int64, key [16]byte) (found *inventory.Receipt, err error) {
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

// write adds receipts to the slot of the time now, within the transaction of the batch.
func (s *slots) write(conn *sqlite.Conn, receipts []*inventory.Receipt, now inventory.Time) error {
	if len(receipts) == 0 {
		return nil
	}
	slot := int64(now / slotLength)
	if !slices.Contains(s.live, slot) {
		if err := s.rotate(conn, slot); err != nil {
			return err
		}
	}
	added := rows{statements: s.insertReceipts}
	for _, r := range receipts {
		s.row++
		if err := added.add(conn, integer(s.row), blob(r.Key[:]), blob(r.Fingerprint[:]), blob(r.Answer)); err != nil {
			return err
		}
		s.tail[r.Key] = s.row
	}
	if err := added.flush(conn); err != nil {
		return err
	}
	if len(s.tail) < tailLimit {
		return nil
	}
	return s.index(conn)
}

// index enters the tail into the index of the newest slot, in key order.
func (s *slots) index(conn *sqlite.Conn) error {
	if len(s.tail) == 0 {
		return nil
	}
	keys := make([][16]byte, 0, len(s.tail))
	for key := range s.tail {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	added := rows{statements: s.insertKeys}
	for i := range keys {
		if err := added.add(conn, blob(keys[i][:]), integer(s.tail[keys[i]])); err != nil {
			return err
		}
	}
	if err := added.flush(conn); err != nil {
		return err
	}
	clear(s.tail)
	return exec(conn, "UPDATE receipt_slots SET indexed = ? WHERE slot = ?", nil, integer(s.row), integer(s.live[0]))
}

// rotate completes the index of the newest slot, begins a new slot, and drops the slots that are old enough.
func (s *slots) rotate(conn *sqlite.Conn, slot int64) error {
	if err := s.index(conn); err != nil {
		return err
	}
	statements := []string{
		"CREATE TABLE " + receiptTable(slot) + " (row INTEGER PRIMARY KEY, key BLOB NOT NULL, fingerprint BLOB NOT NULL, " +
			"answer BLOB NOT NULL) STRICT",
		"CREATE TABLE " + indexTable(slot) + " (key BLOB PRIMARY KEY, row INTEGER NOT NULL) STRICT, WITHOUT ROWID",
		fmt.Sprintf("INSERT INTO receipt_slots VALUES (%d, 0)", slot),
	}
	for _, old := range s.live {
		if old <= slot-slotsKept {
			statements = append(statements, "DROP TABLE "+receiptTable(old), "DROP TABLE "+indexTable(old),
				fmt.Sprintf("DELETE FROM receipt_slots WHERE slot = %d", old))
		}
	}
	for _, statement := range statements {
		if err := exec(conn, statement, nil); err != nil {
			return err
		}
	}
	return s.load(conn)
}

// Receipts implements [store.Lister], slot by slot, oldest first.
func (v *view) Receipts(
	ctx context.Context, after store.ReceiptCursor, limit int,
) (list []*inventory.Receipt, next store.ReceiptCursor, err error) {
	defer v.during(ctx, &err)()
	live, err := readSlots(v.conn)
	if err != nil {
		return nil, next, err
	}
	for _, slot := range slices.Backward(live) {
		if slot.number < after.Table {
			continue
		}
		if slot.number > after.Table {
			after.Row = 0
		}
		list, next, err = v.receiptsOf(slot.number, after.Row, limit)
		if err == nil && next.Table == 0 && slot != live[0] {
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
