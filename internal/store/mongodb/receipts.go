package mongodb

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Receipts are in collections that are named by the head. The first of those is written to for a day, and then a new
// one; the one before it is still looked into, and older ones are dropped whole. So a receipt lives for one to two
// days, and none is deleted row by row. Where they cannot be rotated, that is tried again after [store.RotateRetry],
// and until then receipts only live longer.
const (
	receiptsPrefix = "receipts_"
	receiptsKept   = 2
)

func receiptsName(n int) string { return receiptsPrefix + strconv.Itoa(n) }

// mustRotate reports whether the collection that is written to has been written to for a day.
func (s *Store) mustRotate(h *headDocument, now inventory.Time) bool {
	return h.ReceiptsSince != 0 && now-store.RotateEvery >= timeOf(h.ReceiptsSince) &&
		time.Since(s.rotationFailed) >= store.RotateRetry
}

// rotateReceipts makes a new collection the one that is written to, in a transaction of its own, and drops what no
// longer counts.
func (s *Store) rotateReceipts(ctx context.Context, now inventory.Time) {
	err := s.within(ctx, func(ctx context.Context) error { return s.rotateOnce(ctx, now) })
	if err != nil {
		s.rotationFailed = time.Now()
		s.options.Log.Warn("the receipts of a day ago could not be dropped: trying again in a minute", "error", err)
	}
}

func (s *Store) rotateOnce(ctx context.Context, now inventory.Time) error {
	var d headDocument
	if err := s.db.Collection(headName).FindOne(ctx, bson.D{{Key: "_id", Value: headID}}).Decode(&d); err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimPrefix(d.Receipts[0], receiptsPrefix))
	if err != nil {
		return err
	}
	next := receiptsName(n + 1)
	if err := createCollection(ctx, s.db, next, nil); err != nil {
		return err
	}
	live := append([]string{next}, d.Receipts[:min(len(d.Receipts), receiptsKept-1)]...)
	// The filter makes this a change of the head that was read, even if another process has rotated them or committed
	// since.
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
	if err != nil || result.MatchedCount == 0 {
		return err
	}
	for _, old := range d.Receipts[min(len(d.Receipts), receiptsKept-1):] {
		if err := s.db.Collection(old).Drop(ctx); err != nil {
			return err
		}
	}
	return nil
}

// loadReceipts looks keys up in the collections that count.
func (l *loader) loadReceipts(ctx context.Context) error {
	if len(l.keys.Receipts) == 0 {
		return nil
	}
	keys := make(bson.A, len(l.keys.Receipts))
	for i := range keys {
		keys[i] = l.keys.Receipts[i][:]
	}
	for _, name := range l.head.Receipts {
		err := each(ctx, l.s.db.Collection(name), bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: keys}}}}, nil,
			func(raw bson.Raw) error {
				var d receiptDocument
				if err := bson.Unmarshal(raw, &d); err != nil {
					return err
				}
				r := &inventory.Receipt{Answer: d.Answer}
				copy(r.Key[:], d.Key)
				copy(r.Fingerprint[:], d.Fingerprint)
				l.state.Receipts[r.Key] = r
				return nil
			})
		if err != nil {
			return err
		}
	}
	return nil
}
