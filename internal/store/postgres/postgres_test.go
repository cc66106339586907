package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// patient are timeouts for tests that are not about them: the server of the tests may stand still for seconds where the
// machine has too much to do.
var patient = timeouts{
	connect: time.Minute, lock: time.Minute, statement: time.Minute, idle: 30 * time.Second, answer: time.Minute,
	settle: time.Minute,
}

var backend = storetest.Backend{
	Open: func(t testing.TB, now func() time.Time) store.Store {
		return open(t, dbtest.Postgres(t), Options{Now: now, timeouts: patient})
	},
	Reopen: func(t testing.TB, s store.Store, now func() time.Time) store.Store {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return open(t, s.(*Store).config.ConnString(), Options{Now: now, timeouts: patient})
	},
	Share: func(t testing.TB, s store.Store, now func() time.Time) store.Store {
		return open(t, s.(*Store).config.ConnString(), Options{Now: now, timeouts: patient})
	},
	Damage: func(t testing.TB, s store.Store, id inventory.ID) {
		exec(t, s.(*Store).config.ConnString(),
			fmt.Sprintf("UPDATE reservations SET data = '\\x00' WHERE key = %d", id.Sequence()))
	},
	Enforces: true,
}

func open(t testing.TB, address string, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T)      { storetest.Run(t, backend) }
func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, backend) }

func BenchmarkOverdue(b *testing.B) { storetest.BenchmarkOverdue(b, backend) }

func BenchmarkProductHolds(b *testing.B) { storetest.BenchmarkProductHolds(b, backend) }

// exec runs statements beside the store.
func exec(t testing.TB, address string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, statement := range statements {
		if _, err := conn.Exec(context.Background(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// TestRoundTrips: a batch pays two round trips, whatever its commands, once its statements are prepared.
func TestRoundTrips(t *testing.T) {
	proxy, address := dbtest.NewProxy(t, dbtest.Postgres(t))
	s := open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	for range 2 { // the first time prepares
		for name, batch := range map[string]func() []*inventory.Request{
			"hold": func() []*inventory.Request { return []*inventory.Request{storetest.Hold("mug", "")} },
			"keyed hold": func() []*inventory.Request {
				return []*inventory.Request{storetest.Hold("mug", time.Now().String()[11:27])}
			},
			"confirm": func() []*inventory.Request {
				return []*inventory.Request{{Command: &inventory.Confirm{ReservationID: storetest.Must(t, s,
					storetest.Hold("mug", ""))[0].Reservation.ID}}}
			},
			"cancel": func() []*inventory.Request {
				return []*inventory.Request{{Command: &inventory.Cancel{ID: storetest.Must(t, s,
					storetest.Hold("mug", ""))[0].Reservation.ID}}}
			},
			"refused hold": func() []*inventory.Request {
				return []*inventory.Request{{Command: &inventory.Reserve{
					TTL:   1000,
					Lines: []inventory.ReserveLine{{ProductID: "mug", Location: inventory.MainLocation, Quantity: 1000}},
				}}}
			},
		} {
			requests := batch()
			_, _ = storetest.Commit(context.Background(), s, requests...)
			requests = batch()
			before := proxy.Messages()
			if _, err := storetest.Commit(context.Background(), s, requests...); err != nil {
				t.Fatal(err)
			}
			if n := proxy.Messages() - before; n > 2 {
				t.Errorf("%s: %d round trips", name, n)
			}
		}
	}
}

// TestTrips counts round trips by the tracer of the driver: two for a batch, and one for a look and for a reader of a
// product that is in memory, even if something was committed since the last one.
func TestTrips(t *testing.T) {
	trace := &trips{}
	s := open(t, with(dbtest.Postgres(t), "pool_max_conns=1"), Options{tracer: trace, timeouts: patient})
	e := engine.Open(s, engine.Options{})
	t.Cleanup(func() { must(t, e.Close(context.Background())) })
	storetest.Must(t, s, storetest.Product("mug"))
	product := func() {
		if p, err := e.Product(t.Context(), "mug"); err != nil || p == nil {
			t.Errorf("%+v %v", p, err)
		}
	}
	hold := func() { storetest.Must(t, s, storetest.Hold("mug", "")) }
	count := func(do func()) int {
		do() // the first time prepares
		trace.n = 0
		do()
		return trace.n
	}
	if n := count(hold); n != 2 {
		t.Errorf("a batch: %d round trips", n)
	}
	product()
	if n := count(product); n != 1 {
		t.Errorf("a product: %d round trips", n)
	}
	if n := count(func() { hold(); product() }); n != 3 {
		t.Errorf("a batch, and a product that it changed: %d round trips", n)
	}
}

// TestRecordsRideAlong: records are loaded and written in the same two round trips.
func TestRecordsRideAlong(t *testing.T) {
	proxy, address := dbtest.NewProxy(t, dbtest.Postgres(t))
	s := open(t, address, Options{})
	key := inventory.RecordKey{Kind: "note", Key: "a"}
	of := inventory.RecordRange{Kind: "note", Prefix: "a", Limit: 5}
	for n := range 6 { // the first three prepare
		before := proxy.Messages()
		err := s.Commit(t.Context(), &inventory.Keys{
			Records: []inventory.RecordKey{key},
			Ranges:  []inventory.RecordRange{of},
		}, func(state *inventory.State) (*inventory.Changes, error) {
			c := inventory.RecordChange{RecordKey: key}
			if c.Before = state.Records[key]; c.Before == nil || n%3 != 2 {
				c.After = &inventory.Record{RecordKey: key, Version: int64(n%3) + 1}
			}
			return &inventory.Changes{Records: []inventory.RecordChange{c}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n >= 3 && proxy.Messages()-before > 2 {
			t.Errorf("batch %d: %d round trips", n, proxy.Messages()-before)
		}
	}
}

// TestFarBehind: a look brings no entry to who is farther behind than its limit. He could not go on from a part of
// them.
func TestFarBehind(t *testing.T) {
	s := open(t, dbtest.Postgres(t), Options{timeouts: patient})
	storetest.Must(t, s, storetest.Product("mug"))
	for range 2 {
		storetest.Must(t, s, storetest.Hold("mug", ""))
	}
	for _, c := range []struct{ after, limit, want int }{{0, 3, 3}, {0, 2, 0}, {1, 2, 2}, {2, 0, 0}, {3, 2, 0}} {
		head, _, entries, err := s.Look(t.Context(), int64(c.after), c.limit, 1<<20)
		if err != nil || head.BatchNo != 3 || len(entries) != c.want {
			t.Errorf("after %d, at most %d: %d entries, want %d (%v)", c.after, c.limit, len(entries), c.want, err)
		}
	}
}

// TestServerClock: the server's clock decides, read while the head is locked.
func TestServerClock(t *testing.T) {
	address := dbtest.Postgres(t)
	s := open(t, address, Options{})
	conn, err := pgx.Connect(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	clock := func() (now int64) {
		if err := conn.QueryRow(context.Background(), "SELECT "+clockSQL).Scan(&now); err != nil {
			t.Fatal(err)
		}
		return now
	}
	before := clock()
	p := storetest.Must(t, s, storetest.Product("mug"))[0].Product
	if after := clock(); int64(p.CreatedAt) < before || int64(p.CreatedAt) > after {
		t.Errorf("made at %d, between %d and %d by the server", p.CreatedAt, before, after)
	}
	exec(t, address, fmt.Sprintf("UPDATE journal SET at = %d", clock()+3_600_000))
	if _, err := storetest.Commit(t.Context(), s, storetest.Hold("mug", "")); !errors.Is(err, store.ErrClockBehind) {
		t.Errorf("an hour behind the head: %v", err)
	}
	accepting := open(t, address, Options{Clock: store.NewClock(true, 0, nil)})
	storetest.Must(t, accepting, storetest.Hold("mug", ""))
}

// TestRotation: receipts live for a day at least, go with the table that they are in, and do not wait for whoever reads
// it.
func TestRotation(t *testing.T) {
	clock := storetest.NewClock()
	address := dbtest.Postgres(t)
	s := open(t, address, Options{Now: clock.Now})
	storetest.Must(t, s, storetest.Product("mug"), storetest.Hold("mug", "first"))
	replayed := func(key string) bool { return storetest.Must(t, s, storetest.Hold("mug", key))[0].Replayed }
	clock.Advance(24 * time.Hour)
	storetest.Must(t, s, storetest.Hold("mug", "second"))
	if !replayed("first") || !replayed("second") {
		t.Error("a receipt of a day ago is gone")
	}
	reader, err := pgx.Connect(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close(context.Background())
	for _, statement := range []string{"BEGIN", "SELECT count(*) FROM receipts_0"} { // as a backup does
		if _, err := reader.Exec(context.Background(), statement); err != nil {
			t.Fatal(err)
		}
	}
	clock.Advance(25 * time.Hour)
	storetest.Must(t, s, storetest.Hold("mug", "third"))
	if !replayed("first") {
		t.Error("receipts went although a backup reads them")
	}
	if _, err := reader.Exec(context.Background(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	s.rotationFailed = time.Time{} // a minute later
	storetest.Must(t, s, storetest.Hold("mug", "fourth"))
	if replayed("first") {
		t.Error("a receipt of two days ago is still there")
	}
	if !replayed("second") || !replayed("third") || !replayed("fourth") {
		t.Error("a newer receipt went with the old ones")
	}
}

// TestRetries: a serialization failure or deadlock has the batch loaded and decided anew.
func TestRetries(t *testing.T) {
	address := dbtest.Postgres(t)
	s := open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	for _, sqlstate := range []string{"40001", "40P01"} {
		exec(t, address, "CREATE SEQUENCE tries", `CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF nextval('tries') <= 3 THEN RAISE EXCEPTION 'once more' USING ERRCODE = '`+sqlstate+`'; END IF;
				RETURN NEW; END $$`,
			"CREATE TRIGGER fail BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION fail()")
		storetest.Must(t, s, storetest.Hold("mug", ""))
		exec(t, address, "SELECT setval('tries', 1, false)", "ALTER SEQUENCE tries INCREMENT -1 MINVALUE -1000000")
		if _, err := storetest.Commit(t.Context(), s, storetest.Hold("mug", "")); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s without end: %v", sqlstate, err)
		}
		exec(t, address, "DROP TRIGGER fail ON journal", "DROP FUNCTION fail()", "DROP SEQUENCE tries")
		storetest.Must(t, s, storetest.Hold("mug", ""))
	}
}

// TestChangedRows: rows that are not those that were loaded end the batch, not the store.
func TestChangedRows(t *testing.T) {
	address := dbtest.Postgres(t)
	s := open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	exec(t, address, `CREATE FUNCTION drift() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`,
		"CREATE TRIGGER drift BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION drift()")
	if _, err := storetest.Commit(context.Background(), s, storetest.Hold("mug", "")); err == nil ||
		errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "holdfast verify") {
		t.Errorf("a stock row that does not change: %v", err)
	}
	exec(t, address, "DROP TRIGGER drift ON stock")
	storetest.Must(t, s, storetest.Hold("mug", ""))
}

func TestRefusedStores(t *testing.T) {
	ctx := context.Background()
	address := dbtest.Postgres(t)
	if _, err := Open(ctx, address, Options{ReadOnly: true}); err == nil ||
		!strings.Contains(err.Error(), "no Holdfast store") {
		t.Errorf("an empty database, for reading: %v", err)
	}
	s := open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	reader := open(t, address, Options{ReadOnly: true})
	if _, err := storetest.Commit(t.Context(), reader, storetest.Hold("mug", "")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a store for reading committed: %v", err)
	}
	exec(t, address, "UPDATE head SET format = 99")
	if _, err := storetest.Commit(context.Background(), s, storetest.Hold("mug", "")); !errors.Is(err, store.ErrBroken) ||
		!errors.Is(err, store.ErrNewerFormat) {
		t.Errorf("a head of a newer format, under way: %v", err)
	}
	if _, err := Open(ctx, address, Options{}); !errors.Is(err, store.ErrNewerFormat) {
		t.Errorf("a head of a newer format: %v", err)
	}
	exec(t, address, "UPDATE head SET format = 2, version = 99")
	if _, err := Open(ctx, address, Options{}); !errors.Is(err, store.ErrNewerFormat) {
		t.Errorf("a newer schema: %v", err)
	}
}

// TestSynchronousCommit: a URL by which commits do not wait for the disk, here or at a standby, is refused in a
// sentence unless the operator accepts it.
func TestSynchronousCommit(t *testing.T) {
	address := dbtest.Postgres(t)
	for _, value := range []string{"on", "remote_apply", "off", "local", "remote_write"} {
		s, err := Open(t.Context(), with(address, "synchronous_commit="+value), Options{timeouts: patient})
		if value == "on" || value == "remote_apply" {
			must(t, err)
			must(t, s.Close())
		} else if err == nil || !strings.Contains(err.Error(), "synchronous_commit="+value) {
			t.Errorf("synchronous_commit=%s: %v", value, err)
		}
	}
	open(t, with(address, "synchronous_commit=local"), Options{AcceptNoFsync: true, timeouts: patient})
}

// untilJournalState take tables back to those that had the state in the head row.
var untilJournalState = []string{
	`ALTER TABLE head ADD COLUMN batch_no bigint NOT NULL DEFAULT 0, ADD COLUMN batch_id bytea NOT NULL DEFAULT '',
	ADD COLUMN seq bigint NOT NULL DEFAULT 0, ADD COLUMN at bigint NOT NULL DEFAULT 0,
	ADD COLUMN chain bytea NOT NULL DEFAULT '', ADD COLUMN fence bigint NOT NULL DEFAULT 0`,
	`UPDATE head SET version = 3, batch_no = j.batch_no, batch_id = j.batch_id, seq = j.last_seq, at = j.at,
	chain = j.checksum, next_key = j.next_key
FROM (SELECT * FROM journal ORDER BY batch_no DESC LIMIT 1) j`,
	"ALTER TABLE journal DROP COLUMN next_key",
}

func TestUpgrade(t *testing.T) {
	address := dbtest.Postgres(t)
	storetest.Must(t, open(t, address, Options{}), storetest.Product("mug"))
	exec(t, address, append(untilJournalState, "DROP TABLE records", "ALTER TABLE head DROP COLUMN epochs, "+
		"DROP COLUMN timeline", "UPDATE head SET format = 1, version = 1")...)
	storetest.Upgrade(t, func(readOnly bool) store.Store { return open(t, address, Options{ReadOnly: readOnly}) })
}

// TestUpgradeBesideOthers: while an upgrade cannot have the tables, because of a backup for example, others go on reading
// them. Once it can, it goes on.
func TestUpgradeBesideOthers(t *testing.T) {
	address := dbtest.Postgres(t)
	storetest.Must(t, open(t, address, Options{}), storetest.Product("mug"))
	exec(t, address, untilJournalState...)
	var conns [2]*pgx.Conn
	for i := range conns {
		conn, err := pgx.Connect(t.Context(), with(address, "lock_timeout=5s"))
		must(t, err)
		defer conn.Close(context.Background())
		conns[i] = conn
	}
	backup, reader := conns[0], conns[1]
	tx, err := backup.Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), "SELECT count(*) FROM head")
	must(t, err)
	opened := make(chan *Store, 1)
	go func() {
		s, err := Open(context.Background(), address, Options{timeouts: patient})
		if err != nil {
			t.Error(err)
		}
		opened <- s
	}()
	for waiting := false; !waiting; {
		must(t, reader.QueryRow(t.Context(), "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND relation = "+
			"'head'::regclass)").Scan(&waiting))
	}
	if _, err := reader.Exec(t.Context(), "SELECT count(*) FROM head"); err != nil {
		t.Errorf("a reader beside an upgrade that waits: %v", err)
	}
	must(t, tx.Rollback(t.Context()))
	if s := <-opened; s != nil {
		storetest.Must(t, s, storetest.Hold("mug", ""))
		must(t, s.Close())
	}
}

// TestStateMovesToTheJournal: tables whose head row had the state go on from it, unless the journal contradicts it.
func TestStateMovesToTheJournal(t *testing.T) {
	address := dbtest.Postgres(t)
	s := open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"), storetest.Hold("mug", "key"))
	before := storetest.Head(t, s)
	s.Close()
	exec(t, address, append(untilJournalState, "UPDATE head SET seq = seq + 1")...)
	if _, err := Open(t.Context(), address, Options{}); err == nil || !strings.Contains(err.Error(), "holdfast verify") {
		t.Errorf("a head that the journal contradicts: %v", err)
	}
	exec(t, address, "UPDATE head SET seq = seq - 1")
	if head := storetest.Head(t, open(t, address, Options{ReadOnly: true})); head != before {
		t.Errorf("for reading: %+v, before %+v", head, before)
	}
	s = open(t, address, Options{})
	if head := storetest.Head(t, s); head != before {
		t.Errorf("%+v, before %+v", head, before)
	}
	storetest.Must(t, s, storetest.Product("cup"), storetest.Hold("cup", ""), storetest.Hold("mug", "key"))
	report, err := audit.Run(context.Background(), s, audit.Options{})
	if err != nil || len(report.Breaches) > 0 {
		t.Errorf("%v %v", report.Breaches, err)
	}
}

// TestHeadRowStays: no batch makes another version of the head row, so whoever keeps a snapshot open does not slow the
// batches down.
func TestHeadRowStays(t *testing.T) {
	address := dbtest.Postgres(t)
	s := open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"), storetest.Hold("mug", "first"))
	version := func() (at string) {
		must(t, s.writer.QueryRow(t.Context(), "SELECT ctid::text || xmin::text FROM head").Scan(&at))
		return at
	}
	before := version()
	storetest.Must(t, s, storetest.Product("cup"), storetest.Hold("mug", "second"))
	storetest.Must(t, open(t, address, Options{}), storetest.Hold("cup", ""))
	if after := version(); after != before {
		t.Errorf("the head row was at %s and is at %s", before, after)
	}
}

// TestTimeline: on a new timeline of the server, which follows a failover or a restore, an epoch begins with the next
// batch, whichever process that is of, and only once.
func TestTimeline(t *testing.T) {
	address := dbtest.Postgres(t)
	s, other := open(t, address, Options{}), open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	storetest.Must(t, other, storetest.Hold("mug", ""))
	if head := storetest.Head(t, s); head.Epochs != "" {
		t.Fatalf("a new store has the epochs %x", head.Epochs)
	}
	exec(t, address, "UPDATE head SET timeline = timeline + 1") // as if the last batch was on another one
	storetest.Must(t, other, storetest.Hold("mug", ""))
	first := storetest.Head(t, s)
	if epoch := first.Epochs.At(first.Seq).Epoch; epoch == (inventory.Epoch{}) ||
		first.Epochs.At(first.Seq-1) != (inventory.Cursor{Seq: first.Seq - 1}) {
		t.Errorf("on a new timeline the epochs are %x", first.Epochs)
	}
	storetest.Must(t, s, storetest.Hold("mug", ""))
	if head := storetest.Head(t, s); head.Epochs != first.Epochs {
		t.Errorf("an epoch began on the same timeline: %x", head.Epochs)
	}
}

// TestNoFsync: a server that does not flush, or not whole pages, is served only when the operator says so, be it the
// one that was there at the start or one that is found later.
func TestNoFsync(t *testing.T) {
	_, address := dbtest.OwnPostgres(t)
	before := open(t, address, Options{timeouts: patient})
	for _, setting := range []string{"full_page_writes", "fsync"} {
		exec(t, address, "ALTER SYSTEM SET "+setting+" = off", "SELECT pg_reload_conf()")
		for deadline := time.Now().Add(10 * time.Second); ; { // the reload is asynchronous
			_, err := Open(context.Background(), address, Options{})
			if err != nil && strings.Contains(err.Error(), setting+"=on") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s=off: %v", setting, err)
			}
		}
		before.disconnect()
		if _, err := storetest.Commit(t.Context(), before, storetest.Product("mug")); !errors.Is(err, store.ErrUnavailable) ||
			!strings.Contains(err.Error(), setting+"=on") {
			t.Errorf("%s=off on a new connection: %v", setting, err)
		}
	}
	storetest.Must(t, open(t, address, Options{AcceptNoFsync: true}), storetest.Product("mug"))
}

// TestConcurrentStart: of several processes that start on an empty database one makes the tables.
func TestConcurrentStart(t *testing.T) {
	address := dbtest.Postgres(t)
	stores := make([]*Store, 6)
	var starting sync.WaitGroup
	for i := range stores {
		starting.Go(func() {
			var err error
			if stores[i], err = Open(context.Background(), address, Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	for i, s := range stores {
		if s != nil {
			storetest.Must(t, s, storetest.Product(fmt.Sprint("p", i)))
			s.Close()
		}
	}
}

// TestDamageIsNamed: what somebody changes in the tables is named by the audit.
func TestDamageIsNamed(t *testing.T) {
	address := dbtest.Postgres(t)
	s := open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"), storetest.Product("cup"))
	active := storetest.Must(t, s, storetest.Hold("mug", "k"), storetest.Hold("cup", ""))
	storetest.Must(t, s, &inventory.Request{Command: &inventory.Confirm{ReservationID: active[1].Reservation.ID}})
	breaches := func() (all string) {
		report, err := audit.Run(context.Background(), s, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range report.Breaches {
			all += b.String() + "\n"
		}
		return all
	}
	if found := breaches(); found != "" {
		t.Fatalf("before any damage: %s", found)
	}
	for damage, want := range map[string]string{
		"UPDATE stock SET available = available + 1 WHERE key = 3":             "I9: stock of mug",
		"UPDATE stock SET reserved = reserved + 1 WHERE key = 3":               "I2: stock of mug",
		"DELETE FROM stock WHERE key = 4":                                      "I9: stock of cup",
		"UPDATE reservations SET status = 3 WHERE status = 1":                  "column status",
		"UPDATE reservations SET expires_at = expires_at + 1 WHERE status = 1": "column expires_at",
		"UPDATE reservations SET customer = 'x'":                               "column customer",
		"UPDATE reservations SET stock = '{4}' WHERE status = 1":               "column stock does not name",
		"UPDATE reservations SET data = '\\x00'":                               "cannot be read",
		"DELETE FROM reservations WHERE status = 1":                            "its row is missing",
		"DELETE FROM holds":                                              "no row in holds",
		"INSERT INTO holds VALUES (3, 5, 4)":                             "no ACTIVE reservation with that deadline",
		"INSERT INTO holds SELECT 4, expires_at, reservation FROM holds": "the reservation has no line there",
		"UPDATE orders SET status = 2":                                   "column status",
		"UPDATE orders SET reference = 'x'":                              "column reference",
		"DELETE FROM orders":                                             "I4",
		"UPDATE journal SET events = overlay(events PLACING '\\x01' FROM 30) WHERE batch_no = 2": "was changed",
		"DELETE FROM journal WHERE batch_no = 2":                                                 "are missing",
		"UPDATE journal SET at = at + 1 WHERE batch_no = 1":                                      "was changed",
		"UPDATE journal SET last_seq = last_seq + 1 WHERE batch_no = 3":                          "was changed",
		"DELETE FROM journal WHERE batch_no = 3":                                                 "I9",
		"UPDATE products SET id = 'mugs' WHERE id = 'mug'":                                       "column id",
		"DELETE FROM products WHERE id = 'mug'": "its product " +
			"row 1 is missing",
		"UPDATE products SET data = (SELECT data FROM products WHERE id = 'cup') WHERE id = 'mug'": "column id",
		"UPDATE stock SET seq = 1 WHERE key = 3": "I9: stock of " +
			"mug",
		"UPDATE reservations SET data = (SELECT data FROM reservations WHERE status = 2) WHERE status = 1": "its key is not",
	} {
		exec(t, address, "CREATE SCHEMA saved_"+s.session.schema)
		for _, table := range tables {
			exec(t, address, fmt.Sprintf("CREATE TABLE saved_%s.%s AS TABLE %s", s.session.schema, table, table))
		}
		exec(t, address, damage)
		if found := breaches(); !strings.Contains(found, want) {
			t.Errorf("%s: want %q in\n%s", damage, want, found)
		}
		for _, table := range tables {
			exec(t, address, "TRUNCATE "+table, fmt.Sprintf("INSERT INTO %s SELECT * FROM saved_%s.%s", table, s.session.schema,
				table))
		}
		exec(t, address, "DROP SCHEMA saved_"+s.session.schema+" CASCADE")
	}
	if found := breaches(); found != "" {
		t.Fatalf("after all was put back: %s", found)
	}
}

var tables = []string{"head", "products", "stock", "reservations", "holds", "orders", "journal"}
