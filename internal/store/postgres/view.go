package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// view is a read transaction. It begins with the first query, in the same round trip.
type view struct {
	s       *Store
	conn    *pgx.Conn
	now     func() time.Time
	timeout time.Duration // for one query

	readOnly bool

	begun  bool
	shown  bool  // what the snapshot has may be shown
	floor  int64 // the batch that the snapshot must have
	source time.Time
	head   head
}

// beginView reads the clock, and whether this is the right server and session.
const beginView = "SELECT coalesce($1::bigint, " + clockSQL + "), pg_is_in_recovery(), " + readMark

// query runs one statement and calls scan with its rows.
func (v *view) query(ctx context.Context, scan func(pgx.Rows) error, sql string, arguments ...any) error {
	b := &pgx.Batch{}
	v.begin(b)
	b.Queue(sql, arguments...).Query(scan)
	return v.send(ctx, b, v.timeout)
}

// begin queues the statements that begin the transaction, if it has not begun, with those of queueHead.
func (v *view) begin(b *pgx.Batch) {
	if v.begun {
		return
	}
	v.begun = true
	b.Queue("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
	v.queueHead(b)
}

// queueHead queues the statements that read the clock and the head.
func (v *view) queueHead(b *pgx.Batch) {
	b.Queue(beginView, sourceParameter(v.now)).QueryRow(func(row pgx.Row) error {
		var source int64
		var standby bool
		var mark string
		if err := row.Scan(&source, &standby, &mark); err != nil {
			return err
		}
		v.source = timeOf(source)
		if standby && !v.readOnly {
			return errStandby
		}
		return checkMark(v.conn, mark)
	})
	b.Queue(readHead).QueryRow(func(row pgx.Row) error { return v.head.scan(row) })
}

// send runs queued statements. A timeout of 0 means none.
func (v *view) send(ctx context.Context, b *pgx.Batch, timeout time.Duration) error {
	bounded := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	err := v.conn.SendBatch(bounded, b).Close()
	if isReadOnly(err) || errors.Is(err, errPooled) {
		hangUp(v.conn)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return translate(err)
	case !v.shown:
		err = v.mayShow(ctx)
		v.shown = err == nil
	}
	return err
}

// mayShow fails if the snapshot shows more than is certain, or less than is known.
func (v *view) mayShow(ctx context.Context) error {
	err := v.s.checkFloor(ctx, v.head.BatchNo, v.floor)
	if errors.Is(err, errStale) {
		hangUp(v.conn)
		return translate(err)
	}
	if err != nil {
		return err
	}
	return v.s.awaitFlight(ctx, v.head.BatchNo)
}

func timeOf(milliseconds int64) time.Time { return time.UnixMilli(milliseconds) }

func (v *view) Head(ctx context.Context) (store.Head, error) {
	if !v.begun {
		b := &pgx.Batch{}
		v.begin(b)
		if err := v.send(ctx, b, v.timeout); err != nil {
			return store.Head{}, err
		}
	}
	return v.head.Head, ctx.Err()
}

func (v *view) Now(ctx context.Context) (inventory.Time, error) {
	head, err := v.Head(ctx)
	return head.Latest(v.source), err
}

func (v *view) Products(ctx context.Context, q store.ProductQuery) ([]*inventory.Product, string, error) {
	sql, arguments := "SELECT "+productColumns+" FROM products p WHERE p.id = ANY($1) ORDER BY p.id", []any{q.IDs}
	if q.IDs == nil {
		sql, arguments = "SELECT "+productColumns+" FROM products p WHERE p.id > $1 ORDER BY p.id LIMIT $2",
			[]any{q.After, q.Limit}
	}
	found, bad, err := v.productRows(ctx, q.IDs == nil, sql, arguments)
	if err == nil {
		err = v.stockOf(ctx, found, q.IDs == nil)
	}
	if err != nil {
		return nil, "", err
	}
	if q.IDs != nil {
		list := make([]*inventory.Product, len(found))
		for i := range found {
			list[i] = found[i].product
		}
		return list, "", bad
	}
	page := store.NewPage[inventory.Product, string](q.Limit)
	for _, row := range found {
		page.Add(row.product, row.product.ID, row.bytes+len(row.product.Stock)*store.StockBytes)
	}
	_ = page.Fail(bad) // a full page drops it: the next page will meet the same product
	return page.Result()
}

// productRow is a product, with its row key and its size in stored bytes.
type productRow struct {
	key     int64
	product *inventory.Product
	bytes   int
}

// productRows reads products without their stock, up to the first that cannot be used, which is bad. If bounded, it
// stops at [store.PageBytes].
func (v *view) productRows(
	ctx context.Context, bounded bool, sql string, arguments []any,
) (found []productRow, bad, err error) {
	bytes := 0
	err = v.query(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			if bad != nil || (bounded && bytes >= store.PageBytes) {
				continue
			}
			row, err := scanProduct(rows)
			switch {
			case store.IsCorrupt(err):
				bad = err
			case err != nil:
				return err
			default:
				found = append(found, row)
				bytes += row.bytes
			}
		}
		return rows.Err()
	}, sql, arguments...)
	return found, bad, err
}

func scanProduct(rows pgx.Rows) (row productRow, err error) {
	var id string
	var data []byte
	if err := rows.Scan(&row.key, &id, &data); err != nil {
		return row, err
	}
	row.bytes = len(data)
	row.product, err = inventory.DecodeProduct(data)
	if err == nil && row.product.ID != id {
		err = fmt.Errorf("column id is not the id in its data, %s", row.product.ID)
	}
	if err != nil {
		err = &store.CorruptRow{Row: fmt.Sprintf("product row %d", row.key), Key: id, Detail: err.Error()}
	}
	return row, err
}

// stockOf reads the stock rows of products that are sorted by id. If bounded, it reads as many stock rows as fill a
// page, and those of one more product. Products after that get no stock, and the page is full before them.
func (v *view) stockOf(ctx context.Context, found []productRow, bounded bool) error {
	if len(found) == 0 {
		return nil
	}
	limit := math.MaxInt32
	if bounded {
		limit = store.PageBytes/store.StockBytes + inventory.MaxLocations
	}
	keys := make([]int64, len(found))
	for i := range found {
		keys[i] = found[i].key
	}
	at := 0
	return v.query(ctx, func(rows pgx.Rows) error {
		return eachStock(rows, func(_ int64, productID string, s inventory.Stock) {
			for found[at].product.ID != productID {
				at++
			}
			found[at].product.Stock = append(found[at].product.Stock, s)
		})
	}, "SELECT "+stockColumns+" FROM stock s JOIN products p ON p.key = s.product WHERE s.product = ANY($1) ORDER BY "+
		"p.id, s.location LIMIT $2", keys, limit)
}

func (v *view) Reservations(
	ctx context.Context, q store.ReservationQuery,
) ([]*inventory.Reservation, inventory.ID, error) {
	if q.IDs != nil {
		page, err := byID(ctx, v, q.IDs, "SELECT "+reservationColumns+" FROM reservations r WHERE r.key = ANY($1)",
			scanReservation, reservationID)
		return page, inventory.ID{}, err
	}
	l := list{table: "reservations", columns: reservationColumns, alias: "r", before: q.Before, limit: q.Limit}
	if q.CustomerID != "" {
		l.only("customer = %s", q.CustomerID)
	}
	switch {
	case q.ProductID != "": // the status is ACTIVE then, and holds has the rows of those
		if err := v.onlyProduct(ctx, &l, q.ProductID); err != nil {
			return nil, inventory.ID{}, err
		}
	case q.Status == inventory.ReservationExpired && q.DueBy > 0:
		l.where = fmt.Sprintf("r.status = %d OR (r.status = %d AND r.expires_at <= %d)", inventory.ReservationExpired,
			inventory.ReservationActive, q.DueBy)
	case q.Status != 0:
		l.where = fmt.Sprintf("r.status = %d", q.Status)
	}
	page, next, err := search(ctx, v, &l, scanReservation, reservationID)
	if err == nil && q.Check {
		page, next, err = v.check(ctx, page, next)
	}
	return page, next, err
}

// onlyProduct selects the ACTIVE reservations of a product. The rows of its stock rows in holds are in the order of
// deadlines, and a page in that of reservations: where there are fewer than a page may look at, they are sorted. Where
// there are more, the newest reservations are looked through instead, and most pages soon find as many of the product
// as they need. An index in the order of a page would cost every hold an entry more.
func (v *view) onlyProduct(ctx context.Context, l *list, productID string) error {
	var stock []int64
	var holds int
	err := v.query(ctx, func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&stock, &holds}, func() error { return nil })
		return err
	}, `WITH wanted AS MATERIALIZED (
	SELECT ARRAY (SELECT s.key FROM stock s JOIN products p ON p.key = s.product WHERE p.id = $1) AS stock
)
SELECT stock, (SELECT count(*) FROM (SELECT 1 FROM holds h WHERE h.stock = ANY (wanted.stock) LIMIT $2) counted)
FROM wanted`, productID, store.ScanLimit)
	if err != nil {
		return err
	}
	if holds < store.ScanLimit {
		l.only(`key = ANY (ARRAY (SELECT DISTINCT reservation FROM holds WHERE reservation < $1 AND stock = ANY (%s)
	ORDER BY reservation DESC LIMIT $2))`, stock)
		return nil
	}
	keys := make([]string, len(stock))
	for i, key := range stock {
		keys[i] = strconv.FormatInt(key, 10)
	}
	l.where = fmt.Sprintf("r.status = %d AND r.stock && '{%s}'::bigint[]", inventory.ReservationActive,
		strings.Join(keys, ","))
	return nil
}

func scanReservation(rows pgx.Rows) (*inventory.Reservation, int, error) {
	var row store.ReservationRow
	if err := rows.Scan(&row.Key, &row.Status, &row.ExpiresAt, &row.CustomerID, &row.Data); err != nil {
		return nil, 0, err
	}
	r, err := row.Decode()
	return r, len(row.Data), err
}

func reservationID(r *inventory.Reservation) inventory.ID { return r.ID }

// check requires that the stock column of each reservation names the stock rows of its lines, and that an ACTIVE one
// has its rows in holds. The page ends at the first reservation for which that is not so.
func (v *view) check(
	ctx context.Context, page []*inventory.Reservation, next inventory.ID,
) ([]*inventory.Reservation, inventory.ID, error) {
	var positions, keys, deadlines []int64
	var products, locations []string
	for i, r := range page {
		for j := range r.Lines {
			positions = append(positions, int64(i))
			keys = append(keys, r.ID.Sequence())
			deadlines = append(deadlines, int64(r.ExpiresAt))
			products = append(products, r.Lines[j].ProductID)
			locations = append(locations, r.Lines[j].Location)
		}
	}
	var bad error
	first := len(page)
	err := v.query(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			var at int
			var product, location string
			var named, holds bool
			if err := rows.Scan(&at, &product, &location, &named, &holds); err != nil {
				return err
			}
			r := page[at]
			if first < len(page) || (named && (holds || r.Status != inventory.ReservationActive)) {
				continue
			}
			detail := fmt.Sprintf("it has no row in holds for %s at %s", product, location)
			if !named {
				detail = fmt.Sprintf("its column stock does not name the row of %s at %s", product, location)
			}
			first = at
			bad = &store.CorruptRow{Row: fmt.Sprintf("reservation row %d", r.ID.Sequence()), ID: r.ID, Detail: detail}
		}
		return rows.Err()
	}, `SELECT u.at, u.product, u.location, coalesce(s.key = ANY(r.stock), false), h.stock IS NOT NULL
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[])
	AS u (at, reservation, expires_at, product, location)
LEFT JOIN reservations r ON r.key = u.reservation
LEFT JOIN products p ON p.id = u.product
LEFT JOIN stock s ON s.product = p.key AND s.location = u.location
LEFT JOIN holds h ON h.stock = s.key AND h.expires_at = u.expires_at AND h.reservation = u.reservation
ORDER BY u.at`, positions, keys, deadlines, products, locations)
	if err != nil || bad == nil {
		return page, next, err
	}
	return page[:first], inventory.ID{}, bad
}

func (v *view) Orders(ctx context.Context, q store.OrderQuery) ([]*inventory.Order, inventory.ID, error) {
	if q.IDs != nil {
		page, err := byID(ctx, v, q.IDs, "SELECT "+orderColumns+" FROM orders o WHERE o.key = ANY($1)", scanOrder, orderID)
		return page, inventory.ID{}, err
	}
	l := list{table: "orders", columns: orderColumns, alias: "o", before: q.Before, limit: q.Limit}
	if !q.ReservationID.IsZero() {
		l.only("reservation = %s", q.ReservationID.Sequence())
	}
	if q.Reference != "" {
		l.only("reference = %s", q.Reference)
	}
	if q.CustomerID != "" {
		l.only("customer = %s", q.CustomerID)
	}
	if q.Status == inventory.OrderConfirmed {
		l.only("status = %s", inventory.OrderConfirmed)
	} else if q.Status != 0 {
		l.where = fmt.Sprintf("o.status = %d", q.Status)
	}
	return search(ctx, v, &l, scanOrder, orderID)
}

func scanOrder(rows pgx.Rows) (*inventory.Order, int, error) {
	var row store.OrderRow
	if err := rows.Scan(&row.Key, &row.ReservationID, &row.Status, &row.CustomerID, &row.Reference,
		&row.Data); err != nil {
		return nil, 0, err
	}
	o, err := row.Decode()
	return o, len(row.Data), err
}

func orderID(o *inventory.Order) inventory.ID { return o.ID }

// before returns the row key that all rows of a page are below.
func before(cursor inventory.ID) int64 {
	if cursor.IsZero() {
		return math.MaxInt64
	}
	return cursor.Sequence()
}

// byID reads the rows of ids, and returns them in the order of ids.
func byID[T any](ctx context.Context, v *view, ids []inventory.ID, sql string, scan func(pgx.Rows) (*T, int, error),
	id func(*T) inventory.ID,
) (page []*T, err error) {
	found := make(map[inventory.ID]*T, len(ids))
	var bad error
	err = v.query(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			row, _, err := scan(rows)
			if store.IsCorrupt(err) {
				bad = err
				continue
			}
			if err != nil {
				return err
			}
			found[id(row)] = row
		}
		return rows.Err()
	}, sql, sequences(ids))
	if err != nil {
		return nil, err
	}
	for _, want := range ids {
		if row := found[want]; row != nil {
			page = append(page, row)
		}
	}
	return page, bad
}

// list describes a page of a list: rows of a table, newest first.
type list struct {
	table, columns, alias string
	conditions            string // those that an index serves
	arguments             []any
	where                 string // the other conditions; empty: there are none
	before                inventory.ID
	limit                 int
}

// only adds a condition that an index serves. %s in it stands for the value.
func (l *list) only(condition string, value any) {
	l.arguments = append(l.arguments, value)
	l.conditions += " AND " + fmt.Sprintf(condition, fmt.Sprintf("$%d", len(l.arguments)+2))
}

// scanned selects the rows that the page looks at. If an index serves all conditions, these are the rows of the page.
func (l *list) scanned() (sql string, arguments []any) {
	most := store.ScanLimit
	if l.where == "" {
		most = l.limit
	}
	sql = "SELECT * FROM " + l.table + " WHERE key < $1" + l.conditions + " ORDER BY key DESC LIMIT $2"
	return sql, append([]any{before(l.before), most}, l.arguments...)
}

// search collects the rows that match.
func search[T any](ctx context.Context, v *view, l *list, scan func(pgx.Rows) (*T, int, error),
	id func(*T) inventory.ID,
) ([]*T, inventory.ID, error) {
	from, arguments := l.scanned()
	where := l.where
	if where == "" {
		where = "true"
	}
	sql := fmt.Sprintf("SELECT %[1]s FROM (%[2]s) %[3]s WHERE %[4]s ORDER BY %[3]s.key DESC LIMIT $%[5]d", l.columns, from,
		l.alias, where, len(arguments)+1)
	page := store.NewPage[T, inventory.ID](l.limit)
	err := v.query(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			if page.Done() {
				continue
			}
			row, bytes, err := scan(rows)
			if err == nil {
				page.Add(row, id(row), bytes)
			} else if err = page.Fail(err); err != nil {
				return err
			}
		}
		return rows.Err()
	}, sql, append(arguments, l.limit)...)
	if err != nil {
		return nil, inventory.ID{}, err
	}
	list, next, err := page.Result()
	if l.where != "" && !page.Done() {
		next, err = v.stoppedAt(ctx, from, arguments)
	}
	return list, next, err
}

// stoppedAt returns where a search stopped after [store.ScanLimit] rows, or zero if it reached the end.
func (v *view) stoppedAt(ctx context.Context, from string, arguments []any) (next inventory.ID, err error) {
	var key, looked int64
	err = v.query(ctx, func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&key, &looked}, func() error { return nil })
		return err
	}, "SELECT coalesce(min(key), 0), count(*) FROM ("+from+") scanned", arguments...)
	if err == nil && looked == store.ScanLimit {
		next = inventory.NewID(0, key, 0)
	}
	return next, err
}

func (v *view) Journal(
	ctx context.Context, from store.JournalPosition, limit, maxBytes int,
) (page []store.Entry, err error) {
	start := "$1"
	position := from.BatchNo
	if from.BatchNo == 0 {
		start = "(SELECT batch_no FROM journal WHERE last_seq >= $1 ORDER BY last_seq, batch_no LIMIT 1)"
		position = from.Seq
	}
	err = v.query(ctx, func(rows pgx.Rows) error {
		page, err = scanEntries(rows)
		return err
	}, journalFrom(start), position, limit, maxBytes)
	return page, err
}

// journalFrom selects entries from a batch on: at most $2, and none after those before it have $3 bytes.
func journalFrom(batchNo string) string {
	return `SELECT batch_no, batch_id, last_seq, count, at, events, checksum FROM (
	SELECT *, sum(length(events)) OVER (ORDER BY batch_no) - length(events) AS before
	FROM (SELECT * FROM journal WHERE batch_no >= ` + batchNo + ` ORDER BY batch_no LIMIT $2) entries
) measured WHERE before < $3 ORDER BY batch_no`
}

func scanEntries(rows pgx.Rows) (page []store.Entry, err error) {
	var last int64
	var batchID, events, checksum []byte
	var e store.Entry
	_, err = pgx.ForEachRow(rows, []any{&e.BatchNo, &batchID, &last, &e.Count, &e.At, &events, &checksum}, func() error {
		e.First, e.Events = last-int64(e.Count)+1, slices.Clone(events)
		copy(e.BatchID[:], batchID)
		copy(e.Checksum[:], checksum)
		page = append(page, e)
		return nil
	})
	return page, err
}

func (v *view) Due(ctx context.Context, until inventory.Time, limit int) (page []store.Deadline, err error) {
	err = v.query(ctx, func(rows pgx.Rows) error {
		var key int64
		var id []byte
		var at inventory.Time
		_, err := pgx.ForEachRow(rows, []any{&key, &id, &at}, func() error {
			page = append(page, store.Deadline{ID: store.RowID(key, id), At: at})
			return nil
		})
		return err
	}, "SELECT key, substring(data FROM 1 FOR 16), expires_at FROM reservations WHERE status = 1 AND expires_at <= $1 "+
		"ORDER BY expires_at, key LIMIT $2", until, limit)
	return page, err
}

// Strays reads whole tables. It has no timeout of its own, and joins them by hashing.
func (v *view) Strays(ctx context.Context, limit int) (page []string, err error) {
	b := &pgx.Batch{}
	v.begin(b)
	b.Queue("SELECT set_config(s, v, true) FROM (VALUES ('statement_timeout', '0'), ('enable_seqscan', 'on'), " +
		"('enable_hashjoin', 'on'), ('enable_mergejoin', 'on')) AS c (s, v)")
	b.Queue(`
SELECT format('holds row (stock %s, expires_at %s, reservation %s): no ACTIVE reservation with that deadline',
	h.stock, h.expires_at, h.reservation)
	FROM holds h LEFT JOIN reservations r ON r.key = h.reservation AND r.status = 1 AND r.expires_at = h.expires_at
		WHERE r.key IS NULL
UNION ALL
SELECT format('holds row (stock %s, reservation %s): the reservation has no line there', h.stock, h.reservation)
	FROM holds h LEFT JOIN reservations r ON r.key = h.reservation AND h.stock = ANY(r.stock) WHERE r.key IS NULL
UNION ALL
SELECT format('stock row %s: its product row %s is missing', s.key, s.product)
	FROM stock s LEFT JOIN products p ON p.key = s.product WHERE p.key IS NULL
LIMIT $1`, limit).Query(func(rows pgx.Rows) error {
		page, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return page, v.send(ctx, b, 0)
}
