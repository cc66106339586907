package audit

import (
	"context"
	"fmt"
	"hash/maphash"
	"sort"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// balance is the pass that adds up.
func (a *auditor) balance(ctx context.Context) error {
	shares := uint64(a.report.StockRows)/uint64(a.options.StockRowsInMemory) + 1
	seed := maphash.MakeSeed()
	for share := range shares {
		a.options.Progress(fmt.Sprintf("balances: share %d of %d", share+1, shares))
		b := balances{auditor: a, rows: map[inventory.StockKey]*balance{}, mine: func(key inventory.StockKey) bool {
			return shares == 1 || maphash.Comparable(seed, key)%shares == share
		}}
		if err := b.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// balance is a stock row and the sums that must give it, at the moment at which the pass ends.
type balance struct {
	readAt    int64             // the sequence of the snapshot that it was read from
	buckets   inventory.Buckets // as they were read, with the movements since then
	moved     inventory.Buckets // the sum of all movements
	strayed   bool              // a movement has said that it left other buckets
	reserved  int64             // the units of its ACTIVE reservations
	committed int64             // the units of its CONFIRMED orders
}

// balances are those of one share of the stock rows.
type balances struct {
	*auditor
	mine func(inventory.StockKey) bool
	rows map[inventory.StockKey]*balance

	products     []productPage
	reservations []rowPage
	orders       []rowPage
}

// productPage says from which snapshot the products up to an id were read, rowPage from which one the rows down to a
// key.
type (
	productPage struct {
		upTo string
		seq  int64
	}
	rowPage struct{ downTo, seq int64 }
)

// readAt returns the sequence of the snapshot from which the row of a key was read.
func readAt(pages []rowPage, key int64) int64 {
	i := sort.Search(len(pages), func(i int) bool { return pages[i].downTo <= key })
	return pages[i].seq
}

func (b *balances) productReadAt(id string) int64 {
	i := sort.Search(len(b.products), func(i int) bool { return id <= b.products[i].upTo })
	return b.products[min(i, len(b.products)-1)].seq
}

func (b *balances) row(key inventory.StockKey) *balance {
	row := b.rows[key]
	if row == nil {
		row = &balance{readAt: b.productReadAt(key.ProductID)}
		b.rows[key] = row
	}
	return row
}

func (b *balances) run(ctx context.Context) error {
	err := b.eachProduct(ctx, func(_ store.View, page []*inventory.Product, seq int64) error {
		for _, p := range page {
			b.addStock(p, seq)
		}
		return nil
	}, func(upTo string, seq int64) { b.products = append(b.products, productPage{upTo, seq}) })
	if err != nil {
		return err
	}
	err = b.eachReservation(ctx, inventory.ReservationActive, func(_ store.View, page []*inventory.Reservation) error {
		for _, r := range page {
			b.addLines(r.Lines, func(row *balance, units int64) { row.reserved += units })
		}
		return nil
	}, func(downTo, seq int64) { b.reservations = append(b.reservations, rowPage{downTo, seq}) })
	if err != nil {
		return err
	}
	err = b.eachOrder(ctx, inventory.OrderConfirmed, func(_ store.View, page []*inventory.Order) error {
		for _, o := range page {
			b.addLines(o.Lines, func(row *balance, units int64) { row.committed += units })
		}
		return nil
	}, func(downTo, seq int64) { b.orders = append(b.orders, rowPage{downTo, seq}) })
	if err != nil {
		return err
	}
	if err := b.replay(ctx); err != nil {
		return err
	}
	b.compare()
	return nil
}

func (b *balances) addStock(p *inventory.Product, seq int64) {
	for i := range p.Stock {
		key := inventory.StockKey{ProductID: p.ID, Location: p.Stock[i].Location}
		if b.mine(key) {
			b.rows[key] = &balance{readAt: seq, buckets: p.Stock[i].Buckets}
		}
	}
}

func (b *balances) addLines(lines []inventory.Line, add func(*balance, int64)) {
	for i := range lines {
		if key := lines[i].Key(); b.mine(key) {
			add(b.row(key), lines[i].Quantity)
		}
	}
}

// replay adds up the journal, and brings every page to the moment at which the journal ends.
func (b *balances) replay(ctx context.Context) error {
	for next, done := int64(1), false; !done; {
		var entries []store.Entry
		err := b.store.View(ctx, func(v store.View) (err error) {
			entries, err = v.Journal(ctx, store.JournalPosition{BatchNo: next}, entriesPerPage, bytesPerPage)
			return err
		})
		if err != nil {
			return err
		}
		done = len(entries) == 0
		for i := range entries {
			next = entries[i].BatchNo + 1
			events, err := inventory.DecodeEvents(entries[i].First, entries[i].At, entries[i].Events)
			if err != nil {
				continue // the journal pass has named it
			}
			for j := range events {
				b.event(&events[j])
			}
		}
	}
	return nil
}

func (b *balances) event(e *inventory.Event) {
	for i := range e.Movements {
		m := &e.Movements[i]
		if !b.mine(m.StockKey) {
			continue
		}
		row := b.row(m.StockKey)
		row.moved = row.moved.Add(m.Delta)
		if m.After != row.moved && !row.strayed {
			row.strayed = true // the movements after it would only repeat the breach
			b.breach("I9", stockName(m.StockKey), "event %d left it %+v, its movements add up to %+v", e.Seq, m.After,
				row.moved)
		}
		if e.Seq > row.readAt {
			row.buckets = row.buckets.Add(m.Delta)
		}
		if r := e.Reservation; r != nil {
			if e.Seq > readAt(b.reservations, r.ID.Sequence()) {
				row.reserved += m.Delta.Reserved
			}
			if !r.OrderID.IsZero() && e.Seq > readAt(b.orders, r.OrderID.Sequence()) {
				row.committed += m.Delta.Committed
			}
		}
		if o := e.Order; o != nil && e.Seq > readAt(b.orders, o.ID.Sequence()) {
			row.committed += m.Delta.Committed
		}
	}
}

func (b *balances) compare() {
	for key, row := range b.rows {
		name := stockName(key)
		if row.buckets != row.moved {
			b.breach("I9", name, "its buckets are %+v, its movements add up to %+v", row.buckets, row.moved)
		}
		if row.buckets.Reserved != row.reserved {
			b.breach("I2", name, "reserved is %d, its ACTIVE reservations hold %d", row.buckets.Reserved, row.reserved)
		}
		if row.buckets.Committed != row.committed {
			b.breach("I2", name, "committed is %d, its CONFIRMED orders hold %d", row.buckets.Committed, row.committed)
		}
	}
}
