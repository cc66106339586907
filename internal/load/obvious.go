package load

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// obvious is the design that everybody writes first, kept here to be compared with: one transaction a request, which takes a unit from
// the stock row, guarded, inserts the reservation with its hold, inserts the event, and commits. It uses the tables that Holdfast made,
// so it pays for the same rows and indexes, and flushes as it does.
type obvious interface {
	// reserve takes one unit of a product.
	reserve(ctx context.Context, product int) error
	close()
}

// payload is about what Holdfast writes of a hold, and of its event.
var payload, eventPayload = make([]byte, 90), make([]byte, 130)

// The keys of the obvious rows begin where no Holdfast row is.
const firstObviousKey = 1 << 40

var obviousKeys atomic.Int64

func nextKey() int64 { return firstObviousKey + obviousKeys.Add(1) }

// openObvious opens the obvious design on the tables of a store. Its products are p0, p1, and so on.
func openObvious(ctx context.Context, address string, clients int) (obvious, error) {
	kind, rest, _ := strings.Cut(address, ":")
	switch kind {
	case "sqlite":
		return openObviousSQLite(rest)
	case "postgres", "postgresql":
		return openObviousPostgres(ctx, address, clients)
	case "mongodb", "mongodb+srv":
		return openObviousMongoDB(address, clients)
	}
	return nil, fmt.Errorf("the store %s has nothing to compare with", kind)
}

// obviousSQLite has one connection that writes, as SQLite has one writer.
type obviousSQLite struct {
	mu   sync.Mutex
	conn *sqlite.Conn
}

func openObviousSQLite(path string) (*obviousSQLite, error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenWAL)
	if err != nil {
		return nil, err
	}
	for _, pragma := range []string{"PRAGMA synchronous = FULL", "PRAGMA fullfsync = ON", "PRAGMA cache_size = -32768"} {
		if err := sqlitex.Execute(conn, pragma, nil); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return &obviousSQLite{conn: conn}, nil
}

func (o *obviousSQLite) close() { _ = o.conn.Close() }

func (o *obviousSQLite) reserve(_ context.Context, product int) (err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key, expires := nextKey(), time.Now().Add(time.Hour).UnixMilli()
	end, err := sqlitex.ImmediateTransaction(o.conn)
	if err != nil {
		return err
	}
	defer end(&err)
	steps := []struct {
		sql       string
		arguments []any
	}{
		{"UPDATE stock SET available = available - 1, reserved = reserved + 1 WHERE key = (SELECT s.key FROM stock s JOIN products p ON p.key = s.product WHERE p.id = ?) AND available >= 1", []any{fmt.Sprint("p", product)}},
		{"INSERT INTO reservations VALUES (?, 1, ?, NULL, ?)", []any{key, expires, payload}},
		{"INSERT INTO holds SELECT s.key, ?, ? FROM stock s JOIN products p ON p.key = s.product WHERE p.id = ?", []any{expires, key, fmt.Sprint("p", product)}},
		{"INSERT INTO journal VALUES (?, ?, ?, 1, ?, ?, ?)", []any{key, payload[:16], key, expires, eventPayload, payload[:32]}},
	}
	for _, step := range steps {
		if err := sqlitex.Execute(o.conn, step.sql, &sqlitex.ExecOptions{Args: step.arguments}); err != nil {
			return err
		}
		if o.conn.Changes() != 1 {
			return errors.New("sold out")
		}
	}
	return nil
}

// obviousPostgres has a connection for each client.
type obviousPostgres struct{ pool *pgxpool.Pool }

func openObviousPostgres(ctx context.Context, address string, clients int) (*obviousPostgres, error) {
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, errors.New("the store URL cannot be read")
	}
	config.MaxConns = int32(min(clients, 90)) // of the 100 that PostgreSQL allows unless told otherwise
	config.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return &obviousPostgres{pool}, nil
}

func (o *obviousPostgres) close() { o.pool.Close() }

func (o *obviousPostgres) reserve(ctx context.Context, product int) error {
	key, expires := nextKey(), time.Now().Add(time.Hour).UnixMilli()
	return pgx.BeginFunc(ctx, o.pool, func(tx pgx.Tx) error {
		var stock int64
		err := tx.QueryRow(ctx, `UPDATE stock s SET available = available - 1, reserved = reserved + 1
FROM products p WHERE p.id = $1 AND s.product = p.key AND s.location = 'main' AND s.available >= 1 RETURNING s.key`, fmt.Sprint("p", product)).Scan(&stock)
		if err != nil {
			return err
		}
		b := &pgx.Batch{}
		b.Queue("INSERT INTO reservations VALUES ($1, 1, $2, NULL, $3, $4)", key, expires, []int64{stock}, payload)
		b.Queue("INSERT INTO holds VALUES ($1, $2, $3)", stock, expires, key)
		b.Queue("INSERT INTO journal VALUES ($1, $2, $1, 1, $3, $4, $5)", key, payload[:16], expires, eventPayload, payload[:32])
		return tx.SendBatch(ctx, b).Close()
	})
}

// obviousMongoDB tries a transaction again when another was in the way, as the driver's WithTransaction does.
type obviousMongoDB struct {
	client *mongo.Client
	db     *mongo.Database
}

func openObviousMongoDB(address string, clients int) (*obviousMongoDB, error) {
	client, err := mongo.Connect(options.Client().ApplyURI(address).SetMaxPoolSize(uint64(clients)))
	if err != nil {
		return nil, errors.New("the store URL cannot be used")
	}
	_, rest, _ := strings.Cut(address, "://")
	_, path, _ := strings.Cut(rest, "/")
	name, _, _ := strings.Cut(path, "?")
	return &obviousMongoDB{client, client.Database(name)}, nil
}

func (o *obviousMongoDB) close() { _ = o.client.Disconnect(context.Background()) }

func (o *obviousMongoDB) reserve(ctx context.Context, product int) error {
	session, err := o.client.StartSession()
	if err != nil {
		return err
	}
	defer session.EndSession(ctx)
	journaled := true
	settings := options.Transaction().SetReadConcern(readconcern.Snapshot()).SetWriteConcern(&writeconcern.WriteConcern{W: "majority", Journal: &journaled})
	_, err = session.WithTransaction(ctx, func(ctx context.Context) (any, error) { return nil, o.insert(ctx, product) }, settings)
	return err
}

func (o *obviousMongoDB) insert(ctx context.Context, product int) error {
	id, expires := rand.Text(), time.Now().Add(time.Hour)
	result, err := o.db.Collection("stock").UpdateOne(ctx,
		bson.D{{Key: "_id", Value: fmt.Sprintf("p%d/main", product)}, {Key: "availableStock", Value: bson.D{{Key: "$gte", Value: 1}}}},
		bson.D{{Key: "$inc", Value: bson.D{{Key: "availableStock", Value: -1}, {Key: "reservedStock", Value: 1}}}})
	if err != nil {
		return err
	}
	if result.MatchedCount == 0 {
		return errors.New("sold out")
	}
	lines := bson.A{bson.D{{Key: "line", Value: 1}, {Key: "productId", Value: fmt.Sprint("p", product)}, {Key: "location", Value: "main"}, {Key: "quantity", Value: 1}}}
	_, err = o.db.Collection("reservations").InsertOne(ctx, bson.D{
		{Key: "_id", Value: id},
		{Key: "status", Value: "ACTIVE"},
		{Key: "lines", Value: lines},
		{Key: "expiresAt", Value: expires},
		{Key: "total", Value: bson.D{{Key: "amount", Value: 1999}, {Key: "currency", Value: "EUR"}}},
		{Key: "createdAt", Value: expires},
		{Key: "version", Value: 1},
	})
	if err != nil {
		return err
	}
	_, err = o.db.Collection("journal").InsertOne(ctx, bson.D{{Key: "_id", Value: nextKey()}, {Key: "batchId", Value: payload[:16]}, {Key: "lastSequence", Value: nextKey()}, {Key: "events", Value: eventPayload}})
	return err
}

// Scratch makes an empty place for measurements beside what a store URL names, in the same database: a schema, a database, a file. It
// returns the URL of the place and what removes it.
func Scratch(ctx context.Context, address, folder string) (scratch string, remove func(), err error) {
	name := "holdfast_bench_" + hex.EncodeToString(binaryName())
	kind, rest, _ := strings.Cut(address, ":")
	switch kind {
	case "sqlite":
		return "sqlite:" + folder + "/" + name + ".db", func() {}, nil
	case "postgres", "postgresql":
		conn, err := pgx.Connect(ctx, address)
		if err != nil {
			return "", nil, fmt.Errorf("connecting to the store: %w", err)
		}
		_ = conn.Close(ctx)
		separator := "?"
		if strings.Contains(rest, "?") {
			separator = "&"
		}
		return address + separator + "search_path=" + name, func() {
			conn, err := pgx.Connect(context.Background(), address)
			if err != nil {
				return
			}
			defer conn.Close(context.Background())
			_, _ = conn.Exec(context.Background(), "DROP SCHEMA IF EXISTS "+name+" CASCADE")
		}, nil
	case "mongodb", "mongodb+srv":
		scheme, rest, _ := strings.Cut(address, "://")
		hosts, path, _ := strings.Cut(rest, "/")
		_, query, found := strings.Cut(path, "?")
		scratch = scheme + "://" + hosts + "/" + name
		if found {
			scratch += "?" + query
		}
		return scratch, func() {
			client, err := mongo.Connect(options.Client().ApplyURI(scratch))
			if err != nil {
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			_ = client.Database(name).Drop(ctx)
			_ = client.Disconnect(ctx)
		}, nil
	}
	return "", nil, fmt.Errorf("the store %s: cannot be measured", kind)
}

func binaryName() []byte {
	b := make([]byte, 6)
	for i := range b {
		b[i] = byte(mathrand.UintN(256))
	}
	return b
}
