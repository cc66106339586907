package sqlite

import (
	"math"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
)

// The table holds is an index kept by hand. Its entries are ordered by when the hold falls due, and so are lapsed:
// holds mostly end in that order. Taking each entry out as its hold lapses would dirty a page a hold where many
// products are sold. Instead,
//
//	an entry before the first ACTIVE reservation in the order of deadlines is a dead one:
//
// readers begin behind the dead ones, and a collector takes them out, several of a stock row at a time. A dead entry
// stays dead: its deadline has passed, and that of a hold which is made or extended later has not. Entries of holds
// that end in another order (cancelled, confirmed, extended, or lapsed for a buyer who needs the units) are taken out
// at once.

// firstActive selects the place of the first ACTIVE reservation in the order of deadlines; no row where there is none.
const firstActive = "SELECT expires_at, key FROM reservations WHERE status = 1 ORDER BY expires_at, key LIMIT 1"

// place is where an entry stands among those of its stock row: by deadline, and then by reservation.
type place struct{ at, reservation int64 }

func placeOf(r *inventory.Reservation) place { return place{int64(r.ExpiresAt), r.ID.Sequence()} }

func (p place) before(q place) bool {
	return p.at < q.at || (p.at == q.at && p.reservation < q.reservation)
}

// readFirstActive is behind every entry where there is no ACTIVE reservation.
func readFirstActive(conn *sqlite.Conn) (first place, err error) {
	first = place{math.MaxInt64, math.MaxInt64}
	err = exec(conn, firstActive, func(row *sqlite.Stmt) error {
		first = place{row.ColumnInt64(0), row.ColumnInt64(1)}
		return nil
	})
	return first, err
}

// A step of the collector is due for every entriesPerStep entries that were left dead, and takes out up to
// entriesPerStep more than that: so it catches up, and a batch does about as much work as it leaves.
const entriesPerStep, collectedPerStep = 64, 128

// collector takes dead entries out of holds, one stock row after another. Where it stands is not stored: it begins anew
// with each process.
type collector struct {
	stock int64 // row key where it goes on
	owed  int   // entries left dead since its last step
}

// collect takes a step for every so many entries.
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
	// The bound is the first entry that stays.
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

// seek goes to the next stock row that has entries.
func (c *collector) seek(conn *sqlite.Conn) (found bool, err error) {
	err = exec(conn, "SELECT stock FROM holds WHERE stock >= ? ORDER BY stock LIMIT 1", func(row *sqlite.Stmt) error {
		c.stock, found = row.ColumnInt64(0), true
		return nil
	}, integer(c.stock))
	return found, err
}
