package sqlite

import (
	"fmt"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
)

// slotLength is how long receipts are written to one table. Two tables are kept, so a receipt lives for one to two slots.
const slotLength = inventory.Time(24 * time.Hour / time.Millisecond)

const slotsKept = 2

// slots are the tables of the receipts, one for each time slot: old receipts go by dropping a table, not row by row.
type slots struct{ live []int64 } // newest first

func slotTable(slot int64) string { return fmt.Sprintf("receipts_%d", slot) }

func (s *slots) load(conn *sqlite.Conn) error {
	s.live = nil
	err := exec(conn, "SELECT substr(name, 10) FROM sqlite_schema WHERE type = 'table' AND name GLOB 'receipts_*'", func(row *sqlite.Stmt) error {
		s.live = append(s.live, row.ColumnInt64(0))
		return nil
	})
	slices.SortFunc(s.live, func(a, b int64) int { return int(b - a) })
	return err
}

// find looks a key up in the tables.
func (s *slots) find(conn *sqlite.Conn, key [16]byte) (found *inventory.Receipt, err error) {
	for _, slot := range s.live {
		err = exec(conn, "SELECT fingerprint, answer FROM "+slotTable(slot)+" WHERE key = ?", func(row *sqlite.Stmt) error {
			found = &inventory.Receipt{ReceiptID: inventory.ReceiptID{Key: key}, Answer: column(row, 1)}
			row.ColumnBytes(0, found.Fingerprint[:])
			return nil
		}, blob(key[:]))
		if err != nil || found != nil {
			return found, err
		}
	}
	return nil, nil
}

// write adds receipts to the table of now, inside the batch's transaction.
func (s *slots) write(conn *sqlite.Conn, receipts []*inventory.Receipt, now inventory.Time) error {
	if len(receipts) == 0 {
		return nil
	}
	slot := int64(now / slotLength)
	if !slices.Contains(s.live, slot) {
		if err := s.turn(conn, slot); err != nil {
			return err
		}
	}
	insert := "INSERT INTO " + slotTable(slot) + " VALUES (?, ?, ?)"
	for _, r := range receipts {
		if err := exec(conn, insert, nil, blob(r.Key[:]), blob(r.Fingerprint[:]), blob(r.Answer)); err != nil {
			return err
		}
	}
	return nil
}

// turn opens the table of a new slot and drops those that are old enough.
func (s *slots) turn(conn *sqlite.Conn, slot int64) error {
	create := "CREATE TABLE " + slotTable(slot) + " (key BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, answer BLOB NOT NULL) STRICT, WITHOUT ROWID"
	if err := exec(conn, create, nil); err != nil {
		return err
	}
	for _, old := range s.live {
		if old > slot-slotsKept {
			continue
		}
		if err := exec(conn, "DROP TABLE "+slotTable(old), nil); err != nil {
			return err
		}
	}
	return s.load(conn)
}
