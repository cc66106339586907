package store

import (
	"fmt"
	"testing"

	"github.com/holdfast/holdfast/internal/inventory"
)

// overdueWorld has stock rows without available units, and their overdue holds.
type overdueWorld struct {
	keys  inventory.Keys
	state *inventory.State
	holds map[inventory.StockKey][]overdueHold
	reads int // holds that were handed over
}

type overdueHold struct {
	r     *inventory.Reservation // nil: damaged
	bytes int
}

func newOverdueWorld() *overdueWorld {
	return &overdueWorld{state: inventory.NewState(1, 0, ""), holds: map[inventory.StockKey][]overdueHold{}}
}

// row adds a stock row of which a batch wants some units, with holds of so many units each; 0 stands for a damaged one.
func (w *overdueWorld) row(wants int64, bytes int, units ...int64) inventory.StockKey {
	key := inventory.StockKey{ProductID: fmt.Sprint("p", len(w.keys.Stock)), Location: "main"}
	w.keys.Stock = append(w.keys.Stock, inventory.Demand{StockKey: key, Units: wants})
	w.state.Products[key.ProductID] = &inventory.Product{Stock: []inventory.Stock{{Location: "main"}}}
	for i, n := range units {
		var r *inventory.Reservation
		if n > 0 {
			r = &inventory.Reservation{
				ID:    inventory.NewID(0, int64(len(w.keys.Stock)*10_000+i), 0),
				Lines: []inventory.Line{{ProductID: key.ProductID, Location: "main", Quantity: n}},
			}
		}
		w.holds[key] = append(w.holds[key], overdueHold{r, bytes})
	}
	return key
}

func (w *overdueWorld) load(t *testing.T) {
	t.Helper()
	err := LoadOverdue(w.state, &w.keys, func(key inventory.StockKey, skip, limit int,
		use func(*inventory.Reservation, int) bool,
	) (bool, error) {
		rest := w.holds[key][skip:]
		for _, h := range rest[:min(limit, len(rest))] {
			w.reads++
			if !use(h.r, h.bytes) {
				break
			}
		}
		return len(rest) > limit, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (w *overdueWorld) expect(t *testing.T, key inventory.StockKey, loaded int, more bool) {
	t.Helper()
	if n := len(w.state.Overdue[key]); n != loaded || w.state.MoreOverdue[key] != more {
		t.Errorf("%s: %d holds, more: %v; want %d, %v", key.ProductID, n, w.state.MoreOverdue[key], loaded, more)
	}
}

func many(n int, units int64) []int64 {
	list := make([]int64, n)
	for i := range list {
		list[i] = units
	}
	return list
}

// TestOverdueAsNeeded: no more holds are loaded than give back what is missing, damaged ones aside.
func TestOverdueAsNeeded(t *testing.T) {
	w := newOverdueWorld()
	one := w.row(1, 100, many(1100, 1)...)
	large := w.row(10, 100, 3, 4, 5, 6)
	few := w.row(10, 100, 3, 4)
	damaged := w.row(2, 100, 0, 0, 0, 1, 0, 1, 1)
	none := w.row(5, 100)
	w.load(t)
	w.expect(t, one, 1, false)
	w.expect(t, large, 3, false)
	w.expect(t, few, 2, false)
	w.expect(t, damaged, 2, false)
	w.expect(t, none, 0, false)
	if w.reads != 1+3+2+6 {
		t.Errorf("%d holds were read", w.reads)
	}
}

// TestOverdueShares: the backlog of one stock row leaves the others their share, and what they leave goes to it.
func TestOverdueShares(t *testing.T) {
	const half = inventory.MaxOverdueLoaded / 2
	w := newOverdueWorld()
	first := w.row(5000, 100, many(5000, 1)...)
	second := w.row(5000, 100, many(5000, 1)...)
	small := w.row(3, 100, many(5000, 1)...)
	w.load(t)
	w.expect(t, small, 3, false)
	w.expect(t, first, half+(half-3)/2+1, true)
	w.expect(t, second, (half-3)/2, true)

	w = newOverdueWorld()
	var last inventory.StockKey
	for range 2 * inventory.MaxOverdueLoaded {
		last = w.row(2, 100, many(2, 1)...)
	}
	empty := w.row(2, 100)
	w.load(t)
	w.expect(t, last, 0, true)
	w.expect(t, empty, 0, false)
}

// TestOverdueBytes: of large holds fewer are loaded, but one of each stock row at least.
func TestOverdueBytes(t *testing.T) {
	w := newOverdueWorld()
	large := w.row(5000, 32<<10, many(5000, 1)...)
	huge := w.row(5000, 8<<20, many(2, 1)...)
	w.load(t)
	w.expect(t, large, 64+32, true)
	w.expect(t, huge, 1, true)
}

// TestOverdueDamaged: nobody waits for holds that no batch can end.
func TestOverdueDamaged(t *testing.T) {
	w := newOverdueWorld()
	damaged := w.row(5, 100, many(5000, 0)...)
	behind := w.row(5, 100, 1, 1)
	w.load(t)
	w.expect(t, damaged, 0, false)
	w.expect(t, behind, 2, false)
	if w.reads > inventory.MaxOverdueLoaded+2 {
		t.Errorf("%d holds were read", w.reads)
	}
}

// TestOverdueBehindDamaged: holds that can be ended are found behind damaged ones, however much others want.
func TestOverdueBehindDamaged(t *testing.T) {
	for _, first := range []bool{false, true} {
		w := newOverdueWorld()
		behind := append(many(800, 0), 1, 1)
		var damaged inventory.StockKey
		if first {
			damaged = w.row(2, 100, behind...)
		}
		large := w.row(5000, 100, many(5000, 1)...)
		if !first {
			damaged = w.row(2, 100, behind...)
		}
		w.load(t)
		w.expect(t, damaged, 2, false)
		w.expect(t, large, inventory.MaxOverdueLoaded-2, true)
	}
}
