package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// mongodbPeer tries a transaction again when another was in the way, as the driver's WithTransaction does.
type mongodbPeer struct {
	client *mongo.Client
	db     *mongo.Database
}

const (
	peerStock        = "peer_stock"
	peerReservations = "peer_reservations"
	peerJournal      = "peer_journal"
)

func openMongoDBPeer(ctx context.Context, address string, connections int) (*mongodbPeer, error) {
	client, err := mongo.Connect(options.Client().ApplyURI(address).SetMaxPoolSize(uint64(connections)))
	if err != nil {
		return nil, errors.New("the MongoDB URL cannot be used")
	}
	_, rest, _ := strings.Cut(address, "://")
	_, path, _ := strings.Cut(rest, "/")
	name, _, _ := strings.Cut(path, "?")
	p := &mongodbPeer{client, client.Database(name)}
	if err := p.makeIndexes(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// makeIndexes makes those that Holdfast has, and the collections with them.
func (p *mongodbPeer) makeIndexes(ctx context.Context) error {
	active := func() *options.IndexOptionsBuilder { // the driver writes the name of an index into its options
		return options.Index().SetPartialFilterExpression(bson.D{{Key: "status", Value: "ACTIVE"}})
	}
	up := func(names ...string) (keys bson.D) {
		for _, name := range names {
			keys = append(keys, bson.E{Key: name, Value: 1})
		}
		return keys
	}
	byProduct := append(up("lines.productId"), bson.E{Key: "_id", Value: -1})
	for collection, indexes := range map[string][]mongo.IndexModel{
		peerStock: {{Keys: up("productId", "location"), Options: options.Index().SetUnique(true)}},
		peerReservations: {
			{Keys: up("expiresAt", "_id"), Options: active()},
			{Keys: up("lines.productId", "lines.location", "expiresAt", "_id"), Options: active()},
			{Keys: byProduct, Options: active()},
		},
		peerJournal: {{Keys: up("lastSequence", "_id")}},
	} {
		if _, err := p.db.Collection(collection).Indexes().CreateMany(ctx, indexes); err != nil {
			return fmt.Errorf("making the indexes of %s: %w", collection, err)
		}
	}
	return nil
}

func (p *mongodbPeer) Close() error { return p.client.Disconnect(context.Background()) }

func (p *mongodbPeer) AddProduct(ctx context.Context, id string, units int64) error {
	_, err := p.db.Collection(peerStock).InsertOne(ctx, bson.D{
		{Key: "_id", Value: id + "/main"},
		{Key: "productId", Value: id},
		{Key: "location", Value: "main"},
		{Key: "availableStock", Value: units},
		{Key: "reservedStock", Value: int64(0)},
	})
	if mongo.IsDuplicateKeyError(err) {
		return nil
	}
	return err
}

func (p *mongodbPeer) Hold(ctx context.Context, h Hold) error {
	session, err := p.client.StartSession()
	if err != nil {
		return err
	}
	defer session.EndSession(ctx)
	journaled := true
	settings := options.Transaction().SetReadConcern(readconcern.Snapshot()).
		SetWriteConcern(&writeconcern.WriteConcern{W: "majority", Journal: &journaled})
	_, err = session.WithTransaction(ctx, func(ctx context.Context) (any, error) { return nil, p.take(ctx, h) }, settings)
	return err
}

func (p *mongodbPeer) take(ctx context.Context, h Hold) error {
	result, err := p.db.Collection(peerStock).UpdateOne(
		ctx,
		bson.D{
			{Key: "_id", Value: h.Product + "/main"},
			{Key: "availableStock", Value: bson.D{{Key: "$gte", Value: h.Quantity}}},
		},
		bson.D{{Key: "$inc", Value: bson.D{
			{Key: "availableStock", Value: -h.Quantity}, {Key: "reservedStock", Value: h.Quantity},
		}}},
	)
	if err != nil {
		return err
	}
	if result.MatchedCount == 0 {
		return errSoldOut
	}
	if _, err := p.db.Collection(peerReservations).InsertOne(ctx, reservationDocument(h)); err != nil {
		return err
	}
	_, err = p.db.Collection(peerJournal).InsertOne(ctx, bson.D{
		{Key: "_id", Value: h.Key},
		{Key: "batchId", Value: payload[:16]},
		{Key: "lastSequence", Value: h.Key},
		{Key: "events", Value: eventPayload},
	})
	return err
}

func reservationDocument(h Hold) bson.D {
	return bson.D{
		{Key: "_id", Value: holdID(h.Key)},
		{Key: "status", Value: "ACTIVE"},
		{Key: "lines", Value: bson.A{bson.D{
			{Key: "line", Value: 1},
			{Key: "productId", Value: h.Product},
			{Key: "location", Value: "main"},
			{Key: "quantity", Value: h.Quantity},
		}}},
		{Key: "expiresAt", Value: h.Expires},
		{Key: "total", Value: bson.D{{Key: "amount", Value: 1999 * h.Quantity}, {Key: "currency", Value: "EUR"}}},
		{Key: "createdAt", Value: h.Expires},
		{Key: "version", Value: 1},
	}
}
