package mongodb

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Receipts are in collections that the head names, newest first. The first is written to for a day; then a new one
// becomes the first. The one before it is still read, and older ones are dropped whole, beside the batches. So a
// receipt lives for one to two days, and none is deleted by itself. If changing or dropping a collection fails, the
// store tries again after [store.RotateRetry]; until then receipts live longer.
const (
	receiptsPrefix = "receipts_"
	receiptsKept   = 2
)

func receiptsName(n int64) string { return receiptsPrefix + strconv.FormatInt(n, 10) }

// receiptsNumber is the number in the name of a collection of receipts; an error means that it is none.
func receiptsNumber(name string) (int64, error) {
	number, is := strings.CutPrefix(name, receiptsPrefix)
	if !is {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(number, 10, 64)
}

// mustRotate reports whether the first collection has been written to for a day.
func (l *loader) mustRotate() bool {
	since := l.receiptsSince()
	return since != 0 && l.state.Now-store.RotateEvery >= since &&
		time.Since(l.s.rotationFailed) >= store.RotateRetry
}

// receiptsSince is how the next batch has to write ReceiptsSince.
func (l *loader) receiptsSince() inventory.Time {
	return l.before.ReceiptsSince(timeOf(l.head.ReceiptsSince), l.s.options.Clock)
}

// rotateReceipts makes a new collection the first, in a transaction of its own.
func (s *Store) rotateReceipts(ctx context.Context, now inventory.Time) {
	err := s.within(ctx, func(ctx context.Context) error { return s.rotateOnce(ctx, now) })
	if err != nil {
		s.rotationFailed = time.Now()
		s.options.Log.Warn("a new collection of receipts could not be made: trying again in a minute", "error", err)
		return
	}
	s.dropAt.Store(1)
}

func (s *Store) rotateOnce(ctx context.Context, now inventory.Time) error {
	var d headDocument
	if err := s.db.Collection(headName).FindOne(ctx, bson.D{{Key: "_id", Value: headID}}).Decode(&d); err != nil {
		return err
	}
	n, err := receiptsNumber(d.Receipts[0])
	if err != nil {
		return err
	}
	next := receiptsName(n + 1)
	if err := createCollection(ctx, s.db, next, nil); err != nil {
		return err
	}
	live := append([]string{next}, d.Receipts[:min(len(d.Receipts), receiptsKept-1)]...)
	// The filter makes sure that the receipts of the head are still as they were read. Another process may have rotated
	// them, or committed, since then.
	result, err := s.db.Collection(headName).UpdateOne(ctx,
		bson.D{
			{Key: "_id", Value: headID},
			{Key: "receipts", Value: d.Receipts},
			{Key: "receiptsSince", Value: d.ReceiptsSince},
		},
		bson.D{
			{Key: "$set", Value: bson.D{{Key: "receipts", Value: live}, {Key: "receiptsSince", Value: dateOf(now)}}},
			{Key: "$inc", Value: bson.D{{Key: "fence", Value: 1}}},
		})
	if err == nil && result.MatchedCount == 0 {
		s.options.Log.Debug("another process has changed the receipts")
	}
	return err
}

// dropOld drops the collections of receipts that are older than those of the head, whoever has left them.
func (s *Store) dropOld(ctx context.Context) error {
	if at := s.dropAt.Load(); at == 0 || time.Now().UnixMilli() < at {
		return nil
	}
	s.dropAt.Store(0)
	if err := s.dropReceipts(ctx); err != nil {
		s.dropAt.Store(time.Now().Add(store.RotateRetry).UnixMilli())
		return fmt.Errorf("dropping the receipts of two days ago: %w", err)
	}
	return nil
}

func (s *Store) dropReceipts(ctx context.Context) error {
	var d headDocument
	if err := s.db.Collection(headName).FindOne(ctx, bson.D{{Key: "_id", Value: headID}}).Decode(&d); err != nil {
		return err
	}
	oldest, err := receiptsNumber(d.Receipts[len(d.Receipts)-1])
	if err != nil {
		return err
	}
	names, err := s.db.ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return err
	}
	for _, name := range names {
		if n, err := receiptsNumber(name); err != nil || n >= oldest {
			continue
		}
		if err := s.db.Collection(name).Drop(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// receiptsIn wants the receipts of keys from one of the collections that the head names.
func (l *loader) receiptsIn(name string) *wanted {
	w := list[[]byte](name, func(raw bson.Raw) error {
		r, err := readReceipt(raw)
		if err == nil {
			l.state.Receipts[r.Key] = r
		}
		return err
	})
	for i := range l.keys.Receipts {
		w.add(l.keys.Receipts[i][:])
	}
	return w
}

func readReceipt(raw bson.Raw) (*inventory.Receipt, error) {
	var d receiptDocument
	if err := bson.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	r := &inventory.Receipt{Answer: d.Answer}
	copy(r.Key[:], d.Key)
	copy(r.Fingerprint[:], d.Fingerprint)
	return r, nil
}

var _ store.Lister = (*view)(nil)

// Receipts implements [store.Lister], in the order of keys of one collection after another, oldest first.
func (v *view) Receipts(
	ctx context.Context, after store.ReceiptCursor, limit int,
) (list []*inventory.Receipt, next store.ReceiptCursor, err error) {
	if _, err := v.Head(ctx); err != nil {
		return nil, next, err
	}
	for i, name := range slices.Backward(v.head.Head.Receipts) {
		n, err := receiptsNumber(name)
		switch {
		case err != nil:
			return nil, next, err
		case n < after.Table:
			continue
		case n > after.Table:
			after = store.ReceiptCursor{Table: n}
		}
		list, next, err = v.receiptsOf(ctx, name, after, limit)
		if err == nil && next.Table == 0 && i > 0 {
			next.Table = n + 1
		}
		return list, next, err
	}
	return nil, next, nil
}

func (v *view) receiptsOf(
	ctx context.Context, name string, after store.ReceiptCursor, limit int,
) ([]*inventory.Receipt, store.ReceiptCursor, error) {
	page := store.NewPage[inventory.Receipt, store.ReceiptCursor](limit)
	filter := bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: after.Key[:]}}}}
	o := &findOptions{sort: bson.D{up("_id")}, limit: int64(limit)}
	err := v.until(ctx, name, filter, o, func(raw bson.Raw) error {
		r, err := readReceipt(raw)
		if err != nil {
			return err
		}
		page.Add(r, store.ReceiptCursor{Table: after.Table, Key: r.Key}, len(r.Answer))
		if page.Done() {
			return errFull
		}
		return nil
	})
	if err != nil {
		return nil, store.ReceiptCursor{}, err
	}
	return page.Result()
}
