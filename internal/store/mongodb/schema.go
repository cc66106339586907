package mongodb

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/holdfast/holdfast/internal/store"
)

// The collections. The head names those of receipts: see receipts.go.
const (
	headName         = "head"
	productsName     = "products"
	stockName        = "stock"
	reservationsName = "reservations"
	ordersName       = "orders"
	recordsName      = "records"
	journalName      = "journal"
	processesName    = "processes"
	proofName        = "proof"
)

// headID is the id of the one document of the collection head.
const headID = "head"

// layout is the version of the collections and indexes that this program makes.
//
//	1   the first
//	2   the collection records
//	3   sequence, time and checksum are in the journal alone, no longer in the head as well; an index less
const layout = 3

var (
	wholeNumber = bson.D{{Key: "bsonType", Value: bson.A{"long", "int"}}, {Key: "minimum", Value: 0}}
	text        = bson.D{{Key: "bsonType", Value: "string"}}
	date        = bson.D{{Key: "bsonType", Value: "date"}}
	lines       = bson.D{{Key: "bsonType", Value: "array"}}
)

// shape is a validator that requires these fields, each of its type.
func shape(members bson.D) bson.D {
	required := bson.A{}
	for _, m := range members {
		required = append(required, m.Key)
	}
	return bson.D{{Key: "$jsonSchema", Value: bson.D{
		{Key: "bsonType", Value: "object"},
		{Key: "required", Value: required},
		{Key: "properties", Value: members},
	}}}
}

func oneOf(names ...any) bson.D { return bson.D{{Key: "enum", Value: bson.A(names)}} }

// validators are the second wall of I1: no bucket is negative, and the buckets add up to the units on hand.
var validators = map[string]bson.D{
	stockName: {{Key: "$and", Value: bson.A{
		shape(bson.D{
			{Key: "productId", Value: text},
			{Key: "location", Value: text},
			{Key: "totalStock", Value: wholeNumber},
			{Key: "availableStock", Value: wholeNumber},
			{Key: "reservedStock", Value: wholeNumber},
			{Key: "committedStock", Value: wholeNumber},
		}),
		bson.D{{Key: "$expr", Value: bson.D{{Key: "$eq", Value: bson.A{
			"$totalStock", bson.D{{Key: "$add", Value: bson.A{"$availableStock", "$reservedStock", "$committedStock"}}},
		}}}}},
	}}},
	productsName: shape(bson.D{{Key: "name", Value: text}, {Key: "version", Value: wholeNumber}}),
	reservationsName: shape(bson.D{
		{Key: "status", Value: oneOf("ACTIVE", "CONFIRMED", "EXPIRED", "CANCELLED")},
		{Key: "lines", Value: lines},
		{Key: "expiresAt", Value: date},
	}),
	ordersName: shape(bson.D{
		{Key: "status", Value: oneOf("CONFIRMED", "FULFILLED", "CANCELLED")},
		{Key: "lines", Value: lines},
		{Key: "reservationId", Value: text},
	}),
	recordsName: shape(bson.D{
		{Key: "kind", Value: text},
		{Key: "key", Value: text},
		{Key: "version", Value: wholeNumber},
	}),
	headName: {}, journalName: {}, processesName: {}, proofName: {},
}

// collectionNames are the collections, in the order in which they are made.
var collectionNames = []string{
	stockName, headName, productsName, reservationsName, ordersName, recordsName,
	journalName, processesName, proofName,
}

func index(partial bson.D, unique bool, keys ...bson.E) mongo.IndexModel {
	o := options.Index()
	if partial != nil {
		o.SetPartialFilterExpression(partial)
	}
	if unique {
		o.SetUnique(true)
	}
	return mongo.IndexModel{Keys: bson.D(keys), Options: o}
}

func up(name string) bson.E   { return bson.E{Key: name, Value: 1} }
func down(name string) bson.E { return bson.E{Key: name, Value: -1} }

// overdueIndex finds the overdue holds of a stock row, and all ACTIVE ones of a product. Lists of those want them
// newest first, which the server sorts: lists are asked for more seldom than holds are made.
var overdueIndex = bson.D{up("lines.productId"), up("lines.location"), up("expiresAt"), up("_id")}

// indexes serve to find due holds in the order of deadlines, overdue holds of a stock row, ACTIVE reservations of a
// product, reservations and orders of a customer, and orders by reference, by status CONFIRMED and by reservation (I4).
func indexes() map[string][]mongo.IndexModel {
	active := bson.D{{Key: "status", Value: "ACTIVE"}}
	has := func(name string) bson.D {
		return bson.D{{Key: name, Value: bson.D{{Key: "$exists", Value: true}}}}
	}
	return map[string][]mongo.IndexModel{
		stockName: {index(nil, true, up("productId"), up("location"))},
		reservationsName: {
			index(active, false, up("expiresAt"), up("_id")),
			index(active, false, overdueIndex...),
			index(has("customerId"), false, up("customerId"), down("_id")),
		},
		ordersName: {
			index(nil, true, up("reservationId")),
			index(bson.D{{Key: "status", Value: "CONFIRMED"}}, false, up("status"), down("_id")),
			index(has("customerId"), false, up("customerId"), down("_id")),
			index(has("reference"), false, up("reference"), down("_id")),
		},
		journalName: {index(nil, false, up("lastSequence"), up("_id"))},
	}
}

// migrator makes and upgrades what a store consists of. Every step is idempotent and is tried again, because several
// processes may do the same at once, and a server may be in the middle of an election.
type migrator struct {
	db     *mongo.Database
	log    *slog.Logger
	warned bool // that the server does not check what is written to it
}

const (
	stepLimit = 10 * time.Second      // until a step is given up
	stepWait  = 50 * time.Millisecond // before it is tried again, at least; at most three times as long
)

// step runs a step until it works or fails for good.
func step(ctx context.Context, what string, f func(context.Context) error) (err error) {
	for begun := time.Now(); ; {
		if err = f(ctx); !mayPass(err) || time.Since(begun) > stepLimit {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(stepWait + mathrand.N(2*stepWait)):
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// migrate makes the collections and indexes that are missing, mends the validators, and then makes or upgrades the
// head, in one write.
func migrate(ctx context.Context, db *mongo.Database, log *slog.Logger) error {
	m := &migrator{db: db, log: log}
	for _, name := range collectionNames {
		err := step(ctx, "making the collection "+name, func(ctx context.Context) error { return m.collection(ctx, name) })
		if err != nil {
			return err
		}
	}
	for name, models := range indexes() {
		if err := step(ctx, "making the indexes of "+name, func(ctx context.Context) error {
			_, err := db.Collection(name).Indexes().CreateMany(ctx, models)
			return err
		}); err != nil {
			return err
		}
	}
	if err := step(ctx, "dropping an index of before", m.dropIndex); err != nil {
		return err
	}
	if err := step(ctx, "comparing the validators", m.mendValidators); err != nil {
		return err
	}
	if err := step(ctx, "making the head", m.head); err != nil {
		return err
	}
	return step(ctx, "upgrading the head", func(ctx context.Context) error { return raise(ctx, db) })
}

// collection makes a collection, without its validator if the server says that it knows no such thing.
func (m *migrator) collection(ctx context.Context, name string) error {
	err := createCollection(ctx, m.db, name, validators[name])
	if len(validators[name]) > 0 && hasCode(err, unsupportedCodes...) {
		m.warn(err)
		return createCollection(ctx, m.db, name, nil)
	}
	return err
}

func (m *migrator) warn(err error) {
	if !m.warned {
		m.log.Warn("the server does not check what is written to it: Holdfast checks alone", "error", err)
		m.warned = true
	}
}

// formerIndex found the ACTIVE reservations of a product in the order of a list. Layout 2 had it.
const formerIndex = "lines.productId_1__id_-1"

func (m *migrator) dropIndex(ctx context.Context) error {
	err := m.db.Collection(reservationsName).Indexes().DropOne(ctx, formerIndex)
	if hasCode(err, namespaceNotFound, indexNotFound) {
		return nil
	}
	return err
}

// mendValidators sets the validators that are not those of this program, such as that of a collection that another way
// of restoring a backup has made without.
func (m *migrator) mendValidators(ctx context.Context) error {
	specifications, err := m.db.ListCollectionSpecifications(ctx, bson.D{})
	if err != nil {
		return err
	}
	for i := range specifications {
		name := specifications[i].Name
		want := validators[name]
		if len(want) == 0 || checks(specifications[i].Options, want) {
			continue
		}
		err := m.db.RunCommand(ctx, bson.D{
			{Key: "collMod", Value: name},
			{Key: "validator", Value: want},
			{Key: "validationLevel", Value: "strict"},
			{Key: "validationAction", Value: "error"},
		}).Err()
		switch {
		case hasCode(err, unsupportedCodes...):
			m.warn(err)
		case err != nil:
			return fmt.Errorf("setting the validator of %s: %w", name, err)
		default:
			m.log.Info("set the validator of a collection", "collection", name)
		}
	}
	return nil
}

// checks reports whether a collection with these options refuses what a validator refuses.
func checks(o bson.Raw, validator bson.D) bool {
	want, err := bson.Marshal(validator)
	got, _ := o.Lookup("validator").DocumentOK()
	is := func(name, value string) bool {
		set, there := o.Lookup(name).StringValueOK()
		return !there || set == value
	}
	return err == nil && bytes.Equal(got, want) && is("validationLevel", "strict") && is("validationAction", "error")
}

// head makes the head and the first collection of receipts, unless there is a head.
func (m *migrator) head(ctx context.Context) error {
	n, err := m.db.Collection(headName).CountDocuments(ctx, bson.D{{Key: "_id", Value: headID}})
	if err != nil || n > 0 {
		return err
	}
	first := receiptsName(1)
	if err := createCollection(ctx, m.db, first, nil); err != nil {
		return err
	}
	_, err = m.db.Collection(headName).UpdateOne(ctx, bson.D{{Key: "_id", Value: headID}},
		bson.D{{Key: "$setOnInsert", Value: headDocument{
			Store: strings.ToLower(rand.Text()), Format: store.Format, Layout: layout, BatchID: make([]byte, 16),
			Receipts: []string{first},
		}}}, options.UpdateOne().SetUpsert(true))
	if mongo.IsDuplicateKeyError(err) { // another process has just made it
		return nil
	}
	return err
}

// raise upgrades the head of an older store to the format and layout of this program. Processes of an older program
// stop at their next batch.
func raise(ctx context.Context, db *mongo.Database) error {
	older := func(name string, version int) bson.D {
		return bson.D{{Key: name, Value: bson.D{{Key: "$lt", Value: version}}}}
	}
	_, err := db.Collection(headName).UpdateOne(ctx,
		bson.D{{Key: "_id", Value: headID}, {
			Key:   "$or",
			Value: bson.A{older("format", store.Format), older("layout", layout)},
		}},
		bson.D{
			{Key: "$max", Value: bson.D{{Key: "format", Value: store.Format}, {Key: "layout", Value: layout}}},
			{Key: "$unset", Value: bson.D{{Key: "sequence", Value: 1}, {Key: "at", Value: 1}, {Key: "chain", Value: 1}}},
			{Key: "$inc", Value: bson.D{{Key: "fence", Value: 1}}},
		})
	return err
}

func createCollection(ctx context.Context, db *mongo.Database, name string, validator bson.D) error {
	o := options.CreateCollection()
	if len(validator) > 0 {
		o.SetValidator(validator)
	}
	err := db.CreateCollection(ctx, name, o)
	if hasCode(err, namespaceExists) {
		return nil
	}
	return err
}

// The guard lets one process at a time make what a store consists of. It is a courtesy: steps that meet others are
// tried again. So a process that died with it is waited for, but not for long, by everybody's own clock.
const (
	guardID   = "opening"
	guardLook = 50 * time.Millisecond
	guardWait = 5 * time.Second
)

type guardDocument struct {
	By string `bson:"by"`
}

// guarded calls f while this process has the guard.
func guarded(ctx context.Context, db *mongo.Database, f func(context.Context) error) error {
	guard, mine := db.Collection(processesName), rand.Text()
	if err := step(ctx, "waiting for other processes that open the store", func(ctx context.Context) error {
		return takeGuard(ctx, guard, mine)
	}); err != nil {
		return err
	}
	err := f(ctx)
	_, _ = guard.DeleteOne(ctx, bson.D{{Key: "_id", Value: guardID}, {Key: "by", Value: mine}})
	return err
}

func takeGuard(ctx context.Context, guard *mongo.Collection, mine string) error {
	last, since := "", time.Now()
	for {
		var d guardDocument
		err := guard.FindOneAndUpdate(ctx, bson.D{{Key: "_id", Value: guardID}},
			bson.D{{Key: "$setOnInsert", Value: bson.D{{Key: "by", Value: mine}}}},
			options.FindOneAndUpdate().SetUpsert(true).SetReturnDocument(options.After)).Decode(&d)
		switch {
		case errors.Is(err, mongo.ErrNoDocuments) || mongo.IsDuplicateKeyError(err): // it is just being given or taken
		case err != nil:
			return err
		case d.By == mine:
			return nil
		case d.By != last:
			last, since = d.By, time.Now()
		case time.Since(since) > guardWait:
			_, err := guard.UpdateOne(ctx, bson.D{{Key: "_id", Value: guardID}, {Key: "by", Value: last}},
				bson.D{{Key: "$set", Value: bson.D{{Key: "by", Value: mine}}}})
			if err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(guardLook):
		}
	}
}

// errNoTransactions means that the server must not be used.
var errNoTransactions = errors.New("the server has no transactions")

// proofs is how often a server may fail to keep a transaction together before it is believed: just after a collection
// was made, or during an election, a good one may.
const proofs = 3

// prove shows that transactions work: what is inserted and aborted is not there, what is inserted and committed is
// there, and a duplicate key undoes the whole transaction. On a server that only pretends, a unit could be sold twice.
func prove(ctx context.Context, db *mongo.Database) (err error) {
	for range proofs {
		p := proof{db.Collection(proofName), rand.Text(), rand.Text(), rand.Text()}
		err = step(ctx, "trying a transaction", p.run)
		if !errors.Is(err, errNoTransactions) || hasCode(err, illegalOperation) {
			break
		}
	}
	return err
}

type proof struct {
	collection                 *mongo.Collection
	aborted, committed, spoilt string // ids
}

func (p *proof) run(ctx context.Context) (err error) {
	defer func() {
		_, undo := p.collection.DeleteMany(ctx, in("_id", []string{p.aborted, p.committed, p.spoilt}))
		err = errors.Join(err, undo)
	}()
	err = p.insert(ctx, false, p.aborted)
	if hasCode(err, illegalOperation) {
		return fmt.Errorf("%w: it is a standalone server: start it as a replica set, of one member if need be (mongod "+
			"--replSet rs0, then rs.initiate()): %w", errNoTransactions, err)
	}
	if err := errors.Join(err, p.expect(ctx, p.aborted, 0)); err != nil {
		return err
	}
	if err := errors.Join(p.insert(ctx, true, p.committed), p.expect(ctx, p.committed, 1)); err != nil {
		return err
	}
	if err := p.insert(ctx, true, p.spoilt, p.committed); err == nil {
		return fmt.Errorf("%w: it took a duplicate key", errNoTransactions)
	} else if !mongo.IsDuplicateKeyError(err) {
		return err
	}
	return p.expect(ctx, p.spoilt, 0)
}

// insert inserts documents in a transaction.
func (p *proof) insert(ctx context.Context, commit bool, ids ...string) error {
	session, err := p.collection.Database().Client().StartSession()
	if err != nil {
		return err
	}
	defer session.EndSession(ctx)
	if err := session.StartTransaction(transactionOptions); err != nil {
		return err
	}
	inside := mongo.NewSessionContext(ctx, session)
	for _, id := range ids {
		if _, err := p.collection.InsertOne(inside, bson.D{{Key: "_id", Value: id}}); err != nil {
			return errors.Join(err, session.AbortTransaction(ctx))
		}
	}
	if commit {
		return session.CommitTransaction(ctx)
	}
	return session.AbortTransaction(ctx)
}

// expect requires that this number of documents has an id.
func (p *proof) expect(ctx context.Context, id string, want int64) error {
	n, err := p.collection.CountDocuments(ctx, bson.D{{Key: "_id", Value: id}})
	if err == nil && n != want {
		err = fmt.Errorf("%w: it takes the commands and does not keep them together: Holdfast needs MongoDB 4.4 or later, "+
			"as a replica set or sharded cluster", errNoTransactions)
	}
	return err
}

// oneShard requires that all collections are on one shard, as they are unless somebody has moved one or divided it:
// transactions over several shards take longer, and what a router sees of them is harder to say.
func oneShard(ctx context.Context, db *mongo.Database) error {
	at := map[string][]string{}
	for _, name := range collectionNames {
		var parts []struct{ Shard string }
		if err := aggregate(ctx, db.Collection(name), &parts,
			bson.D{{Key: "$collStats", Value: bson.D{{Key: "count", Value: bson.D{}}}}}); err != nil {
			return fmt.Errorf("asking where the collection %s is: %w", name, translate(err))
		}
		for _, p := range parts {
			at[p.Shard] = append(at[p.Shard], name)
		}
	}
	return divided(at)
}

// divided is the error for collections on several shards.
func divided(at map[string][]string) error {
	if len(at) <= 1 {
		return nil
	}
	var places []string
	for _, shard := range slices.Sorted(maps.Keys(at)) {
		places = append(places, shard+" has "+strings.Join(at[shard], ", "))
	}
	return fmt.Errorf("the collections are on several shards (%s): keep them on one, unsharded (moveCollection, "+
		"movePrimary)", strings.Join(places, "; "))
}
