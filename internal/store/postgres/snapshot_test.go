package postgres

import (
	"context"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

var snapshotBatches = flag.Int("snapshot-batches", 5000, "batches of BenchmarkOpenSnapshot beside an open snapshot")

// BenchmarkOpenSnapshot compares the batch beside a snapshot that stays open, as that of pg_dump does, with the batch
// without one. PostgreSQL keeps all versions of changed rows meanwhile.
func BenchmarkOpenSnapshot(b *testing.B) {
	for _, products := range []int{1, 1000} {
		b.Run(fmt.Sprint("products=", products), func(b *testing.B) { beside(b, products) })
	}
}

func beside(b *testing.B, products int) {
	address := dbtest.Postgres(b)
	s := open(b, address, Options{timeouts: patient})
	for i := range products {
		storetest.Must(b, s, &inventory.Request{Command: &inventory.CreateProduct{
			ID: fmt.Sprint("p", i), Name: "Product", Price: inventory.Money{Amount: 1, Currency: "EUR"},
			TotalStock: int64(3 * (*snapshotBatches + sampled)), Location: inventory.MainLocation,
		}})
	}
	for b.Loop() {
		holdEach(b, s, products, sampled) // the first ones prepare
		without := holdEach(b, s, products, sampled)
		conn, err := pgx.Connect(context.Background(), address)
		if err != nil {
			b.Fatal(err)
		}
		for _, statement := range []string{"BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM head"} {
			if _, err := conn.Exec(context.Background(), statement); err != nil {
				b.Fatal(err)
			}
		}
		holdEach(b, s, products, *snapshotBatches)
		with := holdEach(b, s, products, sampled)
		_ = conn.Close(context.Background())
		b.ReportMetric(float64(without.Microseconds()), "µs/batch-without")
		b.ReportMetric(float64(with.Microseconds()), "µs/batch-beside")
		b.ReportMetric(float64(with)/float64(without), "ratio")
	}
}

// sampled is how many batches a median is of.
const sampled = 1000

// holdEach commits holds one by one, on one product after another, and returns the median time of a batch.
func holdEach(b *testing.B, s store.Store, products, n int) time.Duration {
	took := make([]time.Duration, n)
	for i := range took {
		hold := storetest.Hold(fmt.Sprint("p", i%products), "")
		begun := time.Now()
		storetest.Must(b, s, hold)
		took[i] = time.Since(begun)
	}
	slices.Sort(took)
	return took[n/2]
}

// TestOpenSnapshot: however many versions of a stock row an open snapshot keeps, a batch that changes the row reads a
// few pages.
func TestOpenSnapshot(t *testing.T) {
	address := dbtest.Postgres(t)
	s := open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"), storetest.Hold("mug", ""))
	snapshot, err := pgx.Connect(t.Context(), address)
	must(t, err)
	defer snapshot.Close(context.Background())
	for _, statement := range []string{"BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM head"} {
		_, err := snapshot.Exec(t.Context(), statement)
		must(t, err)
	}
	exec(t, address, "DO $$ BEGIN FOR i IN 1..10000 LOOP UPDATE stock SET seq = seq"+ofMug+"; END LOOP; END $$")
	trace := &trips{}
	s.disconnect()
	s.config.Tracer = trace
	storetest.Must(t, s, storetest.Hold("mug", ""))
	checked := 0
	for _, q := range slices.Clone(trace.queries) {
		if !regexp.MustCompile(`(FROM|JOIN|UPDATE) (stock|head)\b`).MatchString(q.SQL) {
			continue
		}
		checked++
		if n := pagesRead(t, s.writer, q.SQL, q.Args); n > 30 {
			t.Errorf("%d pages are read by %s", n, q.SQL)
		}
	}
	if checked < 4 {
		t.Errorf("%d statements about stock and head", checked)
	}
}

// ofMug selects the stock row of the only product.
const ofMug = " WHERE ctid = (SELECT ctid FROM stock WHERE key >= 2 AND key <= 2 ORDER BY key DESC LIMIT 1)"

// trips is a tracer that counts round trips and keeps the statements of batches.
type trips struct {
	n       int
	queries []pgx.TraceBatchQueryData
}

func (r *trips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	r.n++
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

// pagesRead runs a statement in a transaction that is taken back, and returns how many pages it read.
func pagesRead(t *testing.T, conn *pgx.Conn, sql string, arguments []any) int {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "UPDATE stock SET seq = seq - 1"+ofMug) // as before the batch that was traced
	must(t, err)
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	must(t, tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+sql, arguments...).Scan(&plans))
	return plans[0].Plan.Hit + plans[0].Plan.Read
}
