package relaytest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// Measure is the benchmark of all sinks: how many events a second a relay hands over while holds come in, and how long
// it takes from asking for a hold until the sink has acknowledged its event, when nothing else happens.
//
//	go test ./internal/relay/… -run '^$' -bench . -benchtime 300000x
func Measure(b *testing.B, fresh func(t testing.TB) Backend) {
	b.Run("Throughput", func(b *testing.B) { measure(b, fresh, throughput) })
	b.Run("Latency", func(b *testing.B) { measure(b, fresh, latency) })
}

func measure(b *testing.B, fresh func(t testing.TB) Backend, what func(*testing.B, *fixture)) {
	e := engine.Open(memory.Open(memory.Options{}), engine.Options{})
	b.Cleanup(func() { _ = e.Close(context.Background()) })
	if _, err := e.Do(b.Context(), &inventory.Request{Command: &inventory.CreateProduct{
		ID: measured, Name: measured, Price: inventory.Money{Amount: 1, Currency: "EUR"}, TotalStock: 1e12,
		Location: inventory.MainLocation,
	}}); err != nil {
		b.Fatal(err)
	}
	what(b, &fixture{TB: b, Backend: fresh(b), engine: e})
}

const measured = "measured" // the product of single holds

// produceGroup is how many events [fixture.produce] makes in one commit, produceAhead how far holds may run ahead of
// the sink.
const produceGroup, produceAhead = 250, 20_000

// throughput relays b.N events. While it does, groups of holds are made as fast as the sink takes them, and single ones
// by clients, some 4,000 a second.
func throughput(b *testing.B, f *fixture) {
	ctx, cancel := context.WithCancel(b.Context())
	var clients sync.WaitGroup
	var holds atomic.Int64
	for range 4 {
		clients.Go(func() {
			for tick := time.Tick(time.Millisecond); ctx.Err() == nil; <-tick {
				if f.hold(ctx) == nil {
					holds.Add(1)
				}
			}
		})
	}
	accepted := newCounter()
	f.relay(accepted.add)
	accepted.reach(f, 1)
	first, before := accepted.count(), holds.Load()
	b.ResetTimer()
	for accepted.count() < first+b.N {
		f.produce(f.made + produceGroup)
		accepted.reach(f, min(f.made-produceAhead, first+b.N))
	}
	b.StopTimer()
	cancel()
	clients.Wait()
	b.ReportMetric(float64(accepted.count()-first)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(holds.Load()-before)/b.Elapsed().Seconds(), "single-holds/s")
}

// latency makes b.N holds, each when the one before has arrived.
func latency(b *testing.B, f *fixture) {
	accepted := newCounter()
	f.relay(accepted.add)
	accepted.reach(f, 1)
	var took []time.Duration
	b.ResetTimer()
	for n := range b.N {
		begun := time.Now()
		if err := f.hold(b.Context()); err != nil {
			b.Fatal(err)
		}
		accepted.reach(f, 2+n)
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
}

// hold makes one hold.
func (f *fixture) hold(ctx context.Context) error {
	o, err := f.engine.Do(ctx, &inventory.Request{Command: &inventory.Reserve{
		Lines: []inventory.ReserveLine{{ProductID: measured, Location: inventory.MainLocation, Quantity: 1}}, TTL: 60_000,
	}})
	if err == nil && o.Refusal != nil {
		err = fmt.Errorf("a hold was refused: %+v", o.Refusal)
	}
	return err
}
