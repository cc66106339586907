package mongodb

import (
	"context"
	"errors"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// loader fills the state of a batch, inside its transaction.
type loader struct {
	s    *Store
	keys *inventory.Keys

	head  headDocument
	state *inventory.State
}

func newLoader(s *Store, keys *inventory.Keys) *loader {
	return &loader{s: s, keys: keys}
}

// findOptions are the options of a find. A skip or limit of 0 means none.
type findOptions struct {
	sort        bson.D
	skip, limit int64
}

func (o *findOptions) list() []options.Lister[options.FindOptions] {
	if o == nil {
		return nil
	}
	f := options.Find()
	if o.sort != nil {
		f.SetSort(o.sort)
	}
	if o.skip > 0 {
		f.SetSkip(o.skip)
	}
	if o.limit > 0 {
		f.SetLimit(o.limit)
	}
	return []options.Lister[options.FindOptions]{f}
}

// each calls use with each document that matches, until use fails.
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

// load loads the state within a transaction, whose context it takes. Each part has a timeout of its own.
func (l *loader) load(ctx context.Context) error {
	for _, f := range []func(context.Context) error{
		l.lock, l.loadReceipts, l.loadRecords, l.loadReservations,
		l.loadOrders, l.loadWanted, l.loadLines, l.loadOverdue,
	} {
		if err := l.s.within(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// lock locks the head and takes the time of the batch.
func (l *loader) lock(ctx context.Context) (err error) {
	if l.head, err = lockHead(ctx, l.s.db); err != nil {
		return err
	}
	l.s.leftOpen.Store(false)
	if err := l.head.check(); err != nil {
		return err
	}
	source := l.head.LockedAt.Time()
	if l.s.options.Now != nil {
		source = l.s.options.Now()
	}
	head := l.head.head()
	now, err := head.Now(source, l.s.options.Clock)
	if err != nil {
		return err
	}
	l.state = inventory.NewState(now, head.Seq, head.Epochs)
	return nil
}

func in[T any](name string, values []T) bson.D {
	return bson.D{{Key: name, Value: bson.D{{Key: "$in", Value: values}}}}
}

func texts(ids []inventory.ID, prefix string) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = id.Text(prefix)
	}
	return list
}

func (l *loader) loadReservations(ctx context.Context) error {
	if len(l.keys.Reservations) == 0 {
		return nil
	}
	return each(ctx, l.s.db.Collection(reservationsName),
		in("_id", texts(l.keys.Reservations, inventory.ReservationPrefix)), nil, func(raw bson.Raw) error {
			r, err := readReservation(raw)
			if err == nil {
				l.state.Reservations[r.ID] = r
			}
			return err
		})
}

func readReservation(raw bson.Raw) (*inventory.Reservation, error) {
	var d reservationDocument
	if err := bson.Unmarshal(raw, &d); err != nil {
		return nil, corrupt("reservation", inventory.ReservationPrefix, idOf(raw), err.Error())
	}
	return d.reservation()
}

func readOrder(raw bson.Raw) (*inventory.Order, error) {
	var d orderDocument
	if err := bson.Unmarshal(raw, &d); err != nil {
		return nil, corrupt("order", inventory.OrderPrefix, idOf(raw), err.Error())
	}
	return d.order()
}

func readProduct(raw bson.Raw) (*inventory.Product, error) {
	var d productDocument
	if err := bson.Unmarshal(raw, &d); err != nil {
		return nil, &store.CorruptRow{Row: "product document " + idOf(raw), Key: idOf(raw), Detail: err.Error()}
	}
	return d.product(), nil
}

// idOf returns the id of a document, even if the rest of it cannot be decoded.
func idOf(raw bson.Raw) string {
	id, _ := raw.Lookup("_id").StringValueOK()
	return id
}

// loadOrders loads the orders of keys, and those of the loaded reservations.
func (l *loader) loadOrders(ctx context.Context) error {
	var orders []inventory.ID
	orders = append(orders, l.keys.Orders...)
	for _, r := range l.state.Reservations {
		if !r.OrderID.IsZero() {
			orders = append(orders, r.OrderID)
		}
	}
	if len(orders) == 0 {
		return nil
	}
	return each(ctx, l.s.db.Collection(ordersName), in("_id", texts(orders, inventory.OrderPrefix)), nil,
		func(raw bson.Raw) error {
			o, err := readOrder(raw)
			if err == nil {
				l.state.Orders[o.ID] = o
			}
			return err
		})
}

// loadWanted loads the products and stock rows of keys.
func (l *loader) loadWanted(ctx context.Context) error {
	products := slices.Clone(l.keys.Products)
	rows := make([]inventory.StockKey, len(l.keys.Stock))
	for i := range rows {
		rows[i] = l.keys.Stock[i].StockKey
		products = append(products, rows[i].ProductID)
	}
	if err := l.products(ctx, products); err != nil {
		return err
	}
	if len(l.keys.Products) > 0 {
		if err := l.stock(ctx, in("productId", l.keys.Products)); err != nil {
			return err
		}
	}
	return l.stockRows(ctx, rows)
}

// loadLines loads the products and stock rows of the lines of all loaded reservations and orders.
func (l *loader) loadLines(ctx context.Context) error {
	var rows []inventory.StockKey
	add := func(lines []inventory.Line) {
		for i := range lines {
			rows = append(rows, lines[i].Key())
		}
	}
	for _, r := range l.state.Reservations {
		add(r.Lines)
	}
	for _, o := range l.state.Orders {
		add(o.Lines)
	}
	products := make([]string, len(rows))
	for i := range rows {
		products[i] = rows[i].ProductID
	}
	if err := l.products(ctx, products); err != nil {
		return err
	}
	return l.stockRows(ctx, rows)
}

// products loads those of ids that are not loaded yet, without their stock.
func (l *loader) products(ctx context.Context, ids []string) error {
	missing := slices.DeleteFunc(ids, func(id string) bool { return l.state.Products[id] != nil })
	slices.Sort(missing)
	if missing = slices.Compact(missing); len(missing) == 0 {
		return nil
	}
	return each(ctx, l.s.db.Collection(productsName), in("_id", missing), nil, func(raw bson.Raw) error {
		p, err := readProduct(raw)
		if err == nil {
			l.state.Products[p.ID] = p
		}
		return err
	})
}

// stockRows loads those of keys that are not loaded yet.
func (l *loader) stockRows(ctx context.Context, keys []inventory.StockKey) error {
	var missing []string
	for _, key := range keys {
		if l.state.Stock(key) == nil {
			missing = append(missing, stockID(key))
		}
	}
	slices.Sort(missing)
	if missing = slices.Compact(missing); len(missing) == 0 {
		return nil
	}
	return l.stock(ctx, in("_id", missing))
}

func (l *loader) stock(ctx context.Context, filter bson.D) error {
	return each(ctx, l.s.db.Collection(stockName), filter, nil, func(raw bson.Raw) error {
		var d stockDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return &store.CorruptRow{Row: "stock document " + idOf(raw), Key: idOf(raw), Detail: err.Error()}
		}
		if p := l.state.Products[d.ProductID]; p != nil {
			p.Put(d.stock())
		}
		return nil
	})
}

// loadOverdue loads the overdue holds of the stock rows that have fewer units than the batch wants (I8).
func (l *loader) loadOverdue(ctx context.Context) error {
	err := store.LoadOverdue(l.state, l.keys, func(key inventory.StockKey, skip, limit int,
		use func(*inventory.Reservation, int) bool,
	) (bool, error) {
		return l.overdueOf(ctx, key, skip, limit, use)
	})
	if err != nil {
		return err
	}
	return l.loadLines(ctx) // of the holds that were found
}

func (l *loader) overdueOf(ctx context.Context, key inventory.StockKey, skip, limit int,
	use func(*inventory.Reservation, int) bool,
) (more bool, err error) {
	filter := bson.D{
		{Key: "status", Value: "ACTIVE"},
		{Key: "lines", Value: bson.D{{
			Key:   "$elemMatch",
			Value: bson.D{{Key: "productId", Value: key.ProductID}, {Key: "location", Value: key.Location}},
		}}},
		{Key: "expiresAt", Value: bson.D{{Key: "$lte", Value: dateOf(l.state.Now)}}},
	}
	o := &findOptions{sort: bson.D{up("expiresAt"), up("_id")}, skip: int64(skip), limit: int64(limit) + 1}
	err = each(ctx, l.s.db.Collection(reservationsName), filter, o, func(raw bson.Raw) error {
		if limit == 0 {
			more = true
			return nil
		}
		limit--
		r, err := readReservation(raw)
		if err != nil && !store.IsCorrupt(err) {
			return err
		}
		if !use(r, len(raw)) {
			return errFull
		}
		return nil
	})
	if errors.Is(err, errFull) {
		err = nil
	}
	return more, err
}
