package sqlite

import (
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// loader fills the state of a batch and remembers the row keys of what it loaded.
type loader struct {
	conn     *sqlite.Conn
	state    *inventory.State
	receipts *slots
	products map[string]int64
	stock    map[inventory.StockKey]int64
}

func (l *loader) load(keys *inventory.Keys) error {
	l.products = make(map[string]int64, len(keys.Products)+len(keys.Stock))
	l.stock = make(map[inventory.StockKey]int64, len(keys.Stock))
	for _, key := range keys.Receipts {
		r, err := l.receipts.find(l.conn, key)
		if err != nil {
			return err
		}
		if r != nil {
			l.state.Receipts[key] = r
		}
	}
	for _, id := range keys.Products {
		if err := l.wholeProduct(id); err != nil {
			return err
		}
	}
	for i := range keys.Stock {
		if err := l.stockRow(keys.Stock[i].StockKey); err != nil {
			return err
		}
	}
	for _, id := range keys.Reservations {
		if err := l.reservation(id); err != nil {
			return err
		}
	}
	for _, id := range keys.Orders {
		if err := l.order(id); err != nil {
			return err
		}
	}
	return l.overdue(keys)
}

func (l *loader) product(id string) (*inventory.Product, error) {
	if p := l.state.Products[id]; p != nil {
		return p, nil
	}
	var found *inventory.Product
	err := exec(l.conn, "SELECT key, data FROM products WHERE id = ?", func(row *sqlite.Stmt) (err error) {
		l.products[id] = row.ColumnInt64(0)
		found, err = inventory.DecodeProduct(column(row, 1))
		return err
	}, text(id))
	if err != nil {
		return nil, fmt.Errorf("product %s: %w", id, err)
	}
	if found != nil {
		l.state.Products[id] = found
	}
	return found, nil
}

func (l *loader) wholeProduct(id string) error {
	p, err := l.product(id)
	if err != nil || p == nil {
		return err
	}
	return exec(l.conn, "SELECT key, location, available, reserved, committed, seq FROM stock WHERE product = ? ORDER BY location", func(row *sqlite.Stmt) error {
		l.put(p, row)
		return nil
	}, integer(l.products[id]))
}

func (l *loader) stockRow(key inventory.StockKey) error {
	p, err := l.product(key.ProductID)
	if err != nil || p == nil || p.At(key.Location) != nil {
		return err
	}
	return exec(l.conn, "SELECT key, location, available, reserved, committed, seq FROM stock WHERE product = ? AND location = ?", func(row *sqlite.Stmt) error {
		l.put(p, row)
		return nil
	}, integer(l.products[key.ProductID]), text(key.Location))
}

func (l *loader) put(p *inventory.Product, row *sqlite.Stmt) {
	s := readStock(row)
	l.stock[inventory.StockKey{ProductID: p.ID, Location: s.Location}] = row.ColumnInt64(0)
	p.Put(s)
}

func readStock(row *sqlite.Stmt) inventory.Stock {
	return inventory.Stock{
		Location: row.ColumnText(1),
		Buckets:  inventory.Buckets{Available: row.ColumnInt64(2), Reserved: row.ColumnInt64(3), Committed: row.ColumnInt64(4)},
		Seq:      row.ColumnInt64(5),
	}
}

func (l *loader) lines(lines []inventory.Line) error {
	for i := range lines {
		if err := l.stockRow(lines[i].Key()); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) reservation(id inventory.ID) error {
	if l.state.Reservations[id] != nil {
		return nil
	}
	r, err := readReservation(l.conn, id)
	if err != nil || r == nil {
		return err
	}
	return l.addReservation(r)
}

func (l *loader) addReservation(r *inventory.Reservation) error {
	l.state.Reservations[r.ID] = r
	if !r.OrderID.IsZero() {
		if err := l.order(r.OrderID); err != nil {
			return err
		}
	}
	return l.lines(r.Lines)
}

func (l *loader) order(id inventory.ID) error {
	if l.state.Orders[id] != nil {
		return nil
	}
	o, err := readOrder(l.conn, id)
	if err != nil || o == nil {
		return err
	}
	l.state.Orders[id] = o
	return l.lines(o.Lines)
}

// overdue loads the holds whose units the batch may need back (I8).
func (l *loader) overdue(keys *inventory.Keys) error {
	budget := int64(inventory.MaxOverdueLoaded)
	for i := range keys.Stock {
		d := &keys.Stock[i]
		stock := l.state.Stock(d.StockKey)
		if stock == nil || stock.Available >= d.Units {
			continue
		}
		found, err := l.overdueOf(d.StockKey, budget)
		if err != nil {
			return err
		}
		budget -= found
	}
	return nil
}

func (l *loader) overdueOf(key inventory.StockKey, budget int64) (found int64, err error) {
	var rows []int64
	err = exec(l.conn, "SELECT reservation FROM holds WHERE stock = ? AND expires_at <= ? ORDER BY expires_at LIMIT ?", func(row *sqlite.Stmt) error {
		rows = append(rows, row.ColumnInt64(0))
		return nil
	}, integer(l.stock[key]), integer(int64(l.state.Now)), integer(budget+1))
	if err != nil {
		return 0, err
	}
	more := int64(len(rows)) > budget
	if more {
		rows = rows[:budget]
	}
	for _, row := range rows {
		r, err := reservationRow(l.conn, row)
		var bad *store.CorruptRow
		if errors.As(err, &bad) || (err == nil && r == nil) {
			continue // a damaged hold keeps its units, but must not stop every buyer; the sweeper reports it, verify names it
		}
		if err != nil {
			return 0, err
		}
		if l.state.Reservations[r.ID] == nil {
			if err := l.addReservation(r); err != nil {
				return 0, err
			}
		}
		l.state.Overdue[key] = append(l.state.Overdue[key], r.ID)
	}
	// Waiting for the next batch helps only if this one makes progress: not where all that was found here is damaged.
	l.state.MoreOverdue[key] = more && (budget == 0 || len(l.state.Overdue[key]) > 0)
	return int64(len(rows)), nil
}

func readReservation(conn *sqlite.Conn, id inventory.ID) (*inventory.Reservation, error) {
	r, err := reservationRow(conn, id.Sequence())
	if err != nil || r == nil || r.ID != id {
		return nil, err
	}
	return r, nil
}

const selectReservation = "SELECT key, status, expires_at, customer, data FROM reservations "

func reservationRow(conn *sqlite.Conn, key int64) (found *inventory.Reservation, err error) {
	err = exec(conn, selectReservation+"WHERE key = ?", func(row *sqlite.Stmt) (err error) {
		found, err = scanReservation(row)
		return err
	}, integer(key))
	return found, err
}

// scanReservation reads a row and holds its columns against its data.
func scanReservation(row *sqlite.Stmt) (*inventory.Reservation, error) {
	data := column(row, 4)
	r, err := inventory.DecodeReservation(data)
	switch {
	case err != nil:
		return nil, corrupt("reservation", row, data, err.Error())
	case r.ID.Sequence() != row.ColumnInt64(0):
		return nil, corrupt("reservation", row, data, "its key is not that of its id "+r.ID.Text(inventory.ReservationPrefix))
	case int64(r.Status) != row.ColumnInt64(1):
		return nil, corrupt("reservation", row, data, fmt.Sprintf("column status says %v, its data says %v", inventory.Status(row.ColumnInt(1)), r.Status))
	case int64(r.ExpiresAt) != row.ColumnInt64(2):
		return nil, corrupt("reservation", row, data, "column expires_at is not the deadline in its data")
	case r.CustomerID != row.ColumnText(3):
		return nil, corrupt("reservation", row, data, "column customer is not the customer in its data")
	}
	return r, nil
}

// corrupt names a bad row. Its id is rebuilt from the key if its data does not have one that fits: a cursor can go on from it.
func corrupt(kind string, row *sqlite.Stmt, data []byte, detail string) error {
	key := row.ColumnInt64(0)
	id := inventory.NewID(0, key, 0)
	if len(data) >= len(id) {
		if stored := inventory.ID(data[:len(id)]); stored.Sequence() == key {
			id = stored
		}
	}
	return &store.CorruptRow{Row: fmt.Sprintf("%s row %d", kind, key), ID: id, Detail: detail}
}

func readOrder(conn *sqlite.Conn, id inventory.ID) (found *inventory.Order, err error) {
	err = exec(conn, selectOrder+"WHERE key = ?", func(row *sqlite.Stmt) (err error) {
		found, err = scanOrder(row)
		return err
	}, integer(id.Sequence()))
	if err != nil || found == nil || found.ID != id {
		return nil, err
	}
	return found, nil
}

const selectOrder = "SELECT key, reservation, status, customer, reference, data FROM orders "

func scanOrder(row *sqlite.Stmt) (*inventory.Order, error) {
	data := column(row, 5)
	o, err := inventory.DecodeOrder(data)
	switch {
	case err != nil:
		return nil, corrupt("order", row, data, err.Error())
	case o.ID.Sequence() != row.ColumnInt64(0):
		return nil, corrupt("order", row, data, "its key is not that of its id "+o.ID.Text(inventory.OrderPrefix))
	case o.ReservationID.Sequence() != row.ColumnInt64(1):
		return nil, corrupt("order", row, data, "column reservation is not the reservation in its data")
	case int64(o.Status) != row.ColumnInt64(2):
		return nil, corrupt("order", row, data, fmt.Sprintf("column status says %v, its data says %v", inventory.OrderStatus(row.ColumnInt(2)), o.Status))
	case o.CustomerID != row.ColumnText(3):
		return nil, corrupt("order", row, data, "column customer is not the customer in its data")
	case o.Reference != row.ColumnText(4):
		return nil, corrupt("order", row, data, "column reference is not the reference in its data")
	}
	return o, nil
}
