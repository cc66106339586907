package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Receipts are in two tables. One is written to for a day; then the other is emptied and written to. So a receipt lives
// for one to two days, and none is deleted by itself. If the other table cannot be emptied, for example because a
// backup reads it, the store tries again after [store.RotateRetry]; until then receipts live longer.

// mustRotate reports whether a table has been written to for a day.
func (s *Store) mustRotate(h *head, now inventory.Time) bool {
	since := h.ReceiptsSince(inventory.Time(h.receiptsSince), s.options.Clock)
	return since != 0 && now-store.RotateEvery >= since &&
		time.Since(s.rotationFailed) >= store.RotateRetry
}

// rotateReceipts empties the other table and makes it the one to write to, in a transaction of its own. It does not
// wait for whoever reads that table, as TRUNCATE would: a backup must not stop the sale.
func (s *Store) rotateReceipts(ctx context.Context, now inventory.Time) {
	ctx, cancel := context.WithTimeout(ctx, s.options.timeouts.lock+s.options.timeouts.answer)
	defer cancel()
	if s.writer == nil {
		return // the batch opens a connection and tries once more
	}
	err := pgx.BeginFunc(ctx, s.writer, func(tx pgx.Tx) error {
		var current int
		var since int64
		err := tx.QueryRow(ctx, "SELECT receipts_table, receipts_since FROM head FOR UPDATE").Scan(&current, &since)
		if err != nil || int64(now-store.RotateEvery) < since {
			return err // nil if another process has done it
		}
		other := 1 - current
		table := receiptsTable(other)
		for _, statement := range []string{
			"LOCK TABLE " + table + " IN ACCESS EXCLUSIVE MODE NOWAIT", "TRUNCATE " + table,
		} {
			if _, err := tx.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, "UPDATE head SET receipts_table = $1, receipts_since = $2", other, int64(now))
		return err
	})
	if err == nil {
		return
	}
	s.rotationFailed = time.Now()
	if code(err) != lockNotAvailable {
		s.options.Log.Warn("the receipts of a day ago could not be dropped: trying again in a minute", "error", err)
	}
	if !isAnswer(err) && !errors.Is(err, context.Canceled) {
		s.disconnect()
	}
}

func receiptsTable(n int) string {
	if n == 0 {
		return "receipts_0"
	}
	return "receipts_1"
}

var _ store.Lister = (*view)(nil)

// Receipts implements [store.Lister], in the order of keys of the one table and then of the other.
func (v *view) Receipts(
	ctx context.Context, after store.ReceiptCursor, limit int,
) ([]*inventory.Receipt, store.ReceiptCursor, error) {
	page := store.NewPage[inventory.Receipt, store.ReceiptCursor](limit)
	err := v.query(ctx, func(rows pgx.Rows) error {
		var key, fingerprint, answer []byte
		_, err := pgx.ForEachRow(rows, []any{&key, &fingerprint, &answer}, func() error {
			if page.Done() {
				return nil
			}
			r := &inventory.Receipt{Answer: slices.Clone(answer)}
			copy(r.Key[:], key)
			copy(r.Fingerprint[:], fingerprint)
			page.Add(r, store.ReceiptCursor{Table: after.Table, Key: r.Key}, len(answer))
			return nil
		})
		return err
	}, "SELECT key, fingerprint, answer FROM "+receiptsTable(int(after.Table))+" WHERE key > $1 ORDER BY key LIMIT $2",
		after.Key[:], limit)
	if err != nil {
		return nil, store.ReceiptCursor{}, err
	}
	list, next, err := page.Result()
	if next == (store.ReceiptCursor{}) && after.Table == 0 {
		next.Table = 1
	}
	return list, next, err
}
