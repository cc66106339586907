package relaytest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// Bench measures a sink: how many events a second it takes while holds come in, and how long an idle one needs from the
// commit of an event to its acknowledgement. Run it with -benchtime 1x: -relay-events says how many events are waiting
// for the first, and one in a hundred of them is sent for the second.
func Bench(b *testing.B, fresh func(t testing.TB) Backend) {
	b.Run("Behind", func(b *testing.B) { measure(b, fresh, behind) })
	b.Run("Idle", func(b *testing.B) { measure(b, fresh, idle) })
}

func measure(b *testing.B, fresh func(t testing.TB) Backend, measure func(*fixture, *testing.B)) {
	for range b.N {
		e := engine.Open(memory.Open(memory.Options{}), engine.Options{})
		measure(&fixture{TB: b, Backend: fresh(b), engine: e}, b)
		_ = e.Close(context.Background())
	}
}

// So many buyers make holds, each with a pause between them: some thousand a second in all.
const (
	buyers     = 16
	buyerPause = 3 * time.Millisecond
)

// behind: so many events are waiting, and more come in until they have been sent.
func behind(f *fixture, b *testing.B) {
	f.stock()
	f.produce(*events)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var holds atomic.Int64
	var group sync.WaitGroup
	for i := range buyers {
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				f.hold(uint32(n*buyers + i))
				holds.Add(1)
				time.Sleep(buyerPause)
			}
		})
	}
	accepted := newCounter()
	begun := time.Now()
	end := f.relay(accepted.add)
	accepted.reach(f, *events)
	seconds := time.Since(begun).Seconds()
	stop()
	group.Wait()
	end()
	b.ReportMetric(float64(*events)/seconds, "events/s")
	b.ReportMetric(float64(holds.Load())/seconds, "holds/s")
}

// idle: one event at a time.
func idle(f *fixture, b *testing.B) {
	f.stock()
	accepted := newCounter()
	end := f.relay(accepted.add)
	accepted.reach(f, 1)
	var took []time.Duration
	for n := range max(1, *events/100) {
		f.hold(uint32(n))
		committed := time.Now()
		accepted.reach(f, n+2)
		took = append(took, time.Since(committed))
	}
	end()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
}

// plenty is a product with enough for all buyers.
const plenty = "plenty"

func (f *fixture) stock() {
	f.do(&inventory.Request{Command: &inventory.CreateProduct{
		ID: plenty, Name: "Plenty", Price: inventory.Money{Amount: 1, Currency: "EUR"}, TotalStock: 1e12,
		Location: inventory.MainLocation,
	}})
}

func (f *fixture) hold(salt uint32) {
	f.do(&inventory.Request{Salt: salt, Command: &inventory.Reserve{
		Lines: []inventory.ReserveLine{{ProductID: plenty, Location: inventory.MainLocation, Quantity: 1}}, TTL: 600_000,
	}})
}

func (f *fixture) do(r *inventory.Request) {
	o, err := f.engine.Do(context.Background(), r)
	if err != nil || o.Refusal != nil {
		f.Errorf("%T: %v %+v", r.Command, err, o.Refusal)
	}
}
