package mongodb

import (
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// errMatches: a change found other documents than those that were loaded.
var errMatches = errors.New("the stored documents are not those that were loaded: run holdfast verify")

// writer writes the changes of a batch, one command for each kind of document. Every change carries what it changes in its filter.
type writer struct {
	*loader
	changes *inventory.Changes
	entry   *store.Entry
}

func (w *writer) write() error {
	for _, f := range []func() error{w.writeProducts, w.writeStock, w.writeReservations, w.writeOrders, w.writeReceipts, w.writeJournal, w.writeHead} {
		if err := w.step(f); err != nil {
			return err
		}
	}
	return nil
}

// documents are the new and the changed ones of a collection.
type documents struct {
	added   []any
	changed []mongo.WriteModel
}

func (d *documents) change(filter bson.D, replacement any) {
	d.changed = append(d.changed, mongo.NewReplaceOneModel().SetFilter(filter).SetReplacement(replacement))
}

func (w *writer) put(collection string, d *documents) error {
	c := w.s.db.Collection(collection)
	if len(d.added) > 0 {
		if _, err := c.InsertMany(w.ctx, d.added); err != nil {
			return err
		}
	}
	if len(d.changed) == 0 {
		return nil
	}
	result, err := c.BulkWrite(w.ctx, d.changed, options.BulkWrite().SetOrdered(true))
	if err != nil {
		return err
	}
	if result.MatchedCount != int64(len(d.changed)) {
		return fmt.Errorf("%w: %d of %d in %s", errMatches, result.MatchedCount, len(d.changed), collection)
	}
	return nil
}

func (w *writer) writeProducts() error {
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
	return w.put(productsName, &d)
}

func (w *writer) writeStock() error {
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
	return w.put(stockName, &d)
}

func (w *writer) writeReservations() error {
	var d documents
	for i := range w.changes.Reservations {
		c := &w.changes.Reservations[i]
		after := reservationOf(c.After)
		if c.Before == nil {
			d.added = append(d.added, after)
			continue
		}
		d.change(bson.D{{Key: "_id", Value: after.ID}, {Key: "status", Value: c.Before.Status.String()}, {Key: "version", Value: c.Before.Version}}, after)
	}
	return w.put(reservationsName, &d)
}

func (w *writer) writeOrders() error {
	var d documents
	for i := range w.changes.Orders {
		c := &w.changes.Orders[i]
		after := orderOf(c.After)
		if c.Before == nil {
			d.added = append(d.added, after)
			continue
		}
		d.change(bson.D{{Key: "_id", Value: after.ID}, {Key: "status", Value: c.Before.Status.String()}, {Key: "version", Value: c.Before.Version}}, after)
	}
	return w.put(ordersName, &d)
}

func (w *writer) writeReceipts() error {
	var d documents
	for _, r := range w.changes.Receipts {
		d.added = append(d.added, receiptDocument{Key: r.Key[:], Fingerprint: r.Fingerprint[:], Answer: r.Answer})
	}
	return w.put(w.head.Receipts[0], &d)
}

func (w *writer) writeJournal() error {
	after := w.after()
	return w.put(journalName, &documents{added: []any{journalOf(w.entry, after.Seq)}})
}

func (w *writer) after() store.Head { return w.head.head().After(w.entry) }

func (w *writer) writeHead() error {
	after := w.after()
	set := bson.D{
		{Key: "batchNo", Value: after.BatchNo},
		{Key: "batchId", Value: after.BatchID[:]},
		{Key: "sequence", Value: after.Seq},
		{Key: "at", Value: dateOf(after.At)},
		{Key: "chain", Value: after.Chain[:]},
	}
	if w.head.ReceiptsSince == 0 && len(w.changes.Receipts) > 0 {
		set = append(set, bson.E{Key: "receiptsSince", Value: dateOf(after.At)})
	}
	result, err := w.s.db.Collection(headName).UpdateOne(w.ctx,
		bson.D{{Key: "_id", Value: headID}, {Key: "batchNo", Value: w.head.BatchNo}, {Key: "batchId", Value: w.head.BatchID}}, bson.D{{Key: "$set", Value: set}})
	if err == nil && result.MatchedCount != 1 {
		err = fmt.Errorf("%w: the head", errMatches)
	}
	return err
}
