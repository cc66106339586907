package httpapi_test

import (
	"math/rand/v2"
	"testing"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/history"
	"github.com/holdfast/holdfast/internal/httpapi"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/mongodb"
	"github.com/holdfast/holdfast/internal/store/postgres"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// TestLinearizable: what concurrent clients see through HTTP could have been seen by clients that take turns, each
// operation happening at one moment between its request and its answer. Reads are part of it: they see what was
// acknowledged before them.
func TestLinearizable(t *testing.T) {
	onEveryStore(t, func(h *harness) { checkLinearizable(h) })
}

// TestLinearizableProcesses: the same where two servers share a database, and each answers reads from its own memory.
func TestLinearizableProcesses(t *testing.T) {
	for kind, address := range map[string]func(testing.TB) string{"postgres": dbtest.Postgres, "mongodb": dbtest.MongoDB} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			clock, url := storetest.NewClock(), address(t)
			servers := make([]*harness, 2)
			for i := range servers {
				s, err := openShared(t, kind, url, clock)
				if err != nil {
					t.Fatal(err)
				}
				servers[i] = newHarness(t, clock, s, httpapi.Options{}, engine.Options{})
			}
			checkLinearizable(servers...)
		})
	}
}

func openShared(t *testing.T, kind, url string, clock *storetest.Clock) (store.Store, error) {
	if kind == "postgres" {
		return postgres.Open(t.Context(), url, postgres.Options{Now: clock.Now})
	}
	return mongodb.Open(t.Context(), url, mongodb.Options{Now: clock.Now})
}

// checkLinearizable has clients buy and look at random, each time at a server by chance. No attempt is repeated.
func checkLinearizable(servers ...*harness) {
	h := servers[0]
	h.product("seat", history.Units)
	run := &history.Run{
		Product: "seat", Seed: 7, Clients: 6, Operations: 40,
		Client: func() *client.Client { return servers[rand.IntN(len(servers))].client() },
	}
	if err := run.Check(h.Context()); err != nil {
		h.Error(err)
	}
}
