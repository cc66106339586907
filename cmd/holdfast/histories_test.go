package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/history"
)

var histories = flag.Int("histories", 3, "histories of TestLinearizableUnderFaults on each store; a quarter on MongoDB")

const (
	historyClients    = 6
	historyOperations = 25 // of each client
	historyAttempts   = 40 // of one operation: it is answered in the end, whatever happens
	startAttempts     = 10 // of a process, whose connection to the database may be cut while it starts
	betweenCuts       = 12 // operations, about, from one cut connection of a client to the next
	betweenStoreCuts  = 20 // and of a server to its database
)

// TestLinearizableUnderFaults: what clients are told is linearizable even though the processes are killed and started
// again under them, and connections are cut, of clients to the processes and of those to their database. On a database
// there are two processes, and each attempt goes to either. A client that gets no answer repeats with its key.
func TestLinearizableUnderFaults(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f := &faults{address: "sqlite:" + filepath.Join(t.TempDir(), "history.db")}
		f.check(t, 1, *histories)
	})
	for kind, address := range map[string]func(testing.TB) string{"postgres": dbtest.Postgres, "mongodb": dbtest.MongoDB} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := &faults{address: address(t)}
			n := *histories
			if kind == "mongodb" {
				n = max(1, n/4) // it is slow
			}
			f.database, f.through = dbtest.NewProxy(t, f.address)
			f.check(t, 2, n)
		})
	}
}

// faults are processes on one store, and what befalls them.
type faults struct {
	address  string        // of the store
	database *dbtest.Proxy // in front of it; nil: there is none
	through  string        // the address through that proxy
	proxies  []*dbtest.Proxy
	hosts    []string // the addresses of the processes through their proxies
	servers  []*childServer
	killAt   int // the operation before which one of them is killed

	mu          sync.Mutex // guards the following
	random      *rand.Rand
	kills, cuts int
}

func (f *faults) check(t *testing.T, processes, histories int) {
	f.random = rand.New(rand.NewPCG(*seed, 0))
	f.start(t, processes)
	c := client.New("http://"+f.hosts[0], client.WithAttempts(historyAttempts))
	for n := range histories {
		f.killAt = f.random.IntN(2 * historyClients * historyOperations) // in every second history, about
		product := fmt.Sprint("seat", n)
		if _, err := c.CreateProduct(t.Context(), client.NewProduct{
			ID: product, Name: "Seat", Price: client.Money{Amount: 1, Currency: "EUR"}, TotalStock: history.Units,
		}); err != nil {
			t.Fatal(err)
		}
		run := &history.Run{
			Product: product, Seed: *seed + uint64(n), Clients: historyClients, Operations: historyOperations,
			Client: f.client(t), Before: func(n int) { f.before(t, n) },
		}
		if err := run.Check(t.Context()); err != nil {
			t.Fatalf("history %d of seed %d: %v", n, *seed, err)
		}
	}
	verifyStore(t, f.address, 0)
	t.Logf("%d kills, %d cuts", f.kills, f.cuts)
	t.Logf("counted %d histories", histories)
}

func (f *faults) start(t *testing.T, processes int) {
	if f.through == "" {
		f.through = f.address
	}
	for range processes {
		s, err := startChild(t.Context(), "127.0.0.1:0", f.through)
		if err != nil {
			t.Fatal(err)
		}
		f.servers = append(f.servers, s)
		proxy, url := dbtest.NewProxy(t, s.url)
		f.proxies = append(f.proxies, proxy)
		f.hosts = append(f.hosts, strings.TrimPrefix(url, "http://"))
	}
	t.Cleanup(func() {
		for _, s := range f.servers {
			_ = s.stop()
		}
	})
}

// client makes clients whose every attempt goes to one of the processes by chance.
func (f *faults) client(t *testing.T) func() *client.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: historyClients}
	t.Cleanup(transport.CloseIdleConnections)
	h := &http.Client{Transport: &anyHost{hosts: f.hosts, transport: transport}}
	c := client.New("http://any", client.WithAttempts(historyAttempts), client.WithHTTPClient(h))
	return func() *client.Client { return c }
}

type anyHost struct {
	hosts     []string
	transport *http.Transport
}

func (a *anyHost) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = a.hosts[rand.IntN(len(a.hosts))]
	return a.transport.RoundTrip(r)
}

// before lets happen what is drawn for a moment: the next message is cut, or a process killed and started again.
func (f *faults) before(t *testing.T, n int) {
	if victim := f.draw(n); victim >= 0 {
		f.restart(t, victim)
	}
}

// draw arms the cuts, and says which process is to be killed, or -1.
func (f *faults) draw(n int) (victim int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.random.IntN(betweenCuts) == 0 {
		f.cuts++
		f.proxies[f.random.IntN(len(f.proxies))].Arm(f.cut(), "", 1)
	}
	if f.database != nil && f.random.IntN(betweenStoreCuts) == 0 {
		f.cuts++
		f.database.Arm(f.cut(), "", 1)
	}
	if n != f.killAt {
		return -1
	}
	f.kills++
	return f.random.IntN(len(f.servers))
}

// cut is one that the other side notices at once.
func (f *faults) cut() dbtest.Cut {
	return dbtest.CutBefore + dbtest.Cut(f.random.IntN(int(dbtest.CutReply)))
}

// restart kills a process and starts another on its store. Meanwhile the other clients go on, and find nobody there. It
// happens once a history at most.
func (f *faults) restart(t *testing.T, i int) {
	_ = f.servers[i].kill()
	s, err := startChild(t.Context(), "127.0.0.1:0", f.through)
	for again := 0; err != nil && again < startAttempts; again++ { // a cut may have met the start, too
		s, err = startChild(t.Context(), "127.0.0.1:0", f.through)
	}
	if err != nil {
		t.Error(err)
		return
	}
	f.servers[i] = s
	f.proxies[i].To(s.address)
}
