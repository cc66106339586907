package postgres

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// with adds parameters to a URL.
func with(address, parameters string) string {
	if strings.Contains(address, "?") {
		return address + "&" + parameters
	}
	return address + "?" + parameters
}

// TestPgBouncer: behind PgBouncer with its defaults, a store works and has its settings. Where transactions are pooled,
// it is refused in a sentence.
func TestPgBouncer(t *testing.T) {
	server, _ := dbtest.OwnPostgres(t)
	t.Run("sessions", func(t *testing.T) {
		address := with(dbtest.PgBouncer(t, server), "search_path=shop&lock_timeout=7s&pool_max_conns=2")
		s := open(t, address, Options{})
		storetest.Must(t, s, storetest.Product("mug"), storetest.Hold("mug", ""))
		for name, want := range map[string]string{
			"search_path": `"shop"`, "lock_timeout": "7s", "idle_in_transaction_session_timeout": "3s", "enable_seqscan": "off",
		} {
			var got string
			if err := s.writer.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&got); err != nil || got != want {
				t.Errorf("%s is %q, want %q (%v)", name, got, want, err)
			}
		}
	})
	t.Run("transactions", func(t *testing.T) {
		for _, more := range []string{"", "server_round_robin = 1", "ignore_startup_parameters = search_path"} {
			address := dbtest.PgBouncer(t, server, "pool_mode = transaction", more)
			if _, err := Open(context.Background(), address, Options{}); !errors.Is(err, errPooled) {
				t.Errorf("pooled transactions, %q: %v", more, err)
			}
		}
	})
}

// TestForeignSession: a batch and a view that find the mark of another session had no effect, and the next ones are on
// new connections.
func TestForeignSession(t *testing.T) {
	s := open(t, with(dbtest.Postgres(t), "pool_max_conns=1"), Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	if _, err := s.writer.Exec(t.Context(), "SET "+markSetting+" = 'another'"); err != nil {
		t.Fatal(err)
	}
	foreign := s.writer
	storetest.Must(t, s, storetest.Hold("mug", ""))
	if s.writer == foreign {
		t.Error("a batch was committed in a foreign session")
	}
	if _, err := s.readers.Exec(t.Context(), "SET "+markSetting+" = 'another'"); err != nil {
		t.Fatal(err)
	}
	if _, err := headOf(t, s); !errors.Is(err, errPooled) {
		t.Errorf("a view of a foreign session: %v", err)
	}
	if _, err := headOf(t, s); err != nil {
		t.Errorf("the view after it: %v", err)
	}
}

// TestSearchPath: the first schema is the one that PostgreSQL takes the name for, and no other is made.
func TestSearchPath(t *testing.T) {
	_, address := dbtest.OwnPostgres(t)
	for path, want := range map[string]string{
		"Shop": "shop", "SHOP,public": "shop", "%22Shop%22": "Shop", "%22a%22%22b,c%22%20,%20public": `a"b,c`,
	} {
		s := open(t, with(address, "search_path="+path), Options{})
		storetest.Must(t, s, storetest.Product("mug-"+path[len(path)-1:]))
		var schema string
		if err := s.writer.QueryRow(t.Context(), "SELECT current_schema()").Scan(&schema); err != nil || schema != want {
			t.Errorf("search_path=%s: %q, want %q (%v)", path, schema, want, err)
		}
		var tables int
		if err := s.writer.QueryRow(t.Context(), "SELECT count(*) FROM pg_tables WHERE schemaname = $1", want).
			Scan(&tables); err != nil || tables == 0 {
			t.Errorf("search_path=%s: %d tables (%v)", path, tables, err)
		}
	}
	for _, path := range []string{"", "%22open", "$user", strings.Repeat("x", 64)} {
		if _, err := Open(t.Context(), with(address, "search_path="+path), Options{}); err == nil ||
			!strings.Contains(err.Error(), "search_path") {
			t.Errorf("search_path=%s: %v", path, err)
		}
	}
}

// TestForcedSettings: what every session needs, neither the URL nor the role nor the database can change.
func TestForcedSettings(t *testing.T) {
	_, address := dbtest.OwnPostgres(t)
	wrong := [][2]string{{"bytea_output", "escape"}, {"client_min_messages", "error"}}
	var options []string
	for _, setting := range wrong {
		exec(t, address, "ALTER ROLE postgres SET "+setting[0]+" = "+setting[1],
			"ALTER DATABASE postgres SET "+setting[0]+" = "+setting[1])
		options = append(options, "-c "+setting[0]+"="+setting[1])
		address = with(address, setting[0]+"="+setting[1])
	}
	literal := strings.ReplaceAll(url.QueryEscape(strings.Join(options, " ")), "+", "%20")
	s := open(t, with(address, "options="+literal), Options{timeouts: patient})
	for _, forced := range forcedSettings {
		var writer, reader string
		must(t, s.writer.QueryRow(t.Context(), "SELECT current_setting($1)", forced[0]).Scan(&writer))
		must(t, s.readers.QueryRow(t.Context(), "SELECT current_setting($1)", forced[0]).Scan(&reader))
		if writer != forced[1] || reader != forced[1] {
			t.Errorf("%s is %q where batches are committed and %q for readers, want %q", forced[0], writer, reader, forced[1])
		}
	}
	storetest.Must(t, s, storetest.Product("mug"))
	exec(t, address, "UPDATE holdfast.head SET timeline = timeline + 1") // so that an epoch begins
	storetest.Must(t, s, storetest.Hold("mug", ""))
	if h, err := headOf(t, s); err != nil || h.Epochs == "" {
		t.Errorf("the head once an epoch has begun: %+v %v", h, err)
	}
}

// TestReadersStay: readers keep their connections where the one that commits is lost, and made anew to the same server.
func TestReadersStay(t *testing.T) {
	s := open(t, with(dbtest.Postgres(t), "pool_max_conns=1"), Options{timeouts: patient})
	storetest.Must(t, s, storetest.Product("mug"))
	before := s.readers.Stat().NewConnsCount()
	s.disconnect()
	storetest.Must(t, s, storetest.Hold("mug", ""))
	if h, err := headOf(t, s); err != nil || h.BatchNo != 2 {
		t.Errorf("%+v %v", h, err)
	}
	if n := s.readers.Stat().NewConnsCount() - before; n != 0 {
		t.Errorf("readers have made %d connections", n)
	}
}

// TestViewOutlastsIdleTime: a view that waits within its transaction until it is known what became of a batch is not
// ended by the server for being idle, as the connection that commits is.
func TestViewOutlastsIdleTime(t *testing.T) {
	short := patient
	short.idle = 50 * time.Millisecond
	address := dbtest.Postgres(t)
	s := open(t, with(address, "pool_max_conns=1"), Options{timeouts: short})
	storetest.Must(t, s, storetest.Product("mug"))
	var reader uint32
	must(t, s.readers.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&reader))
	s.flight.begin(1)
	seen := make(chan error, 1)
	go func() {
		seen <- s.View(t.Context(), func(v store.View) error {
			_, err := v.Head(t.Context()) // waits
			_, _, err2 := v.Products(t.Context(), store.ProductQuery{IDs: []string{"mug"}})
			return errors.Join(err, err2)
		})
	}()
	beside, err := pgx.Connect(t.Context(), address)
	must(t, err)
	defer beside.Close(context.Background())
	for idle := false; !idle; { // or ended
		must(t, beside.QueryRow(t.Context(), "SELECT count(*) = 0 OR bool_or(state = 'idle in transaction' AND "+
			"state_change < clock_timestamp() - interval '250 ms') FROM pg_stat_activity WHERE pid = $1", int64(reader)).
			Scan(&idle))
	}
	s.flight.end(nil)
	must(t, <-seen)
}
