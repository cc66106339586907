package bench

import (
	"context"
	"errors"
	"sync"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// sqlitePeer has one connection, as SQLite has one writer.
type sqlitePeer struct {
	mu   sync.Mutex
	conn *sqlite.Conn
}

// sqliteSchema are tables like Holdfast's.
const sqliteSchema = `
CREATE TABLE IF NOT EXISTS stock (
	key       INTEGER PRIMARY KEY,
	product   TEXT NOT NULL,
	location  TEXT NOT NULL,
	available INTEGER NOT NULL CHECK (available >= 0),
	reserved  INTEGER NOT NULL CHECK (reserved >= 0),
	UNIQUE (product, location)
) STRICT;
CREATE TABLE IF NOT EXISTS reservations (
	key        INTEGER PRIMARY KEY,
	status     INTEGER NOT NULL CHECK (status BETWEEN 1 AND 4),
	expires_at INTEGER NOT NULL,
	customer   TEXT,
	data       BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS reservations_due ON reservations (expires_at) WHERE status = 1;
CREATE INDEX IF NOT EXISTS reservations_customer ON reservations (customer) WHERE customer IS NOT NULL;
CREATE TABLE IF NOT EXISTS holds (
	stock       INTEGER NOT NULL,
	expires_at  INTEGER NOT NULL,
	reservation INTEGER NOT NULL,
	PRIMARY KEY (stock, expires_at, reservation)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (
	batch_no INTEGER PRIMARY KEY,
	batch_id BLOB NOT NULL,
	last_seq INTEGER NOT NULL,
	count    INTEGER NOT NULL,
	at       INTEGER NOT NULL,
	events   BLOB NOT NULL,
	checksum BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS head (
	one      INTEGER PRIMARY KEY CHECK (one = 1),
	batch_no INTEGER NOT NULL,
	seq      INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO head (one, batch_no, seq) VALUES (1, 0, 0);
`

// openSQLiteTables opens a file that has them, as durable as Holdfast's.
func openSQLiteTables(path string) (*sqlite.Conn, error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate, sqlite.OpenWAL)
	if err != nil {
		return nil, err
	}
	for _, pragma := range []string{
		"PRAGMA synchronous = FULL", "PRAGMA fullfsync = ON", "PRAGMA checkpoint_fullfsync = ON",
		"PRAGMA cache_size = -32768", "PRAGMA wal_autocheckpoint = 4096",
	} {
		if err := sqlitex.Execute(conn, pragma, nil); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	if err := sqlitex.ExecuteScript(conn, sqliteSchema, nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func openSQLitePeer(path string) (*sqlitePeer, error) {
	conn, err := openSQLiteTables(path)
	if err != nil {
		return nil, err
	}
	return &sqlitePeer{conn: conn}, nil
}

func (p *sqlitePeer) Close() error { return p.conn.Close() }

func (p *sqlitePeer) AddProduct(_ context.Context, id string, units int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return addSQLiteProduct(p.conn, id, units)
}

func addSQLiteProduct(conn *sqlite.Conn, id string, units int64) error {
	const insert = `INSERT OR IGNORE INTO stock (product, location, available, reserved) VALUES (?, 'main', ?, 0)`
	return execute(conn, insert, id, units)
}

func (p *sqlitePeer) Hold(_ context.Context, h Hold) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	end, err := sqlitex.ImmediateTransaction(p.conn)
	if err != nil {
		return err
	}
	defer end(&err)
	if err := p.change(`UPDATE stock SET available = available - ?, reserved = reserved + ?
WHERE product = ? AND location = 'main' AND available >= ?`, h.Quantity, h.Quantity, h.Product, h.Quantity); err != nil {
		return err
	}
	return p.insert(h)
}

func (p *sqlitePeer) insert(h Hold) error {
	expires := h.Expires.UnixMilli()
	return errors.Join( // a failure of one rolls all back
		p.change(`INSERT INTO reservations (key, status, expires_at, data) VALUES (?, 1, ?, ?)`, h.Key, expires, payload),
		p.change(`INSERT INTO holds (stock, expires_at, reservation)
SELECT key, ?, ? FROM stock WHERE product = ? AND location = 'main'`, expires, h.Key, h.Product),
		p.change(`INSERT INTO journal (batch_no, batch_id, last_seq, count, at, events, checksum)
VALUES (?, ?, ?, 1, ?, ?, ?)`, h.Key, payload[:16], h.Key, expires, eventPayload, payload[:32]),
	)
}

// change executes a statement that must change one row.
func (p *sqlitePeer) change(statement string, values ...any) error {
	if err := execute(p.conn, statement, values...); err != nil {
		return err
	}
	if p.conn.Changes() != 1 {
		return errSoldOut
	}
	return nil
}
