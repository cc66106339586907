package bench

import (
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/load"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// redisURL is that of a Redis server of the test's own.
func redisURL(t *testing.T, appendfsync string) string {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil && !dbtest.Required("redis") {
		t.Skipf("SKIPPED: %v", errNoRedis)
	}
	s, err := StartRedis(t.Context(), t.TempDir(), appendfsync)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s.URL
}

// TestPeersSellOut: every peer that is there sells exactly what it has, however many want it at once, and says so in the
// answers that Holdfast gives: else its figures would not be worth comparing with.
func TestPeersSellOut(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		address    func(t *testing.T) string
	}{
		{"sqlite", SQLite, func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "peer.db") }},
		{"postgres guarded", PostgresGuarded, func(t *testing.T) string { return schema(t, dbtest.Postgres(t)) }},
		{"postgres for update", PostgresForUpdate, func(t *testing.T) string { return schema(t, dbtest.Postgres(t)) }},
		{"mongodb", MongoDB, func(t *testing.T) string { return dbtest.MongoDB(t) }},
		{"redis always", Redis, func(t *testing.T) string { return redisURL(t, FsyncAlways) }},
		{"redis everysec", Redis, func(t *testing.T) string { return redisURL(t, FsyncEverySec) }},
	} {
		t.Run(c.name, func(t *testing.T) { sellOut(t, c.kind, c.address(t)) })
	}
}

// schema makes the schema of a URL, as a scratch place has it.
func schema(t *testing.T, address string) string {
	t.Helper()
	_, name, _ := strings.Cut(address, "search_path=")
	name, _, _ = strings.Cut(name, "&")
	if err := execPostgres(t.Context(), address, "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	return address
}

func sellOut(t *testing.T, kind, address string) {
	const units, clients = 40, 8
	peer, err := OpenPeer(t.Context(), kind, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := peer.Close(); err != nil {
			t.Error(err)
		}
	}()
	server := httptest.NewServer(ServePeer(peer))
	defer server.Close()
	w := load.Workload{Name: "sellout", Products: 2, Lines: 1, Units: units}
	if err := load.Prepare(t.Context(), server.URL, &w, "p"); err != nil {
		t.Fatal(err)
	}
	o := load.RunOptions{
		Host: strings.TrimPrefix(server.URL, "http://"), Workload: w, Prefix: "p", Clients: clients, Duration: load.Interval,
	}
	var sold int64
	for range 100 { // of a slow database, a round may not sell all
		r, err := load.Run(t.Context(), o)
		if err != nil || r.Failed() != nil {
			t.Fatal(err, r.Failed())
		}
		sold += r.Good
		if r.Good == 0 && r.Refusals["insufficient-stock"] > 0 {
			break
		}
		o.Seed++
	}
	if sold != 2*units {
		t.Errorf("sold %d of %d", sold, 2*units)
	}
}
