package sqlite

import (
	"crypto/rand"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/store"
)

// migrations make the schema. Entry n upgrades a file from version n (PRAGMA user_version) to n+1. Never change an
// entry that was released; add one.
//
// In products, reservations and orders the column data has the whole row, in the encoding of package inventory, and is
// authoritative. The other columns are there for indexes. Row keys are integers. That of a reservation or order is the
// sequence of the event that created it, which its id carries too.
//
// holds has a row for every stock row that an ACTIVE reservation takes units from. It serves to find the overdue holds
// of a stock row and the ACTIVE reservations of a product. Some of its rows are dead: see holds.go. Those of
// reservations after the sequence in holds_entered may be missing: see waiting.go.
var migrations = []string{`
CREATE TABLE head (
	one      INTEGER PRIMARY KEY CHECK (one = 1),
	store    TEXT NOT NULL,
	format   INTEGER NOT NULL,
	batch_no INTEGER NOT NULL,
	batch_id BLOB NOT NULL,
	seq      INTEGER NOT NULL,
	at       INTEGER NOT NULL,
	chain    BLOB NOT NULL
) STRICT;

CREATE TABLE products (
	key  INTEGER PRIMARY KEY,
	id   TEXT NOT NULL UNIQUE,
	data BLOB NOT NULL
) STRICT;

CREATE TABLE stock (
	key       INTEGER PRIMARY KEY,
	product   INTEGER NOT NULL,
	location  TEXT NOT NULL,
	available INTEGER NOT NULL CHECK (available >= 0),
	reserved  INTEGER NOT NULL CHECK (reserved >= 0),
	committed INTEGER NOT NULL CHECK (committed >= 0),
	seq       INTEGER NOT NULL,
	UNIQUE (product, location)
) STRICT;

CREATE TABLE reservations (
	key        INTEGER PRIMARY KEY,
	status     INTEGER NOT NULL CHECK (status BETWEEN 1 AND 4),
	expires_at INTEGER NOT NULL,
	customer   TEXT,
	data       BLOB NOT NULL
) STRICT;
CREATE INDEX reservations_due ON reservations (expires_at) WHERE status = 1;
CREATE INDEX reservations_customer ON reservations (customer) WHERE customer IS NOT NULL;

CREATE TABLE holds (
	stock       INTEGER NOT NULL,
	expires_at  INTEGER NOT NULL,
	reservation INTEGER NOT NULL,
	PRIMARY KEY (stock, expires_at, reservation)
) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
	key         INTEGER PRIMARY KEY,
	reservation INTEGER NOT NULL UNIQUE,
	status      INTEGER NOT NULL CHECK (status BETWEEN 1 AND 3),
	customer    TEXT,
	reference   TEXT,
	data        BLOB NOT NULL
) STRICT;
CREATE INDEX orders_confirmed ON orders (status) WHERE status = 1;
CREATE INDEX orders_customer ON orders (customer) WHERE customer IS NOT NULL;
CREATE INDEX orders_reference ON orders (reference) WHERE reference IS NOT NULL;

CREATE TABLE journal (
	batch_no INTEGER PRIMARY KEY,
	batch_id BLOB NOT NULL,
	last_seq INTEGER NOT NULL,
	count    INTEGER NOT NULL,
	at       INTEGER NOT NULL,
	events   BLOB NOT NULL,
	checksum BLOB NOT NULL
) STRICT;

CREATE TABLE receipt_slots (
	slot    INTEGER PRIMARY KEY,
	indexed INTEGER NOT NULL
) STRICT;
`, `
CREATE TABLE records (
	kind    TEXT NOT NULL,
	key     TEXT NOT NULL,
	version INTEGER NOT NULL CHECK (version >= 1),
	data    BLOB NOT NULL,
	PRIMARY KEY (kind, key)
) STRICT;

UPDATE head SET format = 2;
`, `
CREATE TABLE holds_entered (
	one     INTEGER PRIMARY KEY CHECK (one = 1),
	through INTEGER NOT NULL
) STRICT;

INSERT INTO holds_entered SELECT 1, seq FROM head;
`}

// holdsEnteredVersion is the last version without the table holds_entered.
const holdsEnteredVersion = 2

// migrate upgrades the file to the schema of this program. It refuses a file with a newer one.
func migrate(conn *sqlite.Conn, path string) error {
	version, err := userVersion(conn)
	if err != nil {
		return err
	}
	if err := checkVersion(path, version); err != nil {
		return err
	}
	for ; version < int64(len(migrations)); version++ {
		if err := migrateOnce(conn, version); err != nil {
			return fmt.Errorf("migrating %s from version %d: %w", path, version, err)
		}
	}
	return nil
}

func checkVersion(path string, version int64) error {
	if version > int64(len(migrations)) {
		return fmt.Errorf("%w: %s has schema version %d, this program knows up to %d: use the Holdfast that wrote it, or "+
			"a later one",
			store.ErrNewerFormat, path, version, len(migrations))
	}
	return nil
}

func userVersion(conn *sqlite.Conn) (version int64, err error) {
	err = exec(conn, "PRAGMA user_version", func(row *sqlite.Stmt) error {
		version = row.ColumnInt64(0)
		return nil
	})
	return version, err
}

func migrateOnce(conn *sqlite.Conn, version int64) error {
	if err := exec(conn, "BEGIN IMMEDIATE", nil); err != nil {
		return err
	}
	statements := strings.Split(migrations[version], ";\n")
	if version == 0 {
		statements = append(statements, fmt.Sprintf(
			"INSERT INTO head VALUES (1, '%s', 1, 0, zeroblob(16), 0, 0, zeroblob(32))", strings.ToLower(rand.Text())))
	}
	statements = append(statements, fmt.Sprintf("PRAGMA user_version = %d", version+1), "COMMIT")
	for _, statement := range statements {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if err := exec(conn, statement, nil); err != nil {
			_ = exec(conn, "ROLLBACK", nil)
			return err
		}
	}
	return nil
}
