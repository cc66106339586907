package sqlite

import (
	"math"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
)

// The table holds is an index that the store maintains by itself, in the order of deadlines. Most holds lapse, and they
// do so in that order. Deleting each entry when its hold lapses would change one page for each hold if many products
// are sold. Therefore:
//
//	an entry that comes before the first ACTIVE reservation, in the order of deadlines, is dead.
//
// Readers begin after the dead entries. A collector deletes them, many of one stock row at a time. A dead entry stays
// dead: its deadline has passed, and a hold that is made or extended later has a later deadline. The entries of a hold
// that ends out of order are deleted at once: one that is cancelled, confirmed or extended, or that lapses early for a
// buyer who needs its units.

// firstActive selects the place of the first ACTIVE reservation in the order of deadlines. There is no row if no
// reservation is ACTIVE.
const firstActive = "SELECT expires_at, key FROM reservations WHERE status = 1 ORDER BY expires_at, key LIMIT 1"

// place is the position of an entry among those of its stock row: by deadline, and then by reservation.
type place struct{ at, reservation int64 }

func placeOf(r *inventory.Reservation) place { return place{int64(r.ExpiresAt), r.ID.Sequence()} }

func (p place) before(q place) bool {
	return p.at < q.at || (p.at == q.at && p.reservation < q.reservation)
}

// readFirstActive reads the place of the first ACTIVE reservation. If there is none, it returns a place after all
// entries.
func readFirstActive(conn *sqlite.Conn) (first place, err error) {
	first = place{math.MaxInt64, math.MaxInt64}
	err = exec(conn, firstActive, func(row *sqlite.Stmt) error {
		first = place{row.ColumnInt64(0), row.ColumnInt64(1)}
		return nil
	})
	return first, err
}

// After every entriesPerStep entries that were left dead, the collector takes a step, which deletes up to
// collectedPerStep. It deletes more than are left, so it catches up, and the work of a step is in proportion to what
// batches leave.
const entriesPerStep, collectedPerStep = 64, 128

// collector deletes dead entries from holds, one stock row after another. Its position is not stored: each process
// begins with the first stock row.
type collector struct {
	stock int64 // row key of the stock row where it goes on
	owed  int   // entries left dead that have not made a step due yet
}

// collect takes the steps that are due after a batch has left so many entries dead.
func (c *collector) collect(conn *sqlite.Conn, first place, dead int) error {
	for c.owed += dead; c.owed >= entriesPerStep; c.owed -= entriesPerStep {
		if err := c.step(conn, first); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) step(conn *sqlite.Conn, first place) error {
	found, err := c.seek(conn)
	if err == nil && !found && c.stock > 0 {
		c.stock = 0
		found, err = c.seek(conn)
	}
	if err != nil || !found {
		return err
	}
	// If there are more entries than a step deletes, the first of those that stay is the bound.
	err = exec(conn, `SELECT expires_at, reservation FROM holds WHERE stock = ? AND (expires_at, reservation) < (?, ?)
		ORDER BY expires_at, reservation LIMIT 1 OFFSET ?`, func(row *sqlite.Stmt) error {
		first = place{row.ColumnInt64(0), row.ColumnInt64(1)}
		return nil
	}, integer(c.stock), integer(first.at), integer(first.reservation), integer(collectedPerStep))
	if err != nil {
		return err
	}
	err = exec(conn, "DELETE FROM holds WHERE stock = ? AND (expires_at, reservation) < (?, ?)", nil,
		integer(c.stock), integer(first.at), integer(first.reservation))
	if err == nil && conn.Changes() < collectedPerStep {
		c.stock++
	}
	return err
}

// seek moves to the next stock row that has entries.
func (c *collector) seek(conn *sqlite.Conn) (found bool, err error) {
	err = exec(conn, "SELECT stock FROM holds WHERE stock >= ? ORDER BY stock LIMIT 1", func(row *sqlite.Stmt) error {
		c.stock, found = row.ColumnInt64(0), true
		return nil
	}, integer(c.stock))
	return found, err
}
