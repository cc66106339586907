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
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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

	timeouts timeouts        // set by tests
	tracer   pgx.QueryTracer // set by tests
}

// timeouts bound what a batch waits for. The store URL can set those whose names are in parentheses.
type timeouts struct {
	connect   time.Duration // for a new connection (connect_timeout)
	lock      time.Duration // for the head, while other processes commit (lock_timeout)
	statement time.Duration // for one statement, with its wait for a lock (statement_timeout)
	answer    time.Duration // for the server's answer, in addition to the wait for the head
	settle    time.Duration // to find out what became of a batch

	// idle is how long the connection that commits may be silent within a transaction before the server ends it
	// (idle_in_transaction_session_timeout). Readers may be silent for as long as a batch may take that they wait for.
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
	session session         // what every connection is set to

	turn           *store.Turn
	writer         *pgx.Conn      // nil: there is none, the next batch makes it
	server         server         // that writer is connected to, or was
	warning        *pgconn.Notice // the last of the connection that commits
	proven         [16]byte       // the id of the last batch that is known to be on the standby that commits wait for
	rotationFailed time.Time      // when receipts last could not be dropped

	readers *pgxpool.Pool
	flight  flight
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
	session, err := configure(pool.ConnConfig, &o, strings.Contains(address, "connect_timeout"))
	if err != nil {
		return nil, fmt.Errorf("the store URL: %w", err)
	}
	pool.AfterConnect = session.waiting(o.timeouts.lock + o.timeouts.answer + o.timeouts.settle).prepare
	s := &Store{options: o, config: pool.ConnConfig.Copy(), session: session, turn: store.NewTurn()}
	s.config.DialFunc = onlyToConnect(s.config.DialFunc)
	s.config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			s.warning = n
		}
	}
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

func (s *Store) open(ctx context.Context, pool *pgxpool.Config) (err error) {
	if err := s.connect(ctx); err != nil {
		return err
	}
	if s.options.ReadOnly {
		version, err := schemaVersion(ctx, s.writer, s.session.schema)
		if err == nil && version == 0 {
			err = fmt.Errorf("there is no Holdfast store in the schema %s", s.session.schema)
		}
		if err != nil {
			return err
		}
	} else if err := migrate(ctx, s.writer, s.session.schema); err != nil {
		return err
	}
	if err := new(head).scan(s.writer.QueryRow(ctx, readHead)); err != nil {
		return err
	}
	if s.readers, err = pgxpool.NewWithConfig(ctx, pool); err != nil {
		return err
	}
	return s.proveSessions(ctx)
}

// Close implements [store.Store].
func (s *Store) Close() error {
	defer s.flight.group.Wait()
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
	conn, err := s.reader(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	defer s.forgetReaders(ctx, conn.Conn())
	v := s.view(conn.Conn())
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

var _ store.Looker = (*Store)(nil)

// unlessBehind is the batch to read from, or null if there are more after it than may be read.
const unlessBehind = "(CASE WHEN (SELECT batch_no FROM journal ORDER BY batch_no DESC LIMIT 1) < " +
	"$1::bigint + $2::bigint THEN $1::bigint END)"

// Look implements [store.Looker]. Its statements do not share a snapshot. The journal is read last and only grows, so
// it has all entries of the head; later ones are left out.
func (s *Store) Look(
	ctx context.Context, after int64, limit, maxBytes int,
) (head store.Head, now inventory.Time, entries []store.Entry, err error) {
	conn, err := s.reader(ctx)
	if err != nil {
		return head, 0, nil, err
	}
	defer conn.Release()
	defer s.forgetReaders(ctx, conn.Conn())
	v := s.view(conn.Conn())
	b := &pgx.Batch{}
	v.queueHead(b)
	b.Queue(journalFrom(unlessBehind), after+1, limit, maxBytes).Query(func(rows pgx.Rows) error {
		entries, err = scanEntries(rows)
		return err
	})
	if err := v.send(ctx, b, v.timeout); err != nil {
		return head, 0, nil, err
	}
	head = v.head.Head
	return head, head.Latest(v.source), slices.DeleteFunc(entries, func(e store.Entry) bool {
		return e.BatchNo > head.BatchNo
	}), nil
}

// reader takes a connection from the pool of readers.
func (s *Store) reader(ctx context.Context) (*pgxpool.Conn, error) {
	if s.turn.IsClosed() {
		return nil, store.ErrClosed
	}
	conn, err := s.readers.Acquire(ctx)
	switch {
	case err == nil:
		return conn, nil
	case s.turn.IsClosed():
		return nil, store.ErrClosed
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

func (s *Store) view(conn *pgx.Conn) *view {
	return &view{
		s: s, conn: conn, now: s.options.Now, timeout: s.options.timeouts.statement, readOnly: s.options.ReadOnly,
		floor: s.flight.floor(),
	}
}

// forgetReaders gives up the other connections of readers too if one was lost. Where its server has died or is a
// standby now, theirs has as well.
func (s *Store) forgetReaders(ctx context.Context, lost *pgx.Conn) {
	if lost.IsClosed() && ctx.Err() == nil {
		s.readers.Reset()
	}
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

// head is the head of every store, and what only this store keeps with it.
type head struct {
	store.Head
	nextKey       int64 // the next row key of a product or stock row
	receiptsTable int   // the number of the table that receipts are written to
	receiptsSince int64 // since when, in milliseconds; 0 means that there are no receipts yet
	timeline      int   // of the server that wrote the last batch; 0: not known
	entered       bool  // the timeline is another than that of the last batch
	replicated    bool  // commits wait for a standby; only known when the head is locked
}

// The head is what the head row keeps and, from the newest row of the journal, what every batch changes. What the head
// row keeps is fixed but for the receipts' table and the epochs, so no open snapshot makes it expensive to read.
const (
	headColumns = "h.store, h.format, coalesce(j.batch_no, 0), coalesce(j.batch_id, ''), coalesce(j.last_seq, 0), " +
		"coalesce(j.at, 0), coalesce(j.checksum, '')"
	headTables = " FROM head h LEFT JOIN (SELECT * FROM journal ORDER BY batch_no DESC LIMIT 1) j ON true"

	// loadHead sees the last batch only if it begins after the head was locked.
	loadHead = "SELECT " + headColumns + ", coalesce(j.next_key, h.next_key), h.receipts_table, h.receipts_since, " +
		"h.epochs, h.timeline" + headTables
	// readHead does for tables of older formats, too.
	readHead = "SELECT " + headColumns + ", 0, 0, 0, coalesce(decode(substr(to_jsonb(h)->>'epochs', 3), 'hex'), ''), 0" +
		headTables
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
	h.timeline, h.entered = timeline, true
}

func (h *head) scan(row pgx.Row) error {
	var batchID, chain, epochs []byte
	err := row.Scan(&h.Store, &h.Format, &h.BatchNo, &batchID, &h.Seq, &h.At, &chain, &h.nextKey, &h.receiptsTable,
		&h.receiptsSince, &epochs, &h.timeline)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return errNoHead
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
