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
	overdue  []overdueRow
}

// overdueRow is an overdue hold. Its reservation is missing only if the rows contradict each other.
type overdueRow struct {
	demand int // position in keys.Stock
	found  bool
	row    store.ReservationRow
}

func newLoader(s *Store, keys *inventory.Keys) *loader {
	return &loader{s: s, keys: keys, products: map[string]int64{}, stock: map[inventory.StockKey]int64{}}
}

const (
	productColumns     = "p.key, p.id, p.data"
	stockColumns       = "s.key, p.id, s.location, s.available, s.reserved, s.committed, s.seq"
	reservationColumns = "r.key, r.status, r.expires_at, coalesce(r.customer, ''), r.data"
	orderColumns       = "o.key, o.reservation, o.status, coalesce(o.customer, ''), coalesce(o.reference, ''), o.data"
)

// The statements of a load. Each sees what was committed before it began (READ COMMITTED), so all that was committed
// before the head was locked.
const (
	lockHead = "SELECT " + headColumns + " FROM head FOR UPDATE"

	// loadClock reads the clock and the overdue holds of the stock rows that have fewer units than the batch wants. $2
	// to $4 are the wanted products, locations and units; $5 is the limit of holds plus one.
	loadClock = `
WITH clock AS MATERIALIZED (
	SELECT c.source, greatest(c.source, h.at) AS now
	FROM (SELECT coalesce($1::bigint, ` + clockSQL + `) AS source) c, head h
)
SELECT clock.source, o.demand, r.key IS NOT NULL, o.reservation, coalesce(r.status, 0), coalesce(r.expires_at, 0),
	coalesce(r.customer, ''), coalesce(r.data, '')
FROM clock LEFT JOIN LATERAL (
	SELECT d.demand, h.expires_at, h.reservation
	FROM unnest($2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS d (product, location, units, demand)
	JOIN products p ON p.id = d.product
	JOIN stock s ON s.product = p.key AND s.location = d.location AND s.available < d.units
	CROSS JOIN LATERAL (
		SELECT expires_at, reservation FROM holds
		WHERE stock = s.key AND expires_at <= clock.now ORDER BY expires_at, reservation LIMIT $5
	) h
	ORDER BY d.demand, h.expires_at, h.reservation LIMIT $5
) o ON true
LEFT JOIN reservations r ON r.key = o.reservation
ORDER BY o.demand, o.expires_at, o.reservation`

	loadReceipts = "SELECT key, fingerprint, answer FROM receipts_0 WHERE key = ANY($1) UNION ALL SELECT key, " +
		"fingerprint, answer FROM receipts_1 WHERE key = ANY($1)"

	loadProducts = "SELECT " + productColumns + " FROM products p WHERE p.id = ANY($1)"
	loadStockOf  = "SELECT " + stockColumns + " FROM products p JOIN stock s ON s.product = p.key WHERE p.id = ANY($1)"
	loadStock    = "SELECT " + stockColumns + ` FROM unnest($1::text[], $2::text[]) AS d (product, location)
JOIN products p ON p.id = d.product JOIN stock s ON s.product = p.key AND s.location = d.location`

	loadReservations = "SELECT " + reservationColumns + " FROM reservations r WHERE r.key = ANY($1)"
	// An order is loaded by its key, or by the key of its reservation.
	loadOrders = "SELECT " + orderColumns + " FROM orders o WHERE o.key = ANY($1) UNION SELECT " + orderColumns +
		" FROM orders o WHERE o.reservation = ANY($2)"

	// The stock rows of the lines of reservations ($2) and of the reservations of orders ($1), and the products of
	// those rows.
	lineKeys = `SELECT unnest(r.stock) FROM reservations r WHERE r.key = ANY($2)
UNION SELECT unnest(r.stock) FROM orders o JOIN reservations r ON r.key = o.reservation WHERE o.key = ANY($1)`
	loadLineStock = "SELECT " + stockColumns + " FROM (" + lineKeys +
		") k (key) JOIN stock s ON s.key = k.key JOIN products p ON p.key = s.product"
	loadLineProducts = "SELECT " + productColumns + " FROM (SELECT DISTINCT s.product FROM (" + lineKeys +
		") k (key) JOIN stock s ON s.key = k.key) l JOIN products p ON p.key = l.product"
)

// load is the first round trip of a batch.
func (l *loader) load(ctx context.Context) error {
	t := &l.s.options.timeouts
	ctx, cancel := context.WithTimeout(ctx, t.lock+t.answer)
	defer cancel()
	b := &pgx.Batch{}
	b.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	b.Queue(lockHead).QueryRow(func(row pgx.Row) error { return l.head.scan(row) })
	l.queueClock(b)
	l.queueReceipts(b)
	l.queueProducts(b)
	l.queueLines(b)
	l.queueRecords(b)
	if err := l.s.writer.SendBatch(ctx, b).Close(); err != nil {
		return loading(err)
	}
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
	b.Queue(loadClock, sourceParameter(l.s.options.Now), products, locations, units, inventory.MaxOverdueLoaded+1).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var source int64
				var demand, reservation *int64
				var o overdueRow
				if err := rows.Scan(&source, &demand, &o.found, &reservation, &o.row.Status, &o.row.ExpiresAt, &o.row.CustomerID,
					&o.row.Data); err != nil {
					return err
				}
				if l.state == nil {
					now, err := l.head.Now(timeOf(source), l.s.options.Clock)
					if err != nil {
						return err
					}
					l.state = inventory.NewState(now, l.head.Seq)
				}
				if demand != nil {
					o.demand, o.row.Key = int(*demand)-1, *reservation
					l.overdue = append(l.overdue, o)
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

// addOverdue enters the overdue holds into the state (I8). The other lines of a cart may need stock rows that are not
// loaded yet; only then does it take another round trip.
func (l *loader) addOverdue(ctx context.Context) error {
	more := len(l.overdue) > inventory.MaxOverdueLoaded
	if more {
		l.moreOverdue(l.overdue[inventory.MaxOverdueLoaded].demand)
		l.overdue = l.overdue[:inventory.MaxOverdueLoaded]
	}
	var missing []int64
	for i := range l.overdue {
		o := &l.overdue[i]
		r, err := o.row.Decode()
		if !o.found || err != nil {
			continue // a damaged hold keeps its units but stops nobody; the sweeper and verify report it
		}
		if loaded := l.state.Reservations[r.ID]; loaded == nil {
			l.state.Reservations[r.ID] = r
		}
		key := l.keys.Stock[o.demand].StockKey
		l.state.Overdue[key] = append(l.state.Overdue[key], r.ID)
		if slices.ContainsFunc(r.Lines, func(line inventory.Line) bool { return l.state.Stock(line.Key()) == nil }) {
			missing = append(missing, o.row.Key)
		}
	}
	if more {
		// Waiting for the next batch helps only if this one frees some units. It does not if all the holds that were
		// found are damaged.
		cut := l.keys.Stock[l.overdue[len(l.overdue)-1].demand].StockKey
		if l.state.MoreOverdue[cut] && len(l.state.Overdue[cut]) == 0 {
			delete(l.state.MoreOverdue, cut)
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

// moreOverdue marks the stock row at which the limit of holds was reached, and the short ones after it, whose holds
// were not loaded. Commands that need their units wait for the next batch.
func (l *loader) moreOverdue(from int) {
	for i := from; i < len(l.keys.Stock); i++ {
		d := &l.keys.Stock[i]
		if stock := l.state.Stock(d.StockKey); stock != nil && stock.Available < d.Units {
			l.state.MoreOverdue[d.StockKey] = true
		}
	}
}
