package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// loader fills the state of a batch in one round trip, and remembers the row keys of what it loaded.
type loader struct {
	s    *Store
	keys *inventory.Keys

	head     head
	state    *inventory.State
	products map[string]int64
	stock    map[inventory.StockKey]int64
	overdue  map[inventory.StockKey]overdueHolds
}

// overdueHolds are the overdue holds of a stock row that the first round trip found, oldest deadline first.
type overdueHolds struct {
	units int64 // that the batch wants
	rows  []overdueRow
}

// overdueRow is an overdue hold.
type overdueRow struct {
	sent bool // its row was sent; else it was too much for one answer
	row  store.ReservationRow
}

func newLoader(s *Store, keys *inventory.Keys) *loader {
	return &loader{
		s: s, keys: keys, products: map[string]int64{}, stock: map[inventory.StockKey]int64{},
		overdue: map[inventory.StockKey]overdueHolds{},
	}
}

// firstOverdue is how many holds of a stock row the first round trip may bring, beside one that shows that there are
// more.
func (l *loader) firstOverdue() int {
	return max(1, inventory.MaxOverdueLoaded/max(1, len(l.keys.Stock)))
}

const (
	productColumns     = "p.key, p.id, p.data"
	stockColumns       = "s.key, p.id, s.location, s.available, s.reserved, s.committed, s.seq"
	reservationColumns = "r.key, r.status, r.expires_at, coalesce(r.customer, ''), r.data"
	orderColumns       = "o.key, o.reservation, o.status, coalesce(o.customer, ''), coalesce(o.reference, ''), o.data"
)

// A stock row gets a new version with every batch that changes it, and while a snapshot is open, such as that of
// pg_dump, PostgreSQL keeps them all. An index has an entry for each page of them. Read backwards it gives the newest
// first: the entries of one key are in the order of their places, and new versions go to the end of the table. Only a
// range is read backwards, so the keys are compared as one. The row is the right one whatever the order: one version is
// visible.
const (
	newestAt = `CROSS JOIN LATERAL (
	SELECT * FROM stock WHERE product >= p.key AND product <= p.key AND location >= d.location AND location <= d.location
	ORDER BY product DESC, location DESC LIMIT 1
) s`
	newestBy = "CROSS JOIN LATERAL (SELECT * FROM stock WHERE key >= k.key AND key <= k.key ORDER BY key DESC LIMIT 1) s"
)

// The statements of a load. Each sees what was committed before it began (READ COMMITTED), so all that was committed
// before the head was locked.
const (
	lockHead = "SELECT " + readMark + ", coalesce(current_setting('synchronous_standby_names', true), '') <> '' " +
		"FROM head FOR UPDATE"

	// loadClock reads the clock and the first overdue holds of the stock rows that have fewer units than the batch
	// wants: what they miss, up to $5, and one more. $2 to $4 are the wanted products, locations and units. Rows of
	// holds are sent until they have $6 bytes. A reservation is missing, and sent as an empty row, only if the rows
	// contradict each other.
	loadClock = `
WITH clock AS MATERIALIZED (
	SELECT c.source, greatest(c.source, (SELECT at FROM journal ORDER BY batch_no DESC LIMIT 1)) AS now
	FROM (SELECT coalesce($1::bigint, ` + clockSQL + `) AS source) c
)
SELECT source, demand, reservation, coalesce(before < $6, true), coalesce(status, 0), coalesce(expires_at, 0),
	coalesce(customer, ''), CASE WHEN before < $6 THEN data ELSE '' END
FROM (
	SELECT clock.source, o.demand, o.due, o.reservation, r.status, r.expires_at, r.customer, r.data,
		sum(length(r.data)) OVER (ORDER BY o.nth, o.demand) - length(r.data) AS before
	FROM clock LEFT JOIN LATERAL (
		SELECT d.demand, h.expires_at AS due, h.reservation,
			row_number() OVER (PARTITION BY d.demand ORDER BY h.expires_at, h.reservation) AS nth
		FROM unnest($2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS d (product, location, units, demand)
		JOIN products p ON p.id = d.product ` + newestAt + `
		CROSS JOIN LATERAL (
			SELECT expires_at, reservation FROM holds WHERE stock = s.key AND expires_at <= clock.now
			ORDER BY expires_at, reservation LIMIT least(d.units - s.available, $5::bigint) + 1
		) h
		WHERE s.available < d.units
	) o ON true
	LEFT JOIN reservations r ON r.key = o.reservation
) measured
ORDER BY demand, due, reservation`

	// loadOverdue reads more overdue holds of one stock row. One whose reservation is missing is an empty row.
	loadOverdue = `
SELECT coalesce(r.key, 0), coalesce(r.status, 0), coalesce(r.expires_at, 0), coalesce(r.customer, ''),
	coalesce(r.data, '')
FROM (
	SELECT expires_at, reservation FROM holds WHERE stock = $1 AND expires_at <= $2
	ORDER BY expires_at, reservation LIMIT $3 OFFSET $4
) h LEFT JOIN reservations r ON r.key = h.reservation
ORDER BY h.expires_at, h.reservation`

	loadReceipts = "SELECT key, fingerprint, answer FROM receipts_0 WHERE key = ANY($1) UNION ALL SELECT key, " +
		"fingerprint, answer FROM receipts_1 WHERE key = ANY($1)"

	loadProducts = "SELECT " + productColumns + " FROM products p WHERE p.id = ANY($1)"
	loadStockOf  = "SELECT " + stockColumns + " FROM products p JOIN stock s ON s.product = p.key WHERE p.id = ANY($1)"
	loadStock    = "SELECT " + stockColumns + ` FROM unnest($1::text[], $2::text[]) AS d (product, location)
JOIN products p ON p.id = d.product ` + newestAt

	loadReservations = "SELECT " + reservationColumns + " FROM reservations r WHERE r.key = ANY($1)"
	// An order is loaded by its key, or by the key of its reservation.
	loadOrders = "SELECT " + orderColumns + " FROM orders o WHERE o.key = ANY($1) UNION SELECT " + orderColumns +
		" FROM orders o WHERE o.reservation = ANY($2)"

	// The stock rows of the lines of reservations ($2) and of the reservations of orders ($1), and the products of
	// those rows.
	lineKeys = `SELECT unnest(r.stock) FROM reservations r WHERE r.key = ANY($2)
UNION SELECT unnest(r.stock) FROM orders o JOIN reservations r ON r.key = o.reservation WHERE o.key = ANY($1)`
	loadLineStock = "SELECT " + stockColumns + " FROM (" + lineKeys +
		") k (key) " + newestBy + " JOIN products p ON p.key = s.product"
	loadLineProducts = "SELECT " + productColumns + " FROM (SELECT DISTINCT s.product FROM (" + lineKeys +
		") k (key) " + newestBy + ") l JOIN products p ON p.key = l.product"
)

// load is the first round trip of a batch.
func (l *loader) load(ctx context.Context) error {
	t := &l.s.options.timeouts
	ctx, cancel := context.WithTimeout(ctx, t.lock+t.answer)
	defer cancel()
	b := &pgx.Batch{}
	b.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	l.queueHead(b)
	l.queueClock(b)
	l.queueReceipts(b)
	l.queueProducts(b)
	l.queueLines(b)
	l.queueRecords(b)
	if err := l.s.writer.SendBatch(ctx, b).Close(); err != nil {
		return loading(err)
	}
	l.s.flight.loaded(l.head.BatchNo)
	if err := l.addOverdue(ctx); err != nil {
		return loading(err)
	}
	return nil
}

func loading(err error) error {
	if errors.Is(err, store.ErrClockBehind) || errors.Is(err, store.ErrClockJumped) {
		return err
	}
	if errors.Is(err, store.ErrNewerFormat) {
		return fmt.Errorf("%w: %w", store.ErrBroken, err) // another process has upgraded the store
	}
	return fmt.Errorf("loading a batch: %w", translate(err))
}

// queueHead locks the head and then reads it: what a statement reads was committed before that began, and this one may
// wait for the lock.
func (l *loader) queueHead(b *pgx.Batch) {
	b.Queue(lockHead).QueryRow(func(row pgx.Row) error {
		var mark string
		err := row.Scan(&mark, &l.head.replicated)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return errNoHead
		case err != nil:
			return fmt.Errorf("locking the head: %w", translate(err))
		}
		return checkMark(l.s.writer, mark)
	})
	b.Queue(loadHead).QueryRow(func(row pgx.Row) error {
		err := l.head.scan(row)
		l.head.enter(l.s.server.timeline)
		return err
	})
}

// wanted lists the products, locations and units of the demands of the batch.
func (l *loader) wanted() (products, locations []string, units []int64) {
	n := len(l.keys.Stock)
	products, locations, units = make([]string, n), make([]string, n), make([]int64, n)
	for i := range l.keys.Stock {
		d := &l.keys.Stock[i]
		products[i], locations[i], units[i] = d.ProductID, d.Location, d.Units
	}
	return products, locations, units
}

func (l *loader) queueClock(b *pgx.Batch) {
	products, locations, units := l.wanted()
	b.Queue(loadClock, sourceParameter(l.s.options.Now), products, locations, units, l.firstOverdue(), store.PageBytes).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var source int64
				var demand, reservation *int64
				var o overdueRow
				if err := rows.Scan(&source, &demand, &reservation, &o.sent, &o.row.Status, &o.row.ExpiresAt, &o.row.CustomerID,
					&o.row.Data); err != nil {
					return err
				}
				if l.state == nil {
					now, err := l.head.Now(timeOf(source), l.s.options.Clock)
					if err != nil {
						return err
					}
					l.state = inventory.NewState(now, l.head.Seq, l.head.Epochs)
				}
				if demand != nil {
					o.row.Key = *reservation
					d := &l.keys.Stock[*demand-1]
					l.overdue[d.StockKey] = overdueHolds{d.Units, append(l.overdue[d.StockKey].rows, o)}
				}
			}
			return rows.Err()
		})
}

func (l *loader) queueReceipts(b *pgx.Batch) {
	if len(l.keys.Receipts) == 0 {
		return
	}
	keys := make([][]byte, len(l.keys.Receipts))
	for i := range keys {
		keys[i] = l.keys.Receipts[i][:]
	}
	b.Queue(loadReceipts, keys).Query(func(rows pgx.Rows) error {
		var key, fingerprint, answer []byte
		_, err := pgx.ForEachRow(rows, []any{&key, &fingerprint, &answer}, func() error {
			r := &inventory.Receipt{Answer: slices.Clone(answer)}
			copy(r.Key[:], key)
			copy(r.Fingerprint[:], fingerprint)
			l.state.Receipts[r.Key] = r
			return nil
		})
		return err
	})
}

func (l *loader) queueProducts(b *pgx.Batch) {
	products, locations, _ := l.wanted()
	if len(products)+len(l.keys.Products) == 0 {
		return
	}
	all := slices.Concat(l.keys.Products, products)
	slices.Sort(all)
	b.Queue(loadProducts, slices.Compact(all)).Query(l.scanProducts)
	if len(l.keys.Products) > 0 {
		b.Queue(loadStockOf, l.keys.Products).Query(l.scanStock)
	}
	if len(products) > 0 {
		b.Queue(loadStock, products, locations).Query(l.scanStock)
	}
}

// queueLines loads reservations and orders, with the products and stock rows of their lines.
func (l *loader) queueLines(b *pgx.Batch) {
	if len(l.keys.Reservations)+len(l.keys.Orders) == 0 {
		return
	}
	reservations, orders := sequences(l.keys.Reservations), sequences(l.keys.Orders)
	if len(reservations) > 0 {
		b.Queue(loadReservations, reservations).Query(func(rows pgx.Rows) error {
			return eachReservation(rows, func(r *inventory.Reservation) {
				if slices.Contains(l.keys.Reservations, r.ID) {
					l.state.Reservations[r.ID] = r
				}
			})
		})
	}
	b.Queue(loadOrders, orders, reservations).Query(func(rows pgx.Rows) error {
		return eachOrder(rows, func(o *inventory.Order) { l.state.Orders[o.ID] = o })
	})
	b.Queue(loadLineProducts, orders, reservations).Query(l.scanProducts)
	b.Queue(loadLineStock, orders, reservations).Query(l.scanStock)
}

func sequences(ids []inventory.ID) []int64 {
	keys := make([]int64, len(ids))
	for i, id := range ids {
		keys[i] = id.Sequence()
	}
	return keys
}

func (l *loader) scanProducts(rows pgx.Rows) error {
	var key int64
	var id string
	var data []byte
	_, err := pgx.ForEachRow(rows, []any{&key, &id, &data}, func() error {
		if l.state.Products[id] != nil {
			return nil
		}
		p, err := inventory.DecodeProduct(data)
		if err != nil {
			return &store.CorruptRow{Row: fmt.Sprintf("product row %d", key), Key: id, Detail: err.Error()}
		}
		l.products[id] = key
		l.state.Products[id] = p
		return nil
	})
	return err
}

func (l *loader) scanStock(rows pgx.Rows) error {
	return eachStock(rows, func(key int64, productID string, s inventory.Stock) {
		if p := l.state.Products[productID]; p != nil {
			l.stock[inventory.StockKey{ProductID: productID, Location: s.Location}] = key
			p.Put(s)
		}
	})
}

func eachStock(rows pgx.Rows, use func(key int64, productID string, s inventory.Stock)) error {
	var key int64
	var productID string
	var s inventory.Stock
	_, err := pgx.ForEachRow(rows, []any{&key, &productID, &s.Location, &s.Available, &s.Reserved, &s.Committed, &s.Seq},
		func() error {
			use(key, productID, s)
			return nil
		})
	return err
}

// eachReservation decodes rows of reservationColumns. The decoded reservations share no memory with them.
func eachReservation(rows pgx.Rows, use func(*inventory.Reservation)) error {
	var row store.ReservationRow
	_, err := pgx.ForEachRow(rows, []any{&row.Key, &row.Status, &row.ExpiresAt, &row.CustomerID, &row.Data}, func() error {
		r, err := row.Decode()
		if err == nil {
			use(r)
		}
		return err
	})
	return err
}

func eachOrder(rows pgx.Rows, use func(*inventory.Order)) error {
	var row store.OrderRow
	_, err := pgx.ForEachRow(rows, []any{
		&row.Key, &row.ReservationID, &row.Status, &row.CustomerID, &row.Reference,
		&row.Data,
	}, func() error {
		o, err := row.Decode()
		if err == nil {
			use(o)
		}
		return err
	})
	return err
}

// addOverdue loads the overdue holds (I8). What the first round trip found is mostly enough. Other holds, and stock
// rows of other lines of a cart that are not loaded yet, take more round trips.
func (l *loader) addOverdue(ctx context.Context) error {
	err := store.LoadOverdue(l.state, l.keys, func(key inventory.StockKey, skip, limit int,
		use func(*inventory.Reservation, int) bool,
	) (bool, error) {
		return l.overdueOf(ctx, key, skip, limit, use)
	})
	if err != nil {
		return err
	}
	var missing []int64
	for _, ids := range l.state.Overdue {
		for _, id := range ids {
			if slices.ContainsFunc(l.state.Reservations[id].Lines, func(line inventory.Line) bool {
				return l.state.Stock(line.Key()) == nil
			}) {
				missing = append(missing, id.Sequence())
			}
		}
	}
	if missing == nil {
		return nil
	}
	b := &pgx.Batch{}
	b.Queue(loadLineProducts, []int64{}, missing).Query(l.scanProducts)
	b.Queue(loadLineStock, []int64{}, missing).Query(l.scanStock)
	return l.s.writer.SendBatch(ctx, b).Close()
}

func (l *loader) overdueOf(ctx context.Context, key inventory.StockKey, skip, limit int,
	use func(*inventory.Reservation, int) bool,
) (more bool, err error) {
	first := l.overdue[key].rows
	for ; limit > 0 && skip < len(first) && first[skip].sent; limit-- {
		if r, bytes := usable(&first[skip].row); !use(r, bytes) {
			return true, nil
		}
		skip++
	}
	switch {
	case skip < len(first) && limit == 0:
		return true, nil
	case skip >= len(first) && l.foundAll(key):
		return false, nil
	}
	return l.moreOverdue(ctx, key, skip, limit, use)
}

// foundAll reports whether the first round trip found all overdue holds of a stock row.
func (l *loader) foundAll(key inventory.StockKey) bool {
	found := l.overdue[key]
	asked := min(found.units-l.state.Stock(key).Available, int64(l.firstOverdue()))
	return len(found.rows) == 0 || int64(len(found.rows)) <= asked
}

func (l *loader) moreOverdue(ctx context.Context, key inventory.StockKey, skip, limit int,
	use func(*inventory.Reservation, int) bool,
) (more bool, err error) {
	rows, err := l.s.writer.Query(ctx, loadOverdue, l.stock[key], l.state.Now, limit+1, skip)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for rows.Next() {
		if limit == 0 {
			more = true
			continue
		}
		limit--
		var row store.ReservationRow
		if err := rows.Scan(&row.Key, &row.Status, &row.ExpiresAt, &row.CustomerID, &row.Data); err != nil {
			return false, err
		}
		if r, bytes := usable(&row); !use(r, bytes) {
			return true, nil
		}
	}
	return more, rows.Err()
}

// usable decodes an overdue hold; nil means that it is damaged.
func usable(row *store.ReservationRow) (r *inventory.Reservation, bytes int) {
	r, err := row.Decode()
	if err != nil {
		r = nil
	}
	return r, len(row.Data)
}
