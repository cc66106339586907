package store

import "github.com/holdfast/holdfast/internal/inventory"

// ReadOverdue reads the overdue holds of a stock row, oldest deadline first: it skips some, and hands at most limit of
// the others to use, until use returns false. A hold that cannot be read is handed over as nil. Sizes are in stored
// bytes. If use never returned false, more says whether there are holds after those that it was given.
type ReadOverdue func(key inventory.StockKey, skip, limit int, use func(r *inventory.Reservation, bytes int) bool) (
	more bool, err error)

// overdueBytes is how many stored bytes a hold may have and still count as one of [inventory.MaxOverdueLoaded]. A
// larger one counts several times. So the holds that a batch loads have about 4 MiB at most.
const overdueBytes = 4 << 10

// maxDamaged is how many damaged holds of a stock row a batch reads. What is behind them counts as not there.
const maxDamaged = inventory.MaxOverdueLoaded

// LoadOverdue enters the overdue holds into a state that the units of the stock rows in keys may depend on (I8).
// All stores use it, so they load the same holds.
//
// Of each stock row that has fewer units than the batch wants, it loads holds until those would give back what is
// missing. Together they are bounded by [inventory.MaxOverdueLoaded]. If that is not enough for all stock rows, half of
// it goes to them in the order of keys, because the first command should not wait again, and the rest in equal shares,
// so that no stock row waits for the backlog of another.
//
// It loads the holds alone. The store then loads the stock rows of their lines.
func LoadOverdue(state *inventory.State, keys *inventory.Keys, read ReadOverdue) error {
	l := &overdueLoad{state: state, read: read, budget: inventory.MaxOverdueLoaded}
	for i := range keys.Stock {
		d := &keys.Stock[i]
		if stock := state.Stock(d.StockKey); stock != nil && stock.Available < d.Units {
			l.rows = append(l.rows, &overdueRow{key: d.StockKey, short: d.Units - stock.Available, more: true})
		}
	}
	if err := l.inOrder(); err != nil {
		return err
	}
	if err := l.inShares(); err != nil {
		return err
	}
	return l.mark()
}

type overdueLoad struct {
	state  *inventory.State
	read   ReadOverdue
	budget int // what may still be loaded
	usable int // holds that were loaded
	rows   []*overdueRow
}

// overdueRow is a stock row that has too few units.
type overdueRow struct {
	key     inventory.StockKey
	short   int64 // units that are missing after all its loaded holds have ended
	looked  bool
	read    int // holds that were read
	damaged int // those of them that cannot be used
	more    bool
}

func (r *overdueRow) open() bool { return r.more && r.short > 0 && r.damaged < maxDamaged }

func (l *overdueLoad) inOrder() error {
	rest := l.budget / 2
	for _, row := range l.rows {
		if l.budget <= rest {
			return nil
		}
		if err := l.load(row, l.budget-rest); err != nil {
			return err
		}
	}
	return nil
}

// inShares goes round until the budget is spent. What one stock row leaves of its share goes to the others in the next
// round.
func (l *overdueLoad) inShares() error {
	for {
		var open []*overdueRow
		for _, row := range l.rows {
			if row.open() {
				open = append(open, row)
			}
		}
		if len(open) == 0 || l.budget <= 0 {
			return nil
		}
		share := max(1, l.budget/len(open))
		for _, row := range open {
			if l.budget <= 0 {
				return nil
			}
			if err := l.load(row, share); err != nil {
				return err
			}
		}
	}
}

// load reads holds of a stock row until they cover what is missing or its share is spent.
func (l *overdueLoad) load(row *overdueRow, share int) error {
	row.looked = true
	for spent := 0; spent < share && row.open(); {
		n, err := l.step(row, share-spent)
		if err != nil {
			return err
		}
		spent += n
		l.budget -= n
	}
	return nil
}

// step reads some holds of a stock row, and returns what they cost. A damaged hold keeps its units but stops nobody; the
// sweeper and verify report it. It costs nothing, because it does not stay in memory: where it did, a stock row whose
// share went to damaged holds would seem to have no others. As many more are read as were damaged, so those that are
// left are found in few steps.
func (l *overdueLoad) step(row *overdueRow, share int) (spent int, err error) {
	wanted := min(min(int64(share), row.short)+int64(row.damaged), inventory.MaxOverdueLoaded)
	stopped := false
	more, err := l.read(row.key, row.read, int(wanted), func(r *inventory.Reservation, bytes int) bool {
		row.read++
		if r == nil {
			row.damaged++
		} else {
			spent += max(1, (bytes+overdueBytes-1)/overdueBytes)
			l.add(row, r)
		}
		stopped = spent >= share || row.short <= 0 || row.damaged >= maxDamaged
		return !stopped
	})
	row.more = more || stopped
	return spent, err
}

func (l *overdueLoad) add(row *overdueRow, r *inventory.Reservation) {
	l.usable++
	if l.state.Reservations[r.ID] == nil {
		l.state.Reservations[r.ID] = r
	}
	l.state.Overdue[row.key] = append(l.state.Overdue[row.key], r.ID)
	for i := range r.Lines {
		if r.Lines[i].Key() == row.key {
			row.short -= r.Lines[i].Quantity
		}
	}
}

// mark tells which stock rows have more overdue holds than were loaded. A command that needs their units waits for the
// next batch. That helps only if this batch frees some: not if so many holds of the stock row are damaged that the next
// batch would not get past them either.
func (l *overdueLoad) mark() error {
	for _, row := range l.rows {
		if !row.open() || (!row.looked && l.usable == 0) {
			continue
		}
		more, err := l.read(row.key, row.read, 0, nil)
		if err != nil {
			return err
		}
		l.state.MoreOverdue[row.key] = more
	}
	return nil
}
