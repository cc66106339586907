package mongodb

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

const (
	firstBatchTime   = 5 * time.Millisecond // assumed until a batch was measured
	longestBatchTime = time.Second          // counted at most: more means that a commit had to be settled
	// A process that finds the head taken waits for shortestWait to longestWait times the duration of its recent
	// batches. By then the other is probably done, and random waits keep those who wait from meeting again.
	shortestWait, longestWait = 2, 6
	// Each further try waits less: a half after patience tries, and a fifth from 4*patience tries on. So the process
	// that has waited longest is the likeliest to be next.
	patience = 8
	// A process that shares the head gives way once after longestRun batches in a row. The others would find the head
	// free only by chance, and late.
	longestRun = 24
	// resends is how often the store sends commitTransaction again after an answer that leaves open what became of it.
	// Then it asks the head.
	resends = 2
	// endStaleAfter is how long a process waits for the head before it looks for processes that died holding it.
	endStaleAfter = 500 * time.Millisecond
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
	s.giveWay()
	start := time.Now()
	looked, losses := start, 0
	for tries := 0; ; tries++ {
		begun := time.Now()
		err = s.attempt(ctx, keys, decide)
		switch {
		case err == nil:
			s.batchTime = (7*s.batchTime + min(time.Since(begun), longestBatchTime)) / 8
			return nil
		case errors.As(err, new(lost)) && losses == 0:
			losses++
			continue
		case !store.IsRetryable(err) || time.Since(start) > s.options.timeouts.head:
			return err
		}
		if time.Since(looked) > endStaleAfter {
			looked = time.Now()
			s.process.wantHead()
		}
		time.Sleep(s.wait(tries))
	}
}

// giveWay waits once after a long run, so that others can take the head. If no other process has a batch, this one goes
// on without giving way, and counts a new run only after another process has committed.
func (s *Store) giveWay() {
	if s.run >= longestRun {
		s.run = 0
		time.Sleep(s.wait(0))
	}
}

// countRun counts a committed batch in the run of this process. A run begins with a batch that found the head as
// another process left it.
func (s *Store) countRun(found *store.Head, entry *store.Entry) {
	switch {
	case found.BatchID != s.last:
		s.run = 1
	case s.run > 0:
		s.run++
	}
	if entry.BatchNo != 0 {
		s.last = entry.BatchID
	}
}

// wait returns how long to wait for the head after this number of tries.
func (s *Store) wait(tries int) time.Duration {
	wait := shortestWait*s.batchTime + mathrand.N((longestWait-shortestWait)*s.batchTime)
	return wait * patience / time.Duration(patience+min(tries, 4*patience))
}

// within calls f with a context that ends after the timeout for one answer.
func (s *Store) within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.timeouts.answer)
	defer cancel()
	return f(ctx)
}

// attempt tries a batch in one transaction. After an error that is [store.IsRetryable], the batch had no effect and
// another attempt may succeed.
func (s *Store) attempt(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	if err := s.session.StartTransaction(transactionOptions); err != nil {
		return translate(err)
	}
	inside := mongo.NewSessionContext(ctx, s.session)
	l := newLoader(s, keys)
	if err := l.load(inside); err != nil {
		s.abort(ctx)
		if errors.Is(err, store.ErrNewerFormat) {
			return fmt.Errorf("%w: %w", store.ErrBroken, err) // another process has upgraded the store
		}
		return fmt.Errorf("loading a batch: %w", translate(err))
	}
	changes, err := decide(l.state)
	switch {
	case err != nil:
		s.abort(ctx)
		return err
	case len(changes.Receipts) > 0 && l.mustRotate():
		s.abort(ctx)
		s.rotateReceipts(ctx, l.state.Now)
		return store.Retryable{Err: store.ErrUnavailable}
	}
	return s.writeBatch(ctx, l, changes)
}

// writeBatch writes a batch that was decided, and commits it.
func (s *Store) writeBatch(ctx context.Context, l *loader, changes *inventory.Changes) error {
	inside := mongo.NewSessionContext(ctx, s.session)
	entry, after, write := store.Entry{}, l.before, l.giveBack
	if !changes.Empty() {
		entry = l.before.Next(l.batchID, l.state.Now, changes)
		after = l.before.After(&entry)
		write = (&writer{loader: l, changes: changes, entry: &entry}).write
	}
	if err := write(inside); err != nil {
		s.abort(ctx)
		err = translate(err)
		if l.own && !errors.Is(err, store.ErrUnavailable) {
			s.memory.forget() // somebody else may have changed the rows: once more with those that are stored
			err = store.Retryable{Err: err}
		}
		return fmt.Errorf("writing a batch: %w", err)
	}
	if err := s.commit(ctx, &entry); err != nil {
		s.memory.forget()
		return err
	}
	s.countRun(&l.before, &entry)
	s.memory.committed(l, after, changes)
	s.apart = false
	return nil
}

// monitor counts the aborts that were answered, because the driver does not tell whether one was. It passes on all that
// the monitor of a test wants to know.
func (s *Store) monitor() *event.CommandMonitor {
	m := &event.CommandMonitor{}
	if s.options.monitor != nil {
		*m = *s.options.monitor
	}
	succeeded, failed := m.Succeeded, m.Failed
	m.Succeeded = func(ctx context.Context, e *event.CommandSucceededEvent) {
		if e.CommandName == "abortTransaction" {
			s.aborted.Add(1)
		}
		if succeeded != nil {
			succeeded(ctx, e)
		}
	}
	m.Failed = func(ctx context.Context, e *event.CommandFailedEvent) {
		if e.CommandName == "abortTransaction" && hasCode(e.Failure, noSuchTransaction, transactionTooOld) {
			s.aborted.Add(1) // it was over already
		}
		if failed != nil {
			failed(ctx, e)
		}
	}
	return m
}

// abort ends a transaction that was not committed.
func (s *Store) abort(ctx context.Context) {
	before := s.aborted.Load()
	_ = s.within(ctx, s.session.AbortTransaction)
	if s.aborted.Load() == before {
		s.leftOpen.Store(true)
	}
}

// abandon gives up a transaction whose commit was not answered, without telling the server: what was sent may still
// arrive. The next transaction of the session ends it, if it is still open.
func (s *Store) abandon() {
	s.leftOpen.Store(true)
	told, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.session.AbortTransaction(told) // changes the session alone: with this context, nothing is sent
}

// finish ends the transaction that was left open, if no batch has done so since: a session has one transaction at a
// time, so the first command of a new one ends that before. No right to end sessions is needed for it, and it works
// where killSessions does not.
func (s *Store) finish(ctx context.Context) error {
	if !s.leftOpen.Load() || s.turn.Take(ctx) != nil {
		return nil // nothing to do, or the batch that has the turn does it
	}
	defer s.turn.Give()
	if !s.leftOpen.Load() {
		return nil
	}
	if err := s.session.StartTransaction(transactionOptions); err != nil {
		return err
	}
	inside := mongo.NewSessionContext(ctx, s.session)
	err := s.db.Collection(headName).FindOne(inside, bson.D{{Key: "_id", Value: headID}}).Err()
	if err == nil {
		s.leftOpen.Store(false)
	}
	s.abort(ctx)
	if err != nil {
		return fmt.Errorf("ending a transaction of this process that may be open: %w", err)
	}
	return nil
}

// commit sends commitTransaction until it is answered, and settles the batch if it never is. A batch that wrote nothing
// (its entry is zero) is committed as well: after that, the rows that its refusals were decided on are on the disks of
// a majority.
//
// The driver itself sends it again, until the time for an answer is over, if no answer comes or the server is not
// primary any more. Other answers that leave it open are worth resending.
func (s *Store) commit(ctx context.Context, entry *store.Entry) (err error) {
	for range 1 + resends {
		if err = s.within(ctx, s.session.CommitTransaction); err == nil {
			return nil
		}
		if isLost(err) || hasLabel(err, retryableLabel) || hasCode(err, noSuchTransaction) {
			break // no answer will come, or the transaction is over; the head knows whether it was committed
		}
	}
	s.abandon()
	if entry.BatchNo == 0 {
		return store.Retryable{Err: fmt.Errorf("%w: %w", store.ErrUnavailable, err)}
	}
	s.options.Log.Warn("the commit of a batch was not answered: finding out what became of it", "batch", entry.BatchNo,
		"error", err)
	return s.settle(ctx, entry)
}

// settle finds out what became of a batch whose commit was not answered. Reading the journal is not enough, because the
// old transaction may still be under way. So settle writes the head in a new transaction, which cannot succeed beside
// the old one, and believes what it has read there only after that is committed.
func (s *Store) settle(ctx context.Context, entry *store.Entry) (err error) {
	s.settled.Add(1)
	ctx, cancel := context.WithTimeout(ctx, s.options.timeouts.settle)
	defer cancel()
	for {
		var written bool
		if written, err = s.look(ctx, entry); err == nil {
			if written {
				return nil
			}
			return store.Retryable{Err: fmt.Errorf("%w: the batch was not committed", store.ErrUnavailable)}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, err)
		case <-time.After(s.wait(0)):
		}
	}
}

// look reports whether the journal has the batch of this entry.
func (s *Store) look(ctx context.Context, entry *store.Entry) (written bool, err error) {
	if err := s.session.StartTransaction(transactionOptions); err != nil {
		return false, err
	}
	inside := mongo.NewSessionContext(ctx, s.session)
	err = s.within(inside, func(ctx context.Context) error {
		if err := touchHead(ctx, s.db); err != nil {
			return err
		}
		s.leftOpen.Store(false)
		n, err := s.db.Collection(journalName).CountDocuments(ctx,
			bson.D{{Key: "_id", Value: entry.BatchNo}, {Key: "batchId", Value: entry.BatchID[:]}})
		written = n == 1
		return err
	})
	if err != nil {
		s.abort(ctx)
		return false, err
	}
	if err := s.within(ctx, s.session.CommitTransaction); err != nil {
		s.abandon()
		return false, err
	}
	return written, nil
}

// touchHead writes the head, so that no other transaction can, and changes nothing that counts.
func touchHead(ctx context.Context, db *mongo.Database) error {
	result, err := db.Collection(headName).UpdateOne(ctx, bson.D{{Key: "_id", Value: headID}},
		bson.D{{Key: "$inc", Value: bson.D{{Key: "fence", Value: 1}}}})
	if err == nil && result.MatchedCount != 1 {
		err = errNoHead
	}
	return err
}

// giveBack undoes what the lock has entered into the head, because the batch has nothing to write.
func (l *loader) giveBack(ctx context.Context) error {
	return l.s.within(ctx, func(ctx context.Context) error {
		_, err := l.s.db.Collection(headName).UpdateOne(ctx,
			bson.D{{Key: "_id", Value: headID}, {Key: "batchId", Value: l.batchID[:]}},
			bson.D{{Key: "$set", Value: bson.D{
				{Key: "batchNo", Value: l.before.BatchNo},
				{Key: "batchId", Value: l.before.BatchID[:]},
			}}})
		return err
	})
}
