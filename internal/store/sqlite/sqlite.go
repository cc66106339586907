// Package sqlite is the embedded store: one SQLite file that belongs to one process, in WAL mode with synchronous=FULL.
//
// One connection writes and makes the checkpoints. Readers have connections of their own and never wait for it.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

const readers = 4

const busyTimeout = 2 * time.Second

// Options are what a store needs from outside.
type Options struct {
	Now   func() time.Time // default: time.Now
	Clock *store.Clock     // which readings of the clock are gone by; nil: all that are not behind the store
	Log   *slog.Logger     // default: nothing is logged
	// Create says what to do where there is no file.
	Create Create
	// ReadOnly opens an existing file for View only. Another process may be serving it. Commit fails.
	ReadOnly bool
}

// Store is a [store.Store] in one file.
type Store struct {
	given     string // the path that was asked for, absolute
	path      string // that of the file itself
	options   Options
	claim     *claim
	witnesses []witness
	immutable bool // the file is read without its log

	turn      *store.Turn
	writer    *sqlite.Conn
	head      store.Head // as the last commit left it
	receipts  slots
	cache     cache
	collector collector
	waiting   waiting
	broken    error

	checkpoints checkpoints
	heldUp      heldUp
	failing     bool // there was no space, or the disk failed, and no batch was written since
	logPages    int  // about how many pages were written to the log since the last checkpoint

	beforeCommit func() // set by tests

	reading   chan *sqlite.Conn // idle readers
	connected int               // readers, idle or not
}

var _ store.Store = (*Store)(nil)

// Open opens a file, or creates it, and upgrades its schema. It fails if another process is serving the file, if it is
// not a Holdfast store, or if a newer Holdfast has written it.
func Open(path string, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	given, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if path, err = resolve(given); err != nil {
		return nil, err
	}
	s := &Store{
		given: given, path: path, options: o, checkpoints: defaultCheckpoints, turn: store.NewTurn(),
		reading: make(chan *sqlite.Conn, readers),
	}
	open := s.openWriter
	if o.ReadOnly {
		open = s.openReadOnly
	}
	if err := open(); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("opening the store: %w", s.unopened(err))
	}
	for range readers {
		conn, err := s.connect(sqlite.OpenReadOnly)
		if err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("opening the store for reading: %w", s.unopened(err))
		}
		s.reading <- conn
		s.connected++
	}
	return s, nil
}

func (s *Store) openWriter() (err error) {
	if s.claim, err = claimFile(s.path, s.options.Create); err != nil {
		return err
	}
	if err := s.openClaimed(); err != nil {
		if s.writer != nil {
			err = errors.Join(err, s.writer.Close())
			s.writer = nil
		}
		s.claim.abandon()
		return err
	}
	s.logPages = s.checkpoints.pages // a crash may have left a long log
	if s.waiting, err = readWaiting(s.writer, s.head.Seq); err != nil {
		return fmt.Errorf("%s: reading what holds lacks: %w", s.path, err)
	}
	return s.receipts.load(s.writer)
}

// openClaimed changes nothing until it is known that the file is a store, or empty.
func (s *Store) openClaimed() (err error) {
	if s.writer, err = s.connect(sqlite.OpenReadWrite); err != nil {
		return err
	}
	if err := identify(s.writer, s.path); err != nil {
		return err
	}
	if err := s.claim.takeLockFile(); err != nil {
		return err
	}
	for _, prepare := range []func(*sqlite.Conn) error{beginLog, s.migrate, sign} {
		if err := prepare(s.writer); err != nil {
			return err
		}
	}
	if s.head, err = readHead(s.writer); err != nil {
		return err
	}
	return s.watchFiles()
}

// unopened says what to do about a file that cannot be opened. Nothing is broken: nothing was acknowledged yet.
func (s *Store) unopened(err error) error {
	if sqlite.ErrCode(err) == sqlite.ResultIOErrSHMSize {
		return noSpace(err)
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultReadOnly, sqlite.ResultCantOpen, sqlite.ResultPerm:
		if s.options.ReadOnly {
			return fmt.Errorf("%s cannot be read: %w: run this as the user that serves it", s.path, err)
		}
		return unwritable(s.path, err)
	case sqlite.ResultNotADB:
		return fmt.Errorf("%s is not a SQLite database: choose another file", s.path)
	default:
		return translate(err)
	}
}

// openReadOnly opens an existing file. In a folder that cannot be written, SQLite can read a log only if its index is
// there too; else the file is read without it.
func (s *Store) openReadOnly() error {
	info, err := os.Stat(s.path)
	if err != nil {
		return fmt.Errorf("%w: name an existing store file", err)
	}
	if err := requireFile(s.path, info); err != nil {
		return err
	}
	err = s.readOnce()
	if code := sqlite.ErrCode(err).ToPrimary(); code == sqlite.ResultCantOpen || code == sqlite.ResultReadOnly {
		s.immutable = true
		err = s.readOnce()
	}
	return err
}

// readOnce makes sure that the file is a store that can be read.
func (s *Store) readOnce() error {
	conn, err := s.connect(sqlite.OpenReadOnly)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := identify(conn, s.path); err != nil {
		return err
	}
	version, err := userVersion(conn)
	if err != nil {
		return err
	}
	if version == 0 {
		return fmt.Errorf("%s is empty: name the file of a store", s.path)
	}
	_, err = readHead(conn)
	return err
}

// UnreadLog is the path of a log that could not be read, so that this store, which was opened for reading, lacks what
// was committed last. It is empty where nothing is lacking.
func (s *Store) UnreadLog() string {
	if info, err := os.Stat(s.path + "-wal"); s.immutable && err == nil && info.Size() > 0 {
		return s.path + "-wal"
	}
	return ""
}

// connect opens a connection. None makes checkpoints on its own; Commit asks the writer for them.
func (s *Store) connect(flags ...sqlite.OpenFlags) (*sqlite.Conn, error) {
	path := s.path
	if s.immutable {
		path, flags = immutableURI(path), append(flags, sqlite.OpenURI)
	}
	conn, err := sqlite.OpenConn(path, flags...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	conn.SetBusyTimeout(busyTimeout)
	pragmas := []string{"PRAGMA cache_size = -4096"}
	if flags[0] == sqlite.OpenReadWrite {
		pragmas = []string{
			"PRAGMA synchronous = FULL", "PRAGMA fullfsync = ON", "PRAGMA checkpoint_fullfsync = ON",
			"PRAGMA cache_size = -32768", "PRAGMA wal_autocheckpoint = 0", "PRAGMA journal_size_limit = 67108864",
			"PRAGMA temp_store = MEMORY",
		}
	}
	for _, pragma := range pragmas {
		if err := exec(conn, pragma, nil); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("%s: %s: %w", s.path, pragma, err)
		}
	}
	return conn, nil
}

// immutableURI names a file so that SQLite reads it without locks and without its log.
func immutableURI(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a drive
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: "immutable=1"}).String()
}

// Close implements [store.Store].
func (s *Store) Close() error {
	return s.turn.Close(func() (err error) {
		for range s.connected {
			err = errors.Join(err, (<-s.reading).Close()) // waits for the views under way
		}
		err = errors.Join(err, s.closeWriter())
		if s.claim != nil {
			err = errors.Join(err, s.claim.close())
		}
		return err
	})
}

// closeWriter leaves the connection open if the files are not where they were. Closing the last connection would remove
// the log by its name, which may be that of another store by now, or all that is left of this one.
func (s *Store) closeWriter() error {
	if s.writer == nil {
		return nil
	}
	err := s.inPlace()
	switch {
	case err == nil:
		return errors.Join(s.enterWaiting(), s.writer.Close())
	case s.broken != nil:
		return nil // it was said before
	default:
		return err
	}
}

// SoleWriter implements [store.Store]. The claim on the file keeps other writers out.
func (s *Store) SoleWriter() (clock func() time.Time, sole bool) {
	if s.options.ReadOnly {
		return nil, false
	}
	return s.options.Now, true
}

// View implements [store.Store].
func (s *Store) View(ctx context.Context, read func(store.View) error) (err error) {
	if s.turn.IsClosed() {
		return store.ErrClosed
	}
	var conn *sqlite.Conn
	select {
	case conn = <-s.reading:
	case <-s.turn.Closed():
		return store.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.reading <- conn }()
	if s.turn.IsClosed() {
		return store.ErrClosed
	}
	conn.SetInterrupt(ctx.Done())
	if err := exec(conn, "BEGIN", nil); err != nil {
		conn.SetInterrupt(nil)
		return interrupted(ctx, translate(err))
	}
	defer func() {
		conn.SetInterrupt(nil)
		if undo := exec(conn, "ROLLBACK", nil); err == nil {
			err = undo
		}
	}()
	return interrupted(ctx, translate(read(&view{conn, s.options.Now, ctx.Done()})))
}

// exec runs a statement and calls row, if that is not nil, for each row of the result. The connection keeps the
// statement prepared.
func exec(conn *sqlite.Conn, sql string, row func(*sqlite.Stmt) error, arguments ...value) error {
	return scan(conn, sql, func(stmt *sqlite.Stmt) (more bool, err error) {
		if row != nil {
			err = row(stmt)
		}
		return true, err
	}, arguments...)
}

// scan is like exec, and stops when row returns false.
func scan(conn *sqlite.Conn, sql string, row func(*sqlite.Stmt) (more bool, err error),
	arguments ...value,
) (err error) {
	stmt, err := conn.Prepare(sql)
	if err != nil {
		return err
	}
	for i := range arguments {
		arguments[i].bind(stmt, i+1)
	}
	defer func() {
		if undo := stmt.Reset(); err == nil {
			err = undo
		}
	}()
	for more := true; more; {
		found, err := stmt.Step()
		if err != nil || !found {
			return err
		}
		if more, err = row(stmt); err != nil {
			return err
		}
	}
	return nil
}

// value is a parameter of a statement.
type value struct {
	kind  sqlite.ColumnType
	int   int64
	text  string
	bytes []byte
}

func integer(v int64) value { return value{kind: sqlite.TypeInteger, int: v} }
func text(v string) value   { return value{kind: sqlite.TypeText, text: v} }
func blob(v []byte) value   { return value{kind: sqlite.TypeBlob, bytes: v} }

// optional makes text, or null if it is empty.
func optional(v string) value {
	if v == "" {
		return value{kind: sqlite.TypeNull}
	}
	return text(v)
}

func (v *value) bind(stmt *sqlite.Stmt, at int) {
	switch v.kind {
	case sqlite.TypeInteger:
		stmt.BindInt64(at, v.int)
	case sqlite.TypeText:
		stmt.BindText(at, v.text)
	case sqlite.TypeBlob:
		stmt.BindBytes(at, v.bytes)
	default:
		stmt.BindNull(at)
	}
}

// column copies the bytes of a column.
func column(row *sqlite.Stmt, at int) []byte {
	b := make([]byte, row.ColumnLen(at))
	row.ColumnBytes(at, b)
	return b
}

func readHead(conn *sqlite.Conn) (h store.Head, err error) {
	found := false
	err = exec(conn, "SELECT * FROM head", func(row *sqlite.Stmt) error { // a file of an older format has no epochs
		found = true
		h = store.Head{
			Store: row.ColumnText(1), Format: row.ColumnInt(2), BatchNo: row.ColumnInt64(3),
			Seq: row.ColumnInt64(5), At: inventory.Time(row.ColumnInt64(6)),
		}
		row.ColumnBytes(4, h.BatchID[:])
		row.ColumnBytes(7, h.Chain[:])
		if h.Format >= store.EpochsFormat {
			h.Epochs = inventory.Epochs(column(row, 8))
		}
		return nil
	})
	switch {
	case err != nil:
		return h, fmt.Errorf("reading the head: %w", err)
	case !found:
		return h, errors.New("the head row is missing")
	case h.Format > store.Format:
		return h, fmt.Errorf("%w: its format is %d, this program knows up to %d", store.ErrNewerFormat, h.Format,
			store.Format)
	}
	return h, nil
}
