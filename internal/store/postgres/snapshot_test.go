package postgres

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

var snapshotBatches = flag.Int("snapshot-batches", 5000, "batches of BenchmarkOpenSnapshot beside an open snapshot")

// BenchmarkOpenSnapshot compares the batch beside a snapshot that stays open, as that of pg_dump does, with the batch
// without one. PostgreSQL keeps all versions of changed rows of a database for its snapshots. So there are two stores
// in two databases, one with a snapshot, and each batch of the one is followed by one of the other.
func BenchmarkOpenSnapshot(b *testing.B) {
	for _, products := range []int{1, 1000} {
		b.Run(fmt.Sprint("products=", products), func(b *testing.B) {
			beside, without := stockedStore(b, products), stockedStore(b, products)
			openSnapshot(b, beside.config.ConnString())
			for b.Loop() {
				compare(b, beside, without, products)
			}
		})
	}
}

// stockedStore opens a store in a database of its own.
func stockedStore(b *testing.B, products int) *Store {
	u, err := url.Parse(dbtest.Postgres(b))
	if err != nil {
		b.Fatal(err)
	}
	address, name := u.String(), "snapshot_"+strings.ToLower(rand.Text()[:8])
	exec(b, address, "CREATE DATABASE "+name)
	b.Cleanup(func() { exec(b, address, "DROP DATABASE "+name+" WITH (FORCE)") })
	u.Path = "/" + name
	s := open(b, u.String(), Options{timeouts: patient})
	for i := range products {
		storetest.Must(b, s, &inventory.Request{Command: &inventory.CreateProduct{
			ID: fmt.Sprint("p", i), Name: "Product", Price: inventory.Money{Amount: 1, Currency: "EUR"},
			TotalStock: int64(3 * *snapshotBatches), Location: inventory.MainLocation,
		}})
	}
	return s
}

// openSnapshot opens a snapshot until the test ends.
func openSnapshot(t testing.TB, address string) {
	conn, err := pgx.Connect(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	for _, statement := range []string{"BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM head"} {
		if _, err := conn.Exec(context.Background(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// compare commits holds one by one, on one product after another, and compares the median times of the last ones.
func compare(b *testing.B, beside, without *Store, products int) {
	took := map[*Store][]time.Duration{}
	for i := range *snapshotBatches {
		for _, s := range []*Store{beside, without} {
			hold := storetest.Hold(fmt.Sprint("p", i%products), "")
			begun := time.Now()
			storetest.Must(b, s, hold)
			took[s] = append(took[s], time.Since(begun))
		}
	}
	median := func(s *Store) float64 {
		last := took[s][max(0, len(took[s])-lastBatches):]
		slices.Sort(last)
		return float64(last[len(last)/2].Microseconds())
	}
	b.ReportMetric(median(without), "µs/batch-without")
	b.ReportMetric(median(beside), "µs/batch-beside")
	b.ReportMetric(median(beside)/median(without), "ratio")
}

// lastBatches is how many batches the medians are of.
const lastBatches = 2000

// TestOpenSnapshot: however many versions of a stock row an open snapshot keeps, a batch that changes the row reads a few
// pages, though its plans were made when there was one version.
func TestOpenSnapshot(t *testing.T) {
	address := dbtest.Postgres(t)
	trace := &trips{}
	s := open(t, address, Options{tracer: trace, timeouts: patient})
	storetest.Must(t, s, storetest.Product("mug"), storetest.Hold("mug", ""))
	trace.queries = nil
	storetest.Must(t, s, storetest.Hold("mug", ""))
	about := regexp.MustCompile(`(FROM|JOIN|UPDATE) (stock|head)\b`)
	statements := slices.DeleteFunc(trace.queries, func(q pgx.TraceBatchQueryData) bool { return !about.MatchString(q.SQL) })
	if len(statements) < 4 {
		t.Errorf("%d statements about stock and head", len(statements))
	}
	for i, q := range statements {
		_, err := s.writer.Prepare(t.Context(), fmt.Sprint("statement", i), q.SQL)
		must(t, err)
		pagesRead(t, s.writer, i, q.Args)
	}
	openSnapshot(t, address)
	exec(t, address, "DO $$ BEGIN FOR i IN 1..10000 LOOP UPDATE stock SET seq = seq"+ofMug+"; END LOOP; END $$")
	for i, q := range statements {
		if n := pagesRead(t, s.writer, i, q.Args); n > 30 {
			t.Errorf("%d pages are read by %s", n, q.SQL)
		}
	}
}

// ofMug selects the stock row of the only product.
const ofMug = " WHERE ctid = (SELECT ctid FROM stock WHERE key >= 2 AND key <= 2 ORDER BY key DESC LIMIT 1)"

// trips is a tracer that counts round trips and keeps the statements of batches.
type trips struct {
	n       int
	single  string // the last statement that was sent by itself
	queries []pgx.TraceBatchQueryData
}

func (r *trips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.n++
	r.single = data.SQL
	return ctx
}

func (r *trips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (r *trips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	r.n++
	return ctx
}

func (r *trips) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	r.queries = append(r.queries, data)
}

func (r *trips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// pagesRead runs a prepared statement in a transaction that is taken back, and returns how many pages it read.
func pagesRead(t *testing.T, conn *pgx.Conn, i int, arguments []any) int {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "UPDATE stock SET seq = seq - 1"+ofMug) // as before the batch that was traced
	must(t, err)
	execute := fmt.Sprint("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE statement", i)
	for n := range arguments {
		execute += fmt.Sprintf("%c$%d", "(,"[min(n, 1)], n+1)
	}
	if len(arguments) > 0 {
		execute += ")"
	}
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	must(t, tx.QueryRow(t.Context(), execute, append([]any{pgx.QueryExecModeSimpleProtocol}, arguments...)...).Scan(&plans))
	return plans[0].Plan.Hit + plans[0].Plan.Read
}
