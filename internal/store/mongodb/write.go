package mongodb

import (
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

// writer writes the changes of a batch, with at most two commands for each collection. The filter of every change has
// what is changed.
type writer struct {
	*loader
	changes *inventory.Changes
	entry   *store.Entry
}

func (w *writer) write(ctx context.Context) error {
	for _, f := range []func(context.Context) error{
		w.writeProducts, w.writeStock, w.writeReservations, w.writeOrders,
		w.writeRecords, w.writeReceipts, w.writeJournal, w.writeHead,
	} {
		if err := w.s.within(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// documents are what is written to a collection: new documents, and changes and deletions of others.
type documents struct {
	added   []any
	changed []mongo.WriteModel
}

func (d *documents) change(filter bson.D, replacement any) {
	d.changed = append(d.changed, mongo.NewReplaceOneModel().SetFilter(filter).SetReplacement(replacement))
}

func (d *documents) remove(filter bson.D) {
	d.changed = append(d.changed, mongo.NewDeleteOneModel().SetFilter(filter))
}

func (w *writer) put(ctx context.Context, collection string, d *documents) error {
	c := w.s.db.Collection(collection)
	if len(d.added) > 0 {
		if _, err := c.InsertMany(ctx, d.added); err != nil {
			return err
		}
	}
	if len(d.changed) == 0 {
		return nil
	}
	result, err := c.BulkWrite(ctx, d.changed, options.BulkWrite().SetOrdered(true))
	if err != nil {
		return err
	}
	if found := result.MatchedCount + result.DeletedCount; found != int64(len(d.changed)) {
		return fmt.Errorf("%w: %d of %d in %s", errMatches, found, len(d.changed), collection)
	}
	return nil
}

func (w *writer) writeProducts(ctx context.Context) error {
	var d documents
	for i := range w.changes.Products {
		c := &w.changes.Products[i]
		after := productOf(c.After)
		if c.Before == nil {
			d.added = append(d.added, after)
		} else {
			d.change(bson.D{{Key: "_id", Value: after.ID}, {Key: "version", Value: c.Before.Version}}, after)
		}
	}
	return w.put(ctx, productsName, &d)
}

func (w *writer) writeStock(ctx context.Context) error {
	var d documents
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
	return w.put(ctx, stockName, &d)
}

func (w *writer) writeReservations(ctx context.Context) error {
	var d documents
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
	return w.put(ctx, reservationsName, &d)
}

func (w *writer) writeOrders(ctx context.Context) error {
	var d documents
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
	return w.put(ctx, ordersName, &d)
}

func (w *writer) writeReceipts(ctx context.Context) error {
	var d documents
	for _, r := range w.changes.Receipts {
		d.added = append(d.added, receiptDocument{Key: r.Key[:], Fingerprint: r.Fingerprint[:], Answer: r.Answer})
	}
	return w.put(ctx, w.head.Receipts[0], &d)
}

func (w *writer) writeJournal(ctx context.Context) error {
	after := w.after()
	return w.put(ctx, journalName, &documents{added: []any{journalOf(w.entry, after.Seq)}})
}

func (w *writer) after() store.Head { return w.head.head().After(w.entry) }

func (w *writer) writeHead(ctx context.Context) error {
	after := w.after()
	set := bson.D{
		{Key: "batchNo", Value: after.BatchNo},
		{Key: "batchId", Value: after.BatchID[:]},
		{Key: "sequence", Value: after.Seq},
		{Key: "at", Value: dateOf(after.At)},
		{Key: "chain", Value: after.Chain[:]},
	}
	if w.entry.Begins != (inventory.Epoch{}) {
		set = append(set, bson.E{Key: "epochs", Value: []byte(after.Epochs)})
	}
	since := w.head.receiptsSince(w.s.options.Clock)
	if since == 0 && len(w.changes.Receipts) > 0 {
		since = after.At
	}
	if since != timeOf(w.head.ReceiptsSince) {
		set = append(set, bson.E{Key: "receiptsSince", Value: dateOf(since)})
	}
	result, err := w.s.db.Collection(headName).UpdateOne(ctx,
		bson.D{{Key: "_id", Value: headID}, {Key: "batchNo", Value: w.head.BatchNo}, {Key: "batchId", Value: w.head.BatchID}},
		bson.D{{Key: "$set", Value: set}})
	if err == nil && result.MatchedCount != 1 {
		err = fmt.Errorf("%w: the head", errMatches)
	}
	return err
}
