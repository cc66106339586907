package sqlite

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// view is a read transaction. Its connection is interrupted when the context of View ends.
type view struct {
	conn *sqlite.Conn
	now  func() time.Time
	done <-chan struct{} // of the context of the View call
}

var _ store.Lister = (*view)(nil)

// during makes the end of ctx interrupt a method, also if ctx ends before the context of View. The method calls the
// returned function at its end: it restores the interruption by View, and replaces the error of an interrupted
// statement by that of ctx.
func (v *view) during(ctx context.Context, err *error) func() {
	other := ctx.Done() != v.done
	if other {
		v.conn.SetInterrupt(ctx.Done())
	}
	return func() {
		if other {
			v.conn.SetInterrupt(v.done)
		}
		*err = interrupted(ctx, *err)
	}
}

// interrupted returns the error of ctx if err comes from a statement that its end interrupted, else err.
func interrupted(ctx context.Context, err error) error {
	if err != nil && sqlite.ErrCode(err).ToPrimary() == sqlite.ResultInterrupt && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (v *view) Head(ctx context.Context) (head store.Head, err error) {
	defer v.during(ctx, &err)()
	return readHead(v.conn)
}

func (v *view) Now(ctx context.Context) (inventory.Time, error) {
	head, err := v.Head(ctx)
	return head.Latest(v.now()), err
}

func (v *view) Products(ctx context.Context, q store.ProductQuery) (page []*inventory.Product, next string, err error) {
	defer v.during(ctx, &err)()
	if q.IDs == nil {
		return v.productsAfter(q.After, q.Limit)
	}
	for _, id := range slices.Sorted(slices.Values(q.IDs)) {
		err := exec(v.conn, "SELECT key, id, data FROM products WHERE id = ?", func(row *sqlite.Stmt) error {
			p, err := v.product(row)
			if err == nil {
				page = append(page, p)
			}
			return err
		}, text(id))
		if err != nil {
			return page, "", err
		}
	}
	return page, "", nil
}

func (v *view) productsAfter(after string, limit int) ([]*inventory.Product, string, error) {
	page := store.NewPage[inventory.Product, string](limit)
	err := scan(v.conn, "SELECT key, id, data FROM products WHERE id > ? ORDER BY id",
		func(row *sqlite.Stmt) (more bool, err error) {
			p, err := v.product(row)
			if err != nil {
				return false, page.Fail(err)
			}
			page.Add(p, p.ID, row.ColumnLen(2)+len(p.Stock)*store.StockBytes)
			return !page.Done(), nil
		}, text(after))
	if err != nil {
		return nil, "", err
	}
	return page.Result()
}

func (v *view) product(row *sqlite.Stmt) (*inventory.Product, error) {
	p, err := inventory.DecodeProduct(column(row, 2))
	if err == nil && p.ID != row.ColumnText(1) {
		err = fmt.Errorf("column id is not the id in its data, %s", p.ID)
	}
	if err != nil {
		return nil, &store.CorruptRow{
			Row: fmt.Sprintf("product row %d", row.ColumnInt64(0)), Key: row.ColumnText(1),
			Detail: err.Error(),
		}
	}
	err = exec(v.conn, "SELECT key, location, available, reserved, committed, seq FROM stock WHERE product = ? ORDER "+
		"BY location", func(row *sqlite.Stmt) error {
		p.Stock = append(p.Stock, readStock(row))
		return nil
	}, integer(row.ColumnInt64(0)))
	return p, err
}

// activeOfProduct selects the ACTIVE reservations of a product, newest first. The entries of those that were made after
// the sequence ?4 may not be in holds yet, so these reservations are read themselves. Most of them are of other
// products, and instr passes over those without the work of decoding them.
var activeOfProduct = `WHERE key > ?4 AND key < ?1 AND status = 1 AND instr(data, CAST(?2 AS BLOB)) > 0
	UNION ALL ` + selectReservation + `WHERE key IN (SELECT DISTINCT reservation FROM holds WHERE reservation < ?1
		AND reservation <= ?4 AND (expires_at, reservation) >= (` + firstActive + `) AND stock IN
		(SELECT s.key FROM stock s JOIN products p ON p.key = s.product WHERE p.id = ?2)
			ORDER BY reservation DESC LIMIT ?3)
	ORDER BY 1 DESC`

// holdsEntered returns the sequence up to which all entries are in holds. In the file of an older program they all are.
func (v *view) holdsEntered() (int64, error) {
	version, err := userVersion(v.conn)
	if err != nil || version <= holdsEnteredVersion {
		return math.MaxInt64, err
	}
	return holdsEntered(v.conn)
}

func (v *view) Reservations(
	ctx context.Context, q store.ReservationQuery,
) (page []*inventory.Reservation, next inventory.ID, err error) {
	defer v.during(ctx, &err)()
	if q.IDs != nil {
		page, err := byID(v.conn, q.IDs, readReservation)
		return page, inventory.ID{}, err
	}
	entered, err := v.holdsEntered()
	if err != nil {
		return nil, inventory.ID{}, err
	}
	from, arguments := "WHERE key < ? ORDER BY key DESC", []value{before(q.Before)}
	few := false
	if q.ProductID != "" {
		if few, err = v.hasFewHolds(q.ProductID); err != nil {
			return nil, inventory.ID{}, err
		}
	}
	switch {
	case few:
		from = activeOfProduct
		arguments = append(arguments, text(q.ProductID), integer(int64(q.Limit)), integer(entered))
	case q.CustomerID != "":
		from = "WHERE key < ? AND customer = ? ORDER BY key DESC"
		arguments = append(arguments, text(q.CustomerID))
	}
	read := scanReservation
	if q.Check {
		read = func(row *sqlite.Stmt) (*inventory.Reservation, error) { return v.scanChecked(row, entered) }
	}
	return search(v.conn, selectReservation+from, arguments, q.Limit, read,
		func(r *inventory.Reservation) (inventory.ID, bool) {
			return r.ID, q.Matches(r)
		})
}

// hasFewHolds reports whether a product has fewer holds than a page may look at. The entries of its stock rows in holds
// are in the order of deadlines, and a page in that of reservations: few entries are sorted. Where there are many, the
// newest reservations are looked through instead, and most pages soon find as many of the product as they need. An
// index in the order of a page would cost every hold an entry more.
func (v *view) hasFewHolds(productID string) (few bool, err error) {
	err = exec(v.conn, `SELECT count(*) FROM (SELECT 1 FROM holds
		WHERE (expires_at, reservation) >= (`+firstActive+`) AND stock IN
			(SELECT s.key FROM stock s JOIN products p ON p.key = s.product WHERE p.id = ?) LIMIT ?)`,
		func(row *sqlite.Stmt) error {
			few = row.ColumnInt64(0) < store.ScanLimit
			return nil
		}, text(productID), integer(store.ScanLimit))
	return few, err
}

// scanChecked decodes a row, and requires that an ACTIVE reservation has its rows in holds.
func (v *view) scanChecked(row *sqlite.Stmt, entered int64) (*inventory.Reservation, error) {
	r, err := scanReservation(row)
	if err != nil || r.Status != inventory.ReservationActive || r.ID.Sequence() > entered {
		return r, err
	}
	for i := range r.Lines {
		found := false
		err := exec(v.conn, `SELECT 1 FROM holds WHERE expires_at = ? AND reservation = ? AND stock =
			(SELECT s.key FROM stock s JOIN products p ON p.key = s.product WHERE p.id = ?
				AND s.location = ?)`, func(*sqlite.Stmt) error {
			found = true
			return nil
		}, integer(int64(r.ExpiresAt)), integer(r.ID.Sequence()), text(r.Lines[i].ProductID), text(r.Lines[i].Location))
		if err != nil {
			return nil, err
		}
		if !found {
			columns := reservationColumns(row)
			return nil, columns.Corrupt(fmt.Sprintf("it has no row in holds for %s at %s", r.Lines[i].ProductID,
				r.Lines[i].Location))
		}
	}
	return r, nil
}

func (v *view) Orders(ctx context.Context, q store.OrderQuery) (page []*inventory.Order, next inventory.ID, err error) {
	defer v.during(ctx, &err)()
	if q.IDs != nil {
		page, err := byID(v.conn, q.IDs, readOrder)
		return page, inventory.ID{}, err
	}
	from, arguments := "WHERE key < ? ORDER BY key DESC", []value{before(q.Before)}
	switch {
	case !q.ReservationID.IsZero():
		from = "WHERE key < ? AND reservation = ?"
		arguments = append(arguments, integer(q.ReservationID.Sequence()))
	case q.Reference != "":
		from = "WHERE key < ? AND reference = ? ORDER BY key DESC"
		arguments = append(arguments, text(q.Reference))
	case q.CustomerID != "":
		from = "WHERE key < ? AND customer = ? ORDER BY key DESC"
		arguments = append(arguments, text(q.CustomerID))
	case q.Status == inventory.OrderConfirmed:
		from = "WHERE key < ? AND status = 1 ORDER BY key DESC"
	}
	return search(v.conn, selectOrder+from, arguments, q.Limit, scanOrder, func(o *inventory.Order) (inventory.ID, bool) {
		return o.ID, q.Matches(o)
	})
}

// before returns the row key that all rows of a page are below.
func before(cursor inventory.ID) value {
	if cursor.IsZero() {
		return integer(math.MaxInt64)
	}
	return integer(cursor.Sequence())
}

func byID[T any](
	conn *sqlite.Conn, ids []inventory.ID, read func(*sqlite.Conn, inventory.ID) (*T, error),
) (page []*T, err error) {
	for _, id := range ids {
		row, err := read(conn, id)
		if err != nil {
			return page, err
		}
		if row != nil {
			page = append(page, row)
		}
	}
	return page, nil
}

// search collects the rows that match. The last column must be the data of the row.
func search[T any](
	conn *sqlite.Conn, sql string, arguments []value, limit int,
	read func(*sqlite.Stmt) (*T, error), match func(*T) (inventory.ID, bool),
) ([]*T, inventory.ID, error) {
	page := store.NewPage[T, inventory.ID](limit)
	err := scan(conn, sql, func(row *sqlite.Stmt) (more bool, err error) {
		decoded, err := read(row)
		if err != nil {
			return false, page.Fail(err)
		}
		if id, matches := match(decoded); matches {
			page.Add(decoded, id, row.ColumnLen(row.ColumnCount()-1))
		} else {
			page.Skip(id)
		}
		return !page.Done(), nil
	}, arguments...)
	if err != nil {
		return nil, inventory.ID{}, err
	}
	return page.Result()
}

func (v *view) Journal(
	ctx context.Context, from store.JournalPosition, limit, maxBytes int,
) (page []store.Entry, err error) {
	defer v.during(ctx, &err)()
	start := from.BatchNo
	if start == 0 {
		if start, err = v.batchOf(from.Seq); err != nil || start == 0 {
			return nil, err
		}
	}
	bytes := 0
	err = scan(v.conn, "SELECT batch_no, batch_id, last_seq, count, at, events, checksum FROM journal WHERE batch_no "+
		">= ? ORDER BY batch_no LIMIT ?",
		func(row *sqlite.Stmt) (more bool, err error) {
			e := readEntry(row)
			page = append(page, e)
			bytes += len(e.Events)
			return bytes < maxBytes, nil
		}, integer(start), integer(int64(limit)))
	return page, err
}

func readEntry(row *sqlite.Stmt) store.Entry {
	e := store.Entry{
		BatchNo: row.ColumnInt64(0), Count: row.ColumnInt(3), At: inventory.Time(row.ColumnInt64(4)),
		Events: column(row, 5),
	}
	e.First = row.ColumnInt64(2) - int64(e.Count) + 1
	row.ColumnBytes(1, e.BatchID[:])
	row.ColumnBytes(6, e.Checksum[:])
	return e
}

// batchOf finds the first batch whose last event is seq or later; 0 means that there is none. Sequences rise with batch
// numbers, so a binary search takes about thirty look-ups. An index would cost every batch a page.
func (v *view) batchOf(seq int64) (int64, error) {
	head, err := readHead(v.conn)
	if err != nil || seq > head.Seq {
		return 0, err
	}
	low, high := int64(1), head.BatchNo
	for low < high {
		middle := low + (high-low)/2
		last := int64(0)
		// If an entry of a damaged file is missing, the next one serves as well.
		err := exec(v.conn, "SELECT last_seq FROM journal WHERE batch_no >= ? ORDER BY batch_no LIMIT 1",
			func(row *sqlite.Stmt) error {
				last = row.ColumnInt64(0)
				return nil
			}, integer(middle))
		if err != nil {
			return 0, err
		}
		if last >= seq {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low, nil
}

func (v *view) Due(ctx context.Context, until inventory.Time, limit int) (list []store.Deadline, err error) {
	defer v.during(ctx, &err)()
	err = exec(v.conn, "SELECT expires_at, key, substr(data, 1, 16) FROM reservations WHERE status = 1 AND expires_at "+
		"<= ? ORDER BY expires_at, key LIMIT ?", func(row *sqlite.Stmt) error {
		id := store.RowID(row.ColumnInt64(1), column(row, 2))
		list = append(list, store.Deadline{ID: id, At: inventory.Time(row.ColumnInt64(0))})
		return nil
	}, integer(int64(until)), integer(int64(limit)))
	return list, err
}

// Strays first lets SQLite check the file itself. If that names damage, the answers of queries are worth nothing, so it
// stops there.
func (v *view) Strays(ctx context.Context, limit int) (list []string, err error) {
	defer v.during(ctx, &err)()
	if list, err = v.integrity(limit); err != nil || len(list) > 0 {
		return list, err
	}
	if list, err = v.straysInReceipts(limit); err != nil {
		return list, err
	}
	err = exec(v.conn, `
		SELECT printf('holds row (stock %d, expires_at %d, reservation %d): no ACTIVE reservation with that deadline',
				h.stock, h.expires_at, h.reservation)
			FROM holds h LEFT JOIN reservations r ON r.key = h.reservation AND r.status = 1 AND r.expires_at = h.expires_at
			WHERE r.key IS NULL AND (h.expires_at, h.reservation) >= (`+firstActive+`)
		UNION ALL
		SELECT printf('holds row (stock %d, reservation %d): the reservation has no line there', h.stock, h.reservation)
			FROM holds h LEFT JOIN stock s ON s.key = h.stock WHERE s.key IS NULL
		UNION ALL
		SELECT printf('stock row %d: its product row %d is missing', s.key, s.product)
			FROM stock s LEFT JOIN products p ON p.key = s.product WHERE p.key IS NULL
		LIMIT ?`, func(row *sqlite.Stmt) error {
		list = append(list, row.ColumnText(0))
		return nil
	}, integer(int64(limit-len(list))))
	return list, err
}

// integrity returns at most limit findings of SQLite: damaged pages, and indexes that lack rows of their table or have
// too many. It reads the whole file, but has little in memory.
func (v *view) integrity(limit int) (list []string, err error) {
	err = exec(v.conn, fmt.Sprintf("PRAGMA integrity_check(%d)", limit), func(row *sqlite.Stmt) error {
		if finding := row.ColumnText(0); finding != "ok" {
			list = append(list, "the file: "+finding)
		}
		return nil
	})
	return list, err
}

// straysInReceipts compares receipts with their index: a key that it lacks would be used a second time. Slots that are
// not kept are left out, because batches delete their tables bit by bit.
func (v *view) straysInReceipts(limit int) (list []string, err error) {
	all, err := readSlots(v.conn)
	for _, slot := range all {
		if err != nil || slot.number <= all[0].number-slotsKept {
			break
		}
		err = exec(v.conn, fmt.Sprintf(`
			SELECT printf('%[1]s row %%d: its key is not in %[2]s', r.row)
				FROM %[1]s r LEFT JOIN %[2]s k ON k.key = r.key AND k.row = r.row WHERE k.key IS NULL AND r.row <= ?
			UNION ALL
			SELECT printf('%[2]s row %%d: there is no such row with this key in %[1]s', k.row)
				FROM %[2]s k LEFT JOIN %[1]s r ON r.row = k.row AND r.key = k.key WHERE r.key IS NULL
			LIMIT ?`, receiptTable(slot.number), indexTable(slot.number)), func(row *sqlite.Stmt) error {
			list = append(list, row.ColumnText(0))
			return nil
		}, integer(slot.indexed), integer(int64(limit-len(list))))
	}
	return list, err
}
