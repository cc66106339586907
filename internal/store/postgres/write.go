package postgres

import (
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// writer turns the changes of a batch into statements, one for each kind of row and change. It uses the row keys that
// its loader remembers.
type writer struct {
	*loader
	changes *inventory.Changes
	entry   *store.Entry
	out     *pgx.Batch
	nextKey int64
	tag     pgconn.CommandTag // the answer to COMMIT
}

func newWriter(l *loader, c *inventory.Changes, entry *store.Entry) *writer {
	return &writer{loader: l, changes: c, entry: entry, out: &pgx.Batch{}, nextKey: l.head.nextKey}
}

// batch returns the statements of the second round trip.
func (w *writer) batch() *pgx.Batch {
	w.writeProducts()
	w.writeStock()
	w.writeReservations()
	w.writeOrders()
	w.writeRecords()
	w.writeReceipts()
	w.writeHead()
	w.out.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
		w.tag = tag
		return nil
	})
	return w.out
}

// insert queues a statement that adds n rows, unless n is 0.
func (w *writer) insert(n int, sql string, arguments ...any) {
	if n > 0 {
		w.out.Queue(sql, arguments...)
	}
}

// change queues a statement that must change n rows, unless n is 0. The server checks the number, because COMMIT is
// sent before an answer is here: if the number is another, a division by zero ends the transaction.
func (w *writer) change(n int, sql string, arguments ...any) {
	if n > 0 {
		sql = fmt.Sprintf("WITH changed AS (%s RETURNING 1) SELECT 1 / (count(*) = $%d)::integer FROM changed", sql,
			len(arguments)+1)
		w.out.Queue(sql, append(arguments, n)...)
	}
}

func (w *writer) takeKey() int64 {
	w.nextKey++
	return w.nextKey - 1
}

func (w *writer) writeProducts() {
	var added, changed struct {
		keys []int64
		ids  []string
		data [][]byte
	}
	for i := range w.changes.Products {
		c := &w.changes.Products[i]
		list := &changed
		if c.Before == nil {
			list = &added
			w.products[c.After.ID] = w.takeKey()
		}
		list.keys = append(list.keys, w.products[c.After.ID])
		list.ids = append(list.ids, c.After.ID)
		list.data = append(list.data, inventory.AppendProduct(nil, c.After))
	}
	w.insert(len(added.keys), "INSERT INTO products (key, id, data) SELECT * FROM unnest($1::bigint[], $2::text[], "+
		"$3::bytea[])", added.keys, added.ids, added.data)
	w.change(len(changed.keys), "UPDATE products p SET data = u.data FROM unnest($1::bigint[], $2::bytea[]) AS u (key, "+
		"data) WHERE p.key = u.key", changed.keys, changed.data)
}

func (w *writer) writeStock() {
	type columns struct {
		keys, products, available, reserved, committed, seqs, before []int64
		locations                                                    []string
	}
	var added, changed columns
	for i := range w.changes.Stock {
		c := &w.changes.Stock[i]
		list := &changed
		if c.Before == nil {
			list = &added
			w.stock[c.StockKey] = w.takeKey()
			list.products = append(list.products, w.products[c.ProductID])
			list.locations = append(list.locations, c.Location)
		} else {
			list.before = append(list.before, c.Before.Seq)
		}
		list.keys = append(list.keys, w.stock[c.StockKey])
		list.available = append(list.available, c.After.Available)
		list.reserved = append(list.reserved, c.After.Reserved)
		list.committed = append(list.committed, c.After.Committed)
		list.seqs = append(list.seqs, c.After.Seq)
	}
	w.insert(len(added.keys), `INSERT INTO stock (key, product, location, available, reserved, committed, seq)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])`,
		added.keys, added.products, added.locations, added.available, added.reserved, added.committed, added.seqs)
	// The place is found as newestBy finds it. Plus 0 keeps the planner from looking for the key once more, by the index.
	w.change(len(changed.keys), `UPDATE stock s
SET available = u.available, reserved = u.reserved, committed = u.committed, seq = u.seq
FROM (
	SELECT k.*, (SELECT ctid FROM stock WHERE key >= k.key AND key <= k.key ORDER BY key DESC LIMIT 1) AS place
	FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
		AS k (key, available, reserved, committed, seq, before)
	OFFSET 0
) u
WHERE s.ctid = u.place AND s.key + 0 = u.key AND s.seq = u.before`,
		changed.keys, changed.available, changed.reserved, changed.committed, changed.seqs, changed.before)
}

// held are rows of holds, by column.
type held struct{ stock, expiresAt, reservations []int64 }

// add adds the rows of a reservation if it is ACTIVE. The keys of its stock rows are distinct.
func (h *held) add(r *inventory.Reservation, stock []int64) {
	if r.Status != inventory.ReservationActive {
		return
	}
	for _, key := range stock {
		h.stock = append(h.stock, key)
		h.expiresAt = append(h.expiresAt, int64(r.ExpiresAt))
		h.reservations = append(h.reservations, r.ID.Sequence())
	}
}

// stockOf lists the keys of the stock rows of lines, without repetition.
func (w *writer) stockOf(lines []inventory.Line) []int64 {
	keys := make([]int64, 0, len(lines))
	for i := range lines {
		key := w.stock[lines[i].Key()]
		seen := false
		for _, k := range keys {
			seen = seen || k == key
		}
		if !seen {
			keys = append(keys, key)
		}
	}
	return keys
}

// arrayLiteral formats keys as text that PostgreSQL reads as an array. An array of arrays would need all of them to
// have the same length.
func arrayLiteral(keys []int64) string {
	b := append(make([]byte, 0, 2+8*len(keys)), '{')
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, key, 10)
	}
	return string(append(b, '}'))
}

func optionalText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (w *writer) writeReservations() {
	var added, changed struct {
		keys, expiresAt  []int64
		statuses, before []int32
		customers        []*string
		stock            []string
		data             [][]byte
	}
	var opened, closed held
	for i := range w.changes.Reservations {
		c := &w.changes.Reservations[i]
		stock := w.stockOf(c.After.Lines)
		list := &changed
		if c.Before == nil {
			list = &added
			list.customers = append(list.customers, optionalText(c.After.CustomerID))
			list.stock = append(list.stock, arrayLiteral(stock))
		} else {
			list.before = append(list.before, int32(c.Before.Status))
			closed.add(c.Before, stock)
		}
		opened.add(c.After, stock)
		list.keys = append(list.keys, c.After.ID.Sequence())
		list.statuses = append(list.statuses, int32(c.After.Status))
		list.expiresAt = append(list.expiresAt, int64(c.After.ExpiresAt))
		list.data = append(list.data, inventory.AppendReservation(nil, c.After))
	}
	w.insert(len(added.keys), `INSERT INTO reservations (key, status, expires_at, customer, stock, data)
SELECT u.key, u.status, u.expires_at, u.customer, u.stock::bigint[], u.data
FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::text[], $5::text[], $6::bytea[])
	AS u (key, status, expires_at, customer, stock, data)`,
		added.keys, added.statuses, added.expiresAt, added.customers, added.stock, added.data)
	w.change(len(changed.keys), `UPDATE reservations r SET status = u.status, expires_at = u.expires_at, data = u.data
FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bytea[], $5::integer[])
	AS u (key, status, expires_at, data, before)
WHERE r.key = u.key AND r.status = u.before`,
		changed.keys, changed.statuses, changed.expiresAt, changed.data, changed.before)
	w.change(len(closed.stock), `DELETE FROM holds h USING unnest($1::bigint[], $2::bigint[], $3::bigint[])
		AS u (stock, expires_at, reservation)
WHERE h.stock = u.stock AND h.expires_at = u.expires_at
	AND h.reservation = u.reservation`, closed.stock, closed.expiresAt, closed.reservations)
	w.insert(len(opened.stock), "INSERT INTO holds (stock, expires_at, reservation) SELECT * FROM unnest($1::bigint[], "+
		"$2::bigint[], $3::bigint[])",
		opened.stock, opened.expiresAt, opened.reservations)
}

func (w *writer) writeOrders() {
	var added, changed struct {
		keys, reservations    []int64
		statuses, before      []int32
		customers, references []*string
		data                  [][]byte
	}
	for i := range w.changes.Orders {
		c := &w.changes.Orders[i]
		list := &changed
		if c.Before == nil {
			list = &added
			list.reservations = append(list.reservations, c.After.ReservationID.Sequence())
			list.customers = append(list.customers, optionalText(c.After.CustomerID))
			list.references = append(list.references, optionalText(c.After.Reference))
		} else {
			list.before = append(list.before, int32(c.Before.Status))
		}
		list.keys = append(list.keys, c.After.ID.Sequence())
		list.statuses = append(list.statuses, int32(c.After.Status))
		list.data = append(list.data, inventory.AppendOrder(nil, c.After))
	}
	w.insert(len(added.keys), `INSERT INTO orders (key, reservation, status, customer, reference, data)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::text[], $5::text[], $6::bytea[])`,
		added.keys, added.reservations, added.statuses, added.customers, added.references, added.data)
	w.change(len(changed.keys), `UPDATE orders o SET status = u.status, data = u.data
FROM unnest($1::bigint[], $2::integer[], $3::bytea[], $4::integer[]) AS u (key, status, data, before)
WHERE o.key = u.key AND o.status = u.before`, changed.keys, changed.statuses, changed.data, changed.before)
}

func (w *writer) writeReceipts() {
	n := len(w.changes.Receipts)
	keys, fingerprints, answers := make([][]byte, n), make([][]byte, n), make([][]byte, n)
	for i, r := range w.changes.Receipts {
		keys[i], fingerprints[i], answers[i] = r.Key[:], r.Fingerprint[:], r.Answer
	}
	w.insert(n, "INSERT INTO "+receiptsTable(w.head.receiptsTable)+" (key, fingerprint, answer) SELECT * FROM "+
		"unnest($1::bytea[], $2::bytea[], $3::bytea[])",
		keys, fingerprints, answers)
}

// writeHead writes the journal entry, from which the next batch goes on, and what is new in the head row.
func (w *writer) writeHead() {
	e := w.entry
	after := w.head.After(e)
	since := int64(w.head.ReceiptsSince(inventory.Time(w.head.receiptsSince), w.s.options.Clock))
	if since == 0 && len(w.changes.Receipts) > 0 {
		since = int64(e.At)
	}
	if w.head.entered || since != w.head.receiptsSince || after.Epochs != w.head.Epochs {
		w.change(1, "UPDATE head SET receipts_since = $1, epochs = $2, timeline = $3", since, []byte(after.Epochs),
			w.head.timeline)
	}
	w.insert(1, "INSERT INTO journal (batch_no, batch_id, last_seq, count, at, events, checksum, next_key) VALUES "+
		"($1, $2, $3, $4, $5, $6, $7, $8)",
		e.BatchNo, e.BatchID[:], after.Seq, e.Count, int64(e.At), notNull(e.Events), e.Checksum[:], w.nextKey)
	w.out.QueuedQueries[w.out.Len()-1].Exec(func(pgconn.CommandTag) error {
		w.s.warning = nil // from here on, a warning is about COMMIT
		return nil
	})
}
