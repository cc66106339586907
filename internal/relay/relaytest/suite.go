// Package relaytest is the one suite of all sinks that keep what they get: brokers, and files.
package relaytest

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/relay"
	"github.com/holdfast/holdfast/internal/store/memory"
)

var events = flag.Int("relay-events", 5000, "how many events each test of a sink relays")

// Backend is a kind of sink with what stands behind it.
type Backend struct {
	// Open makes a sink of what this test has for itself: a topic, a stream, a file. It is called again for the relay
	// that follows one that was ended.
	Open func(t testing.TB) relay.Sink
	// Read returns the bodies of all messages that are there, in their order at least for each key.
	Read func(t testing.TB) [][]byte
	// Stop ends the broker in good order, Kill with SIGKILL, and Start starts it again with what it had. Hang stops its
	// process with SIGSTOP until Continue. All nil: there is no broker.
	Stop, Kill, Start, Hang, Continue func(t testing.TB)
}

// Run runs the suite. Each test gets a backend of its own.
func Run(t *testing.T, fresh func(t testing.TB) Backend) {
	tests := map[string]func(*fixture){"Delivers": delivers, "RelayEndsAgainAndAgain": relayEnds}
	if fresh(t).Kill != nil {
		tests["BrokerStops"] = func(f *fixture) { f.interrupted(f.Stop, f.Start) }
		tests["BrokerIsKilled"] = func(f *fixture) { f.interrupted(f.Kill, f.Start) }
		tests["BrokerHangs"] = func(f *fixture) { f.interrupted(f.Hang, f.Continue) }
		tests["BrokerComesLater"] = comesLater
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := engine.Open(memory.Open(memory.Options{}), engine.Options{})
			t.Cleanup(func() { _ = e.Close(context.Background()) })
			test(&fixture{TB: t, Backend: fresh(t), engine: e})
		})
	}
}

type fixture struct {
	testing.TB
	Backend
	engine *engine.Engine
	made   int
}

// produce makes some events: of products, and of reservations that are made, extended and cancelled.
func (f *fixture) produce(n int) {
	f.Helper()
	for f.made < n {
		group := &inventory.Group{}
		add := func(c inventory.Command) {
			group.Operations = append(group.Operations, inventory.Operation{Request: &inventory.Request{Command: c, Salt: uint32(f.made)}})
			f.made++
		}
		product := fmt.Sprint("p", f.made)
		add(&inventory.CreateProduct{
			ID: product, Name: "Pröduct \"1\"", Price: inventory.Money{Amount: 1, Currency: "EUR"}, TotalStock: 1000,
			Location: inventory.MainLocation,
		})
		for len(group.Operations) < min(250, 1+n-f.made) {
			add(&inventory.Reserve{
				Lines: []inventory.ReserveLine{{ProductID: product, Location: inventory.MainLocation, Quantity: 1}}, TTL: 60_000,
			})
		}
		o, err := f.engine.Do(context.Background(), &inventory.Request{Command: group})
		if err != nil || o.Refusal != nil {
			f.Fatalf("producing events: %v %+v", err, o.Refusal)
		}
	}
}

// relay starts a relay to a sink that is opened for it. Stopping it waits for its end.
func (f *fixture) relay(accepted func(int)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	r := relay.New(relay.Options{
		Source: relay.FromEngine(f.engine), Sink: f.Open(f.TB), Name: "sink", Observe: func(r relay.Report) { accepted(r.Accepted + r.SetAside) },
	})
	var group sync.WaitGroup
	group.Go(func() { r.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		group.Wait()
	})
	f.Cleanup(stop)
	return stop
}

// counter waits for events to be accepted.
type counter struct {
	mu      sync.Mutex
	n       int
	changed chan struct{}
}

func newCounter() *counter { return &counter{changed: make(chan struct{}, 1)} }

func (c *counter) add(n int) {
	c.mu.Lock()
	c.n += n
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// reach waits until so many were accepted, duplicates included.
func (c *counter) reach(f *fixture, n int) {
	f.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		got := c.count()
		if got >= n {
			return
		}
		select {
		case <-c.changed:
		case <-deadline:
			f.Fatalf("%d of %d events were accepted", got, n)
		}
	}
}

// message is what the suite reads of a message.
type message struct {
	SpecVersion  string `json:"specversion"`
	ID           string `json:"id"`
	Sequence     string `json:"sequence"`
	PartitionKey string `json:"partitionkey"`
	Data         struct {
		Sequence int64  `json:"sequence"`
		ID       string `json:"id"`
	} `json:"data"`
}

// check requires that everything is there, in order for each key, and that what came twice is the same.
func (f *fixture) check(n int) {
	f.Helper()
	bodies, last, duplicates := map[int64]string{}, map[string]int64{}, 0
	for _, body := range f.Read(f.TB) {
		var m message
		if err := json.Unmarshal(body, &m); err != nil || m.SpecVersion != "1.0" || m.ID != m.Data.ID ||
			m.Sequence != fmt.Sprint(m.Data.Sequence) {
			f.Fatalf("a message is %s: %v", body, err)
		}
		seq := m.Data.Sequence
		if before, twice := bodies[seq]; twice {
			duplicates++
			if before != string(body) {
				f.Errorf("event %d came as %s and as %s", seq, before, body)
			}
			continue
		}
		if seq < last[m.PartitionKey] {
			f.Errorf("event %d came after event %d of the same key", seq, last[m.PartitionKey])
		}
		bodies[seq], last[m.PartitionKey] = string(body), seq
	}
	if len(bodies) != n {
		f.Errorf("%d of %d events have arrived", len(bodies), n)
	}
	f.Logf("%d events, %d of them more than once", n, duplicates)
}

func delivers(f *fixture) {
	accepted := newCounter()
	f.relay(accepted.add)
	f.produce(*events)
	accepted.reach(f, *events)
	f.check(*events)
}

// relayEnds: relays end in the middle, and others go on.
func relayEnds(f *fixture) {
	accepted := newCounter()
	for i := 1; i <= 5; i++ {
		stop := f.relay(accepted.add)
		f.produce(*events * i / 5)
		accepted.reach(f, *events*i/6)
		stop()
	}
	f.relay(accepted.add)
	accepted.reach(f, *events)
	f.check(*events)
}

// interrupted: the broker goes away in the middle and comes back.
func (f *fixture) interrupted(away, back func(testing.TB)) {
	accepted := newCounter()
	f.relay(accepted.add)
	f.produce(*events / 3)
	accepted.reach(f, 1)
	away(f.TB)
	f.produce(*events * 2 / 3)
	back(f.TB)
	f.produce(*events)
	accepted.reach(f, *events)
	f.check(*events)
}

// comesLater: a broker that is away when the relay starts is no error. It is stopped in good order: killed just after a
// queue was bound, RabbitMQ may come back without the binding, and then takes events that nobody gets.
func comesLater(f *fixture) {
	f.Stop(f.TB)
	accepted := newCounter()
	f.relay(accepted.add)
	f.produce(*events / 10)
	f.Start(f.TB)
	accepted.reach(f, *events/10)
	f.check(*events / 10)
}
