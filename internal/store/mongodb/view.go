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

// view is a read transaction. It begins with the first command.
type view struct {
	*Store
	session *mongo.Session

	head *lastDocument // nil until it is read
}

// lastDocument is the head with the server's clock and the newest entry of the journal.
type lastDocument struct {
	Head headDocument      `bson:",inline"`
	Now  bson.DateTime     `bson:"now"`
	Last []journalDocument `bson:"last"`
}

func (d *lastDocument) state() store.Head {
	if len(d.Last) == 0 {
		return d.Head.head(nil)
	}
	return d.Head.head(&d.Last[0])
}

// inside returns a context that runs commands within the transaction.
func (v *view) inside(ctx context.Context) context.Context {
	return mongo.NewSessionContext(ctx, v.session)
}

func (v *view) Head(ctx context.Context) (store.Head, error) {
	if err := ctx.Err(); err != nil {
		return store.Head{}, err
	}
	if v.head == nil {
		d, err := v.readHead(ctx)
		if err != nil {
			return store.Head{}, ended(ctx, err)
		}
		v.head = d
	}
	return v.head.state(), nil
}

func (v *view) readHead(ctx context.Context) (*lastDocument, error) {
	var heads []lastDocument
	err := aggregate(v.inside(ctx), v.read.Collection(headName), &heads, lastOf()...)
	if err != nil {
		return nil, fmt.Errorf("reading the head: %w", translate(err))
	}
	if len(heads) != 1 {
		return nil, errNoHead
	}
	return &heads[0], heads[0].Head.check()
}

// lastOf is the pipeline that reads the head with the server's clock and the newest entry of the journal, without its
// events.
func lastOf() bson.A {
	return bson.A{
		bson.D{{Key: "$match", Value: bson.D{{Key: "_id", Value: headID}}}},
		bson.D{{Key: "$addFields", Value: bson.D{{Key: "now", Value: "$$NOW"}}}},
		lookup(journalName, "batchNo", "_id", "last"),
		bson.D{{Key: "$project", Value: bson.D{{Key: "last.events", Value: 0}}}},
	}
}

// aggregate runs a pipeline and decodes all that it returns.
func aggregate[T any](ctx context.Context, c *mongo.Collection, results *[]T, stages ...any) error {
	cursor, err := c.Aggregate(ctx, bson.A(stages))
	if err != nil {
		return err
	}
	return cursor.All(ctx, results)
}

// lookup is a stage that adds the documents of another collection.
func lookup(from, local, foreign, as string) bson.D {
	return bson.D{{Key: "$lookup", Value: bson.D{
		{Key: "from", Value: from},
		{Key: "localField", Value: local},
		{Key: "foreignField", Value: foreign},
		{Key: "as", Value: as},
	}}}
}

// ended returns the error of ctx if it has ended, else err: the server is not to blame for what the end of ctx stopped.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (v *view) Now(ctx context.Context) (inventory.Time, error) {
	head, err := v.Head(ctx)
	if err != nil {
		return 0, err
	}
	return v.latest(&head, v.head), nil
}

// latest is the time for readers. The server that reads says it, unless that is a router, whose clock does not decide.
func (s *Store) latest(head *store.Head, d *lastDocument) inventory.Time {
	switch {
	case s.options.Now != nil:
		return head.Latest(s.options.Now())
	case s.routed && s.process != nil:
		return head.Latest(s.process.now())
	default:
		return head.Latest(d.Now.Time())
	}
}

func (v *view) each(ctx context.Context, collection string, filter any, o *findOptions,
	use func(bson.Raw) error,
) error {
	if err := ctx.Err(); err != nil {
		return err // the driver would believe that the transaction has begun on the server
	}
	return ended(ctx, translate(each(v.inside(ctx), v.read.Collection(collection), filter, o, use)))
}

// errFull ends a find when the page is full, or when what was found is enough.
var errFull = errors.New("enough was found")

// until is like each, and use may end it without an error by returning errFull.
func (v *view) until(ctx context.Context, collection string, filter any, o *findOptions,
	use func(bson.Raw) error,
) error {
	full := false
	err := v.each(ctx, collection, filter, o, func(raw bson.Raw) error {
		err := use(raw)
		full = errors.Is(err, errFull)
		return err
	})
	if full {
		return nil
	}
	return err
}

func (v *view) Products(ctx context.Context, q store.ProductQuery) ([]*inventory.Product, string, error) {
	filter, o := in("_id", q.IDs), &findOptions{sort: bson.D{up("_id")}}
	if q.IDs == nil {
		filter, o.limit = bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: q.After}}}}, int64(q.Limit)
	}
	found, bad, err := v.products(ctx, q.IDs == nil, filter, o)
	if err != nil {
		return nil, "", err
	}
	n, err := v.stockOf(ctx, found, q.IDs == nil)
	if store.IsCorrupt(err) {
		found, bad, err = found[:n], err, nil
	}
	if err != nil {
		return nil, "", err
	}
	if q.IDs != nil {
		list := make([]*inventory.Product, len(found))
		for i := range found {
			list[i] = found[i].Product
		}
		return list, "", bad
	}
	page := store.NewPage[inventory.Product, string](q.Limit)
	for _, p := range found {
		page.Add(p.Product, p.ID, p.bytes+len(p.Stock)*store.StockBytes)
	}
	_ = page.Fail(bad) // a full page drops it: the next page will meet the same product
	return page.Result()
}

// sized is a product with the size of its document in bytes.
type sized struct {
	*inventory.Product
	bytes int
}

// products reads products without their stock, up to the first that cannot be used, which is bad. If bounded, it stops
// at [store.PageBytes].
func (v *view) products(
	ctx context.Context, bounded bool, filter bson.D, o *findOptions,
) (found []sized, bad, err error) {
	bytes := 0
	err = v.until(ctx, productsName, filter, o, func(raw bson.Raw) error {
		p, err := readProduct(raw)
		if err != nil {
			return err
		}
		found = append(found, sized{p, len(raw)})
		if bytes += len(raw); bounded && bytes >= store.PageBytes {
			return errFull
		}
		return nil
	})
	if store.IsCorrupt(err) {
		return found, err, nil
	}
	return found, nil, err
}

// stockOf reads the stock rows of products that are sorted by id. If bounded, it reads as many stock rows as fill a
// page, and those of one more product. Products after that get no stock, and the page is full before them. If a stock
// row cannot be used, at is how many products come before that of the row.
func (v *view) stockOf(ctx context.Context, found []sized, bounded bool) (at int, err error) {
	if len(found) == 0 {
		return 0, nil
	}
	ids := make([]string, len(found))
	for i := range found {
		ids[i] = found[i].ID
	}
	o := &findOptions{sort: bson.D{up("productId"), up("location")}}
	if bounded {
		o.limit = store.PageBytes/store.StockBytes + inventory.MaxLocations
	}
	err = v.each(ctx, stockName, in("productId", ids), o, func(raw bson.Raw) error {
		productID, _ := raw.Lookup("productId").StringValueOK()
		for found[at].ID != productID {
			at++
		}
		var d stockDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return &store.CorruptRow{Row: "stock document " + idOf(raw), Key: productID, Detail: err.Error()}
		}
		found[at].Stock = append(found[at].Stock, d.stock())
		return nil
	})
	return at, err
}

// before adds the condition of a page that begins after a document, newest first.
func before(filter bson.D, cursor inventory.ID, prefix string) bson.D {
	if cursor.IsZero() {
		return filter
	}
	return append(filter, bson.E{Key: "_id", Value: bson.D{{Key: "$lt", Value: cursor.Text(prefix)}}})
}

func (v *view) Reservations(
	ctx context.Context, q store.ReservationQuery,
) ([]*inventory.Reservation, inventory.ID, error) {
	if q.IDs != nil {
		page, err := byID(ctx, v, reservationsName, q.IDs, inventory.ReservationPrefix, readReservation, reservationID)
		return page, inventory.ID{}, err
	}
	filter := bson.D{}
	if q.ProductID != "" {
		filter = append(filter, bson.E{Key: "status", Value: "ACTIVE"}, bson.E{Key: "lines.productId", Value: q.ProductID})
	}
	if q.CustomerID != "" {
		filter = append(filter, bson.E{Key: "customerId", Value: q.CustomerID})
	}
	f := finder[inventory.Reservation]{
		view: v, collection: reservationsName, read: readReservation, id: reservationID, matches: q.Matches,
		prefix: inventory.ReservationPrefix,
	}
	if q.ProductID != "" {
		f.hint = overdueIndex
	}
	return f.search(ctx, before(filter, q.Before, f.prefix), statusOf(&q), q.Limit)
}

// statusOf is the condition on the status that no index serves, if there is one.
func statusOf(q *store.ReservationQuery) bson.D {
	switch {
	case q.Status == 0 || q.ProductID != "":
		return nil
	case q.Status == inventory.ReservationExpired && q.DueBy > 0:
		return bson.D{{Key: "$or", Value: bson.A{
			bson.D{{Key: "status", Value: q.Status.String()}},
			bson.D{{Key: "status", Value: "ACTIVE"}, {Key: "expiresAt", Value: bson.D{{Key: "$lte", Value: dateOf(q.DueBy)}}}},
		}}}
	default:
		return bson.D{{Key: "status", Value: q.Status.String()}}
	}
}

func reservationID(r *inventory.Reservation) inventory.ID { return r.ID }

func (v *view) Orders(ctx context.Context, q store.OrderQuery) ([]*inventory.Order, inventory.ID, error) {
	if q.IDs != nil {
		page, err := byID(ctx, v, ordersName, q.IDs, inventory.OrderPrefix, readOrder, orderID)
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
	var rest bson.D
	switch status := (bson.E{Key: "status", Value: q.Status.String()}); q.Status {
	case 0:
	case inventory.OrderConfirmed:
		filter = append(filter, status)
	default:
		rest = bson.D{status}
	}
	f := finder[inventory.Order]{
		view: v, collection: ordersName, read: readOrder, id: orderID, matches: q.Matches, prefix: inventory.OrderPrefix,
	}
	return f.search(ctx, before(filter, q.Before, f.prefix), rest, q.Limit)
}

func orderID(o *inventory.Order) inventory.ID { return o.ID }

// byID reads the documents of ids, and returns them in the order of ids.
func byID[T any](ctx context.Context, v *view, collection string, ids []inventory.ID, prefix string,
	read func(bson.Raw) (*T, error), id func(*T) inventory.ID,
) (page []*T, err error) {
	found := make(map[inventory.ID]*T, len(ids))
	err = v.each(ctx, collection, in("_id", texts(ids, prefix)), nil, func(raw bson.Raw) error {
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

// finder collects the pages of a list, newest first.
type finder[T any] struct {
	*view
	collection, prefix string
	hint               bson.D // the index to read; else the server chooses
	read               func(bson.Raw) (*T, error)
	id                 func(*T) inventory.ID
	matches            func(*T) bool
}

// search collects a page. An index serves the filter, and the server compares the rest; it looks at [store.ScanLimit]
// documents at most for that.
func (f *finder[T]) search(ctx context.Context, filter, rest bson.D, limit int) ([]*T, inventory.ID, error) {
	page := store.NewPage[T, inventory.ID](limit)
	use := func(raw bson.Raw) error {
		row, err := f.read(raw)
		switch {
		case err != nil:
			err = page.Fail(err)
		case f.matches(row):
			page.Add(row, f.id(row), len(raw))
		default:
			page.Skip(f.id(row))
		}
		if err == nil && page.Done() {
			return errFull
		}
		return err
	}
	newest := bson.D{down("_id")}
	var err error
	if len(rest) == 0 {
		err = f.until(ctx, f.collection, filter, &findOptions{sort: newest, limit: int64(limit), hint: f.hint}, use)
	} else if err = f.scan(ctx, use, filter, newest, rest, limit); err == nil && !page.Done() {
		err = f.boundary(ctx, filter, newest, page)
	}
	if err != nil {
		return nil, inventory.ID{}, err
	}
	return page.Result()
}

// scan has the server go through at most [store.ScanLimit] documents.
func (f *finder[T]) scan(ctx context.Context, use func(bson.Raw) error, filter, order, rest bson.D, limit int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	inside := f.inside(ctx)
	cursor, err := f.view.read.Collection(f.collection).Aggregate(inside, bson.A{
		bson.D{{Key: "$match", Value: filter}},
		bson.D{{Key: "$sort", Value: order}},
		bson.D{{Key: "$limit", Value: store.ScanLimit}},
		bson.D{{Key: "$match", Value: rest}},
		bson.D{{Key: "$limit", Value: limit}},
	}, options.Aggregate().SetBatchSize(int32(limit+1)))
	if err == nil {
		err = drain(inside, cursor, use)
	}
	if errors.Is(err, errFull) {
		return nil
	}
	return ended(ctx, translate(err))
}

// boundary ends the page at the last document that was looked at, if there are more.
func (f *finder[T]) boundary(ctx context.Context, filter, order bson.D, page *store.Page[T, inventory.ID]) error {
	o := &findOptions{sort: order, skip: store.ScanLimit - 1, limit: 1}
	return f.each(ctx, f.collection, filter, o, func(raw bson.Raw) error {
		if id, ok := inventory.ParseID(f.prefix, idOf(raw)); ok {
			page.End(id)
		}
		return nil
	})
}

func (v *view) Journal(
	ctx context.Context, from store.JournalPosition, limit, maxBytes int,
) (page []store.Entry, err error) {
	start := from.BatchNo
	if limit <= 0 {
		return nil, ctx.Err()
	}
	if start == 0 {
		if start, err = v.batchOf(ctx, from.Seq); err != nil || start == 0 {
			return nil, err
		}
	}
	bytes := 0
	err = v.until(ctx, journalName, bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: start}}}},
		&findOptions{sort: bson.D{up("_id")}, limit: int64(limit)}, func(raw bson.Raw) error {
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

// batchOf finds the first batch whose last event is seq or later; 0 means that there is none.
func (v *view) batchOf(ctx context.Context, seq int64) (batchNo int64, err error) {
	o := &findOptions{sort: bson.D{up("lastSequence"), up("_id")}, limit: 1}
	err = v.each(ctx, journalName, bson.D{{Key: "lastSequence", Value: bson.D{{Key: "$gte", Value: seq}}}}, o,
		func(raw bson.Raw) error {
			batchNo = raw.Lookup("_id").AsInt64()
			return nil
		})
	return batchNo, err
}

func (v *view) Due(ctx context.Context, until inventory.Time, limit int) (page []store.Deadline, err error) {
	filter := bson.D{
		{Key: "status", Value: "ACTIVE"},
		{Key: "expiresAt", Value: bson.D{{Key: "$lte", Value: dateOf(until)}}},
	}
	for read := int64(0); len(page) < limit; {
		o := &findOptions{sort: bson.D{up("expiresAt"), up("_id")}, skip: read, limit: int64(limit - len(page))}
		err = v.each(ctx, reservationsName, filter, o, func(raw bson.Raw) error {
			read++
			id, ok := inventory.ParseID(inventory.ReservationPrefix, idOf(raw))
			at, isDate := raw.Lookup("expiresAt").DateTimeOK()
			if ok && isDate { // the others take nobody's place, and verify names them
				page = append(page, store.Deadline{ID: id, At: inventory.Time(at)})
			}
			return nil
		})
		if err != nil || read < o.skip+o.limit {
			break
		}
	}
	return page, err
}

// straysPage is how many stock documents one command of Strays looks at.
const straysPage = 1000

// Strays names stock documents whose id does not fit their product and location, or whose product is missing. The stock
// of existing products is read, and checked, with them. A product is never deleted and comes before its stock, so no
// snapshot is needed: a transaction that reads all of a large store would take longer than the server allows.
func (v *view) Strays(ctx context.Context, limit int) (list []string, err error) {
	for after := ""; len(list) < limit; {
		var page []strayDocument
		err := aggregate(ctx, v.read.Collection(stockName), &page,
			bson.D{{Key: "$match", Value: bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: after}}}}}},
			bson.D{{Key: "$sort", Value: bson.D{up("_id")}}},
			bson.D{{Key: "$limit", Value: straysPage}},
			bson.D{{Key: "$project", Value: bson.D{{Key: "productId", Value: 1}, {Key: "location", Value: 1}}}},
			lookup(productsName, "productId", "_id", "product"),
			bson.D{{Key: "$project", Value: bson.D{
				{Key: "product._id", Value: 1}, {Key: "productId", Value: 1}, {Key: "location", Value: 1},
			}}})
		if err != nil || len(page) == 0 {
			return list, ended(ctx, translate(err))
		}
		for i := range page {
			if what := page[i].stray(); what != "" && len(list) < limit {
				list = append(list, "stock document "+page[i].ID+": "+what)
			}
		}
		after = page[len(page)-1].ID
	}
	return list, nil
}

type strayDocument struct {
	ID        string `bson:"_id"`
	ProductID any    `bson:"productId"`
	Location  any    `bson:"location"`
	Product   bson.A `bson:"product"`
}

// stray says what is wrong with a stock document, or nothing.
func (d *strayDocument) stray() string {
	switch {
	case d.ID != fmt.Sprint(d.ProductID, "/", d.Location):
		return "its id is not that of its product and location"
	case len(d.Product) == 0:
		return fmt.Sprintf("its product %v is missing", d.ProductID)
	default:
		return ""
	}
}
