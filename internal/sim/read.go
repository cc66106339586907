package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
)

// read is a question to a process. Its answer must be the state at one point of history between the question and the
// answer, and none before what was acknowledged when it was asked.
type read struct {
	name    string
	process *process
	leave   context.CancelFunc
	ask     func(ctx context.Context, e *engine.Engine) (string, error)
	expect  func(m *model) string

	faulty   bool             // something was done to the process while it read
	possible map[string]int64 // the answers so far, with the first event after which each was right
	answer   string
	err      error
	done     atomic.Bool
}

func (r *read) observe(m *model) {
	if r.done.Load() {
		return
	}
	text := r.expect(m)
	if seq, known := r.possible[text]; !known || m.seq < seq {
		r.possible[text] = m.seq
	}
}

func (r *read) check() (wrong string) {
	switch {
	case r.err != nil && (r.faulty || errors.Is(r.err, engine.ErrOverloaded)):
		return ""
	case r.err != nil:
		return fmt.Sprintf("%s failed: %v", r.name, r.err)
	}
	if seq, right := r.possible[r.answer]; right {
		r.process.shown = max(r.process.shown, seq)
		return ""
	}
	wrong = fmt.Sprintf("%s showed\n  %s\nwhich was so at no point; these were:", r.name, r.answer)
	for _, text := range sortedKeys(r.possible) {
		wrong += "\n  " + text
	}
	return wrong
}

func readProduct(id string) *read {
	return &read{
		name: "product " + id,
		ask: func(ctx context.Context, e *engine.Engine) (string, error) {
			p, err := e.Product(ctx, id)
			return describeShown(p), err
		},
		expect: func(m *model) string { return describeRows(m.products[id], nil, nil, nil) },
	}
}

// describeShown is what a reader is sent, which must be what was rendered of the same state.
func describeShown(p *engine.Product) string {
	if p == nil {
		return ""
	}
	text := describeRows(p.Product, nil, nil, nil)
	if string(p.Rendered) != text {
		text += " but rendered" + string(p.Rendered)
	}
	return text
}

func readProducts(ids []string) *read {
	return &read{
		name: fmt.Sprint("products ", ids),
		ask: func(ctx context.Context, e *engine.Engine) (text string, err error) {
			list, err := e.ProductsByID(ctx, ids)
			for _, p := range list {
				text += describeShown(p)
			}
			return text, err
		},
		expect: func(m *model) (text string) {
			for _, id := range slices.Sorted(slices.Values(ids)) {
				text += describeRows(m.products[id], nil, nil, nil)
			}
			return text
		},
	}
}

func readCatalogue() *read {
	return &read{
		name: "the catalogue",
		ask: func(ctx context.Context, e *engine.Engine) (text string, err error) {
			list, _, err := e.Products(ctx, "", 1000)
			for _, p := range list {
				text += describeRows(p, nil, nil, nil)
			}
			return text, err
		},
		expect: func(m *model) (text string) {
			for _, id := range sortedKeys(m.products) {
				text += describeRows(m.products[id], nil, nil, nil)
			}
			return text
		},
	}
}

// readReservation also requires that nobody is shown a hold as active at a time when it was over (I3, I8).
func readReservation(id inventory.ID, asked inventory.Time) *read {
	return &read{
		name: "reservation " + id.Text(inventory.ReservationPrefix),
		ask: func(ctx context.Context, e *engine.Engine) (string, error) {
			r, err := e.Reservation(ctx, id)
			if err == nil && r != nil && r.Due(asked) {
				return "a hold that is over", nil
			}
			return describeRows(nil, nil, r, nil), err
		},
		expect: func(m *model) string { return describeRows(nil, nil, m.reservations[id], nil) },
	}
}

func readReservations(q engine.ReservationQuery, asked inventory.Time) *read {
	return &read{
		name: fmt.Sprintf("reservations %v of %q", q.Status, q.CustomerID),
		ask: func(ctx context.Context, e *engine.Engine) (text string, err error) {
			page, _, err := e.Reservations(ctx, q)
			for _, r := range page {
				if r.Due(asked) {
					return "a hold that is over", err
				}
				text += describeRows(nil, nil, r, nil)
			}
			return text, err
		},
		expect: func(m *model) (text string) {
			for _, r := range newestFirst(m.reservations) {
				if (q.Status == 0 || r.Status == q.Status) && (q.CustomerID == "" || r.CustomerID == q.CustomerID) {
					text += describeRows(nil, nil, r, nil)
				}
			}
			return text
		},
	}
}

func readOrders(q engine.OrderQuery) *read {
	return &read{
		name: fmt.Sprintf("orders %v %q", q.Status, q.Reference),
		ask: func(ctx context.Context, e *engine.Engine) (text string, err error) {
			page, _, err := e.Orders(ctx, q)
			for _, o := range page {
				text += describeRows(nil, nil, nil, o)
			}
			return text, err
		},
		expect: func(m *model) (text string) {
			for _, o := range newestFirst(m.orders) {
				if (q.Status == 0 || o.Status == q.Status) && (q.Reference == "" || o.Reference == q.Reference) {
					text += describeRows(nil, nil, nil, o)
				}
			}
			return text
		},
	}
}

// readEvents asks for all that comes after an event: batches without events in between do not shorten the page.
func readEvents(after int64) *read {
	const all = 1 << 20
	return &read{
		name: fmt.Sprint("events after ", after),
		ask: func(ctx context.Context, e *engine.Engine) (string, error) {
			page, err := e.Events(ctx, engine.EventQuery{After: e.CursorAt(after), Limit: all})
			text := fmt.Sprintln("head", page.Head)
			for i := range page.Events {
				text += describeEvent(&page.Events[i]) + "\n"
			}
			return text, err
		},
		expect: func(m *model) string {
			text := fmt.Sprintln("head", m.seq)
			for i := after; i < m.seq; i++ {
				text += describeEvent(&m.journal[i]) + "\n"
			}
			return text
		},
	}
}
