package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// Peer is a way of holding stock that people use instead of Holdfast. It decides one hold at a time and makes it durable
// before it answers, and it sells no unit twice.
type Peer interface {
	// AddProduct puts a product on sale, unless it is there.
	AddProduct(ctx context.Context, id string, units int64) error
	// Hold takes units of a product until a deadline. It is errSoldOut if there are too few.
	Hold(ctx context.Context, h Hold) error
	Close() error
}

// Hold is what a buyer asks a peer for.
type Hold struct {
	Key      int64 // of the reservation, chosen by the caller
	Product  string
	Quantity int64
	Expires  time.Time
}

var errSoldOut = errors.New("sold out")

// Kinds of peers. All but Redis do what Holdfast does for a hold in one transaction a request: it takes the units from the
// stock row, inserts the reservation, its entry among the holds of that row, and its event, and commits. The tables have
// the columns and indexes of Holdfast's, so that a peer pays for the same rows, and they are flushed as Holdfast's are.
const (
	SQLite            = "sqlite"              // guarded update, on one connection, as SQLite has one writer
	PostgresGuarded   = "postgres-guarded"    // guarded update
	PostgresForUpdate = "postgres-for-update" // SELECT … FOR UPDATE, then the check in the program
	MongoDB           = "mongodb"             // guarded update in a transaction, tried again when another is in the way
	Redis             = "redis"               // a Lua script; how it flushes is its server's setting
)

// PeerNames say to people what the kinds are.
var PeerNames = map[string]string{
	SQLite:            "SQLite, guarded UPDATE",
	PostgresGuarded:   "PostgreSQL, guarded UPDATE",
	PostgresForUpdate: "PostgreSQL, SELECT … FOR UPDATE",
	MongoDB:           "MongoDB, guarded update in a transaction",
	Redis:             "Redis, Lua script",
}

// connections to the database, at most. On PostgreSQL and Redis they are those of 4 to 256 that did most holds for 64 and
// 256 clients: with more, PostgreSQL's only wait for the same row, and with fewer, Redis's share no flush.
var connections = map[string]int{
	SQLite:            1,
	PostgresGuarded:   PostgresConnections,
	PostgresForUpdate: PostgresConnections,
	MongoDB:           64,
	Redis:             256,
}

// PostgresConnections are those of a peer on PostgreSQL, at most.
const PostgresConnections = 16

// OpenPeer opens a peer on an empty place of a database, or on one that this kind has used before.
func OpenPeer(ctx context.Context, kind, address string) (Peer, error) {
	return openPeer(ctx, kind, address, connections[kind])
}

// openPeer opens a peer with so many connections at most.
func openPeer(ctx context.Context, kind, address string, connections int) (Peer, error) {
	switch kind {
	case SQLite:
		return openSQLitePeer(strings.TrimPrefix(address, "sqlite:"))
	case PostgresGuarded, PostgresForUpdate:
		return openPostgresPeer(ctx, address, connections, kind == PostgresForUpdate)
	case MongoDB:
		return openMongoDBPeer(ctx, address, connections)
	case Redis:
		return openRedisPeer(address, connections)
	default:
		return nil, fmt.Errorf("no peer is called %q", kind)
	}
}

// obviousKind is the design that everybody writes first on the database that a store URL names.
func obviousKind(address string) string {
	switch scheme, _, _ := strings.Cut(address, ":"); scheme {
	case "postgres", "postgresql":
		return PostgresGuarded
	case "mongodb", "mongodb+srv":
		return MongoDB
	default:
		return scheme
	}
}

// payload is about what Holdfast writes of a hold, eventPayload what it writes of its event.
var payload, eventPayload = make([]byte, 90), make([]byte, 130)

// lastKey makes the keys of another process on the same tables others: no process makes a billion a second.
var lastKey atomic.Int64

func init() { lastKey.Store(time.Now().UnixNano()) }

func nextKey() int64 { return lastKey.Add(1) }
