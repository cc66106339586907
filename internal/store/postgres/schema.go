package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast/holdfast/internal/store"
)

// schemaName is the schema of the tables if the store URL sets no search_path. They have common names, such as orders,
// which may exist in the public schema.
const schemaName = "holdfast"

// migrations make the tables. Entry n upgrades a database from version n (column version of head) to n+1. Never change
// an entry that was released; add one.
//
// In products, reservations and orders the column data has the whole row, in the encoding of package inventory, and is
// authoritative. The other columns are there for indexes. Row keys are integers. That of a reservation or order is the
// sequence of the event that created it, which its id carries too; those of products and stock rows come from the
// counter next_key.
//
// reservations.stock has the keys of the stock rows of the lines, so that a batch loads a hold and its stock in one
// round trip. holds has a row for every stock row that an ACTIVE reservation takes units from. It serves to find the
// overdue holds of a stock row and the ACTIVE reservations of a product.
//
// head is what every batch locks, and hardly any changes. The newest row of the journal says where the store is:
// last_seq, at, checksum and next_key are what the next batch goes on from. Rows of the journal from before there was a
// next_key have none; then that of the head counts.
//
// Every batch changes rows of stock. A low fill factor leaves room for the new version on the same page (HOT).
var migrations = []string{`
CREATE TABLE head (
	one            integer PRIMARY KEY CHECK (one = 1),
	version        integer NOT NULL,
	store          text NOT NULL,
	format         integer NOT NULL,
	batch_no       bigint NOT NULL,
	batch_id       bytea NOT NULL,
	seq            bigint NOT NULL,
	at             bigint NOT NULL,
	chain          bytea NOT NULL,
	next_key       bigint NOT NULL,
	receipts_table integer NOT NULL,
	receipts_since bigint NOT NULL,
	fence          bigint NOT NULL
) WITH (fillfactor = 10);

CREATE TABLE products (
	key  bigint PRIMARY KEY,
	id   text COLLATE "C" NOT NULL UNIQUE,
	data bytea NOT NULL
);

CREATE TABLE stock (
	key       bigint PRIMARY KEY,
	product   bigint NOT NULL,
	location  text COLLATE "C" NOT NULL,
	available bigint NOT NULL CHECK (available >= 0),
	reserved  bigint NOT NULL CHECK (reserved >= 0),
	committed bigint NOT NULL CHECK (committed >= 0),
	seq       bigint NOT NULL,
	UNIQUE (product, location)
) WITH (fillfactor = 50);

CREATE TABLE reservations (
	key        bigint PRIMARY KEY,
	status     integer NOT NULL CHECK (status BETWEEN 1 AND 4),
	expires_at bigint NOT NULL,
	customer   text COLLATE "C",
	stock      bigint[] NOT NULL,
	data       bytea NOT NULL
);
CREATE INDEX reservations_due ON reservations (expires_at, key) WHERE status = 1;
CREATE INDEX reservations_customer ON reservations (customer, key) WHERE customer IS NOT NULL;

CREATE TABLE holds (
	stock       bigint NOT NULL,
	expires_at  bigint NOT NULL,
	reservation bigint NOT NULL,
	PRIMARY KEY (stock, expires_at, reservation)
);

CREATE TABLE orders (
	key         bigint PRIMARY KEY,
	reservation bigint NOT NULL UNIQUE,
	status      integer NOT NULL CHECK (status BETWEEN 1 AND 3),
	customer    text COLLATE "C",
	reference   text COLLATE "C",
	data        bytea NOT NULL
);
CREATE INDEX orders_confirmed ON orders (key) WHERE status = 1;
CREATE INDEX orders_customer ON orders (customer, key) WHERE customer IS NOT NULL;
CREATE INDEX orders_reference ON orders (reference, key) WHERE reference IS NOT NULL;

CREATE TABLE journal (
	batch_no bigint PRIMARY KEY,
	batch_id bytea NOT NULL,
	last_seq bigint NOT NULL,
	count    integer NOT NULL,
	at       bigint NOT NULL,
	events   bytea NOT NULL,
	checksum bytea NOT NULL
);
CREATE INDEX journal_seq ON journal (last_seq, batch_no);

CREATE TABLE receipts_0 (key bytea PRIMARY KEY, fingerprint bytea NOT NULL, answer bytea NOT NULL);
CREATE TABLE receipts_1 (key bytea PRIMARY KEY, fingerprint bytea NOT NULL, answer bytea NOT NULL);
`, `
CREATE TABLE records (
	kind    text COLLATE "C" NOT NULL,
	key     text COLLATE "C" NOT NULL,
	version bigint NOT NULL CHECK (version >= 1),
	data    bytea NOT NULL,
	PRIMARY KEY (kind, key)
);

UPDATE head SET format = 2;
`, `
ALTER TABLE head ADD COLUMN epochs bytea NOT NULL DEFAULT '', ADD COLUMN timeline integer NOT NULL DEFAULT 0;

UPDATE head SET format = 3;
`, `
ALTER TABLE journal ADD COLUMN next_key bigint;

ALTER TABLE head DROP COLUMN batch_no, DROP COLUMN batch_id, DROP COLUMN seq, DROP COLUMN at, DROP COLUMN chain,
	DROP COLUMN fence
`}

// journalState is the version from which on the newest row of the journal is the state that the head row had before.
const journalState = 4

// optional statements may fail on a server that does not know them. Events are compact already, so compressing them
// would only cost time.
var optional = []string{"ALTER TABLE journal ALTER COLUMN events SET STORAGE EXTERNAL"}

// migrateAttempts is how often migrating is tried. If several processes start on an empty database at once, one makes
// the tables, and the others fail and find them made when they try again.
const migrateAttempts = 5

// Whoever waits for the lock of a whole table keeps all others waiting behind him, older processes that still serve among
// them. So an upgrade waits for a moment only, and pauses before it tries again, until a backup or a batch lets it. That
// goes on for half a minute.
const (
	tableLockTimeout  = "SET LOCAL lock_timeout = 200"
	tableLockPause    = 300 * time.Millisecond
	tableLockAttempts = 60
)

// migrate upgrades the tables to the version of this program. It refuses newer ones.
func migrate(ctx context.Context, conn *pgx.Conn, schema string) error {
	for races, waits := 1, 1; ; {
		err := migrateOnce(ctx, conn, schema)
		switch {
		case isRace(err) && races < migrateAttempts:
			races++
		case code(err) != lockNotAvailable:
			return err
		case waits == tableLockAttempts:
			return fmt.Errorf("the tables are in use, perhaps by a backup: start again when that is over: %w", err)
		default:
			waits++
			select {
			case <-time.After(tableLockPause):
			case <-ctx.Done():
				return errors.Join(err, ctx.Err())
			}
		}
	}
}

func migrateOnce(ctx context.Context, conn *pgx.Conn, schema string) error {
	if err := createSchema(ctx, conn, schema); err != nil {
		return err
	}
	version, err := schemaVersion(ctx, conn, schema)
	if err != nil {
		return err
	}
	for ; version < len(migrations); version++ {
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return migrateFrom(ctx, tx, version) })
		if err != nil {
			return fmt.Errorf("migrating from version %d: %w", version, err)
		}
		if version > 0 {
			continue
		}
		for _, statement := range optional {
			_, _ = conn.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol)
		}
	}
	return nil
}

// createSchema makes the schema if it is missing. If it exists, the role does not need the right to make one.
func createSchema(ctx context.Context, conn *pgx.Conn, schema string) error {
	var found bool
	err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM information_schema.schemata WHERE schema_name = $1)", schema).
		Scan(&found)
	if err != nil || found {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{schema}.Sanitize())
	if err != nil {
		return fmt.Errorf("making the schema %s: %w: let the role CREATE in the database, or make the schema for it", schema,
			err)
	}
	return nil
}

// schemaVersion returns the version of the tables; 0 means that there are none.
func schemaVersion(ctx context.Context, conn *pgx.Conn, schema string) (version int, err error) {
	var found bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM information_schema.tables WHERE table_schema = $1 "+
		"AND table_name = 'head')", schema).Scan(&found)
	if err != nil || !found {
		return 0, err
	}
	if err := conn.QueryRow(ctx, "SELECT version FROM head").Scan(&version); err != nil {
		return 0, fmt.Errorf("reading the head: %w", err)
	}
	if version > len(migrations) {
		return 0, fmt.Errorf("%w: its schema version is %d, this program knows up to %d: use the Holdfast that wrote it, "+
			"or a later one",
			store.ErrNewerFormat, version, len(migrations))
	}
	return version, nil
}

// agrees requires that the head of an older version is that of the newest row of the journal, which takes its place.
const agrees = `SELECT batch_no = 0 OR EXISTS (SELECT 1 FROM journal j WHERE j.batch_no = (SELECT max(batch_no) FROM
	journal) AND j.batch_no = h.batch_no AND j.batch_id = h.batch_id AND j.last_seq = h.seq AND j.checksum = h.chain)
FROM head h`

func checkHead(ctx context.Context, tx pgx.Tx) error {
	var same bool
	err := tx.QueryRow(ctx, agrees).Scan(&same)
	if err == nil && !same {
		err = errors.New("the head is not that of the last journal entry: run holdfast verify")
	}
	return err
}

// migrateFrom upgrades tables from a version, unless another process has done that.
func migrateFrom(ctx context.Context, tx pgx.Tx, version int) error {
	if version > 0 {
		for _, statement := range []string{tableLockTimeout, "LOCK TABLE head IN ACCESS EXCLUSIVE MODE"} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		var now int
		if err := tx.QueryRow(ctx, "SELECT version FROM head").Scan(&now); err != nil || now != version {
			return err
		}
	}
	if version == journalState-1 {
		if err := checkHead(ctx, tx); err != nil {
			return err
		}
	}
	for _, statement := range strings.Split(migrations[version], ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := tx.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	if version > 0 {
		_, err := tx.Exec(ctx, "UPDATE head SET version = $1", version+1)
		return err
	}
	_, err := tx.Exec(ctx, "INSERT INTO head VALUES (1, 1, $1, 1, 0, $2, 0, 0, $3, 1, 0, 0, 0)",
		strings.ToLower(rand.Text()), make([]byte, 16), make([]byte, 32))
	return err
}
