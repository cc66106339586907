package sqlite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Commit implements [store.Store].
func (s *Store) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	if err := s.turn.Take(ctx); err != nil {
		return err
	}
	defer s.turn.Give()
	switch {
	case s.broken != nil:
		return s.broken
	case s.writer == nil || s.options.ReadOnly:
		return fmt.Errorf("%w: it was opened for reading only", store.ErrUnavailable)
	}
	now, err := s.head.Now(s.options.Now(), s.options.Clock)
	if err != nil {
		return err
	}
	err = s.transact(keys, decide, now)
	s.tellFailing(err)
	if err == nil {
		err = s.inPlace() // what went into a file that is gone must not be acknowledged
	}
	if errors.Is(err, store.ErrBroken) {
		s.broken = err
	}
	return err
}

// transact runs the transaction of a batch. It is never tried again: nobody else writes, so nothing would be different.
func (s *Store) transact(keys *inventory.Keys, decide store.Decide, now inventory.Time) (err error) {
	if err := exec(s.writer, "BEGIN IMMEDIATE", nil); err != nil {
		return translate(err)
	}
	defer func() { err = s.rollback(err) }()
	if err := s.ownHead(); err != nil {
		return err
	}
	l := loader{
		conn: s.writer, state: inventory.NewState(now, s.head.Seq, s.head.Epochs), receipts: &s.receipts, cache: &s.cache,
		waiting: &s.waiting,
	}
	if err := l.load(keys); err != nil {
		return fmt.Errorf("loading a batch: %w", translate(err))
	}
	changes, err := decide(l.state)
	if err != nil || changes.Empty() {
		return err
	}
	var batchID [16]byte
	rand.Read(batchID[:])
	entry := s.head.Next(batchID, now, changes)
	head := s.head.After(&entry)
	w := writer{
		loader: &l, now: now, receiptsSince: s.head.ReceiptsSince(s.receipts.since, s.options.Clock),
		collector: &s.collector,
		added:     rows{statements: insertReservations}, changed: rows{statements: updateReservations},
		moved: rows{statements: updateStock}, held: rows{statements: insertHolds},
	}
	const likelyRowBytes = 160
	w.scratch = make([]byte, 0, likelyRowBytes*len(changes.Reservations))
	if err := w.write(changes, &entry, &head); err != nil {
		return fmt.Errorf("writing a batch: %w", translate(err))
	}
	if s.beforeCommit != nil {
		s.beforeCommit()
	}
	if err := exec(s.writer, "COMMIT", nil); err != nil {
		return fmt.Errorf("committing a batch: %w", s.uncommitted(err))
	}
	if s.failing {
		s.failing = false
		s.options.Log.Info("batches are written to the store file again", "file", s.path)
	}
	s.head = head
	s.cache.committed(&l, changes)
	s.receipts.committed(&w.receipted)
	s.waiting.committed(&w.step, w.ended, w.made, head.Seq, changes.EventCount)
	s.checkpoint(changes)
	return nil
}

// tellFailing logs once that nothing can be written. Only a batch that was written shows that it can be again.
func (s *Store) tellFailing(err error) {
	full := sqlite.ErrCode(err).ToPrimary() == sqlite.ResultFull
	switch {
	case s.failing || !full && !diskFailed(err):
		return
	case full:
		s.options.Log.Error("nothing is committed until there is space for the store file", "file", s.path, "error", err)
	default:
		s.options.Log.Error("the disk of the store file fails: look after it soon", "file", s.path, "error", err)
	}
	s.failing = true
}

// uncommitted says what a COMMIT that failed means. Where there was no space, nothing happened: the log lacks the end
// of the batch, which is written last, and is flushed only afterwards. Where a write failed, its data may be in the log
// all the same, and a crash would bring it back. So another transaction is written to the same place and flushed; then
// nothing happened (decision 0023). After any other failure nobody knows.
func (s *Store) uncommitted(err error) error {
	switch {
	case sqlite.ErrCode(err).ToPrimary() == sqlite.ResultFull:
		return translate(err)
	case diskFailed(err) && s.writer.AutocommitEnabled() && writeMark(s.writer) == nil:
		return translate(err)
	}
	return fmt.Errorf("%w: %w", store.ErrBroken, err)
}

// rollback ends the transaction if it is still open. It returns the error that it was given, and its own.
func (s *Store) rollback(err error) error {
	if s.writer.AutocommitEnabled() {
		return err // it was committed, or SQLite has rolled back by itself
	}
	if undo := exec(s.writer, "ROLLBACK", nil); undo != nil {
		return fmt.Errorf("%w: %w", store.ErrBroken, errors.Join(err, undo))
	}
	return err
}

// ownHead makes sure, inside the transaction, that nobody has written the file since the last batch. What is in memory
// would not be true any more, and two who sell the same units would sell them twice.
func (s *Store) ownHead() error {
	head, err := readHead(s.writer)
	if err = translate(err); errors.Is(err, store.ErrUnavailable) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrBroken, err)
	}
	if head != s.head {
		return fmt.Errorf("%w: another program has written %s: its last batch is number %d, and the last one of this "+
			"process was %d: see that only one process serves this file", store.ErrBroken, s.path, head.BatchNo,
			s.head.BatchNo)
	}
	return nil
}

// checkpoint copies the write-ahead log into the file once enough was written. The batch before it is durable even if
// this fails; then the store is broken for the next batch.
func (s *Store) checkpoint(c *inventory.Changes) {
	// rough measurements
	const pagesPerBatch, pagesPerStockRow, pagesPerRecord, receiptsPerPage, rowBytesPerPage = 8, 2, 2, 4, 2048
	s.logPages += pagesPerBatch + pagesPerStockRow*len(c.Stock) + pagesPerRecord*len(c.Records) +
		len(c.Receipts)/receiptsPerPage + len(c.Events)/rowBytesPerPage
	if s.logPages < s.checkpoints.pages || s.options.Now().Before(s.heldUp.until) {
		return
	}
	s.logPages = 0
	if err := translate(s.copyLog()); err != nil && !errors.Is(err, store.ErrUnavailable) {
		s.broken = fmt.Errorf("%w: checkpoint: %w", store.ErrBroken, err)
	}
}

// copyLog copies what readers allow, and waits for them if the log has become long.
func (s *Store) copyLog() error {
	length, _, err := s.walCheckpoint("PRAGMA wal_checkpoint(PASSIVE)")
	if err != nil {
		return err
	}
	if length <= s.checkpoints.restartPages {
		s.logRestarted()
		return nil
	}
	tooLong := length > 4*s.checkpoints.restartPages
	s.writer.SetBusyTimeout(s.checkpoints.patience)
	if tooLong {
		s.writer.SetBusyTimeout(s.checkpoints.longPatience)
	}
	_, busy, err := s.walCheckpoint("PRAGMA wal_checkpoint(RESTART)")
	s.writer.SetBusyTimeout(busyTimeout)
	switch {
	case err != nil:
		return err
	case !busy:
		s.logRestarted()
	case tooLong:
		s.logHeldUp(length)
	}
	return nil
}

// walCheckpoint runs a checkpoint. It returns the length of the log, in pages, and whether it waited for readers in
// vain.
func (s *Store) walCheckpoint(pragma string) (length int, busy bool, err error) {
	err = exec(s.writer, pragma, func(row *sqlite.Stmt) error {
		busy, length = row.ColumnInt(0) != 0, row.ColumnInt(1)
		return nil
	})
	return length, busy, err
}

// heldUp is what is known of a reader that keeps the log from beginning anew. Holdfast's own readers end in time, so it
// is another program with an open snapshot. Waiting for it stops all batches, so the time between attempts grows.
type heldUp struct {
	attempts int // that have failed since the log last began anew
	pause    time.Duration
	until    time.Time // of the next attempt
}

func (s *Store) logHeldUp(length int) {
	h := &s.heldUp
	if h.attempts++; h.attempts == 1 {
		s.options.Log.Warn("another program has been reading the store file for long, and its write-ahead log grows until "+
			"that ends: find the program (fuser names it) and end its transaction",
			"file", s.path, "log_mib", length*pageBytes>>20)
	}
	h.pause = min(max(2*h.pause, s.checkpoints.firstPause), s.checkpoints.longestPause)
	h.until = s.options.Now().Add(h.pause)
}

func (s *Store) logRestarted() {
	if s.heldUp.attempts > 0 {
		s.options.Log.Info("the write-ahead log can begin anew: the other program has ended its transaction",
			"file", s.path, "failed_attempts", s.heldUp.attempts)
	}
	s.heldUp = heldUp{}
}

// pageBytes is SQLite's default.
const pageBytes = 4096

// checkpoints say when the write-ahead log is copied into the file.
type checkpoints struct {
	// pages is about how many written pages make a checkpoint due.
	pages int
	// restartPages is the length of the log, in pages, from which the writer waits for readers, so that the log can
	// begin anew. Without that, readers that follow each other without a gap, as in an audit, would let it grow as long
	// as they go on.
	restartPages int
	// patience is how long the writer waits for them, and longPatience how long once the log is four times as long as
	// restartPages.
	patience, longPatience time.Duration
	// firstPause is the time without checkpoints after it has waited longPatience in vain. Each further failure doubles
	// it, up to longestPause.
	firstPause, longestPause time.Duration
}

var defaultCheckpoints = checkpoints{
	pages: 4096, restartPages: 16_384, patience: 50 * time.Millisecond, longPatience: busyTimeout,
	firstPause: 10 * time.Second, longestPause: 5 * time.Minute,
}
