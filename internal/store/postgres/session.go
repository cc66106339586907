package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast/holdfast/internal/store"
)

// Every connection is a session with settings of its own. They are set by a statement and read back: a pooler such as
// PgBouncer refuses most of them as parameters of the connection, or drops them and says nothing. Such a pooler must
// pool sessions. One that pools transactions hands each transaction to any session of the server, so settings and
// prepared statements would be those of others. To notice that, each session has a mark, and every batch and view
// looks at the mark.

// startupParameters stay parameters of the connection. PgBouncer takes the first two; the last is a list of settings
// that only the server can read.
var startupParameters = []string{"application_name", "client_encoding", "options"}

// forcedSettings are what a session needs, whatever the URL, the role or the database say. The warning that a commit
// may not be on its standby would not be sent to a session that asks for errors only. Epochs are read through JSON,
// where they are written as bytea_output says.
var forcedSettings = [][2]string{
	{"bytea_output", "hex"},
	{"client_min_messages", "warning"},
}

// optionalSettings are set where the server knows them. All but the first keep the planner to indexes: statements are
// prepared once, possibly while the statistics say that a table is empty. tcp_user_timeout ends the session of a host
// that is gone.
var optionalSettings = [][2]string{
	{"tcp_user_timeout", "4000"},
	{"plan_cache_mode", "force_generic_plan"},
	{"jit", "off"},
	{"enable_seqscan", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
}

const (
	// markSetting has the mark of a session. A server takes any setting with a dot in its name.
	markSetting = "holdfast.session"
	readMark    = "coalesce(current_setting('" + markSetting + "', true), '')"
)

// idleSetting bounds how long a session may be silent within a transaction.
const idleSetting = "idle_in_transaction_session_timeout"

// session is what every connection is set to.
type session struct {
	schema   string
	settings [][2]string
	timeout  time.Duration // for setting them
}

// errPooled: a session of the server is shared with others.
var errPooled = errors.New("the connection changes its session between transactions: set pool_mode=session in " +
	"PgBouncer, or connect to PostgreSQL itself")

const (
	// severalHostsTimeout bounds a connection to one of several hosts, because the next may be the primary.
	severalHostsTimeout = 2 * time.Second
	// maxNameBytes is how long a name can be in PostgreSQL. It cuts what is longer.
	maxNameBytes = 63
)

// configure moves the settings of a URL from the connection to the session, and adds those that Holdfast needs.
func configure(c *pgx.ConnConfig, o *Options, connectTimeoutGiven bool) (session, error) {
	if !connectTimeoutGiven {
		c.ConnectTimeout = o.timeouts.connect
		if hosts(c) > 1 {
			c.ConnectTimeout = min(c.ConnectTimeout, severalHostsTimeout)
		}
	}
	if !o.ReadOnly {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	c.Tracer = o.tracer
	settings := map[string]string{
		"search_path": schemaName, "synchronous_commit": "on",
		"lock_timeout": milliseconds(o.timeouts.lock), "statement_timeout": milliseconds(o.timeouts.statement),
		idleSetting: milliseconds(o.timeouts.idle),
	}
	for name, value := range c.RuntimeParams {
		if !slices.Contains(startupParameters, name) {
			settings[name] = value
			delete(c.RuntimeParams, name)
		}
	}
	for _, forced := range forcedSettings {
		settings[forced[0]] = forced[1]
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "holdfast"
	}
	schema, err := firstSchema(settings["search_path"])
	if err != nil {
		return session{}, err
	}
	settings["search_path"] = pgx.Identifier{schema}.Sanitize()
	made := session{schema: schema, timeout: o.timeouts.answer}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		made.settings = append(made.settings, [2]string{name, settings[name]})
	}
	return made, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// waiting is the session of a reader, which may be idle within its transaction for so long: it may have to wait until
// it is known what became of a batch. It locks nothing that batches wait for.
func (s session) waiting(idle time.Duration) session {
	s.settings = slices.Clone(s.settings)
	for i := range s.settings {
		if s.settings[i][0] == idleSetting {
			s.settings[i][1] = milliseconds(idle)
		}
	}
	return s
}

// hosts counts the hosts of a URL. One that may be reached with and without TLS is one.
func hosts(c *pgx.ConnConfig) int {
	seen := map[string]bool{net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))): true}
	for _, f := range c.Fallbacks {
		seen[net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port)))] = true
	}
	return len(seen)
}

// firstSchema returns the first schema of a search path, as PostgreSQL reads it: without double quotes, capital letters
// stand for small ones.
func firstSchema(path string) (name string, err error) {
	path = strings.TrimSpace(path)
	if strings.HasPrefix(path, `"`) {
		name, err = quotedName(path[1:])
	} else {
		name, _, _ = strings.Cut(path, ",")
		name = strings.Map(lowerASCII, strings.TrimSpace(name))
	}
	switch {
	case err != nil:
	case name == "" || name == "$user":
		err = errors.New("search_path must begin with the name of a schema")
	case len(name) > maxNameBytes:
		err = fmt.Errorf("search_path begins with a name of %d bytes: at most %d are possible", len(name), maxNameBytes)
	}
	return name, err
}

// quotedName returns a name up to its closing quote. Two quotes stand for one.
func quotedName(rest string) (name string, err error) {
	for {
		part, after, found := strings.Cut(rest, `"`)
		if !found {
			return "", errors.New("search_path has a double quote that is not closed")
		}
		name += part
		if !strings.HasPrefix(after, `"`) {
			return name, nil
		}
		name += `"`
		rest = after[1:]
	}
}

func lowerASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// prepare makes the settings of a new connection, and reads them back in another transaction.
func (s session) prepare(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	mark := rand.Text()
	settings := append(slices.Clone(s.settings), [2]string{markSetting, mark})
	set, err := applySettings(ctx, conn, settings)
	if err != nil {
		return fmt.Errorf("making the settings of a session: %w", err)
	}
	if err := setOptional(ctx, conn); err != nil {
		return err
	}
	conn.PgConn().CustomData()[markSetting] = mark
	return readBack(ctx, conn, settings, set)
}

// applySettings makes settings and returns their values as the server writes them.
func applySettings(ctx context.Context, conn *pgx.Conn, settings [][2]string) (set []string, err error) {
	columns := make([]string, len(settings))
	arguments := []any{pgx.QueryExecModeSimpleProtocol}
	for i, setting := range settings {
		columns[i] = fmt.Sprintf("set_config($%d, $%d, false)", 2*i+1, 2*i+2)
		arguments = append(arguments, setting[0], setting[1])
	}
	return queryTexts(ctx, conn, columns, arguments)
}

// setOptional makes the optional settings, one by one where the server does not know all of them.
func setOptional(ctx context.Context, conn *pgx.Conn) error {
	_, err := applySettings(ctx, conn, optionalSettings)
	for i := 0; i < len(optionalSettings) && isAnswer(err); i++ {
		if _, single := applySettings(ctx, conn, optionalSettings[i:i+1]); single != nil && !isAnswer(single) {
			return single
		}
	}
	if isAnswer(err) {
		return nil
	}
	return err
}

func readBack(ctx context.Context, conn *pgx.Conn, settings [][2]string, want []string) error {
	columns := make([]string, len(settings))
	arguments := []any{pgx.QueryExecModeSimpleProtocol}
	for i, setting := range settings {
		columns[i] = fmt.Sprintf("coalesce(current_setting($%d, true), '')", i+1)
		arguments = append(arguments, setting[0])
	}
	got, err := queryTexts(ctx, conn, columns, arguments)
	if err != nil {
		return fmt.Errorf("reading the settings of a session: %w", err)
	}
	if last := len(got) - 1; got[last] != want[last] {
		return errPooled
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("the setting %s of a session is %q although %q was set", settings[i][0], got[i], want[i])
		}
	}
	return nil
}

// queryTexts runs a query of one row of texts.
func queryTexts(ctx context.Context, conn *pgx.Conn, columns []string, arguments []any) ([]string, error) {
	values, targets := make([]string, len(columns)), make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	return values, conn.QueryRow(ctx, "SELECT "+strings.Join(columns, ", "), arguments...).Scan(targets...)
}

// checkMark fails if a transaction on a connection has the mark of another session.
func checkMark(conn *pgx.Conn, mark string) error {
	if mark != conn.PgConn().CustomData()[markSetting] {
		return errPooled
	}
	return nil
}

// proveSessions finds out whether a pooler pools transactions. While a transaction of a reader is open, the connection
// that commits must still have its own session: a pooler of transactions has given that to the reader, or now gives
// the other one a new session.
func (s *Store) proveSessions(ctx context.Context) error {
	connecting := s.config.ConnectTimeout * time.Duration(hosts(s.config))
	ctx, cancel := context.WithTimeout(ctx, connecting+s.options.timeouts.answer)
	defer cancel()
	reader, err := s.readers.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("opening a second connection: %w", err)
	}
	defer reader.Release()
	tx, err := reader.Begin(ctx)
	if err != nil {
		return translate(err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	for _, conn := range []*pgx.Conn{tx.Conn(), s.writer} {
		mark, err := queryTexts(ctx, conn, []string{readMark}, []any{pgx.QueryExecModeSimpleProtocol})
		if err != nil {
			return translate(err)
		}
		if err := checkMark(conn, mark[0]); err != nil {
			return err
		}
	}
	return nil
}

// connecting is the key of a context in which a connection may be made.
type connecting struct{}

// onlyToConnect keeps a connection that is given up from asking the server to cancel its statement, for which the
// driver would make another connection: a COMMIT that waits for a standby would become visible to others without having
// reached it.
func onlyToConnect(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if ctx.Value(connecting{}) == nil {
			return nil, errors.New("a batch is never cancelled")
		}
		return dial(ctx, network, address)
	}
}

// reconnect opens the connection that commits anew. If it leads to another server than before, the old one may still
// run and answer readers with less than is acknowledged from here on, so they get new connections, too. Whether a
// standby has the last batch is not known on a new connection.
func (s *Store) reconnect(ctx context.Context) error {
	before := s.server
	err := s.connect(ctx)
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	if err != nil {
		return err
	}
	if s.server.started != before.started || s.server.timeline != before.timeline {
		s.readers.Reset()
	}
	s.proven = [16]byte{}
	return nil
}

// connect opens the connection that commits. A server that may not be written to is refused in a sentence.
func (s *Store) connect(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(context.WithValue(ctx, connecting{}, true), s.config)
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	if err := s.session.prepare(ctx, conn); err != nil {
		hangUp(conn)
		return translate(err)
	}
	found, err := askServer(ctx, conn)
	if err == nil {
		err = found.check(&s.options)
	}
	if err != nil {
		hangUp(conn)
		return err
	}
	s.writer, s.server = conn, found
	return nil
}

// minimumVersion is PostgreSQL 13.
const minimumVersion = 130_000

// server is what has to be known of a server before a batch is committed there.
type server struct {
	version                       int
	fsync, fullPages, synchronous string // settings; empty where the server does not know them
	// timeline is the one that the server writes, which is the first eight digits of the name of its log file. It stays
	// the same for as long as the server runs. One that cannot tell has timeline 0.
	timeline int
	started  int64 // when it was, in microseconds, which no two servers have in common
}

const (
	readServer = "SELECT current_setting('server_version_num')::integer, coalesce(current_setting('fsync', true), ''), " +
		"coalesce(current_setting('full_page_writes', true), ''), " +
		"coalesce(current_setting('synchronous_commit', true), ''), " +
		"(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, "
	readTimeline = "CASE WHEN pg_is_in_recovery() THEN 0 ELSE " +
		"('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer END"
)

func askServer(ctx context.Context, conn *pgx.Conn) (v server, err error) {
	for _, timeline := range []string{readTimeline, "0"} {
		err = conn.QueryRow(ctx, readServer+timeline).
			Scan(&v.version, &v.fsync, &v.fullPages, &v.synchronous, &v.started, &v.timeline)
		if !isAnswer(err) {
			break
		}
	}
	if err != nil {
		return v, fmt.Errorf("asking the server for its settings: %w", translate(err))
	}
	return v, nil
}

// check refuses a server that may lose what it has committed. Every new connection asks: it may be to another server.
func (v *server) check(o *Options) error {
	switch {
	case v.version < minimumVersion:
		return fmt.Errorf("the server's version is %d: Holdfast needs PostgreSQL 13 or later", v.version)
	case o.ReadOnly || o.AcceptNoFsync:
		return nil
	case v.fsync == "off":
		return errors.New("the server runs with fsync=off and would lose orders in a crash: set fsync=on, or start with " +
			"--accept-no-fsync if nothing in it matters")
	case v.fullPages == "off":
		return errors.New("the server runs with full_page_writes=off, and a crash in the middle of writing a page could " +
			"damage the store: set full_page_writes=on, or start with --accept-no-fsync if the file system writes whole pages")
	case !slices.Contains([]string{"", "on", "remote_apply"}, v.synchronous):
		return fmt.Errorf("the store URL sets synchronous_commit=%s, which loses orders in a crash or a failover: take it "+
			"out, or set on or remote_apply, or start with --accept-no-fsync if nothing in it matters", v.synchronous)
	}
	return nil
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
