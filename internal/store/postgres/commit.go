package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

const (
	// attemptLimit is how often a batch is tried if the server asks for it or its connection is gone.
	attemptLimit = 8
	// firstBackoff is the mean wait before the second attempt. It doubles with each further attempt. A wait is between
	// a half and one and a half of it.
	firstBackoff = 2 * time.Millisecond
)

// Commit implements [store.Store].
func (s *Store) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) (err error) {
	if err := s.turn.Take(ctx); err != nil {
		return err
	}
	defer s.turn.Give()
	if s.options.ReadOnly {
		return fmt.Errorf("%w: it was opened for reading only", store.ErrUnavailable)
	}
	ctx = context.WithoutCancel(ctx)
	for attempt := range attemptLimit {
		if attempt > 0 {
			time.Sleep(backoff(attempt))
		}
		err = s.attempt(ctx, keys, decide)
		if !store.IsRetryable(err) {
			return err
		}
	}
	return err
}

func backoff(attempt int) time.Duration {
	d := firstBackoff << (attempt - 1)
	return d/2 + mathrand.N(d)
}

// attempt tries a batch in one transaction. After an error that is [store.IsRetryable], the batch had no effect and
// another attempt may succeed.
func (s *Store) attempt(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	fresh := s.writer == nil
	if fresh {
		if err := s.reconnect(ctx); err != nil {
			return err
		}
	}
	l := newLoader(s, keys)
	if err := l.load(ctx); err != nil {
		if s.abandon(ctx, err) && !fresh {
			return store.Retryable{Err: err} // the server may have been restarted: try a new connection
		}
		return err
	}
	changes, err := decide(l.state)
	if err == nil && len(changes.Receipts) > 0 && s.mustRotate(&l.head, l.state.Now) {
		s.rollback(ctx)
		s.rotateReceipts(ctx, l.state.Now)
		return store.Retryable{Err: store.ErrUnavailable}
	}
	if err != nil {
		s.rollback(ctx)
		return err
	}
	if changes.Empty() {
		return s.writeNothing(ctx, &l.head)
	}
	var batchID [16]byte
	rand.Read(batchID[:])
	entry := l.head.Next(batchID, l.state.Now, changes)
	s.flight.begin(entry.BatchNo)
	err = s.write(ctx, newWriter(l, changes, &entry))
	if errors.Is(err, errUnsettled) {
		s.options.Log.Warn("it is not known whether a batch was committed: finding out what became of it", "batch",
			entry.BatchNo, "error", err)
		err = s.settle(ctx, &entry)
	}
	s.flight.end(err)
	if err == nil {
		s.proven = batchID
	}
	return err
}

// writeNothing ends a batch that changes nothing. Its answers may repeat what another batch has written. If that may
// not have reached the standby that commits wait for, this transaction commits, and so waits for the standby as well.
func (s *Store) writeNothing(ctx context.Context, h *head) error {
	if !h.replicated || h.BatchNo == 0 || h.BatchID == s.proven {
		s.rollback(ctx)
		s.flight.end(nil)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.timeouts.answer)
	defer cancel()
	s.warning = nil
	tag, err := s.writer.Exec(ctx, "COMMIT")
	if err = s.committed(tag, err); err != nil {
		s.disconnect()
		return fmt.Errorf("%w: proving that the last batch is on the standby: %w", store.ErrUnavailable, err)
	}
	s.proven = h.BatchID
	s.flight.end(nil)
	return nil
}

// committed fails unless COMMIT was answered with COMMIT and without a warning. A warning says that the wait for a
// standby was cancelled: the batch is committed here and may not be there.
func (s *Store) committed(tag pgconn.CommandTag, err error) error {
	switch {
	case err != nil:
		return err
	case tag.String() != "COMMIT":
		return errRolledBack
	case s.warning != nil:
		return fmt.Errorf("the server warns: %s (%s)", s.warning.Message, s.warning.Code)
	}
	return nil
}

// abandon ends a transaction that failed before its COMMIT was sent. It reports whether the connection was given up.
func (s *Store) abandon(ctx context.Context, err error) (lost bool) {
	if isReadOnly(err) || errors.Is(err, errPooled) {
		s.disconnect()
	} else if isAnswer(err) {
		s.rollback(ctx)
	} else if code(err) != "" || s.writer.IsClosed() || isTimeout(err) {
		s.disconnect()
	} else {
		s.rollback(ctx) // the server is well, but a row could not be decoded
	}
	return s.writer == nil
}

func isTimeout(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// rollback ends a transaction that wrote nothing. If the server cannot be told, the connection is given up, which ends
// the transaction too.
func (s *Store) rollback(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.options.timeouts.answer)
	defer cancel()
	if _, err := s.writer.Exec(ctx, "ROLLBACK"); err != nil {
		s.disconnect()
	}
}

// write is the second round trip: all that the batch writes, and COMMIT. If it fails with [errUnsettled], the batch may
// have been written.
func (s *Store) write(ctx context.Context, w *writer) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.timeouts.answer)
	defer cancel()
	err := s.writer.SendBatch(ctx, w.batch()).Close()
	switch {
	case err == nil:
		if err = s.committed(w.tag, nil); errors.Is(err, errRolledBack) {
			return store.Retryable{Err: fmt.Errorf("%w: %w", store.ErrUnavailable, err)}
		} else if err != nil {
			return fmt.Errorf("%w: %w", errUnsettled, err)
		}
		return nil
	case isReadOnly(err): // so COMMIT was not reached
		s.disconnect()
		return store.Retryable{Err: translate(err)}
	case isAnswer(err): // COMMIT was not reached
		s.rollback(ctx)
		if code(err) == divisionByZero {
			return fmt.Errorf("writing a batch: the stored rows are not those that were loaded: run holdfast verify: %w", err)
		}
		return fmt.Errorf("writing a batch: %w", translate(err))
	default:
		s.disconnect()
		return fmt.Errorf("%w: %w", errUnsettled, err)
	}
}

// settle finds out what became of a batch whose COMMIT was not answered, or with a warning. Reading the journal is not
// enough, because the old transaction may still be under way, or its batch may not be on the standby yet. So settle
// locks the head in a new transaction, which has to wait until the old one is over, and believes what it has read there
// only after that is committed. The lock of a row is in the log, and the log has an order: the standby has the batch
// too then.
func (s *Store) settle(ctx context.Context, entry *store.Entry) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.timeouts.settle)
	defer cancel()
	for attempt := 1; ; attempt++ {
		var written bool
		if written, err = s.look(ctx, entry); err == nil {
			if written {
				return nil
			}
			return store.Retryable{Err: fmt.Errorf("%w: the batch was not committed", store.ErrUnavailable)}
		}
		s.disconnect()
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, err)
		case <-time.After(min(backoff(attempt), time.Second)):
		}
	}
}

// look reports whether the journal has the batch of this entry.
func (s *Store) look(ctx context.Context, entry *store.Entry) (written bool, err error) {
	if s.writer == nil {
		if err := s.reconnect(ctx); err != nil {
			return false, err
		}
	}
	var tag pgconn.CommandTag
	b := &pgx.Batch{}
	b.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	b.Queue("SELECT one FROM head FOR UPDATE")
	b.Queue("SELECT count(*) FROM journal WHERE batch_no = $1 AND batch_id = $2", entry.BatchNo, entry.BatchID[:]).
		QueryRow(func(row pgx.Row) error {
			var n int
			err := row.Scan(&n)
			written = n == 1
			s.warning = nil
			return err
		})
	b.Queue("COMMIT").Exec(func(answer pgconn.CommandTag) error {
		tag = answer
		return nil
	})
	err = s.writer.SendBatch(ctx, b).Close()
	return written, s.committed(tag, err)
}
