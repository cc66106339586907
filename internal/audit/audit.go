// Package audit recomputes the invariants of a store from its rows and its journal, and names every breach.
//
// It reads a store in many short snapshots, so it may run beside a serving process without holding it up. Its memory
// does not grow with the store. It makes these passes:
//
//   - The bookkeeping pass has the store check what it keeps for itself, such as its indexes, and on SQLite the file.
//   - The journal pass follows the chain of entries from the first to the head: there is no gap, no entry was changed,
//     and they are in commit order. The movements of every event must be those of an event of its type. The row that an
//     event is about must exist and not be older than the event, and a reservation that has ended must not change
//     again.
//   - The row pass reads every row and compares it with the event that changed it last, in the same snapshot, and
//     reservations with their orders. With the journal pass this shows that each row is what replaying the journal
//     gives, and that there are no others.
//   - The receipt pass decodes the answer of every receipt, and compares it with the rows that it is about.
//   - The record pass checks what a record shows by itself; the journal does not have records.
//   - The balance pass adds up. All movements of a stock row must give its buckets, its ACTIVE reservations its
//     reserved units, and its CONFIRMED orders its committed units. The pages that it reads are of different moments.
//     As the recovery from a fuzzy checkpoint does (Mohan et al., ARIES, 1992), it brings them all to one moment, by
//     adding the movements that the journal has since each page was read.
package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast/holdfast/internal/store"
)

const (
	entriesPerPage = 64
	bytesPerPage   = 1 << 20
	rowsPerPage    = 500
	strayLimit     = 100
	// breachLimit is how many breaches are listed. If a whole store is wrong, it is not described row by row.
	breachLimit = 1000
)

// Breach is one violation of an invariant.
type Breach struct {
	// Invariant is I1 to I4, I6, I7 or I9 of the design, "row" for a row that contradicts itself, or "anchor" for a
	// history that is not the one that an anchor has seen.
	Invariant string `json:"invariant"`
	Row       string `json:"row"`
	Detail    string `json:"detail"`
}

func (b Breach) String() string { return b.Invariant + ": " + b.Row + ": " + b.Detail }

// Report is what an audit found.
type Report struct {
	Batches, Events, Products, StockRows, Reservations, Orders, Receipts, Records int64

	Last Anchor // the last journal entry that was seen, without the time of the audit

	Breaches []Breach
	More     int64 // how many breaches there are beyond those that are listed
}

// Clean reports whether there is no breach.
func (r *Report) Clean() bool { return len(r.Breaches) == 0 }

// Options tune an audit. A zero value chooses the default.
type Options struct {
	// StockRowsInMemory is how many stock rows the balance pass has in memory. If the store has more, it is read
	// several times, for one share of the rows at a time. Default 250,000, which takes about 50 MiB.
	StockRowsInMemory int
	// Anchors are what earlier audits saw. The journal must still have the entries that they are of.
	Anchors []Anchor
	// Progress is called now and then with a description of the current step. Default: nothing is called.
	Progress func(string)
}

// Run audits a store. The report lists the breaches. An error means that the store could not be read to its end. Then
// the report, which is never nil, says what was found until there: a damaged store may name its damage before it fails.
func Run(ctx context.Context, s store.Store, o Options) (*Report, error) {
	if o.StockRowsInMemory <= 0 {
		o.StockRowsInMemory = 250_000
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	a := &auditor{store: s, options: o, report: &Report{}}
	for _, pass := range []func(context.Context) error{
		a.bookkeeping, a.journal, a.rows, a.receipts, a.records, a.balance,
	} {
		if err := pass(ctx); err != nil {
			return a.report, fmt.Errorf("auditing: %w", err)
		}
	}
	return a.report, nil
}

type auditor struct {
	store   store.Store
	options Options
	report  *Report
}

func (a *auditor) breach(invariant, row, format string, args ...any) {
	if len(a.report.Breaches) == breachLimit {
		a.report.More++
		return
	}
	a.report.Breaches = append(a.report.Breaches, Breach{invariant, row, fmt.Sprintf(format, args...)})
}

// corruptRow returns an error that is about a row, which the row pass names, as bad. It returns any other error as it
// is.
func corruptRow(err error) (*store.CorruptRow, error) {
	var row *store.CorruptRow
	if errors.As(err, &row) {
		return row, nil
	}
	return nil, err
}
