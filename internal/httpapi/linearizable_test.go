package httpapi_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/httpapi"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/mongodb"
	"github.com/holdfast/holdfast/internal/store/postgres"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// What clients do and are told, for the checker.
type (
	shopInput struct {
		kind string // reserve, cancel, confirm, read the product, look at a hold
		id   string
	}
	shopOutput struct {
		code      client.Code // empty: success
		id        string
		available int64
		status    client.Status
	}
	// shopState is a shop with one product, one operation at a time.
	shopState struct {
		available int64
		holds     map[string]client.Status
	}
)

var shopModel = porcupine.Model{
	Init: func() any { return shopState{available: shopUnits, holds: map[string]client.Status{}} },
	Step: func(state, input, output any) (bool, any) {
		return state.(shopState).step(input.(shopInput), output.(shopOutput))
	},
	Equal: func(a, b any) bool {
		x, y := a.(shopState), b.(shopState)
		return x.available == y.available && maps.Equal(x.holds, y.holds)
	},
}

const shopUnits = 5

func (s shopState) step(in shopInput, out shopOutput) (bool, shopState) {
	next := shopState{s.available, maps.Clone(s.holds)}
	switch status := s.holds[in.id]; in.kind {
	case "read":
		return out.available == s.available, s
	case "look":
		return out.status == status, s
	case "reserve":
		if s.available == 0 {
			return out.code == client.InsufficientStock, s
		}
		next.available--
		next.holds[out.id] = client.Active
		return out.code == "", next
	case "cancel":
		if status == client.Confirmed {
			return out.code == client.ReservationConfirmed, s
		}
		if status == client.Active {
			next.available++
			next.holds[in.id] = client.Cancelled
		}
		return out.code == "", next
	default:
		if status == client.Cancelled {
			return out.code == client.ReservationCancelled, s
		}
		next.holds[in.id] = client.Confirmed
		return out.code == "", next
	}
}

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

// checkLinearizable has clients buy and look at random, each time at a server by chance.
func checkLinearizable(servers ...*harness) {
	h := servers[0]
	h.product("seat", shopUnits)
	var mu sync.Mutex
	var history []porcupine.Operation
	var ids []string
	start := time.Now()
	together(6, func(worker int) {
		random := rand.New(rand.NewPCG(7, uint64(worker)))
		for range 40 {
			mu.Lock()
			in := drawOperation(random, ids)
			mu.Unlock()
			called := time.Since(start)
			out, err := servers[random.IntN(len(servers))].operate(in)
			returned := time.Since(start)
			if err != nil {
				h.Error(err)
				return
			}
			mu.Lock()
			history = append(history, porcupine.Operation{
				ClientId: worker, Input: in, Call: int64(called), Output: out, Return: int64(returned),
			})
			if in.kind == "reserve" && out.code == "" {
				ids = append(ids, out.id)
			}
			mu.Unlock()
		}
	})
	if result := porcupine.CheckOperationsTimeout(shopModel, history, time.Minute); result != porcupine.Ok {
		h.Errorf("%d operations: %v", len(history), result)
	}
}

// drawOperation reserves, reads the product or a hold, or ends one of the last few holds.
func drawOperation(random *rand.Rand, ids []string) shopInput {
	kind := random.IntN(7)
	if kind == 1 || kind == 2 {
		return shopInput{kind: "read"}
	}
	if kind < 3 || len(ids) == 0 {
		return shopInput{kind: "reserve"}
	}
	id := ids[max(0, len(ids)-1-random.IntN(4))]
	return shopInput{[]string{"cancel", "cancel", "confirm", "look"}[kind-3], id}
}

func (h *harness) operate(in shopInput) (out shopOutput, err error) {
	c := h.client()
	switch in.kind {
	case "read":
		p, err := c.Product(h.Context(), "seat")
		if err != nil {
			return out, err
		}
		return shopOutput{available: p.AvailableStock}, nil
	case "look":
		r, err := c.Reservation(h.Context(), in.id)
		if err != nil {
			return out, err
		}
		return shopOutput{status: r.Status}, nil
	case "reserve":
		var r *client.Reservation
		if r, err = c.Reserve(h.Context(), oneSeat()); err == nil {
			out.id = r.ID
		}
	case "cancel":
		_, err = c.Cancel(h.Context(), in.id, "")
	case "confirm":
		_, err = c.Confirm(h.Context(), client.NewOrder{ReservationID: in.id})
	}
	var problem *client.Error
	if errors.As(err, &problem) && problem.Status == 409 {
		out.code, err = problem.Code, nil
	}
	return out, err
}

// TestLinearizableCatchesABug: the checker would notice a unit that was sold twice.
func TestLinearizableCatchesABug(t *testing.T) {
	var history []porcupine.Operation
	for i := range int64(shopUnits + 1) {
		history = append(history, porcupine.Operation{
			Input: shopInput{kind: "reserve"}, Call: 2 * i,
			Output: shopOutput{id: fmt.Sprint(i)}, Return: 2*i + 1,
		})
	}
	if porcupine.CheckOperations(shopModel, history) {
		t.Error("overselling went unnoticed")
	}
}
