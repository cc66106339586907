package mongodb

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/holdfast/holdfast/internal/inventory"
)

// Receipts are in collections that take turns: one is written to for a day, then a new one; the one before it is still looked into, and
// older ones are dropped whole. So a receipt lives for one to two days, and none is deleted row by row. The head names those
// that count.
const (
	turnEvery = inventory.Time(24 * time.Hour / time.Millisecond)
	// turnAgain is how long the collections stay as they are after they could not be turned: receipts then only live longer.
	turnAgain      = time.Minute
	receiptsPrefix = "receipts_"
	receiptsKept   = 2
)

func receiptsName(n int) string { return receiptsPrefix + strconv.Itoa(n) }

// mustTurn reports whether the collection that is written to has been for a day.
func (s *Store) mustTurn(h *headDocument, now inventory.Time) bool {
	return h.ReceiptsSince != 0 && now-turnEvery >= timeOf(h.ReceiptsSince) && time.Since(s.turned) >= turnAgain
}

// turnReceipts makes a new collection the one that is written to, in a transaction of its own, and drops what no longer counts.
func (s *Store) turnReceipts(ctx context.Context, now inventory.Time) {
	err := s.within(ctx, func(ctx context.Context) error { return s.turnOnce(ctx, now) })
	if err != nil {
		s.turned = time.Now()
		s.options.Log.Warn("the receipts of a day ago could not be dropped: trying again in a minute", "error", err)
	}
}

func (s *Store) turnOnce(ctx context.Context, now inventory.Time) error {
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
	// The filter makes this a change of the head that was read, even if another process has turned them or committed since.
	result, err := s.db.Collection(headName).UpdateOne(ctx,
		bson.D{{Key: "_id", Value: headID}, {Key: "receipts", Value: d.Receipts}, {Key: "receiptsSince", Value: d.ReceiptsSince}},
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
		err := each(ctx, l.s.db.Collection(name), bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: keys}}}}, nil, func(raw bson.Raw) error {
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

// each hands the documents that match to use, one after another, until it fails.
func each(ctx context.Context, c *mongo.Collection, filter any, o *findOptions, use func(bson.Raw) error) error {
	cursor, err := c.Find(ctx, filter, o.list()...)
	if err != nil {
		return err
	}
	defer cursor.Close(ctx)
	for cursor.Next(ctx) {
		if err := use(cursor.Current); err != nil {
			return err
		}
	}
	return cursor.Err()
}
