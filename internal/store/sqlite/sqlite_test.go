package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	lib "modernc.org/sqlite/lib"
	"pgregory.net/rapid"
	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

var backend = storetest.Backend{
	Open: func(t testing.TB, now func() time.Time) store.Store {
		return openFile(t, filepath.Join(t.TempDir(), "store.db"), now)
	},
	Reopen: func(t testing.TB, s store.Store, now func() time.Time) store.Store {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return openFile(t, s.(*Store).path, now)
	},
	Damage: func(t testing.TB, s store.Store, id inventory.ID) {
		err := exec(s.(*Store).writer, "UPDATE reservations SET data = x'00' WHERE key = ?", nil, integer(id.Sequence()))
		if err != nil {
			t.Fatal(err)
		}
	},
	Enforces: true,
}

func openFile(t testing.TB, path string, now func() time.Time) *Store {
	t.Helper()
	s, err := Open(path, Options{Now: now})
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

func commit(s *Store, commands ...inventory.Command) (outcomes []inventory.Outcome, err error) {
	requests := make([]*inventory.Request, len(commands))
	for i, c := range commands {
		requests[i] = &inventory.Request{Command: c, Salt: uint32(i), Receipt: &inventory.ReceiptID{}}
		copy(requests[i].Receipt.Key[:], time.Now().String()[11:])
	}
	err = s.Commit(context.Background(), inventory.KeysOf(requests),
		func(state *inventory.State) (changes *inventory.Changes, err error) {
			outcomes, changes, err = inventory.Decide(state, requests)
			return changes, err
		})
	return outcomes, err
}

func product(id string) *inventory.CreateProduct {
	return &inventory.CreateProduct{
		ID: id, Name: id, Price: inventory.Money{Amount: 1, Currency: "EUR"}, TotalStock: 10,
		Location: inventory.MainLocation,
	}
}

// TestUncommitted: after a flush that failed nobody knows what is on the disk. Where there was no space, or a write
// failed, nothing happened.
func TestUncommitted(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "store.db"), time.Now)
	for code, want := range map[sqlite.ResultCode]error{
		sqlite.ResultIOErrFsync: store.ErrBroken, sqlite.ResultBusy: store.ErrBroken,
		sqlite.ResultFull: store.ErrUnavailable, sqlite.ResultIOErrWrite: store.ErrUnavailable,
	} {
		err := s.uncommitted(code.ToError())
		if !errors.Is(err, want) || errors.Is(err, store.ErrBroken) != (want == store.ErrBroken) {
			t.Errorf("%v: %v", code, err)
		}
	}
}

// TestVersion: SQLite before 3.51.3 can corrupt a WAL database when a checkpoint meets a reset (sqlite.org/wal.html).
func TestVersion(t *testing.T) {
	if lib.SQLITE_VERSION_NUMBER < 3_051_003 {
		t.Fatalf("SQLite %s", lib.SQLITE_VERSION)
	}
}

// TestDurability: the settings on which every acknowledgement rests.
func TestDurability(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "store.db"), time.Now)
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "fullfsync": "1",
		"checkpoint_fullfsync": "1",
	} {
		got := ""
		err := exec(s.writer, "PRAGMA "+pragma, func(row *sqlite.Stmt) error {
			got = row.ColumnText(0)
			return nil
		})
		if err != nil || got != want {
			t.Errorf("%s is %s, want %s: %v", pragma, got, want, err)
		}
	}
}

// TestMissingRow: a change of a reservation that is not there is noticed, among several as by itself, and makes none.
func TestMissingRow(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "store.db"), time.Now)
	for _, n := range []int64{1, rowsPerStatement} {
		changed := rows{statements: updateReservations}
		var err error
		for key := range n {
			err = errors.Join(err, changed.add(s.writer, integer(key+1), integer(3), integer(0), blob([]byte{1})))
		}
		if err = errors.Join(err, changed.flush(s.writer)); err == nil || !strings.Contains(err.Error(), "changed 0 rows") {
			t.Errorf("%d rows: %v", n, err)
		}
	}
}

// TestInterrupt: a scan that would never end stops with its context, that of the view or of the method, and the
// connection goes on.
func TestInterrupt(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "store.db"), time.Now)
	const endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
	short := func(ctx context.Context) context.Context {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	for range 2 * readers {
		ctx := short(t.Context())
		err := s.View(ctx, func(v store.View) error { return exec(v.(*view).conn, endless, nil) })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the view: %v", err)
		}
		err = s.View(t.Context(), func(v store.View) error {
			ctx := short(t.Context())
			method := func() (err error) {
				defer v.(*view).during(ctx, &err)()
				return exec(v.(*view).conn, endless, nil)
			}
			if err := method(); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the method: %v", err)
			}
			_, err := v.Head(t.Context())
			return err
		})
		if err != nil {
			t.Fatalf("the view after its method: %v", err)
		}
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openFile(t, path, time.Now)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link} {
		if _, err := Open(name, Options{}); err == nil || !strings.Contains(err.Error(), path+" is already being served") {
			t.Errorf("opened twice by %s: %v", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openFile(t, path, time.Now)
}

func TestReadOnlyBesideAServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openFile(t, path, time.Now)
	if _, err := commit(s, product("mug")); err != nil {
		t.Fatal(err)
	}
	for _, running := range []bool{true, false} {
		if !running {
			s.Close()
		}
		reader, err := Open(path, Options{ReadOnly: true})
		if err != nil {
			t.Fatalf("running %v: %v", running, err)
		}
		if clock, sole := reader.SoleWriter(); sole || clock != nil {
			t.Errorf("running %v: a store for reading says that it alone writes", running)
		}
		err = reader.View(context.Background(), func(v store.View) error {
			page, _, err := v.Products(context.Background(), store.ProductQuery{Limit: 9})
			if len(page) != 1 {
				t.Errorf("running %v: %d products", running, len(page))
			}
			return err
		})
		if err != nil {
			t.Errorf("running %v: %v", running, err)
		}
		if _, err := commit(reader, product("cup")); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a read-only store committed: %v", err)
		}
		reader.Close()
	}
}

func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openFile(t, path, time.Now)
	storetest.Must(t, s, storetest.Product("mug"))
	for _, statement := range []string{
		"DROP TABLE records", "DROP TABLE holds_entered", "ALTER TABLE head DROP COLUMN epochs",
		"ALTER TABLE receipt_slots DROP COLUMN since", "UPDATE head SET format = 1", "PRAGMA user_version = 1",
	} {
		if err := exec(s.writer, statement, nil); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	storetest.Upgrade(t, func(readOnly bool) store.Store {
		s, err := Open(path, Options{ReadOnly: readOnly})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	})
}

func TestRefusedFiles(t *testing.T) {
	folder := t.TempDir()
	text := filepath.Join(folder, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is not a database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(text, Options{}); err == nil {
		t.Error("a text file was opened")
	}
	if _, err := Open(filepath.Join(folder, "none", "x.db"), Options{}); err == nil ||
		!strings.Contains(err.Error(), "folder") {
		t.Errorf("a folder that does not exist: %v", err)
	}
	if _, err := Open(filepath.Join(folder, "none.db"), Options{ReadOnly: true}); err == nil {
		t.Error("a file that does not exist was opened for reading")
	}
	newer := filepath.Join(folder, "newer.db")
	s := openFile(t, newer, time.Now)
	if err := exec(s.writer, "PRAGMA user_version = 99", nil); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, readOnly := range []bool{false, true} {
		if _, err := Open(newer, Options{ReadOnly: readOnly}); !errors.Is(err, store.ErrNewerFormat) {
			t.Errorf("a newer schema, read-only %v: %v", readOnly, err)
		}
	}
}

// TestCrashBeforeCommit opens a copy of the files as they are when everything is written and nothing committed.
func TestCrashBeforeCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openFile(t, path, time.Now)
	if _, err := commit(s, product("mug")); err != nil {
		t.Fatal(err)
	}
	crashed := filepath.Join(t.TempDir(), "store.db")
	s.beforeCommit = func() {
		if err := exec(s.writer, "PRAGMA cache_spill = 1", nil); err != nil {
			t.Error(err)
		}
		for _, suffix := range []string{"", "-wal"} {
			data, err := os.ReadFile(path + suffix)
			if err == nil {
				err = os.WriteFile(crashed+suffix, data, 0o600)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := commit(s, product("cup")); err != nil {
		t.Fatal(err)
	}
	after := openFile(t, crashed, time.Now)
	err := after.View(context.Background(), func(v store.View) error {
		page, _, err := v.Products(context.Background(), store.ProductQuery{Limit: 9})
		if len(page) != 1 || page[0].ID != "mug" {
			t.Errorf("after the crash: %d products", len(page))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := commit(after, product("cup")); err != nil {
		t.Fatal(err)
	}
}

// TestReceiptSlots: receipts are kept for at least 24 hours, and the tables of older ones are dropped.
func TestReceiptSlots(t *testing.T) {
	clock := storetest.NewClock()
	s := openFile(t, filepath.Join(t.TempDir(), "store.db"), clock.Now)
	for day := range 5 {
		if _, err := commit(s, product(string(rune('a'+day)))); err != nil {
			t.Fatal(err)
		}
		if want := min(day+1, slotsKept); len(s.receipts.live) != want {
			t.Fatalf("day %d: slots %v, want %d", day, s.receipts.live, want)
		}
		if _, err := commit(s, product(string(rune('k'+day)))); err != nil {
			t.Fatal(err)
		}
		tables := 0
		err := exec(s.writer, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name GLOB 'receipt*_[0-9]*'",
			func(row *sqlite.Stmt) error {
				tables = row.ColumnInt(0)
				return nil
			})
		if err != nil || tables != 2*len(s.receipts.live) {
			t.Fatalf("day %d: %d tables for %v: %v", day, tables, s.receipts.live, err)
		}
		clock.Advance(24 * time.Hour)
	}
}

func TestReceiptsOutliveJumps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	storetest.ReceiptsOutliveJumps(t, func(now func() time.Time, clock *store.Clock) store.Store {
		s, err := Open(path, Options{Now: now, Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
	if slots := openFile(t, path, time.Now).receipts.live; len(slots) != slotsKept {
		t.Errorf("the slots are %v", slots)
	}
}

// TestReceiptsAcrossDays: a receipt of today and of yesterday is found, also right after the turn of the day.
func TestReceiptsAcrossDays(t *testing.T) {
	clock := storetest.NewClock()
	s := openFile(t, filepath.Join(t.TempDir(), "store.db"), clock.Now)
	send := func(i int) inventory.Outcome {
		t.Helper()
		requests := []*inventory.Request{{
			Command: product(fmt.Sprint("p", i)), Receipt: &inventory.ReceiptID{Key: [16]byte{byte(i + 1)}},
		}}
		var outcomes []inventory.Outcome
		err := s.Commit(context.Background(), inventory.KeysOf(requests),
			func(state *inventory.State) (changes *inventory.Changes, err error) {
				outcomes, changes, err = inventory.Decide(state, requests)
				return changes, err
			})
		if err != nil {
			t.Fatal(err)
		}
		return outcomes[0]
	}
	const perDay = 3
	for day := range 4 {
		for i := day * perDay; i < (day+1)*perDay; i++ {
			if o := send(i); o.Replayed || o.Product == nil {
				t.Fatalf("day %d, first use of key %d: %+v", day, i, o)
			}
			for old := max(day-1, 0) * perDay; old <= i; old++ {
				if o := send(old); !o.Replayed || o.Product == nil || o.Product.ID != fmt.Sprint("p", old) {
					t.Fatalf("day %d, key %d again: %+v", day, old, o)
				}
			}
		}
		clock.Advance(24 * time.Hour)
	}
}

// TestReceiptIndex: a receipt is found in memory and through the index, after a failed batch, after the store was
// opened again, and from the slot before. A batch that failed leaves none, whether the store or SQLite has rolled it
// back.
func TestReceiptIndex(t *testing.T) {
	clock := storetest.NewClock()
	path := filepath.Join(t.TempDir(), "store.db")
	s := openFile(t, path, clock.Now)
	request := func(i int) *inventory.Request {
		r := &inventory.Request{Command: product(fmt.Sprint("p", i)), Receipt: &inventory.ReceiptID{}}
		r.Receipt.Key = [16]byte{byte(i * 37), byte(i), byte(i >> 8)}
		return r
	}
	run := func(fail bool, requests ...*inventory.Request) (outcomes []inventory.Outcome) {
		err := s.Commit(context.Background(), inventory.KeysOf(requests),
			func(state *inventory.State) (changes *inventory.Changes, err error) {
				outcomes, changes, err = inventory.Decide(state, requests)
				return changes, err
			})
		if (err != nil) != fail {
			t.Fatal(err)
		}
		return outcomes
	}
	const receipts = 2*shortestGeneration + 1000
	check := func(when string) {
		t.Helper()
		for i := 0; i < receipts; i += 97 {
			if o := run(false, request(i))[0]; !o.Replayed || o.Product.ID != fmt.Sprint("p", i) {
				t.Fatalf("%s: receipt %d: %+v", when, i, o)
			}
		}
	}
	for from := 0; from < receipts; from += 256 {
		var batch []*inventory.Request
		for i := from; i < min(from+256, receipts); i++ {
			batch = append(batch, request(i))
		}
		run(false, batch...)
	}
	if n := len(s.receipts.closed); n != 1 || s.receipts.closed[0].bucket == 0 || s.receipts.open.count == 0 {
		t.Fatalf("%d generations are closed, %d keys in the open one", n, s.receipts.open.count)
	}
	check("at once")
	for i, how := range []string{"ABORT", "ROLLBACK"} {
		refusing(t, s, how, func() { run(true, request(receipts+i)) })
		check("after a failed batch")
		if o := run(false, request(receipts+i))[0]; o.Replayed {
			t.Fatal("a failed batch left a receipt")
		}
	}
	before, err := readSlots(s.writer)
	if err != nil || before[0].indexed == 0 {
		t.Fatalf("slots %v: %v", before, err)
	}
	s.Close()
	s = openFile(t, path, clock.Now)
	check("opened again")
	clock.Advance(24 * time.Hour)
	for from := receipts + 9; from == receipts+9 || len(s.receipts.closed) > 0; from += 2 * stepKeys {
		var batch []*inventory.Request
		for i := range 2 * stepKeys {
			batch = append(batch, request(from+i))
		}
		run(false, batch...)
	}
	check("a day later")
	after, err := readSlots(s.writer)
	if err != nil || len(after) != 2 || after[1].indexed < receipts {
		t.Fatalf("the index of the day before went from %v to %v: %v", before, after, err)
	}
}

// refusing has SQLite refuse every batch at its last statement, and end it like this, while something runs.
func refusing(t rapid.TB, s *Store, how string, run func()) {
	do := func(statement string) {
		if err := exec(s.writer, statement, nil); err != nil {
			t.Fatal(err)
		}
	}
	do("CREATE TRIGGER refuse BEFORE UPDATE ON head BEGIN SELECT RAISE(" + how + ", 'refused'); END")
	run()
	do("DROP TRIGGER refuse")
}

// TestCacheAfterAFailure: what a batch that failed would have written is not taken for stored, nor cached.
func TestCacheAfterAFailure(t *testing.T) {
	for _, how := range []string{"ABORT", "ROLLBACK"} {
		s := openFile(t, filepath.Join(t.TempDir(), "store.db"), time.Now)
		if _, err := commitPlain(s, product("mug")); err != nil { // of 10 units
			t.Fatal(err)
		}
		hold := holdOf("mug", 60)
		hold.Lines[0].Quantity = 4
		refusing(t, s, how, func() {
			if _, err := commitPlain(s, hold); err == nil {
				t.Fatal("the batch was committed")
			}
		})
		hold.Lines[0].Quantity = 10
		if o, err := commitPlain(s, hold); err != nil || o[0].Refusal != nil {
			t.Errorf("%s: all units are there: %+v, %v", how, o, err)
		}
	}
}

// TestDamagedHolds: overdue holds that cannot be read keep their units, but no buyer waits for them for ever.
func TestDamagedHolds(t *testing.T) {
	clock := storetest.NewClock()
	s := openFile(t, filepath.Join(t.TempDir(), "store.db"), clock.Now)
	const holds = inventory.MaxOverdueLoaded + 5
	p := product("mug")
	p.TotalStock = holds
	hold := &inventory.Reserve{TTL: 1000, Lines: []inventory.ReserveLine{{
		ProductID: "mug",
		Location:  inventory.MainLocation, Quantity: 1,
	}}}
	if _, err := commit(s, p); err != nil {
		t.Fatal(err)
	}
	requests := make([]*inventory.Request, holds)
	for i := range requests {
		requests[i] = &inventory.Request{Command: hold}
	}
	decide := func(state *inventory.State) (*inventory.Changes, error) {
		_, changes, err := inventory.Decide(state, requests)
		return changes, err
	}
	if err := s.Commit(context.Background(), inventory.KeysOf(requests), decide); err != nil {
		t.Fatal(err)
	}
	if err := exec(s.writer, "UPDATE reservations SET data = x'00'", nil); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Minute)
	outcomes, err := commit(s, hold)
	if err != nil || outcomes[0].Deferred || outcomes[0].Refusal == nil ||
		outcomes[0].Refusal.Code != inventory.RefusedInsufficientStock {
		t.Fatalf("%+v %v", outcomes, err)
	}
}

// TestLogIsBounded: readers that follow each other without a gap do not make the write-ahead log grow for ever.
func TestLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openFile(t, path, time.Now)
	s.checkpoints = checkpoints{pages: 64, restartPages: 256, patience: 5 * time.Second, longPatience: 5 * time.Second}
	// Each view ends only once the next has begun: there is never a moment without a reader.
	var stop atomic.Bool
	var reading sync.WaitGroup
	var follow func(begun chan<- struct{})
	follow = func(begun chan<- struct{}) {
		err := s.View(context.Background(), func(v store.View) error {
			_, err := v.Head(context.Background())
			close(begun)
			if stop.Load() {
				return err
			}
			next := make(chan struct{})
			reading.Go(func() { follow(next) })
			<-next
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	first := make(chan struct{})
	reading.Go(func() { follow(first) })
	<-first
	for i := range 800 {
		if _, err := commit(s, product(fmt.Sprint("p", i))); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	reading.Wait()
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pages in the log", info.Size()/4096)
	if pages := info.Size() / 4096; pages > 1000 {
		t.Errorf("the log has grown to %d pages", pages)
	}
}

// TestLogHeldUp: where another program keeps a snapshot open, the writer waits for it ever more seldom, says so once,
// and copies the log once that has ended.
func TestLogHeldUp(t *testing.T) {
	clock := storetest.NewClock()
	path := filepath.Join(t.TempDir(), "store.db")
	var log bytes.Buffer
	s, err := Open(path, Options{Now: clock.Now, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.checkpoints = checkpoints{
		pages: 64, restartPages: 64, patience: time.Millisecond, longPatience: 2 * time.Millisecond,
		firstPause: 10 * time.Second, longestPause: 30 * time.Second,
	}
	foreign, err := s.connect(sqlite.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	if err := errors.Join(exec(foreign, "BEGIN", nil), exec(foreign, "SELECT * FROM head", nil)); err != nil {
		t.Fatal(err)
	}
	n := 0
	write := func(batches int) {
		for range batches {
			if n++; err == nil {
				_, err = commit(s, product(fmt.Sprint("p", n)))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(300)
	for failed, pause := range []time.Duration{10, 20, 30, 30} {
		write(20) // far more than makes a checkpoint due
		if s.heldUp.attempts != failed+1 {
			t.Errorf("%d attempts, want %d", s.heldUp.attempts, failed+1)
		}
		clock.Advance(pause*time.Second - time.Millisecond)
		write(20)
		if s.heldUp.attempts != failed+1 {
			t.Errorf("an attempt before %d seconds had passed", pause)
		}
		clock.Advance(time.Millisecond)
	}
	if err := exec(foreign, "ROLLBACK", nil); err != nil {
		t.Fatal(err)
	}
	write(20)
	if length, _, err := s.walCheckpoint("PRAGMA wal_checkpoint(PASSIVE)"); err != nil || length > 256 ||
		s.heldUp.attempts != 0 {
		t.Errorf("after the snapshot has ended: %d pages in the log, %+v: %v", length, s.heldUp, err)
	}
	if lines := log.String(); strings.Count(lines, "WARN") != 1 || !strings.Contains(lines, "failed_attempts=4") {
		t.Errorf("the log: %s", lines)
	}
}

// BenchmarkSlotRotation measures the batch that opens a new receipt slot where an old one has 200,000 receipts, as happens
// once a day.
func BenchmarkSlotRotation(b *testing.B) {
	const receipts = 200_000
	for range b.N {
		b.StopTimer()
		s := openFile(b, filepath.Join(b.TempDir(), "store.db"), time.Now)
		random := rand.NewChaCha8([32]byte{})
		write := func(n int, day inventory.Time) {
			list := make([]*inventory.Receipt, n)
			for i := range list {
				list[i] = &inventory.Receipt{Answer: make([]byte, 110)}
				_, _ = random.Read(list[i].Key[:])
			}
			err := exec(s.writer, "BEGIN IMMEDIATE", nil)
			var written receiptsWritten
			if err == nil {
				written, err = s.receipts.write(s.writer, list, s.receipts.since, day*store.RotateEvery)
			}
			if err == nil {
				err = exec(s.writer, "COMMIT", nil)
			}
			if err != nil {
				b.Fatal(err)
			}
			s.receipts.committed(&written)
		}
		for range receipts / 1000 {
			write(1000, 1)
		}
		write(1, 2)
		b.StartTimer()
		write(1, 3)
	}
}

// BenchmarkKeys holds one product 64 times a batch, each time with a random key, with no receipts stored and with a
// million.
func BenchmarkKeys(b *testing.B) {
	for _, stored := range []int{0, 1_000_000} {
		b.Run(fmt.Sprint("stored=", stored), func(b *testing.B) {
			s := openFile(b, filepath.Join(b.TempDir(), "store.db"), time.Now)
			p := product("mug")
			p.TotalStock = 1 << 40
			if _, err := commitPlain(s, p); err != nil {
				b.Fatal(err)
			}
			random := rand.NewChaCha8([32]byte{})
			batch := func(n int) {
				requests := make([]*inventory.Request, n)
				for i := range requests {
					requests[i] = &inventory.Request{Receipt: &inventory.ReceiptID{}, Command: &inventory.Reserve{
						TTL:   time.Hour.Milliseconds(),
						Lines: []inventory.ReserveLine{{ProductID: "mug", Location: inventory.MainLocation, Quantity: 1}},
					}}
					_, _ = random.Read(requests[i].Receipt.Key[:])
				}
				err := s.Commit(context.Background(), inventory.KeysOf(requests),
					func(state *inventory.State) (*inventory.Changes, error) {
						_, changes, err := inventory.Decide(state, requests)
						return changes, err
					})
				if err != nil {
					b.Fatal(err)
				}
			}
			for range stored / 1000 {
				batch(1000)
			}
			b.ResetTimer()
			for range b.N {
				batch(64)
			}
			b.ReportMetric(float64(b.N*64)/b.Elapsed().Seconds(), "holds/s")
		})
	}
}

// BenchmarkExpire ends 256 holds a batch out of 200,000 of 1,000 products, as the sweeper does when many lapse at once.
func BenchmarkExpire(b *testing.B) {
	const products, pass, holds = 1000, 256, 200_000
	clock := storetest.NewClock()
	s := openFile(b, filepath.Join(b.TempDir(), "store.db"), clock.Now)
	for i := range products {
		p := product(fmt.Sprint("p", i))
		p.TotalStock = holds
		if _, err := commitPlain(s, p); err != nil {
			b.Fatal(err)
		}
	}
	requests := make([]inventory.Command, products)
	for i := range requests {
		requests[i] = &inventory.Reserve{
			TTL:   1000,
			Lines: []inventory.ReserveLine{{ProductID: fmt.Sprint("p", i), Location: inventory.MainLocation, Quantity: 1}},
		}
	}
	var due []inventory.ID
	for range b.N {
		b.StopTimer()
		if len(due) < pass {
			for range holds / products {
				outcomes, err := commitPlain(s, requests...)
				if err != nil {
					b.Fatal(err)
				}
				for _, o := range outcomes {
					due = append(due, o.Reservation.ID)
				}
			}
			clock.Advance(2 * time.Second)
		}
		b.StartTimer()
		if _, err := commitPlain(s, &inventory.Expire{IDs: due[:pass]}); err != nil {
			b.Fatal(err)
		}
		due = due[pass:]
	}
	b.ReportMetric(float64(b.N*pass)/b.Elapsed().Seconds(), "holds/s")
}

// commitPlain commits commands without idempotency keys.
func commitPlain(s *Store, commands ...inventory.Command) (outcomes []inventory.Outcome, err error) {
	requests := make([]*inventory.Request, len(commands))
	for i, c := range commands {
		requests[i] = &inventory.Request{Command: c, Salt: uint32(i)}
	}
	err = s.Commit(context.Background(), inventory.KeysOf(requests),
		func(state *inventory.State) (changes *inventory.Changes, err error) {
			outcomes, changes, err = inventory.Decide(state, requests)
			return changes, err
		})
	return outcomes, err
}
