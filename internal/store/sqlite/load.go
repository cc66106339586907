package sqlite

import (
	"fmt"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// loader fills the state of a batch, and remembers the row keys of the products and stock rows that it loaded.
type loader struct {
	conn     *sqlite.Conn
	state    *inventory.State
	receipts *slots
	cache    *cache
	waiting  *waiting
	products map[string]int64
	stock    map[inventory.StockKey]int64
}

func (l *loader) load(keys *inventory.Keys) error {
	l.products = make(map[string]int64, len(keys.Products)+len(keys.Stock))
	l.stock = make(map[inventory.StockKey]int64, len(keys.Stock))
	receipts, err := l.receipts.find(l.conn, keys.Receipts)
	if err != nil {
		return err
	}
	for _, r := range receipts {
		l.state.Receipts[r.Key] = r
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
	if err := l.reservations(keys.Reservations); err != nil {
		return err
	}
	for _, id := range keys.Orders {
		if err := l.order(id); err != nil {
			return err
		}
	}
	if err := l.records(keys); err != nil {
		return err
	}
	return l.overdue(keys)
}

func (l *loader) product(id string) (*inventory.Product, error) {
	if p := l.state.Products[id]; p != nil {
		return p, nil
	}
	if known, cached := l.cache.products[id]; cached {
		p := known.product
		l.products[id] = known.key
		l.state.Products[id] = &p
		return &p, nil
	}
	var found *inventory.Product
	size := 0
	err := exec(l.conn, "SELECT key, data FROM products WHERE id = ?", func(row *sqlite.Stmt) (err error) {
		l.products[id] = row.ColumnInt64(0)
		size = row.ColumnLen(1)
		found, err = inventory.DecodeProduct(column(row, 1))
		return err
	}, text(id))
	if err != nil {
		return nil, fmt.Errorf("product %s: %w", id, err)
	}
	if found != nil {
		l.state.Products[id] = found
		l.cache.putProduct(l.products[id], found, size)
	}
	return found, nil
}

func (l *loader) wholeProduct(id string) error {
	p, err := l.product(id)
	if err != nil || p == nil {
		return err
	}
	return exec(l.conn, "SELECT key, location, available, reserved, committed, seq FROM stock WHERE product = ? ORDER "+
		"BY location", func(row *sqlite.Stmt) error {
		l.put(p, row)
		return nil
	}, integer(l.products[id]))
}

func (l *loader) stockRow(key inventory.StockKey) error {
	p, err := l.product(key.ProductID)
	if err != nil || p == nil || p.At(key.Location) != nil {
		return err
	}
	if known, cached := l.cache.stock[key]; cached {
		l.stock[key] = known.key
		p.Put(known.row)
		return nil
	}
	return exec(l.conn, "SELECT key, location, available, reserved, committed, seq FROM stock WHERE product = ? AND "+
		"location = ?", func(row *sqlite.Stmt) error {
		l.put(p, row)
		l.cache.putStock(key, l.stock[key], *p.At(key.Location))
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
		Buckets: inventory.Buckets{
			Available: row.ColumnInt64(2), Reserved: row.ColumnInt64(3),
			Committed: row.ColumnInt64(4),
		},
		Seq: row.ColumnInt64(5),
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

// reservations loads the reservations of distinct ids.
func (l *loader) reservations(ids []inventory.ID) error {
	for ; len(ids) >= rowsPerStatement; ids = ids[rowsPerStatement:] {
		if err := l.someReservations(ids[:rowsPerStatement]); err != nil {
			return err
		}
	}
	for _, id := range ids {
		r, err := readReservation(l.conn, id)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		if err := l.addReservation(r); err != nil {
			return err
		}
	}
	return nil
}

var selectReservations = selectReservation + "WHERE key IN " + placeholders(1, rowsPerStatement)

func (l *loader) someReservations(ids []inventory.ID) error {
	var keys [rowsPerStatement]value
	for i := range ids {
		keys[i] = integer(ids[i].Sequence())
	}
	found := make([]*inventory.Reservation, 0, rowsPerStatement)
	err := exec(l.conn, selectReservations, func(row *sqlite.Stmt) error {
		r, err := scanReservation(row)
		if err == nil && slices.Contains(ids, r.ID) { // else its id has the same sequence and another salt
			found = append(found, r)
		}
		return err
	}, keys[:]...)
	if err != nil {
		return err
	}
	for _, r := range found {
		if err := l.addReservation(r); err != nil {
			return err
		}
	}
	return nil
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

// overdue loads the overdue holds of the stock rows that have fewer units than the batch wants (I8).
func (l *loader) overdue(keys *inventory.Keys) error {
	var first *place
	err := store.LoadOverdue(l.state, keys, func(key inventory.StockKey, skip, limit int,
		use func(*inventory.Reservation, int) bool,
	) (bool, error) {
		if first == nil {
			read, err := readFirstActive(l.conn)
			if err != nil {
				return false, err
			}
			first = &read
		}
		return l.overdueOf(key, *first, skip, limit, use)
	})
	if err != nil {
		return err
	}
	for _, ids := range l.state.Overdue {
		for _, id := range ids {
			if err := l.lines(l.state.Reservations[id].Lines); err != nil {
				return err
			}
		}
	}
	return nil
}

// overdueOf hands out the overdue holds of a stock row, see [store.ReadOverdue]. Some of their entries are in the table,
// the others still wait, and both are in the order of deadlines.
func (l *loader) overdueOf(key inventory.StockKey, first place, skip, limit int,
	use func(*inventory.Reservation, int) bool,
) (more bool, err error) {
	visit := func(p place) (goOn bool, err error) {
		switch {
		case skip > 0:
			skip--
			return true, nil
		case limit == 0:
			more = true
			return false, nil
		}
		limit--
		r, bytes, err := sizedReservation(l.conn, p.reservation)
		if err != nil && !store.IsCorrupt(err) {
			return false, err
		}
		return use(r, bytes), nil // without a reservation if it is damaged or missing
	}
	waiting, goOn := l.waiting.due(l.stock[key], l.state.Now), true
	visitWaiting := func(until func(place) bool) (err error) {
		for goOn && err == nil && len(waiting) > 0 && until(waiting[0]) {
			goOn, err = visit(waiting[0])
			waiting = waiting[1:]
		}
		return err
	}
	err = scan(l.conn, `SELECT expires_at, reservation FROM holds
		WHERE stock = ? AND (expires_at, reservation) >= (?, ?) AND expires_at <= ? ORDER BY expires_at, reservation`,
		func(row *sqlite.Stmt) (bool, error) {
			p := place{row.ColumnInt64(0), row.ColumnInt64(1)}
			err := visitWaiting(func(w place) bool { return w.before(p) })
			if err == nil && goOn {
				goOn, err = visit(p)
			}
			return goOn, err
		}, integer(l.stock[key]), integer(first.at), integer(first.reservation), integer(int64(l.state.Now)))
	if err == nil {
		err = visitWaiting(func(place) bool { return true })
	}
	return more, err
}

func readReservation(conn *sqlite.Conn, id inventory.ID) (*inventory.Reservation, error) {
	r, err := reservationRow(conn, id.Sequence())
	if err != nil || r == nil || r.ID != id {
		return nil, err
	}
	return r, nil
}

const selectReservation = "SELECT key, status, expires_at, customer, data FROM reservations "

func reservationRow(conn *sqlite.Conn, key int64) (*inventory.Reservation, error) {
	r, _, err := sizedReservation(conn, key)
	return r, err
}

// sizedReservation also returns how many bytes are stored of the reservation.
func sizedReservation(conn *sqlite.Conn, key int64) (found *inventory.Reservation, bytes int, err error) {
	err = exec(conn, selectReservation+"WHERE key = ?", func(row *sqlite.Stmt) (err error) {
		bytes = row.ColumnLen(4)
		found, err = scanReservation(row)
		return err
	}, integer(key))
	return found, bytes, err
}

func scanReservation(row *sqlite.Stmt) (*inventory.Reservation, error) {
	columns := reservationColumns(row)
	return columns.Decode()
}

func reservationColumns(row *sqlite.Stmt) store.ReservationRow {
	return store.ReservationRow{
		Key: row.ColumnInt64(0), Status: row.ColumnInt64(1), ExpiresAt: row.ColumnInt64(2), CustomerID: row.ColumnText(3),
		Data: column(row, 4),
	}
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
	columns := store.OrderRow{
		Key: row.ColumnInt64(0), ReservationID: row.ColumnInt64(1), Status: row.ColumnInt64(2),
		CustomerID: row.ColumnText(3), Reference: row.ColumnText(4), Data: column(row, 5),
	}
	return columns.Decode()
}
