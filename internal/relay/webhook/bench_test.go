package webhook

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store/sqlite"
)

// BenchmarkDeliveries sends the events of as many products to a receiver that answers in 5 ms, over the loopback.
func BenchmarkDeliveries(b *testing.B) {
	s, err := sqlite.Open(filepath.Join(b.TempDir(), "store.db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	e := engine.Open(s, engine.Options{})
	defer e.Close(context.Background())
	var makers sync.WaitGroup
	var next atomic.Int64
	for range 64 {
		makers.Go(func() {
			for next.Add(1) <= int64(b.N) {
				p := &inventory.CreateProduct{Name: "p", Price: inventory.Money{Currency: "EUR"}, Location: inventory.MainLocation}
				request := &inventory.Request{Salt: uint32(next.Load()), Command: p}
				if _, err := e.Do(context.Background(), request); err != nil {
					b.Error(err)
				}
			}
		})
	}
	makers.Wait()
	var count atomic.Int64
	done := make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		time.Sleep(5 * time.Millisecond) // of the receiver's work
		if count.Add(1) == int64(b.N) {
			close(done)
		}
	}))
	defer receiver.Close()
	hook := &inventory.CreateWebhook{URL: receiver.URL, Secret: "s", After: &inventory.Cursor{}}
	if _, err := e.Do(context.Background(), &inventory.Request{Command: hook}); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var running sync.WaitGroup
	b.ResetTimer()
	running.Go(func() { New(Options{Engine: e, Private: true}).Run(ctx) })
	<-done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
	cancel()
	running.Wait()
}
