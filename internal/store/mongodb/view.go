package mongodb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// view is a read transaction.
type view struct {
	ctx context.Context
	db  *mongo.Database
	now func() time.Time

	read *headDocument // the head, once it was read
}

func (v *view) Head() (store.Head, error) {
	if v.read == nil {
		cursor, err := v.db.Collection(headName).Aggregate(v.ctx, bson.A{
			bson.D{{Key: "$match", Value: bson.D{{Key: "_id", Value: headID}}}},
			bson.D{{Key: "$addFields", Value: bson.D{{Key: "now", Value: "$$NOW"}}}},
		})
		if err != nil {
			return store.Head{}, fmt.Errorf("reading the head: %w", translate(err))
		}
		var heads []headDocument
		if err := cursor.All(v.ctx, &heads); err != nil {
			return store.Head{}, fmt.Errorf("reading the head: %w", translate(err))
		}
		if len(heads) != 1 {
			return store.Head{}, fmt.Errorf("%w: the head document is missing: restore a backup", store.ErrUnavailable)
		}
		if err := heads[0].check(); err != nil {
			return store.Head{}, err
		}
		v.read = &heads[0]
	}
	return v.read.head(), nil
}

func (v *view) Now() (inventory.Time, error) {
	head, err := v.Head()
	if err != nil {
		return 0, err
	}
	if v.now != nil {
		return head.Latest(v.now()), nil
	}
	return head.Latest(v.read.Now.Time()), nil
}

func (v *view) each(collection string, filter any, o *findOptions, use func(bson.Raw) error) error {
	err := each(v.ctx, v.db.Collection(collection), filter, o, use)
	if v.ctx.Err() != nil {
		return v.ctx.Err()
	}
	return translate(err)
}

// errFull ends a find whose page is full.
var errFull = errors.New("the page is full")

// until is like each, for use functions that may return errFull.
func (v *view) until(collection string, filter any, o *findOptions, use func(bson.Raw) error) (full bool, err error) {
	err = v.each(collection, filter, o, func(raw bson.Raw) error {
		err := use(raw)
		full = errors.Is(err, errFull)
		return err
	})
	if full {
		err = nil
	}
	return full, err
}

func (v *view) Products(q store.ProductQuery) (page []*inventory.Product, next string, err error) {
	filter, o := in("_id", q.IDs), &findOptions{sort: bson.D{up("_id")}}
	if q.IDs == nil {
		filter, o.limit = bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: q.After}}}}, int64(q.Limit)
	}
	var sizes []int
	bytes := 0
	full, err := v.until(productsName, filter, o, func(raw bson.Raw) error {
		p, err := readProduct(raw)
		if err != nil {
			return err
		}
		page, sizes = append(page, p), append(sizes, len(raw))
		bytes += len(raw)
		if q.IDs == nil && bytes >= store.PageBytes {
			return errFull
		}
		return nil
	})
	if err != nil && !isCorrupt(err) {
		return nil, "", err
	}
	bad := err
	whole := len(page)
	if page, err = v.stockOf(page, sizes, q.IDs == nil); err != nil {
		return nil, "", err
	}
	if q.IDs != nil {
		return page, "", bad
	}
	if len(page) < whole {
		bad = nil // it comes with a later page
	}
	if len(page) > 0 && bad == nil && (full || len(page) == q.Limit || len(page) < whole) {
		next = page[len(page)-1].ID
	}
	return page, next, bad
}

// stockOf reads the stock rows of products, which are sorted by id. A bounded page ends with the product at which it is full.
func (v *view) stockOf(page []*inventory.Product, sizes []int, bounded bool) ([]*inventory.Product, error) {
	if len(page) == 0 {
		return page, nil
	}
	ids := make([]string, len(page))
	for i := range page {
		ids[i] = page[i].ID
	}
	at, bytes := 0, sizes[0]
	full, err := v.until(stockName, in("productId", ids), &findOptions{sort: bson.D{up("productId"), up("location")}}, func(raw bson.Raw) error {
		var d stockDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return &store.CorruptRow{Row: "stock document " + idOf(raw), Key: d.ProductID, Detail: err.Error()}
		}
		for page[at].ID != d.ProductID {
			if bounded && bytes >= store.PageBytes {
				return errFull
			}
			at++
			bytes += sizes[at]
		}
		bytes += store.StockBytes
		page[at].Stock = append(page[at].Stock, d.stock())
		return nil
	})
	if full {
		page = page[:at+1]
	}
	return page, err
}

// before is the condition that a page begins after a document, newest first.
func before(filter bson.D, cursor inventory.ID, prefix string) bson.D {
	if cursor.IsZero() {
		return filter
	}
	return append(filter, bson.E{Key: "_id", Value: bson.D{{Key: "$lt", Value: cursor.Text(prefix)}}})
}

func (v *view) Reservations(q store.ReservationQuery) ([]*inventory.Reservation, inventory.ID, error) {
	if q.IDs != nil {
		page, err := byID(v, reservationsName, q.IDs, inventory.ReservationPrefix, readReservation, reservationID)
		return page, inventory.ID{}, err
	}
	filter := bson.D{}
	if q.ProductID != "" {
		filter = append(filter, bson.E{Key: "status", Value: "ACTIVE"}, bson.E{Key: "lines.productId", Value: q.ProductID})
	}
	if q.CustomerID != "" {
		filter = append(filter, bson.E{Key: "customerId", Value: q.CustomerID})
	}
	return search(v, reservationsName, before(filter, q.Before, inventory.ReservationPrefix), q.Limit, readReservation, reservationID, q.Matches)
}

func reservationID(r *inventory.Reservation) inventory.ID { return r.ID }

func (v *view) Orders(q store.OrderQuery) ([]*inventory.Order, inventory.ID, error) {
	if q.IDs != nil {
		page, err := byID(v, ordersName, q.IDs, inventory.OrderPrefix, readOrder, orderID)
		return page, inventory.ID{}, err
	}
	filter := bson.D{}
	if !q.ReservationID.IsZero() {
		filter = append(filter, bson.E{Key: "reservationId", Value: q.ReservationID.Text(inventory.ReservationPrefix)})
	}
	if q.Reference != "" {
		filter = append(filter, bson.E{Key: "reference", Value: q.Reference})
	}
	if q.CustomerID != "" {
		filter = append(filter, bson.E{Key: "customerId", Value: q.CustomerID})
	}
	if q.Status == inventory.OrderConfirmed {
		filter = append(filter, bson.E{Key: "status", Value: q.Status.String()})
	}
	return search(v, ordersName, before(filter, q.Before, inventory.OrderPrefix), q.Limit, readOrder, orderID, q.Matches)
}

func orderID(o *inventory.Order) inventory.ID { return o.ID }

// byID reads the documents that ids name, in their order.
func byID[T any](v *view, collection string, ids []inventory.ID, prefix string, read func(bson.Raw) (*T, error), id func(*T) inventory.ID) (page []*T, err error) {
	found := make(map[inventory.ID]*T, len(ids))
	err = v.each(collection, in("_id", texts(ids, prefix)), nil, func(raw bson.Raw) error {
		row, err := read(raw)
		if err == nil {
			found[id(row)] = row
		}
		return err
	})
	for _, want := range ids {
		if row := found[want]; row != nil {
			page = append(page, row)
		}
	}
	return page, err
}

// search collects the documents that match, newest first, until the page is full or enough of them were looked at.
func search[T any](
	v *view, collection string, filter bson.D, limit int, read func(bson.Raw) (*T, error), id func(*T) inventory.ID, matches func(*T) bool,
) (page []*T, next inventory.ID, err error) {
	looked, bytes := 0, 0
	_, err = v.until(collection, filter, &findOptions{sort: bson.D{down("_id")}}, func(raw bson.Raw) error {
		row, err := read(raw)
		if err != nil {
			return err
		}
		if matches(row) {
			page = append(page, row)
			bytes += len(raw)
		}
		if looked++; len(page) == limit || looked == store.ScanLimit || bytes >= store.PageBytes {
			next = id(row)
			return errFull
		}
		return nil
	})
	return page, next, err
}

func (v *view) Journal(from store.JournalPosition, limit, maxBytes int) (page []store.Entry, err error) {
	start := from.BatchNo
	if start == 0 {
		if start, err = v.batchOf(from.Seq); err != nil || start == 0 {
			return nil, err
		}
	}
	bytes := 0
	_, err = v.until(journalName, bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: start}}}}, &findOptions{sort: bson.D{up("_id")}, limit: int64(limit)}, func(raw bson.Raw) error {
		var d journalDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("journal document %v: %w", raw.Lookup("_id"), err)
		}
		page = append(page, d.entry())
		if bytes += len(d.Events); bytes >= maxBytes {
			return errFull
		}
		return nil
	})
	return page, err
}

// batchOf finds the first batch whose last event is not before a sequence, or 0.
func (v *view) batchOf(seq int64) (batchNo int64, err error) {
	o := &findOptions{sort: bson.D{up("lastSequence"), up("_id")}, limit: 1}
	err = v.each(journalName, bson.D{{Key: "lastSequence", Value: bson.D{{Key: "$gte", Value: seq}}}}, o, func(raw bson.Raw) error {
		batchNo = raw.Lookup("_id").AsInt64()
		return nil
	})
	return batchNo, err
}

func (v *view) Due(until inventory.Time, limit int) (page []store.Deadline, err error) {
	filter := bson.D{{Key: "status", Value: "ACTIVE"}, {Key: "expiresAt", Value: bson.D{{Key: "$lte", Value: dateOf(until)}}}}
	err = v.each(reservationsName, filter, &findOptions{sort: bson.D{up("expiresAt"), up("_id")}, limit: int64(limit)}, func(raw bson.Raw) error {
		id, ok := inventory.ParseID(inventory.ReservationPrefix, idOf(raw))
		at, isDate := raw.Lookup("expiresAt").DateTimeOK()
		if ok && isDate { // others are for verify to name
			page = append(page, store.Deadline{ID: id, At: inventory.Time(at)})
		}
		return nil
	})
	return page, err
}

// Strays names stock documents whose id is not that of their product and location, or whose product is missing: the stock of products
// that are there is read with them.
func (v *view) Strays(limit int) (list []string, err error) {
	cursor, err := v.db.Collection(stockName).Aggregate(v.ctx, bson.A{
		bson.D{{Key: "$lookup", Value: bson.D{
			{Key: "from", Value: productsName}, {Key: "localField", Value: "productId"}, {Key: "foreignField", Value: "_id"}, {Key: "as", Value: "product"},
		}}},
		bson.D{{Key: "$match", Value: bson.D{{Key: "$expr", Value: bson.D{{Key: "$or", Value: bson.A{
			bson.D{{Key: "$eq", Value: bson.A{bson.D{{Key: "$size", Value: "$product"}}, 0}}},
			bson.D{{Key: "$ne", Value: bson.A{"$_id", bson.D{{Key: "$concat", Value: bson.A{"$productId", "/", "$location"}}}}}},
		}}}}}}},
		bson.D{{Key: "$limit", Value: limit}},
	})
	if err != nil {
		return nil, translate(err)
	}
	defer cursor.Close(v.ctx)
	for cursor.Next(v.ctx) {
		id := idOf(cursor.Current)
		product, _ := cursor.Current.Lookup("productId").StringValueOK()
		detail := "its product " + product + " is missing"
		if !strings.HasPrefix(id, product+"/") {
			detail = "its id is not that of its product and location"
		}
		list = append(list, "stock document "+id+": "+detail)
	}
	return list, translate(cursor.Err())
}
