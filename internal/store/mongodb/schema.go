package mongodb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"

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

// layout is the version of the collections and indexes that this program makes. Layout 2 has the collection records.
const layout = 2

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
			index(active, false, up("lines.productId"), up("lines.location"), up("expiresAt"), up("_id")),
			index(active, false, up("lines.productId"), down("_id")),
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

// migrate makes the collections and indexes that are missing, and then makes or upgrades the head, in one write.
func migrate(ctx context.Context, db *mongo.Database, log *slog.Logger) error {
	warned := false
	for _, name := range collectionNames {
		if err := createCollection(ctx, db, name, validators[name]); err != nil {
			if len(validators[name]) == 0 {
				return fmt.Errorf("making the collection %s: %w", name, err)
			}
			if err := createCollection(ctx, db, name, nil); err != nil {
				return fmt.Errorf("making the collection %s: %w", name, err)
			}
			if !warned {
				log.Warn("the server does not check what is written to it: Holdfast checks alone", "error", err)
				warned = true
			}
		}
	}
	for name, models := range indexes() {
		if _, err := db.Collection(name).Indexes().CreateMany(ctx, models); err != nil {
			return fmt.Errorf("making the indexes of %s: %w", name, err)
		}
	}
	first := receiptsName(1)
	if err := createCollection(ctx, db, first, nil); err != nil {
		return fmt.Errorf("making the collection %s: %w", first, err)
	}
	_, err := db.Collection(headName).UpdateOne(ctx, bson.D{{Key: "_id", Value: headID}},
		bson.D{{Key: "$setOnInsert", Value: headDocument{
			Store: strings.ToLower(rand.Text()), Format: store.Format, Layout: layout, BatchID: make([]byte, 16),
			Chain: make([]byte, 32), Receipts: []string{first},
		}}}, options.UpdateOne().SetUpsert(true))
	if err != nil && !mongo.IsDuplicateKeyError(err) { // a duplicate means that another process has just made it
		return err
	}
	return raise(ctx, db)
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

// errNoTransactions means that the server must not be used.
var errNoTransactions = errors.New("the server has no transactions")

// prove shows that transactions work: what is inserted and aborted is not there, what is inserted and committed is
// there, and a duplicate key undoes the whole transaction. On a server that only pretends, a unit could be sold twice.
func prove(ctx context.Context, db *mongo.Database) (err error) {
	proof := db.Collection(proofName)
	aborted, committed, spoilt := rand.Text(), rand.Text(), rand.Text()
	defer func() {
		_, undo := proof.DeleteMany(ctx, bson.D{{
			Key:   "_id",
			Value: bson.D{{Key: "$in", Value: bson.A{aborted, committed, spoilt}}},
		}})
		err = errors.Join(err, undo)
	}()
	insert := func(commit bool, ids ...string) error {
		session, err := db.Client().StartSession()
		if err != nil {
			return err
		}
		defer session.EndSession(ctx)
		if err := session.StartTransaction(transactionOptions); err != nil {
			return err
		}
		inside := mongo.NewSessionContext(ctx, session)
		for _, id := range ids {
			if _, err := proof.InsertOne(inside, bson.D{{Key: "_id", Value: id}}); err != nil {
				return errors.Join(err, session.AbortTransaction(ctx))
			}
		}
		if commit {
			return session.CommitTransaction(ctx)
		}
		return session.AbortTransaction(ctx)
	}
	err = insert(false, aborted)
	if hasCode(err, illegalOperation) {
		return fmt.Errorf("%w: it is a standalone server: start it as a replica set, of one member if need be (mongod "+
			"--replSet rs0, then rs.initiate())", errNoTransactions)
	}
	if err := errors.Join(err, expect(ctx, proof, aborted, 0)); err != nil {
		return fmt.Errorf("trying a transaction: %w", err)
	}
	if err := errors.Join(insert(true, committed), expect(ctx, proof, committed, 1)); err != nil {
		return fmt.Errorf("trying a transaction: %w", err)
	}
	if err := insert(true, spoilt, committed); !mongo.IsDuplicateKeyError(err) {
		return fmt.Errorf("%w: it took a duplicate key (%w)", errNoTransactions, err)
	}
	return expect(ctx, proof, spoilt, 0)
}

// expect requires that this number of documents has an id.
func expect(ctx context.Context, proof *mongo.Collection, id string, want int64) error {
	n, err := proof.CountDocuments(ctx, bson.D{{Key: "_id", Value: id}})
	if err == nil && n != want {
		err = fmt.Errorf("%w: it takes the commands and does not keep them together: Holdfast needs MongoDB 4.4 or later, "+
			"as a replica set or sharded cluster", errNoTransactions)
	}
	return err
}
