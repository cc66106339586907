package memory

import (
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

var backend = storetest.Backend{
	Open: func(_ testing.TB, now func() time.Time) store.Store { return Open(Options{Now: now}) },
}

func TestStore(t *testing.T)      { storetest.Run(t, backend) }
func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, backend) }

func BenchmarkOverdue(b *testing.B) { storetest.BenchmarkOverdue(b, backend) }
