package engine

import (
	"errors"
	"sync"

	"github.com/holdfast/holdfast/internal/store"
)

// damagedLimit bounds how many damaged rows are remembered. Beyond it, they are neither counted nor logged.
const damagedLimit = 4096

// damaged are the stored rows that lists have left out because they cannot be read.
type damaged struct {
	mu   sync.Mutex
	rows map[string]bool
}

// enter reports whether the row is new.
func (d *damaged) enter(row string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rows[row] || len(d.rows) >= damagedLimit {
		return false
	}
	if d.rows == nil {
		d.rows = map[string]bool{}
	}
	d.rows[row] = true
	return true
}

// DamagedRows is how many stored rows were left out of lists because they cannot be read.
func (e *Engine) DamagedRows() int {
	e.damaged.mu.Lock()
	defer e.damaged.mu.Unlock()
	return len(e.damaged.rows)
}

// past makes a page that a damaged row has ended a short one, whose cursor gets past the row. Which cursor that is, at
// says. The row is logged once.
func past[Cursor comparable](e *Engine, next Cursor, err error, at func(*store.CorruptRow) Cursor) (Cursor, error) {
	var none Cursor
	bad, isDamage := errors.AsType[*store.CorruptRow](err)
	if !isDamage || at(bad) == none {
		return next, err
	}
	if e.damaged.enter(bad.Row) {
		e.options.Log.Error("a damaged row is left out of lists: run holdfast verify", "row", bad.Row, "detail", bad.Detail)
	}
	return at(bad), nil
}
