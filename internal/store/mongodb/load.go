package mongodb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

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

	batchID [16]byte     // of this batch: the lock enters it into the head
	head    headDocument // as the lock has left it
	before  store.Head   // what the batch follows
	own     bool         // before is the last batch of this process, so its memory is current
	state   *inventory.State
}

func newLoader(s *Store, keys *inventory.Keys) *loader {
	return &loader{s: s, keys: keys, state: inventory.NewState(0, 0, "")}
}

// findOptions are the options of a find. A skip or limit of 0 means none.
type findOptions struct {
	sort        bson.D
	skip, limit int64
	hint        bson.D // the index to read; else the server chooses
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
		f.SetBatchSize(int32(min(o.limit, math.MaxInt32))) // else the first 101 come by themselves
	}
	if o.hint != nil {
		f.SetHint(o.hint)
	}
	return []options.Lister[options.FindOptions]{f}
}

// each calls use with each document that matches, until use fails.
func each(ctx context.Context, c *mongo.Collection, filter any, o *findOptions, use func(bson.Raw) error) error {
	cursor, err := c.Find(ctx, filter, o.list()...)
	if err != nil {
		return err
	}
	return drain(ctx, cursor, use)
}

// drain calls use with each document of a cursor, until use fails.
func drain(ctx context.Context, cursor *mongo.Cursor, use func(bson.Raw) error) error {
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
	for _, f := range []func(context.Context) error{l.lock, l.loadNamed, l.loadRanges, l.loadLines, l.loadOverdue} {
		if err := l.s.within(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// lock writes the batch's number and id into the head, so that no other transaction can. That is also the only write of
// the head: the rest of a batch's state is in its journal entry. A store that has the head to itself finds out by the
// same command that its memory is current.
func (l *loader) lock(ctx context.Context) (err error) {
	rand.Read(l.batchID[:])
	m := &l.s.memory
	if m.known && !l.s.sharing {
		err = l.lockHead(ctx, bson.E{Key: "batchId", Value: m.head.BatchID[:]})
		if err == nil {
			l.own, l.before = true, m.head
			return l.begin()
		}
		if !errors.Is(err, mongo.ErrNoDocuments) {
			return err
		}
		l.s.sharing = true
	}
	err = l.lockHead(ctx)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return errNoHead
	}
	return err
}

// lockHead locks the head if it meets the conditions. The server enters its clock.
func (l *loader) lockHead(ctx context.Context, conditions ...bson.E) error {
	err := l.s.db.Collection(headName).FindOneAndUpdate(ctx, append(bson.D{{Key: "_id", Value: headID}}, conditions...),
		bson.D{
			{Key: "$set", Value: bson.D{{Key: "batchId", Value: l.batchID[:]}}},
			{Key: "$inc", Value: bson.D{{Key: "batchNo", Value: 1}}},
			{Key: "$currentDate", Value: bson.D{{Key: "lockedAt", Value: true}}},
		}, options.FindOneAndUpdate().SetReturnDocument(options.After)).Decode(&l.head)
	if err == nil || errors.Is(err, mongo.ErrNoDocuments) {
		l.s.leftOpen.Store(false)
	}
	if err != nil {
		return err
	}
	return l.head.check()
}

// begin takes the time of the batch, once it is known what it follows.
func (l *loader) begin() error {
	source := l.head.LockedAt.Time()
	if l.s.options.Now != nil {
		source = l.s.options.Now()
	}
	now, err := l.before.Now(source, l.s.options.Clock)
	if err != nil {
		return err
	}
	l.state.Now, l.state.Seq, l.state.Epochs = now, l.before.Seq, l.before.Epochs
	return nil
}

// wanted are documents to load from a collection, by their ids or by another field.
type wanted struct {
	collection, field string
	values            []any
	use               func(bson.Raw) error
}

const (
	// lookupValues is how many values one command asks for at most. Batches that need more share so much that a command
	// for each collection costs little.
	lookupValues = 200
	// totalTooLarge is the server's error for $lookup beyond what a document can hold; objectTooLarge is the other one.
	totalTooLarge = 4568
)

// fetch loads what is wanted, by one command if there is little of it.
func (l *loader) fetch(ctx context.Context, all ...*wanted) error {
	total := 0
	all = slices.DeleteFunc(all, func(w *wanted) bool {
		total += len(w.values)
		return len(w.values) == 0
	})
	if len(all) > 1 && total <= lookupValues && !l.s.apart {
		return l.fetchTogether(ctx, all)
	}
	for _, w := range all {
		if err := each(ctx, l.s.db.Collection(w.collection), in(w.field, w.values), nil, w.use); err != nil {
			return err
		}
	}
	return nil
}

// fetchTogether looks all of it up from the head, which is one document that is there. What does not fit into one
// document is loaded apart by the next attempt.
func (l *loader) fetchTogether(ctx context.Context, all []*wanted) error {
	values, lookups, result := bson.D{}, bson.A{}, bson.D{{Key: "_id", Value: 0}}
	for i, w := range all {
		from, to := "v"+strconv.Itoa(i), "r"+strconv.Itoa(i)
		values = append(values, bson.E{Key: from, Value: bson.D{{Key: "$literal", Value: w.values}}})
		lookups = append(lookups, lookup(w.collection, from, w.field, to))
		result = append(result, bson.E{Key: to, Value: 1})
	}
	pipeline := bson.A{
		bson.D{{Key: "$match", Value: bson.D{{Key: "_id", Value: headID}}}}, bson.D{{Key: "$project", Value: values}},
	}
	pipeline = append(append(pipeline, lookups...), bson.D{{Key: "$project", Value: result}})
	var found []bson.Raw
	err := aggregate(ctx, l.s.db.Collection(headName), &found, pipeline...)
	if hasCode(err, totalTooLarge, objectTooLarge) {
		l.s.apart = true
		return store.Retryable{Err: fmt.Errorf("%w: %w", store.ErrUnavailable, err)}
	}
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return errNoHead
	}
	for i, w := range all {
		if err := eachOf(found[0], "r"+strconv.Itoa(i), w.use); err != nil {
			return err
		}
	}
	return nil
}

// eachOf calls use with each document of an array.
func eachOf(d bson.Raw, name string, use func(bson.Raw) error) error {
	array, ok := d.Lookup(name).ArrayOK()
	if !ok {
		return fmt.Errorf("%w: the server has not answered with %s", store.ErrUnavailable, name)
	}
	values, err := array.Values()
	if err != nil {
		return err
	}
	for _, v := range values {
		if err := use(v.Document()); err != nil {
			return err
		}
	}
	return nil
}

func list[T any](collection string, use func(bson.Raw) error, ids ...T) *wanted {
	w := &wanted{collection: collection, field: "_id", use: use}
	w.add(toAny(ids)...)
	return w
}

func (w *wanted) add(values ...any) { w.values = append(w.values, values...) }

func toAny[T any](values []T) []any {
	list := make([]any, len(values))
	for i := range values {
		list[i] = values[i]
	}
	return list
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

// loadNamed loads what keys name. If another process may have committed last, it loads the newest entry of the journal
// with that.
func (l *loader) loadNamed(ctx context.Context) error {
	all := l.rows()
	if !l.own {
		all = append(all, l.last())
	}
	for _, name := range l.head.Receipts {
		all = append(all, l.receiptsIn(name))
	}
	all = append(all, list(recordsName, l.useRecord, recordIDs(l.keys.Records)...))
	if err := l.fetch(ctx, all...); err != nil || l.own {
		return err
	}
	if l.before.BatchNo != l.head.BatchNo-1 {
		return fmt.Errorf("%w: the journal has no entry of batch %d: run holdfast verify", store.ErrUnavailable,
			l.head.BatchNo-1)
	}
	if l.own = l.s.memory.known && l.s.memory.head.BatchID == l.before.BatchID; l.own {
		l.s.sharing = false
	}
	return l.begin()
}

// last wants the newest entry of the journal. Before the first batch there is none.
func (l *loader) last() *wanted {
	l.before = l.head.head(nil)
	l.before.BatchNo, l.before.BatchID = 0, [16]byte{}
	w := list[int64](journalName, func(raw bson.Raw) error {
		var d journalDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("journal document %v: %w", raw.Lookup("_id"), err)
		}
		l.before = l.head.head(&d)
		l.before.BatchNo = d.BatchNo
		copy(l.before.BatchID[:], d.BatchID)
		return nil
	})
	if l.head.BatchNo > 1 {
		w.add(l.head.BatchNo - 1)
	}
	return w
}

// rows wants the rows of keys that memory does not have.
func (l *loader) rows() []*wanted {
	w := l.newWants()
	whole := &wanted{collection: stockName, field: "productId", use: l.useStock}
	for _, id := range l.keys.Products {
		w.asked[id] = true
		w.products.add(id)
		whole.add(id)
	}
	for i := range l.keys.Stock {
		if key := l.keys.Stock[i].StockKey; !w.asked[key.ProductID] || w.some[key.ProductID] {
			w.some[key.ProductID] = true
			w.row(key)
		}
	}
	for _, id := range l.keys.Reservations {
		w.reservation(id)
	}
	for _, id := range l.keys.Orders {
		w.order(id)
	}
	return append(w.all(), whole)
}

// wants are the rows that are neither in the state yet nor in memory.
type wants struct {
	*loader
	asked, some                           map[string]bool // ids of products and stock rows; of products not wanted whole
	reservations, orders, products, stock *wanted
}

func (l *loader) newWants() *wants {
	return &wants{
		loader: l, asked: map[string]bool{}, some: map[string]bool{},
		reservations: list[string](reservationsName, l.useReservation), orders: list[string](ordersName, l.useOrder),
		products: list[string](productsName, l.useProduct), stock: list[string](stockName, l.useStock),
	}
}

func (w *wants) all() []*wanted { return []*wanted{w.reservations, w.orders, w.products, w.stock} }

// once adds an id that was not asked for before.
func (w *wants) once(in *wanted, id string) {
	if !w.asked[id] {
		w.asked[id] = true
		in.add(id)
	}
}

func (w *wants) reservation(id inventory.ID) {
	if w.state.Reservations[id] == nil && !w.recallReservation(id) {
		w.once(w.reservations, id.Text(inventory.ReservationPrefix))
	}
}

func (w *wants) order(id inventory.ID) {
	if w.state.Orders[id] == nil && !w.recallOrder(id) {
		w.once(w.orders, id.Text(inventory.OrderPrefix))
	}
}

// row wants a stock row and its product.
func (w *wants) row(key inventory.StockKey) {
	if w.state.Products[key.ProductID] == nil && !w.recallProduct(key.ProductID) {
		w.once(w.products, key.ProductID)
	}
	if w.state.Stock(key) == nil && !w.recallStock(key) {
		w.once(w.stock, stockID(key))
	}
}

func (l *loader) useProduct(raw bson.Raw) error {
	p, err := readProduct(raw)
	if err == nil {
		l.state.Products[p.ID] = p
	}
	return err
}

func (l *loader) useReservation(raw bson.Raw) error {
	r, err := readReservation(raw)
	if err == nil {
		l.state.Reservations[r.ID] = r
	}
	return err
}

func (l *loader) useOrder(raw bson.Raw) error {
	o, err := readOrder(raw)
	if err == nil {
		l.state.Orders[o.ID] = o
	}
	return err
}

func (l *loader) useStock(raw bson.Raw) error {
	var d stockDocument
	if err := bson.Unmarshal(raw, &d); err != nil {
		return &store.CorruptRow{Row: "stock document " + idOf(raw), Key: idOf(raw), Detail: err.Error()}
	}
	if p := l.state.Products[d.ProductID]; p != nil {
		p.Put(d.stock())
	}
	return nil
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

// loadLines loads the orders of the loaded reservations, and the products and stock rows of the lines of both. The
// lines of an order are those of its reservation, so that is usually all at once.
func (l *loader) loadLines(ctx context.Context) error {
	for range 2 {
		w := l.newWants()
		for _, r := range l.state.Reservations {
			if !r.OrderID.IsZero() {
				w.order(r.OrderID)
			}
			for i := range r.Lines {
				w.row(r.Lines[i].Key())
			}
		}
		for _, o := range l.state.Orders {
			for i := range o.Lines {
				w.row(o.Lines[i].Key())
			}
		}
		if err := l.fetch(ctx, w.all()...); err != nil || len(w.orders.values) == 0 {
			return err
		}
	}
	return nil
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
	o := &findOptions{
		sort: bson.D{up("expiresAt"), up("_id")}, skip: int64(skip), limit: int64(limit) + 1, hint: overdueIndex,
	}
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
