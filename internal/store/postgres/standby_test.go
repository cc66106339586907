package postgres

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// headOf is the head as a view shows it.
func headOf(t *testing.T, s *Store) (h store.Head, err error) {
	t.Helper()
	err = s.View(t.Context(), func(v store.View) (err error) {
		h, err = v.Head(t.Context())
		return err
	})
	return h, err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestStandby: a standby serves nobody but those who only read, and a name that leads to one and back is followed.
func TestStandby(t *testing.T) {
	pair := dbtest.NewPostgresPair(t)
	primary, address := pair.Primary()
	standby, standbyAddress := pair.Standby()
	both := open(t, pair.URL(), Options{}) // the standby is the first of its hosts
	storetest.Must(t, both, storetest.Product("mug"))
	must(t, pair.Synchronous())
	storetest.Must(t, both, storetest.Hold("mug", ""))

	if _, err := Open(t.Context(), standbyAddress, Options{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a store on a standby: %v", err)
	}
	reader := open(t, standbyAddress, Options{ReadOnly: true})
	if h, err := headOf(t, reader); err != nil || h.BatchNo != 2 {
		t.Errorf("a store for reading on a standby: %+v %v", h, err)
	}

	proxy, name := dbtest.NewProxy(t, address)
	s := open(t, name, Options{})
	proxy.Down()
	proxy.Target(standby.Port)
	proxy.Up()
	if _, err := storetest.Commit(t.Context(), s, storetest.Hold("mug", "")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a batch while the name leads to the standby: %v", err)
	}
	for range 3 {
		if _, err := headOf(t, s); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a view while the name leads to the standby: %v", err)
		}
	}
	proxy.Target(primary.Port) // and nobody drops the connections to the standby
	storetest.Must(t, s, storetest.Hold("mug", ""))
	if h, err := headOf(t, s); err != nil || h.BatchNo != 3 {
		t.Errorf("back at the primary: %+v %v", h, err)
	}
}

// TestOldPrimaryIsStillUp: once this process commits elsewhere, its readers leave a primary that was replaced, and
// lives. Those who get there all the same are not shown its state. Where the store itself has gone back, they are.
func TestOldPrimaryIsStillUp(t *testing.T) {
	pair := dbtest.NewPostgresPair(t)
	old, address := pair.Primary()
	proxy, name := dbtest.NewProxy(t, address)
	s := open(t, with(name, "pool_max_conns=1"), Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	must(t, pair.Synchronous())
	if h, err := headOf(t, s); err != nil || h.BatchNo != 1 {
		t.Fatalf("%+v %v", h, err)
	}
	must(t, pair.Promote()) // and the old primary does not know
	promoted, _ := pair.Primary()
	proxy.Target(promoted.Port)
	s.disconnect()
	storetest.Must(t, s, storetest.Hold("mug", ""))
	if h, _, _, err := s.Look(t.Context(), 0, 10, 1<<20); err != nil || h.BatchNo != 2 {
		t.Errorf("a look after the failover: %+v %v", h, err)
	}
	proxy.Target(old.Port)
	s.readers.Reset()
	if _, err := headOf(t, s); !errors.Is(err, errStale) {
		t.Errorf("a view of the old primary: %v", err)
	}
	must(t, pair.Alone(old))
	s.disconnect() // the store has gone back to its first batch
	if h, err := headOf(t, s); err != nil || h.BatchNo != 1 {
		t.Errorf("a store that has gone back: %+v %v", h, err)
	}
}

// TestServerBecomesReadOnly: a connection that somehow leads to a server that only reads is given up by the batch or
// view that notices, and the next one finds the primary.
func TestServerBecomesReadOnly(t *testing.T) {
	pair := dbtest.NewPostgresPair(t)
	_, address := pair.Primary()
	_, standbyAddress := pair.Standby()
	s := open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	must(t, pair.Synchronous())
	storetest.Must(t, s, storetest.Hold("mug", ""))

	onStandby, err := pgxpool.ParseConfig(standbyAddress)
	must(t, err)
	config := s.config
	s.disconnect()
	s.config = onStandby.ConnConfig
	must(t, s.connect(t.Context()))
	s.config = config
	storetest.Must(t, s, storetest.Hold("mug", ""))

	onStandby.AfterConnect = s.session.prepare
	pool, err := pgxpool.NewWithConfig(t.Context(), onStandby)
	must(t, err)
	t.Cleanup(s.readers.Close)
	right := s.readers
	s.readers = pool
	if _, err := headOf(t, s); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, errStandby) {
		t.Errorf("a view of a standby: %v", err)
	}
	if n := pool.Stat().IdleConns(); n != 0 {
		t.Errorf("%d connections to the standby are left", n)
	}
	s.readers = right
	pool.Close()
}
