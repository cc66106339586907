package sqlite

import (
	"crypto/rand"
	"errors"
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
`, `
ALTER TABLE head ADD COLUMN epochs BLOB NOT NULL DEFAULT x'';

UPDATE head SET format = 3;
`, `
ALTER TABLE receipt_slots ADD COLUMN since INTEGER NOT NULL DEFAULT 0;

UPDATE receipt_slots SET since = slot * 86400000;
`}

// holdsEnteredVersion is the last version without the table holds_entered.
const holdsEnteredVersion = 2

// applicationID marks a file as a store of Holdfast (PRAGMA application_id): it spells Hfst.
const applicationID = 0x48667374

// identify refuses a file that is no database, belongs to another program, or was written by a newer Holdfast. It
// changes nothing. Stores that are older than the mark, and a file that a crash left between its schema and its mark,
// are known by their tables.
func identify(conn *sqlite.Conn, path string) error {
	id, err := pragma(conn, "application_id")
	if err != nil {
		return err
	}
	version, err := userVersion(conn)
	if err != nil {
		return err
	}
	tables, own := 0, 0
	err = exec(conn, "SELECT count(*), count(*) FILTER (WHERE name IN ('head', 'journal', 'receipt_slots')) FROM "+
		"sqlite_schema", func(row *sqlite.Stmt) error {
		tables, own = row.ColumnInt(0), row.ColumnInt(1)
		return nil
	})
	switch {
	case err != nil:
		return err
	case id != applicationID && (id != 0 || (tables > 0 && own != 3) || (tables == 0 && version != 0)):
		return fmt.Errorf("%s is a database of another program (application_id %#x, %d tables and indexes): choose "+
			"another file", path, id, tables)
	}
	return checkVersion(path, version)
}

// beginLog puts a file into WAL mode.
func beginLog(conn *sqlite.Conn) error {
	return exec(conn, "PRAGMA journal_mode = wal", func(row *sqlite.Stmt) error {
		if mode := row.ColumnText(0); mode != "wal" {
			return fmt.Errorf("this file system cannot have a write-ahead log (the mode stays %s): use a local disk", mode)
		}
		return nil
	})
}

// sign marks the file. That also shows at the start, rather than at the first batch, whether the file can be written.
// If only space is lacking, or another program has locked the file, it is opened as it is.
func sign(conn *sqlite.Conn) error {
	err := writeMark(conn)
	if errors.Is(translate(err), store.ErrUnavailable) {
		return nil
	}
	return err
}

// writeMark writes the first page and flushes it, whatever it was.
func writeMark(conn *sqlite.Conn) error {
	return exec(conn, fmt.Sprintf("PRAGMA application_id = %d", applicationID), nil)
}

// migrate upgrades the file to the schema of this program.
func (s *Store) migrate(conn *sqlite.Conn) error {
	version, err := userVersion(conn)
	if err != nil {
		return err
	}
	for ; version < int64(len(migrations)); version++ {
		if err := migrateOnce(conn, version); err != nil {
			return fmt.Errorf("migrating %s from version %d: %w", s.path, version, err)
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

func userVersion(conn *sqlite.Conn) (int64, error) { return pragma(conn, "user_version") }

func pragma(conn *sqlite.Conn, name string) (number int64, err error) {
	err = exec(conn, "PRAGMA "+name, func(row *sqlite.Stmt) error {
		number = row.ColumnInt64(0)
		return nil
	})
	return number, err
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
