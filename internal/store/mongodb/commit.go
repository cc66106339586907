package mongodb

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

const (
	firstBatchTime   = 5 * time.Millisecond // until there is one to go by
	longestBatchTime = time.Second          // that counts: more is a commit that had to be found out about
	// Whoever finds the head taken waits between shortestWait and longestWait times its own recent batches: then the
	// one that has it is probably done, and those who wait do not meet again.
	shortestWait, longestWait = 2, 6
	// A wait gets shorter with each try, to a half after so many and to a fifth in the end: whoever has waited longest
	// is the likeliest to be next.
	patience = 8
	// A process gives way once after so many batches in a row, if others have committed before: they find the head free
	// only by chance, and would find it late.
	longestRun = 24
	// resends is how often commitTransaction is sent again before the head is asked.
	resends = 2
	// endStaleAfter is how long a process waits for the head before it looks for others that died with it.
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
			if err := s.within(ctx, s.process.endStale); err != nil {
				s.options.Log.Warn("looking for processes that died failed", "error", err)
			}
		}
		time.Sleep(s.wait(tries))
	}
}

// giveWay leaves the head to others for once after a long run. When nobody takes it nobody wants it, and the next run
// begins with the next batch of another process.
func (s *Store) giveWay() {
	if s.run >= longestRun {
		s.run = 0
		time.Sleep(s.wait(0))
	}
}

// countRun counts a committed batch in the run of this process. A run begins with a batch that found the head as
// another process left it.
func (s *Store) countRun(found *headDocument, entry *store.Entry) {
	switch {
	case !bytes.Equal(found.BatchID, s.last[:]):
		s.run = 1
	case s.run > 0:
		s.run++
	}
	if entry.BatchNo != 0 {
		s.last = entry.BatchID
	}
}

// wait is how long to leave the head to whoever has it, after so many tries before this one.
func (s *Store) wait(tries int) time.Duration {
	wait := shortestWait*s.batchTime + mathrand.N((longestWait-shortestWait)*s.batchTime)
	return wait * patience / time.Duration(patience+min(tries, 4*patience))
}

// within calls f with a bounded context.
func (s *Store) within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.timeouts.answer)
	defer cancel()
	return f(ctx)
}

// attempt is one transaction. An error that [store.IsRetryable] says that it had no effect and that another may fare
// better.
func (s *Store) attempt(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	if s.session == nil {
		if err := s.renewSession(ctx); err != nil {
			return err
		}
	}
	if err := s.session.StartTransaction(transactionOptions); err != nil {
		return translate(err)
	}
	inside := mongo.NewSessionContext(ctx, s.session)
	l := newLoader(s, keys)
	if err := l.load(inside); err != nil {
		s.abort(ctx)
		if errors.Is(err, store.ErrNewerFormat) {
			return fmt.Errorf("%w: %w", store.ErrBroken, err) // another process has brought the store up to a later program
		}
		return fmt.Errorf("loading a batch: %w", translate(err))
	}
	changes, err := decide(l.state)
	switch {
	case err != nil:
		s.abort(ctx)
		return err
	case len(changes.Receipts) > 0 && s.mustRotate(&l.head, l.state.Now):
		s.abort(ctx)
		s.rotateReceipts(ctx, l.state.Now)
		return store.Retryable{Err: store.ErrUnavailable}
	}
	entry := store.Entry{}
	if !changes.Empty() {
		var batchID [16]byte
		rand.Read(batchID[:])
		head := l.head.head()
		entry = head.Next(batchID, l.state.Now, changes)
		w := writer{loader: l, changes: changes, entry: &entry}
		if err := w.write(inside); err != nil {
			s.abort(ctx)
			return fmt.Errorf("writing a batch: %w", translate(err))
		}
	}
	if err := s.commit(ctx, &entry); err != nil {
		return err
	}
	s.countRun(&l.head, &entry)
	return nil
}

// abort ends a transaction that was not committed. Should the server not hear of it, the next one in this session ends
// it.
func (s *Store) abort(ctx context.Context) {
	if err := s.within(ctx, s.session.AbortTransaction); err != nil {
		s.dropSession(ctx)
	}
}

// dropSession gives the session up. Something may be open in it, so it is killed before there is another.
func (s *Store) dropSession(ctx context.Context) {
	s.process.condemn()
	s.session.EndSession(ctx)
	s.session = nil
}

func (s *Store) renewSession(ctx context.Context) error {
	if err := s.within(ctx, s.process.killCondemned); err != nil {
		return translate(err)
	}
	if err := s.newSession(); err != nil {
		return translate(err)
	}
	err := s.within(ctx, func(ctx context.Context) error { return s.process.register(ctx, s.session) })
	if err != nil {
		s.session.EndSession(ctx)
		s.session = nil
	}
	return err
}

// commit sends commitTransaction until it is answered, and otherwise finds out what became of the batch. A batch that
// wrote nothing (its entry is zero) commits as well: then what its refusals were decided on is on the disks of a
// majority.
func (s *Store) commit(ctx context.Context, entry *store.Entry) (err error) {
	for range 1 + resends {
		err = s.within(ctx, s.session.CommitTransaction)
		if err == nil {
			return nil
		}
		if hasLabel(err, retryableLabel) || hasCode(err, noSuchTransaction) {
			break // there is nothing left to send it to; whether an earlier one arrived, the head knows
		}
	}
	s.dropSession(ctx)
	if entry.BatchNo == 0 {
		return store.Retryable{Err: fmt.Errorf("%w: %w", store.ErrUnavailable, err)}
	}
	s.options.Log.Warn("the commit of a batch was not answered: finding out what became of it", "batch", entry.BatchNo,
		"error", err)
	return s.settle(ctx, entry)
}

// settle finds out what became of a batch whose commit was not answered. Looking would not be enough: the old
// transaction may still be on its way. It therefore writes the head in a new transaction, which cannot succeed beside
// an open old one, and believes what it read there only once that is committed.
func (s *Store) settle(ctx context.Context, entry *store.Entry) (err error) {
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
		if s.session != nil {
			s.dropSession(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, err)
		case <-time.After(s.wait(0)):
		}
	}
}

// look reports whether the journal has this batch.
func (s *Store) look(ctx context.Context, entry *store.Entry) (written bool, err error) {
	if s.session == nil {
		if err := s.renewSession(ctx); err != nil {
			return false, err
		}
	}
	if err := s.session.StartTransaction(transactionOptions); err != nil {
		return false, err
	}
	inside := mongo.NewSessionContext(ctx, s.session)
	err = s.within(inside, func(ctx context.Context) error {
		if _, err := lockHead(ctx, s.db); err != nil {
			return err
		}
		n, err := s.db.Collection(journalName).CountDocuments(ctx,
			bson.D{{Key: "_id", Value: entry.BatchNo}, {Key: "batchId", Value: entry.BatchID[:]}})
		written = n == 1
		return err
	})
	if err != nil {
		s.abort(ctx)
		return false, err
	}
	return written, s.within(ctx, s.session.CommitTransaction)
}

// lockHead writes the head, so that no other transaction can, and reads it with the server's clock.
func lockHead(ctx context.Context, db *mongo.Database) (d headDocument, err error) {
	err = db.Collection(headName).FindOneAndUpdate(ctx, bson.D{{Key: "_id", Value: headID}}, bson.D{
		{Key: "$inc", Value: bson.D{{Key: "fence", Value: 1}}},
		{Key: "$currentDate", Value: bson.D{{Key: "lockedAt", Value: true}}},
	}, options.FindOneAndUpdate().SetReturnDocument(options.After)).Decode(&d)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return d, fmt.Errorf("%w: the head document is missing: restore a backup", store.ErrUnavailable)
	}
	return d, err
}
