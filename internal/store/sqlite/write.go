package sqlite

import (
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// writer writes the changes of a batch, using the row keys that its loader remembers.
type writer struct {
	*loader
	now           inventory.Time
	receiptsSince inventory.Time // see [store.Head.ReceiptsSince]
	scratch       []byte
	added         rows // reservations
	changed       rows // reservations
	moved         rows // stock
	held          rows // holds
	lapsed        []*inventory.Reservation
	step          step    // of the sweep of waiting entries
	ended         []entry // waiting entries of holds that ended
	made          []entry // of new holds; they will wait
	receipted     receiptsWritten
	collector     *collector
}

// rowsPerStatement is how many rows one statement reads or writes. Most of the cost of a row is that of its statement.
const rowsPerStatement = 16

// placeholders returns the parameters for a number of rows and columns, as VALUES takes them.
func placeholders(rows, columns int) string {
	row := "(?" + strings.Repeat(", ?", columns-1) + ")"
	return row + strings.Repeat(", "+row, rows-1)
}

// statements are two statements that write rows of a table: one for a single row, one for rowsPerStatement rows.
type statements struct {
	width     int // columns
	one, many string
}

// OR FAIL spares SQLite the journal of each statement that writes several rows: it copies every page that the statement
// changes, to be able to undo that statement alone. A batch that has a statement fail is rolled back as a whole.
func newInserter(table string, width int) *statements {
	insert := "INSERT OR FAIL INTO " + table + " VALUES "
	return &statements{width, insert + placeholders(1, width), insert + placeholders(rowsPerStatement, width)}
}

var (
	insertReservations, insertHolds = newInserter("reservations", 5), newInserter("holds", 3)

	updateReservations = newUpdater("reservations", "status", "expires_at", "data")
	updateStock        = newUpdater("stock", "available", "reserved", "committed", "seq")
)

// newUpdater makes statements that take the key of a row, and then what its columns are set to.
func newUpdater(table string, columns ...string) *statements {
	one, many := make([]string, len(columns)), make([]string, len(columns))
	for i, column := range columns {
		one[i] = fmt.Sprintf("%s = ?%d", column, i+2)
		many[i] = fmt.Sprintf("%s = v.column%d", column, i+2)
	}
	update, width := "UPDATE OR FAIL "+table+" SET ", 1+len(columns)
	return &statements{
		width, update + strings.Join(one, ", ") + " WHERE key = ?1",
		update + strings.Join(many, ", ") + " FROM (VALUES " + placeholders(rowsPerStatement, width) +
			") AS v WHERE " + table + ".key = v.column1",
	}
}

// rows are rows of one table that wait until a statement can write rowsPerStatement of them.
type rows struct {
	*statements
	values []value
}

// add adds a row, and writes the rows that wait if they are enough. Byte slices among the values must not change before
// that.
func (r *rows) add(conn *sqlite.Conn, values ...value) error {
	r.values = append(r.values, values...)
	if len(r.values) < rowsPerStatement*r.width {
		return nil
	}
	err := exactly(conn, rowsPerStatement, r.many, r.values...)
	r.values = r.values[:0]
	return err
}

// flush writes the rows that wait.
func (r *rows) flush(conn *sqlite.Conn) error {
	for ; len(r.values) > 0; r.values = r.values[r.width:] {
		if err := exactly(conn, 1, r.one, r.values[:r.width]...); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) write(c *inventory.Changes, entry *store.Entry, head *store.Head) error {
	if err := w.sweep(); err != nil {
		return err
	}
	for i := range c.Products {
		if err := w.product(&c.Products[i]); err != nil {
			return err
		}
	}
	for i := range c.Stock {
		if err := w.stockRow(&c.Stock[i]); err != nil {
			return err
		}
	}
	for i := range c.Reservations {
		if err := w.reservation(&c.Reservations[i]); err != nil {
			return err
		}
	}
	for _, r := range []*rows{&w.moved, &w.added, &w.changed, &w.held} {
		if err := r.flush(w.conn); err != nil {
			return err
		}
	}
	if err := w.leaveLapsed(); err != nil {
		return err
	}
	for i := range c.Orders {
		if err := w.order(&c.Orders[i]); err != nil {
			return err
		}
	}
	if err := w.writeRecords(c.Records); err != nil {
		return err
	}
	var err error
	if w.receipted, err = w.receipts.write(w.conn, c.Receipts, w.receiptsSince, w.now); err != nil {
		return err
	}
	err = exec(w.conn, "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)", nil,
		integer(entry.BatchNo), blob(entry.BatchID[:]), integer(head.Seq), integer(int64(entry.Count)),
		integer(int64(entry.At)),
		blob(entry.Events), blob(entry.Checksum[:]))
	if err != nil {
		return err
	}
	return exec(w.conn, "UPDATE head SET batch_no = ?, batch_id = ?, seq = ?, at = ?, chain = ?, epochs = ?", nil,
		integer(head.BatchNo), blob(head.BatchID[:]), integer(head.Seq), integer(int64(head.At)), blob(head.Chain[:]),
		blob([]byte(head.Epochs)))
}

func (w *writer) product(c *inventory.Change[inventory.Product]) error {
	w.scratch = inventory.AppendProduct(w.scratch[:0], c.After)
	if c.Before != nil {
		return w.one("UPDATE products SET data = ? WHERE key = ?", blob(w.scratch), integer(w.products[c.After.ID]))
	}
	if err := exec(w.conn, "INSERT INTO products (id, data) VALUES (?, ?)", nil, text(c.After.ID),
		blob(w.scratch)); err != nil {
		return err
	}
	w.products[c.After.ID] = w.conn.LastInsertRowID()
	return nil
}

func (w *writer) stockRow(c *inventory.StockChange) error {
	after := c.After
	if c.Before != nil {
		return w.moved.add(w.conn, integer(w.stock[c.StockKey]), integer(after.Available), integer(after.Reserved),
			integer(after.Committed), integer(after.Seq))
	}
	err := exec(w.conn, "INSERT INTO stock (product, location, available, reserved, committed, seq) VALUES (?, ?, ?, "+
		"?, ?, ?)", nil,
		integer(w.products[c.ProductID]), text(c.Location), integer(after.Available), integer(after.Reserved),
		integer(after.Committed), integer(after.Seq))
	if err != nil {
		return err
	}
	w.stock[c.StockKey] = w.conn.LastInsertRowID()
	return nil
}

func (w *writer) reservation(c *inventory.Change[inventory.Reservation]) error {
	r := c.After
	start := len(w.scratch)
	w.scratch = inventory.AppendReservation(w.scratch, r)
	data := w.scratch[start:]
	key := r.ID.Sequence()
	if c.Before == nil {
		err := w.added.add(w.conn, integer(key), integer(int64(r.Status)), integer(int64(r.ExpiresAt)),
			optional(r.CustomerID), blob(data))
		if err != nil {
			return err
		}
	} else {
		err := w.changed.add(w.conn, integer(key), integer(int64(r.Status)), integer(int64(r.ExpiresAt)), blob(data))
		if err != nil {
			return err
		}
		if r.Status == inventory.ReservationExpired && c.Before.Due(w.now) {
			w.lapsed = append(w.lapsed, c.Before)
		} else if err := w.release(c.Before); err != nil {
			return err
		}
	}
	return w.holds(r, func(e entry) error {
		if c.Before == nil {
			w.made = append(w.made, e)
			return nil
		}
		return w.enter(e)
	})
}

// enter enters an entry into the table.
func (w *writer) enter(e entry) error {
	return w.held.add(w.conn, integer(e.stock), integer(e.at), integer(e.reservation))
}

// sweep takes the step of the sweep that is due. It comes first: what it enters, the batch may delete.
func (w *writer) sweep() error {
	w.step = w.waiting.next()
	for _, e := range w.step.entries {
		if err := w.enter(e); err != nil {
			return err
		}
	}
	if err := w.held.flush(w.conn); err != nil || !w.step.ends {
		return err
	}
	return setHoldsEntered(w.conn, w.waiting.begun)
}

// holds calls use with an entry for every stock row that an ACTIVE reservation takes units from.
func (w *writer) holds(r *inventory.Reservation, use func(entry) error) error {
	if r.Status != inventory.ReservationActive {
		return nil
	}
	for i := range r.Lines {
		key := r.Lines[i].Key()
		if slices.ContainsFunc(r.Lines[:i], func(l inventory.Line) bool { return l.Key() == key }) {
			continue // an earlier line takes from the same stock row
		}
		if err := use(entry{w.stock[key], placeOf(r)}); err != nil {
			return err
		}
	}
	return nil
}

// release takes out the entries of an ACTIVE reservation.
func (w *writer) release(r *inventory.Reservation) error {
	return w.holds(r, func(e entry) error {
		if w.stopWaiting(e) {
			return nil
		}
		return w.one("DELETE FROM holds WHERE stock = ? AND expires_at = ? AND reservation = ?", integer(e.stock),
			integer(e.at), integer(e.reservation))
	})
}

// stopWaiting reports whether an entry waits and is not entered by this batch. It will then not wait any longer.
func (w *writer) stopWaiting(e entry) bool {
	if !w.waiting.has(e) || w.step.has(e) {
		return false
	}
	w.ended = append(w.ended, e)
	return true
}

// leaveLapsed is called when everything else is written. It leaves the entries of lapsed holds to the collector if they
// are dead by then, and deletes the others.
func (w *writer) leaveLapsed() error {
	if len(w.lapsed) == 0 {
		return nil
	}
	first, err := readFirstActive(w.conn)
	if err != nil {
		return err
	}
	dead := 0
	for _, r := range w.lapsed {
		if placeOf(r).before(first) {
			dead += w.leave(r)
		} else if err := w.release(r); err != nil {
			return err
		}
	}
	return w.collector.collect(w.conn, first, dead)
}

// leave returns how many entries of a lapsed hold are left in the table. Those that wait are gone.
func (w *writer) leave(r *inventory.Reservation) (left int) {
	_ = w.holds(r, func(e entry) error {
		if !w.stopWaiting(e) {
			left++
		}
		return nil
	})
	return left
}

func (w *writer) order(c *inventory.Change[inventory.Order]) error {
	o := c.After
	w.scratch = inventory.AppendOrder(w.scratch[:0], o)
	if c.Before == nil {
		return exec(w.conn, "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)", nil,
			integer(o.ID.Sequence()), integer(o.ReservationID.Sequence()), integer(int64(o.Status)), optional(o.CustomerID),
			optional(o.Reference), blob(w.scratch))
	}
	return w.one("UPDATE orders SET status = ?, data = ? WHERE key = ?", integer(int64(o.Status)), blob(w.scratch),
		integer(o.ID.Sequence()))
}

// one runs a statement that must change exactly one row.
func (w *writer) one(statement string, arguments ...value) error {
	return exactly(w.conn, 1, statement, arguments...)
}

// exactly runs a statement that must change this number of rows. If it changes another number, the file is not as it
// was loaded.
func exactly(conn *sqlite.Conn, rows int, statement string, arguments ...value) error {
	if err := exec(conn, statement, nil, arguments...); err != nil {
		return err
	}
	if n := conn.Changes(); n != rows {
		return fmt.Errorf("%q changed %d rows instead of %d: run holdfast verify", statement, n, rows)
	}
	return nil
}
