package mongodb

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// errMatches means that a change did not find the document that was loaded.
var errMatches = errors.New("the stored documents are not those that were loaded: run holdfast verify")

// writer writes the changes of a batch. The filter of every change has what is changed.
type writer struct {
	*loader
	changes *inventory.Changes
	entry   *store.Entry
}

// documents are what is written to a collection: new documents, and changes and deletions of others.
type documents struct {
	collection string
	added      []any
	changed    []change
}

// change replaces the document that a filter finds, or deletes it if there is no replacement.
type change struct {
	filter      bson.D
	replacement any
}

func (d *documents) change(filter bson.D, replacement any) {
	d.changed = append(d.changed, change{filter, replacement})
}

// write writes everything. A server that has bulkWrite takes it as one command, others take at most two for each
// collection.
func (w *writer) write(ctx context.Context) error {
	var all []*documents
	for _, d := range []*documents{
		w.products(), w.stock(), w.reservations(), w.orders(), w.records(), w.receipts(), w.journal(), w.headChanges(),
	} {
		if len(d.added)+len(d.changed) > 0 {
			all = append(all, d)
		}
	}
	if w.s.bulk {
		if b, ok := bulkOf(w.s.db.Name(), all); ok {
			return w.s.within(ctx, func(ctx context.Context) error { return w.s.writeBulk(ctx, b) })
		}
	}
	for _, d := range all {
		if err := w.s.within(ctx, func(ctx context.Context) error { return w.put(ctx, d) }); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) put(ctx context.Context, d *documents) error {
	c := w.s.db.Collection(d.collection)
	if len(d.added) > 0 {
		if _, err := c.InsertMany(ctx, d.added); err != nil {
			return err
		}
	}
	if len(d.changed) == 0 {
		return nil
	}
	models := make([]mongo.WriteModel, len(d.changed))
	for i, c := range d.changed {
		if c.replacement == nil {
			models[i] = mongo.NewDeleteOneModel().SetFilter(c.filter)
		} else {
			models[i] = mongo.NewReplaceOneModel().SetFilter(c.filter).SetReplacement(c.replacement)
		}
	}
	result, err := c.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(true))
	if err != nil {
		return err
	}
	if found := result.MatchedCount + result.DeletedCount; found != int64(len(d.changed)) {
		return fmt.Errorf("%w: %d of %d in %s", errMatches, found, len(d.changed), d.collection)
	}
	return nil
}

func (w *writer) products() *documents {
	d := &documents{collection: productsName}
	for i := range w.changes.Products {
		c := &w.changes.Products[i]
		after := productOf(c.After)
		if c.Before == nil {
			d.added = append(d.added, after)
		} else {
			d.change(bson.D{{Key: "_id", Value: after.ID}, {Key: "version", Value: c.Before.Version}}, after)
		}
	}
	return d
}

func (w *writer) stock() *documents {
	d := &documents{collection: stockName}
	for i := range w.changes.Stock {
		c := &w.changes.Stock[i]
		after := stockOf(c.StockKey, c.After)
		if c.Before == nil {
			d.added = append(d.added, after)
			continue
		}
		d.change(bson.D{
			{Key: "_id", Value: after.ID},
			{Key: "sequence", Value: c.Before.Seq},
			{Key: "availableStock", Value: c.Before.Available},
			{Key: "reservedStock", Value: c.Before.Reserved},
			{Key: "committedStock", Value: c.Before.Committed},
		}, after)
	}
	return d
}

func (w *writer) reservations() *documents {
	d := &documents{collection: reservationsName}
	for i := range w.changes.Reservations {
		c := &w.changes.Reservations[i]
		after := reservationOf(c.After)
		if c.Before == nil {
			d.added = append(d.added, after)
			continue
		}
		d.change(bson.D{
			{Key: "_id", Value: after.ID},
			{Key: "status", Value: c.Before.Status.String()},
			{Key: "version", Value: c.Before.Version},
		}, after)
	}
	return d
}

func (w *writer) orders() *documents {
	d := &documents{collection: ordersName}
	for i := range w.changes.Orders {
		c := &w.changes.Orders[i]
		after := orderOf(c.After)
		if c.Before == nil {
			d.added = append(d.added, after)
			continue
		}
		d.change(bson.D{
			{Key: "_id", Value: after.ID},
			{Key: "status", Value: c.Before.Status.String()},
			{Key: "version", Value: c.Before.Version},
		}, after)
	}
	return d
}

func (w *writer) receipts() *documents {
	d := &documents{collection: w.head.Receipts[0]}
	for _, r := range w.changes.Receipts {
		d.added = append(d.added, receiptDocument{Key: r.Key[:], Fingerprint: r.Fingerprint[:], Answer: r.Answer})
	}
	return d
}

func (w *writer) journal() *documents {
	return &documents{collection: journalName, added: []any{journalOf(w.entry, w.after().Seq)}}
}

func (w *writer) after() store.Head { return w.before.After(w.entry) }

// headChanges are what the lock of the head has not written: an epoch that begins, the first receipt of
// all, and that the clock has jumped.
func (w *writer) headChanges() *documents {
	d, after := &documents{collection: headName}, w.head
	if w.entry.Begins != (inventory.Epoch{}) {
		after.Epochs = []byte(w.after().Epochs)
	}
	if after.ReceiptsSince = dateOf(w.receiptsSince()); after.ReceiptsSince == 0 && len(w.changes.Receipts) > 0 {
		after.ReceiptsSince = dateOf(w.entry.At)
	}
	if !bytes.Equal(after.Epochs, w.head.Epochs) || after.ReceiptsSince != w.head.ReceiptsSince {
		d.change(bson.D{{Key: "_id", Value: headID}, {Key: "batchId", Value: w.batchID[:]}}, &after)
	}
	return d
}
