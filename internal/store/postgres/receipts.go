package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast/holdfast/internal/inventory"
)

// Receipts are in two tables that take turns: one is written to for a day, then the other is emptied whole and written to. So a receipt
// lives for one to two days, and none is deleted row by row.
const (
	turnEvery = inventory.Time(24 * time.Hour / time.Millisecond)
	// turnAgain is how long the tables stay as they are after they could not be turned, because a backup reads the one that is to be
	// emptied, say: receipts then only live longer.
	turnAgain = time.Minute
)

// mustTurn reports whether the table that is written to has been for a day.
func (s *Store) mustTurn(h *head, now inventory.Time) bool {
	return h.receiptsSince != 0 && int64(now-turnEvery) >= h.receiptsSince && time.Since(s.turned) >= turnAgain
}

// turnReceipts empties the other table and makes it the one that is written to, in a transaction of its own. TRUNCATE has to wait for whoever
// reads the table, so it is not waited for: a backup must not stop the sale.
func (s *Store) turnReceipts(ctx context.Context, now inventory.Time) {
	ctx, cancel := context.WithTimeout(ctx, s.options.timeouts.lock+s.options.timeouts.answer)
	defer cancel()
	if s.writer == nil {
		return // the batch will make a connection and come again
	}
	err := pgx.BeginFunc(ctx, s.writer, func(tx pgx.Tx) error {
		h, err := readHead(ctx, tx, " FOR UPDATE")
		if err != nil || int64(now-turnEvery) < h.receiptsSince {
			return err // another process has turned them
		}
		other := 1 - h.receiptsTable
		table := receiptsTable(other)
		for _, statement := range []string{
			"LOCK TABLE " + table + " IN ACCESS EXCLUSIVE MODE NOWAIT", "TRUNCATE " + table,
		} {
			if _, err := tx.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, "UPDATE head SET receipts_table = $1, receipts_since = $2, fence = fence + 1", other, int64(now))
		return err
	})
	if err == nil {
		return
	}
	s.turned = time.Now()
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
