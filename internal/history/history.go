// Package history has clients buy from a shop all at once, notes what each did and was told, and asks a checker
// (porcupine) whether clients who take turns could have been told the same: whether the history is linearizable.
package history

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast/holdfast/client"
)

// Units is what the shop has of its product at first: few, so that it is sold out and has some again all the time.
const Units = 5

const checkTimeout = time.Minute

// Run is a history to be made.
type Run struct {
	Product    string // it is there, with Units available
	Seed       uint64 // of what the clients do; how they meet is left to chance
	Clients    int
	Operations int                   // of each client
	Client     func() *client.Client // for one operation; it must persist until it is answered
	Before     func(n int)           // is called before the nth operation of all, from 0; may be nil
}

// Check makes the history. It is an error if a client gets no answer, or if the history is not linearizable.
func (r *Run) Check(ctx context.Context) error {
	s := &shop{Run: r, start: time.Now()}
	failed := make(chan error, r.Clients)
	var all sync.WaitGroup
	for i := range r.Clients {
		all.Go(func() { failed <- s.buy(ctx, i) })
	}
	all.Wait()
	close(failed)
	var err error
	for one := range failed {
		err = errors.Join(err, one)
	}
	if err != nil {
		return err
	}
	if result := porcupine.CheckOperationsTimeout(model, s.history, checkTimeout); result != porcupine.Ok {
		return fmt.Errorf("a history of %d operations (Ok would be linearizable, Unknown undecided): %v%s",
			len(s.history), result, s.tell())
	}
	return nil
}

// What clients do and are told, for the checker.
type (
	input struct {
		kind string // reserve, cancel, confirm, read the product, look at a hold
		id   string
	}
	output struct {
		code      client.Code // empty: success
		id        string
		available int64
		status    client.Status
	}
	// state is a shop with one product, one operation at a time.
	state struct {
		available int64
		holds     map[string]client.Status
	}
)

var model = porcupine.Model{
	Init: func() any { return state{available: Units, holds: map[string]client.Status{}} },
	Step: func(s, in, out any) (bool, any) { return s.(state).step(in.(input), out.(output)) },
	Equal: func(a, b any) bool {
		x, y := a.(state), b.(state)
		return x.available == y.available && maps.Equal(x.holds, y.holds)
	},
}

func (s state) step(in input, out output) (bool, state) {
	next := state{s.available, maps.Clone(s.holds)}
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

// shop is a history under way.
type shop struct {
	*Run
	start time.Time

	mu      sync.Mutex
	begun   int
	history []porcupine.Operation
	ids     []string // of the holds, as they were answered
}

// buy is one client, who does one thing after another.
func (s *shop) buy(ctx context.Context, number int) error {
	random := rand.New(rand.NewPCG(s.Seed, uint64(number)))
	for range s.Operations {
		in, n := s.draw(random)
		if s.Before != nil {
			s.Before(n)
		}
		called := time.Since(s.start)
		out, err := s.operate(ctx, in)
		if err != nil {
			return fmt.Errorf("%s %s: %w", in.kind, in.id, err)
		}
		s.note(porcupine.Operation{
			ClientId: number, Input: in, Call: int64(called), Output: out, Return: int64(time.Since(s.start)),
		})
	}
	return nil
}

// draw reserves, reads the product or a hold, or ends one of the last few holds.
func (s *shop) draw(random *rand.Rand) (in input, number int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number = s.begun
	s.begun++
	kind := random.IntN(7)
	if kind == 1 || kind == 2 {
		return input{kind: "read"}, number
	}
	if kind < 3 || len(s.ids) == 0 {
		return input{kind: "reserve"}, number
	}
	id := s.ids[max(0, len(s.ids)-1-random.IntN(4))]
	return input{[]string{"cancel", "cancel", "confirm", "look"}[kind-3], id}, number
}

func (s *shop) note(o porcupine.Operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = append(s.history, o)
	if out := o.Output.(output); o.Input.(input).kind == "reserve" && out.code == "" {
		s.ids = append(s.ids, out.id)
	}
}

func (s *shop) operate(ctx context.Context, in input) (out output, err error) {
	c := s.Client()
	switch in.kind {
	case "read":
		p, err := c.Product(ctx, s.Product)
		if err != nil {
			return out, err
		}
		return output{available: p.AvailableStock}, nil
	case "look":
		r, err := c.Reservation(ctx, in.id)
		if err != nil {
			return out, err
		}
		return output{status: r.Status}, nil
	case "reserve":
		var r *client.Reservation
		r, err = c.Reserve(ctx, client.NewReservation{Lines: []client.NewLine{{ProductID: s.Product, Quantity: 1}}})
		if err == nil {
			out.id = r.ID
		}
	case "cancel":
		_, err = c.Cancel(ctx, in.id, "")
	case "confirm":
		_, err = c.Confirm(ctx, client.NewOrder{ReservationID: in.id})
	}
	var problem *client.Error
	if errors.As(err, &problem) && problem.Status == 409 {
		out.code, err = problem.Code, nil
	}
	return out, err
}

// tell is the history as text, as it was answered: it cannot be had again from the seed.
func (s *shop) tell() (text string) {
	for _, o := range s.history {
		text += fmt.Sprintf("\n%v to %v, client %d: %+v: %+v",
			time.Duration(o.Call), time.Duration(o.Return), o.ClientId, o.Input, o.Output)
	}
	return text
}
