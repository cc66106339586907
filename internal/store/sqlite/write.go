package sqlite

import (
	"fmt"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// writer writes the changes of a batch over the rows that its loader read.
type writer struct {
	*loader
	now     inventory.Time
	scratch []byte
}

func (w *writer) write(c *inventory.Changes, entry *store.Entry, head *store.Head) error {
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
	for i := range c.Orders {
		if err := w.order(&c.Orders[i]); err != nil {
			return err
		}
	}
	if err := w.receipts.write(w.conn, c.Receipts, w.now); err != nil {
		return err
	}
	err := exec(w.conn, "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)", nil,
		integer(entry.BatchNo), blob(entry.BatchID[:]), integer(head.Seq), integer(int64(entry.Count)), integer(int64(entry.At)),
		blob(entry.Events), blob(entry.Checksum[:]))
	if err != nil {
		return err
	}
	return exec(w.conn, "UPDATE head SET batch_no = ?, batch_id = ?, seq = ?, at = ?, chain = ?", nil,
		integer(head.BatchNo), blob(head.BatchID[:]), integer(head.Seq), integer(int64(head.At)), blob(head.Chain[:]))
}

func (w *writer) product(c *inventory.Change[inventory.Product]) error {
	w.scratch = inventory.AppendProduct(w.scratch[:0], c.After)
	if c.Before != nil {
		return w.one("UPDATE products SET data = ? WHERE key = ?", blob(w.scratch), integer(w.products[c.After.ID]))
	}
	if err := exec(w.conn, "INSERT INTO products (id, data) VALUES (?, ?)", nil, text(c.After.ID), blob(w.scratch)); err != nil {
		return err
	}
	w.products[c.After.ID] = w.conn.LastInsertRowID()
	return nil
}

func (w *writer) stockRow(c *inventory.StockChange) error {
	after := c.After
	if c.Before != nil {
		return w.one("UPDATE stock SET available = ?, reserved = ?, committed = ?, seq = ? WHERE key = ?",
			integer(after.Available), integer(after.Reserved), integer(after.Committed), integer(after.Seq), integer(w.stock[c.StockKey]))
	}
	err := exec(w.conn, "INSERT INTO stock (product, location, available, reserved, committed, seq) VALUES (?, ?, ?, ?, ?, ?)", nil,
		integer(w.products[c.ProductID]), text(c.Location), integer(after.Available), integer(after.Reserved), integer(after.Committed), integer(after.Seq))
	if err != nil {
		return err
	}
	w.stock[c.StockKey] = w.conn.LastInsertRowID()
	return nil
}

func (w *writer) reservation(c *inventory.Change[inventory.Reservation]) error {
	r := c.After
	w.scratch = inventory.AppendReservation(w.scratch[:0], r)
	key := r.ID.Sequence()
	if c.Before == nil {
		err := exec(w.conn, "INSERT INTO reservations VALUES (?, ?, ?, ?, ?)", nil,
			integer(key), integer(int64(r.Status)), integer(int64(r.ExpiresAt)), optional(r.CustomerID), blob(w.scratch))
		if err != nil {
			return err
		}
	} else {
		err := w.one("UPDATE reservations SET status = ?, expires_at = ?, data = ? WHERE key = ?",
			integer(int64(r.Status)), integer(int64(r.ExpiresAt)), blob(w.scratch), integer(key))
		if err != nil {
			return err
		}
		if err := w.holds(c.Before, "DELETE FROM holds WHERE stock = ? AND expires_at = ? AND reservation = ?"); err != nil {
			return err
		}
	}
	return w.holds(r, "INSERT INTO holds VALUES (?, ?, ?)")
}

// holds runs a statement for every stock row that an ACTIVE reservation takes from.
func (w *writer) holds(r *inventory.Reservation, statement string) error {
	if r.Status != inventory.Active {
		return nil
	}
	for i := range r.Lines {
		if again(r.Lines[:i], &r.Lines[i]) {
			continue
		}
		if err := w.one(statement, integer(w.stock[r.Lines[i].Key()]), integer(int64(r.ExpiresAt)), integer(r.ID.Sequence())); err != nil {
			return err
		}
	}
	return nil
}

func again(before []inventory.Line, line *inventory.Line) bool {
	for i := range before {
		if before[i].Key() == line.Key() {
			return true
		}
	}
	return false
}

func (w *writer) order(c *inventory.Change[inventory.Order]) error {
	o := c.After
	w.scratch = inventory.AppendOrder(w.scratch[:0], o)
	if c.Before == nil {
		return exec(w.conn, "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)", nil,
			integer(o.ID.Sequence()), integer(o.ReservationID.Sequence()), integer(int64(o.Status)), optional(o.CustomerID), optional(o.Reference), blob(w.scratch))
	}
	return w.one("UPDATE orders SET status = ?, data = ? WHERE key = ?", integer(int64(o.Status)), blob(w.scratch), integer(o.ID.Sequence()))
}

// one runs a statement that must change exactly one row: anything else means that the file is not as it was loaded.
func (w *writer) one(statement string, arguments ...value) error {
	if err := exec(w.conn, statement, nil, arguments...); err != nil {
		return err
	}
	if n := w.conn.Changes(); n != 1 {
		return fmt.Errorf("%q changed %d rows instead of 1: run holdfast verify", statement, n)
	}
	return nil
}
