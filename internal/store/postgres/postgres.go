// Package postgres is the store on PostgreSQL 13 or later, for one or many processes that share a database.
//
// One connection commits. A batch takes two round trips and one flush: the first locks the head row, reads the clock
// and loads the rows, the second writes and commits. Readers have a pool of other connections.
package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Options are what a store needs from outside.
type Options struct {
	// Now is the clock that decides, in tests. Default: the clock of the server, read in each batch once the head is
	// locked.
	Now   func() time.Time
	Clock *store.Clock // which readings of the clock are gone by; nil: all that are not behind the store
	// AcceptNoFsync allows a server with fsync=off, which loses acknowledged commits if its machine crashes.
	AcceptNoFsync bool
	// ReadOnly opens existing tables for View only. Nothing is written, and Commit fails.
	ReadOnly bool
	Log      *slog.Logger // default: none

	timeouts timeouts // set by tests
}

// timeouts bound what a batch waits for. The store URL can set those whose names are in parentheses.
type timeouts struct {
	connect   time.Duration // for a new connection (connect_timeout)
	lock      time.Duration // for the head, while other processes commit (lock_timeout)
	statement time.Duration // for one statement, with its wait for a lock (statement_timeout)
	answer    time.Duration // for the server's answer, in addition to the wait for the head
	settle    time.Duration // to find out what became of a batch

	// idle is how long a process may be silent within a transaction before the server ends it
	// (idle_in_transaction_session_timeout).
	idle time.Duration
}

// Other processes wait for one that died within a transaction until the idle timeout, which must be under 5 seconds.
var defaultTimeouts = timeouts{
	connect: 5 * time.Second, lock: 10 * time.Second, statement: 12 * time.Second, idle: 3 * time.Second,
	answer: 5 * time.Second, settle: 12 * time.Second,
}

// Store is a [store.Store] in one PostgreSQL schema.
type Store struct {
	options Options
	config  *pgx.ConnConfig // of the connection that commits

	turn           *store.Turn
	writer         *pgx.Conn // nil: there is none, the next batch makes it
	timeline       int       // of the server that writer is connected to; 0: it has none
	rotationFailed time.Time // when receipts last could not be dropped

	readers *pgxpool.Pool
}

var _ store.Store = (*Store)(nil)

// Open connects to a database and upgrades its tables. The URL is one that PostgreSQL knows
// (postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING). It may have parameters of pgxpool, such as
// pool_max_conns, for the readers. Its search_path names the schema of the tables; the default is holdfast.
func Open(ctx context.Context, address string, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.timeouts == (timeouts{}) {
		o.timeouts = defaultTimeouts
	}
	pool, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, fmt.Errorf("the store URL cannot be read: %w", withoutSecrets(err, address))
	}
	configure(pool.ConnConfig, &o, strings.Contains(address, "connect_timeout"))
	pool.AfterConnect = prepareSession
	s := &Store{options: o, config: pool.ConnConfig.Copy(), turn: store.NewTurn()}
	if err := s.open(ctx, pool); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store: %w", err), s.Close())
	}
	return s, nil
}

// withoutSecrets replaces an error that quotes the password of a URL.
func withoutSecrets(err error, address string) error {
	u, parseErr := url.Parse(address)
	if parseErr != nil {
		return errors.New("it is no URL: percent-encode what is special in the user, password and names")
	}
	if password, set := u.User.Password(); set && password != "" && strings.Contains(err.Error(), password) {
		return errors.New("a parameter has a value that it cannot have")
	}
	return err
}

func configure(c *pgx.ConnConfig, o *Options, connectTimeoutGiven bool) {
	if !connectTimeoutGiven {
		c.ConnectTimeout = o.timeouts.connect
	}
	set := func(name, value string) {
		if _, given := c.RuntimeParams[name]; !given {
			c.RuntimeParams[name] = value
		}
	}
	milliseconds := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	set("application_name", "holdfast")
	set("search_path", schemaName)
	set("synchronous_commit", "on")
	set("lock_timeout", milliseconds(o.timeouts.lock))
	set("statement_timeout", milliseconds(o.timeouts.statement))
	set("idle_in_transaction_session_timeout", milliseconds(o.timeouts.idle))
}

// sessionSettings are the settings of every session. All but the first keep the planner to indexes: statements are
// prepared once, possibly while the statistics say that a table is empty. tcp_user_timeout ends the session of a host
// that is gone. A server that does not know a setting goes without it.
var sessionSettings = [][2]string{
	{"tcp_user_timeout", "4000"},
	{"plan_cache_mode", "force_generic_plan"},
	{"jit", "off"},
	{"enable_seqscan", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
}

func prepareSession(ctx context.Context, conn *pgx.Conn) error {
	all, single := "SELECT", ""
	for i, setting := range sessionSettings {
		single = fmt.Sprintf(" set_config('%s', '%s', false)", setting[0], setting[1])
		if i > 0 {
			all += ","
		}
		all += single
	}
	_, err := conn.Exec(ctx, all, pgx.QueryExecModeSimpleProtocol)
	if err == nil || !isAnswer(err) {
		return err
	}
	for _, setting := range sessionSettings {
		single = fmt.Sprintf("SELECT set_config('%s', '%s', false)", setting[0], setting[1])
		if _, err := conn.Exec(ctx, single, pgx.QueryExecModeSimpleProtocol); err != nil && !isAnswer(err) {
			return err
		}
	}
	return nil
}

func (s *Store) open(ctx context.Context, pool *pgxpool.Config) (err error) {
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.checkServer(ctx); err != nil {
		return err
	}
	if s.options.ReadOnly {
		version, err := schemaVersion(ctx, s.writer)
		if err == nil && version == 0 {
			err = fmt.Errorf("there is no Holdfast store in the schema %s", s.schema())
		}
		if err != nil {
			return err
		}
	} else if err := migrate(ctx, s.writer, s.schema()); err != nil {
		return err
	}
	if _, err := readHead(ctx, s.writer, ""); err != nil {
		return err
	}
	s.readers, err = pgxpool.NewWithConfig(ctx, pool)
	return err
}

// schema returns the first schema of the search path.
func (s *Store) schema() string {
	first, _, _ := strings.Cut(s.config.RuntimeParams["search_path"], ",")
	return strings.Trim(strings.TrimSpace(first), `"`)
}

// minimumVersion is PostgreSQL 13.
const minimumVersion = 130_000

func (s *Store) checkServer(ctx context.Context) error {
	var version int
	var fsync, synchronous *string
	err := s.writer.QueryRow(ctx, "SELECT current_setting('server_version_num')::integer, current_setting('fsync', "+
		"true), current_setting('synchronous_commit', true)").
		Scan(&version, &fsync, &synchronous)
	switch {
	case err != nil:
		return fmt.Errorf("asking the server for its settings: %w", translate(err))
	case version < minimumVersion:
		return fmt.Errorf("the server's version is %d: Holdfast needs PostgreSQL 13 or later", version)
	case s.options.ReadOnly || s.options.AcceptNoFsync:
		return nil
	case fsync != nil && *fsync == "off":
		return errors.New("the server runs with fsync=off and would lose orders in a crash: set fsync=on, or start with " +
			"--accept-no-fsync if nothing in it matters")
	case synchronous != nil && *synchronous == "off":
		return errors.New("the store URL sets synchronous_commit=off, which loses orders in a crash: take it out, or " +
			"start with --accept-no-fsync if nothing in it matters")
	}
	return nil
}

// connect opens the connection that commits.
func (s *Store) connect(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, s.config)
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.timeouts.answer)
	defer cancel()
	if err := prepareSession(ctx, conn); err != nil {
		hangUp(conn)
		return translate(err)
	}
	if s.timeline, err = readTimeline(ctx, conn); err != nil {
		hangUp(conn)
		return translate(err)
	}
	s.writer = conn
	return nil
}

// readTimeline reads the timeline that a server writes, which is the first eight digits of the name of its log file. It
// stays the same for as long as the server runs. One that cannot tell has timeline 0.
func readTimeline(ctx context.Context, conn *pgx.Conn) (timeline int, err error) {
	err = conn.QueryRow(ctx, "SELECT CASE WHEN pg_is_in_recovery() THEN 0 ELSE "+
		"('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer END").Scan(&timeline)
	if isAnswer(err) {
		return 0, nil
	}
	return timeline, err
}

// disconnect gives up the connection that commits; the next batch opens another. The server ends what was open on it.
func (s *Store) disconnect() {
	if s.writer != nil {
		hangUp(s.writer)
		s.writer = nil
	}
}

// hangUp closes a connection without waiting for the server.
func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = conn.Close(ctx)
}

// Close implements [store.Store].
func (s *Store) Close() error {
	return s.turn.Close(func() error {
		if s.writer != nil {
			ctx, cancel := context.WithTimeout(context.Background(), s.options.timeouts.answer)
			defer cancel()
			_ = s.writer.Close(ctx)
		}
		if s.readers != nil {
			s.readers.Close() // waits for the views under way
		}
		return nil
	})
}

// SoleWriter implements [store.Store]. Other processes may share the database.
func (s *Store) SoleWriter() (clock func() time.Time, sole bool) { return nil, false }

// View implements [store.Store].
func (s *Store) View(ctx context.Context, read func(store.View) error) error {
	if s.turn.IsClosed() {
		return store.ErrClosed
	}
	conn, err := s.readers.Acquire(ctx)
	if err != nil {
		if s.turn.IsClosed() {
			return store.ErrClosed
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	defer conn.Release()
	v := &view{conn: conn.Conn(), now: s.options.Now, timeout: s.options.timeouts.statement, readOnly: s.options.ReadOnly}
	err = read(v)
	if v.begun {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.timeouts.answer)
		defer cancel()
		if _, undo := conn.Exec(ctx, "ROLLBACK"); undo != nil {
			hangUp(conn.Conn())
		}
	}
	return err
}

// sourceParameter returns the parameter that stands for the source of the clock: null means the clock of the server.
func sourceParameter(now func() time.Time) *int64 {
	if now == nil {
		return nil
	}
	source := now().UnixMilli()
	return &source
}

// clockSQL reads the clock of the server, in milliseconds.
const clockSQL = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

// querier is a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, arguments ...any) pgx.Row
}

// head is the head row: the head of every store, and what only this store keeps there.
type head struct {
	store.Head
	nextKey       int64 // the next row key of a product or stock row
	receiptsTable int   // the number of the table that receipts are written to
	receiptsSince int64 // since when, in milliseconds; 0 means that there are no receipts yet
	timeline      int   // of the server that wrote the last batch; 0: not known
}

const (
	oldHeadColumns = "store, format, batch_no, batch_id, seq, at, chain, next_key, receipts_table, receipts_since"
	headColumns    = oldHeadColumns + ", epochs, timeline"
	// anyHeadColumns are for tables that may be of a format without epochs.
	anyHeadColumns = oldHeadColumns + ", coalesce(decode(substr(to_jsonb(head)->>'epochs', 3), 'hex'), ''), 0"
)

// enter notes that a batch is written on a timeline. On a new one, whoever followed the old one may have seen events
// that are not here, and whose sequences are given again: another epoch begins.
func (h *head) enter(timeline int) {
	if timeline == 0 || timeline == h.timeline {
		return
	}
	if h.timeline != 0 {
		var epoch inventory.Epoch
		rand.Read(epoch[:])
		h.Epochs = h.Epochs.Begin(epoch, h.Seq)
	}
	h.timeline = timeline
}

func readHead(ctx context.Context, conn querier, suffix string) (h head, err error) {
	err = h.scan(conn.QueryRow(ctx, "SELECT "+anyHeadColumns+" FROM head"+suffix))
	return h, err
}

func (h *head) scan(row pgx.Row) error {
	var batchID, chain, epochs []byte
	err := row.Scan(&h.Store, &h.Format, &h.BatchNo, &batchID, &h.Seq, &h.At, &chain, &h.nextKey, &h.receiptsTable,
		&h.receiptsSince, &epochs, &h.timeline)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%w: the head row is missing: restore a backup", store.ErrUnavailable)
	case err != nil:
		return fmt.Errorf("reading the head: %w", translate(err))
	case h.Format > store.Format:
		return fmt.Errorf("%w: its format is %d, this program knows up to %d", store.ErrNewerFormat, h.Format, store.Format)
	}
	copy(h.BatchID[:], batchID)
	copy(h.Chain[:], chain)
	h.Epochs = inventory.Epochs(epochs)
	return nil
}
