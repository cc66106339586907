// Package postgres is the store on PostgreSQL 13 or later, for one or many processes that share a database.
//
// One connection commits: its batch is two round trips and one flush. The first locks the head row, reads the server's
// clock and loads the rows; the second writes and commits. Readers have a pool of connections of their own.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/holdfast/holdfast/internal/store"
)

// Options are what a store needs from outside.
type Options struct {
	// Now is the clock that decides, for tests; default: the server's clock, read in each batch once the head is
	// locked.
	Now         func() time.Time
	AcceptClock bool
	// AcceptNoFsync serves a server that runs with fsync=off, which loses acknowledged commits when its machine
	// crashes.
	AcceptNoFsync bool
	// ReadOnly opens tables that exist, and writes nothing: View works, Commit does not.
	ReadOnly bool
	Log      *slog.Logger // default: none

	timeouts timeouts // of tests
}

// timeouts bound what a batch waits for. Those that the server keeps can be set in the store URL as well.
type timeouts struct {
	connect   time.Duration // a new connection (connect_timeout)
	lock      time.Duration // for the head, while other processes commit (lock_timeout)
	statement time.Duration // any one statement, its wait for a lock included (statement_timeout)
	// the server ends a transaction whose process says nothing for so long (idle_in_transaction_session_timeout)
	idle   time.Duration
	answer time.Duration // for the server's answer, beyond the wait for the head
	settle time.Duration // to find out what became of a batch
}

// A process that dies in its transaction holds up the others for the idle timeout: it must stay under 5 seconds.
var defaultTimeouts = timeouts{
	connect: 5 * time.Second, lock: 10 * time.Second, statement: 12 * time.Second, idle: 3 * time.Second,
	answer: 5 * time.Second, settle: 12 * time.Second,
}

// Store is a [store.Store] in one PostgreSQL schema.
type Store struct {
	options Options
	config  *pgx.ConnConfig // of the connection that commits

	turn           *store.Turn
	writer         *pgx.Conn // nil: to be made
	rotationFailed time.Time // when it last did, of the receipts

	readers *pgxpool.Pool
}

var _ store.Store = (*Store)(nil)

// Open connects to a database and brings its tables up to date. The URL is PostgreSQL's own
// (postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING), with pgxpool's pool_max_conns and the like for the
// readers; search_path names the schema of the tables, holdfast where it is not given.
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

// withoutSecrets keeps what a parser quotes of a URL out of messages.
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

// sessionSettings steer the planner: every statement is prepared once, and must go by index even while the statistics
// still say that a table is empty. tcp_user_timeout ends the session of a host that is gone. Servers that do not know
// one go without.
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

// schema is the first of the search path.
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

// connect makes the connection that commits.
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
	s.writer = conn
	return nil
}

// disconnect gives up the connection that commits: the next batch makes another. The server ends what was open on it.
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

// SoleWriter implements [store.Store]: other processes may share the database.
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

// now is the source of the clock as a parameter: null stands for the server's.
func sourceParameter(now func() time.Time) *int64 {
	if now == nil {
		return nil
	}
	source := now().UnixMilli()
	return &source
}

// clockSQL is the server's clock in milliseconds.
const clockSQL = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

// querier is a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, arguments ...any) pgx.Row
}

// head is the head row: what all stores have, and this one's own.
type head struct {
	store.Head
	nextKey       int64 // of products and stock rows
	receiptsTable int   // that is written to
	receiptsSince int64 // when it was first written to, milliseconds
}

const headColumns = "store, format, batch_no, batch_id, seq, at, chain, next_key, receipts_table, receipts_since"

func readHead(ctx context.Context, conn querier, suffix string) (h head, err error) {
	err = h.scan(conn.QueryRow(ctx, "SELECT "+headColumns+" FROM head"+suffix))
	return h, err
}

func (h *head) scan(row pgx.Row) error {
	var batchID, chain []byte
	err := row.Scan(&h.Store, &h.Format, &h.BatchNo, &batchID, &h.Seq, &h.At, &chain, &h.nextKey, &h.receiptsTable,
		&h.receiptsSince)
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
	return nil
}
