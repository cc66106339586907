package mongodb

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var backend = storetest.Backend{
	Open: func(t testing.TB, now func() time.Time) store.Store {
		address := dbtest.MongoDB(t)
		s := open(t, address, Options{Now: now})
		s.address = address
		return s
	},
	Reopen: func(t testing.TB, s store.Store, now func() time.Time) store.Store {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		address := s.(*Store).address
		again := open(t, address, Options{Now: now})
		again.address = address
		return again
	},
	Share: func(t testing.TB, s store.Store, now func() time.Time) store.Store {
		return open(t, s.(*Store).address, Options{Now: now})
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
