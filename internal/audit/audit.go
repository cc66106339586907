// Package audit recomputes the invariants of a store from its rows and its journal, and names every breach.
//
// It reads a store in many short snapshots, so it may run beside a serving process without holding it up. Its memory
// does not grow with the store. It makes three passes:
//
//   - The journal pass follows the chain of entries from the first to the head: there is no gap, no entry was changed,
//     and they are in commit order. The movements of every event must be those of an event of its type. The row that an
//     event is about must exist and not be older than the event, and a reservation that has ended must not change
//     again.
//   - The row pass reads every row and compares it with the event that changed it last, in the same snapshot, and
//     reservations with their orders. With the journal pass this shows that each row is what replaying the journal
//     gives, and that there are no others.
//   - The balance pass adds up. All movements of a stock row must give its buckets, its ACTIVE reservations its
//     reserved units, and its CONFIRMED orders its committed units. The pages that it reads are of different moments.
//     As the recovery from a fuzzy checkpoint does (Mohan et al., ARIES, 1992), it brings them all to one moment, by
//     adding the movements that the journal has since each page was read.
package audit

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sort"

	"github.com/holdfast/holdfast/internal/inventory"
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
	Invariant string `json:"invariant"` // I1 to I4 or I9 of the design; "row" for a row that contradicts itself
	Row       string `json:"row"`
	Detail    string `json:"detail"`
}

func (b Breach) String() string { return b.Invariant + ": " + b.Row + ": " + b.Detail }

// Report is what an audit found.
type Report struct {
	Batches, Events, Products, StockRows, Reservations, Orders int64

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
	// Progress is called now and then with a description of the current step. Default: nothing is called.
	Progress func(string)
}

// Run audits a store. The report lists the breaches. An error means that the store could not be read.
func Run(ctx context.Context, s store.Store, o Options) (*Report, error) {
	if o.StockRowsInMemory <= 0 {
		o.StockRowsInMemory = 250_000
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	a := &auditor{store: s, options: o, report: &Report{}}
	for _, pass := range []func(context.Context) error{a.journal, a.rows, a.balance} {
		if err := pass(ctx); err != nil {
			return nil, fmt.Errorf("auditing: %w", err)
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

// follower walks the journal entry by entry, up to the batch that was the last when it began.
type follower struct {
	*auditor
	last  store.Entry // the last entry that it has seen
	seq   int64
	until int64 // number of the batch where it ends
}

// journal is the first pass.
func (a *auditor) journal(ctx context.Context) error {
	f := follower{auditor: a}
	if err := a.store.View(ctx, func(v store.View) error {
		head, err := v.Head(ctx)
		f.until = head.BatchNo
		return err
	}); err != nil {
		return err
	}
	for done := false; !done; {
		err := a.store.View(ctx, func(v store.View) (err error) {
			done, err = f.page(ctx, v)
			return err
		})
		if err != nil {
			return err
		}
		a.options.Progress(fmt.Sprintf("journal: %d of %d batches", f.last.BatchNo, f.until))
	}
	return nil
}

func (f *follower) page(ctx context.Context, v store.View) (done bool, err error) {
	head, err := v.Head(ctx)
	if err != nil {
		return false, err
	}
	entries, err := v.Journal(ctx, store.JournalPosition{BatchNo: f.last.BatchNo + 1}, entriesPerPage, bytesPerPage)
	if err != nil {
		return false, err
	}
	subjects := newSubjects(f.auditor)
	for i := range entries {
		f.entry(&entries[i], subjects)
	}
	if err := subjects.check(ctx, v); err != nil {
		return false, err
	}
	if len(entries) > 0 && f.last.BatchNo < head.BatchNo {
		return f.last.BatchNo >= f.until, nil
	}
	if f.last.BatchNo != head.BatchNo {
		f.breach("I9", fmt.Sprintf("journal entries %d to %d", f.last.BatchNo+1, head.BatchNo), "are missing at the end")
	} else if f.seq != head.Seq || f.last.Checksum != head.Chain {
		f.breach("I9", "head", "its sequence %d or its checksum is not that of the last journal entry %d", head.Seq,
			head.BatchNo)
	}
	return true, nil
}

func (f *follower) entry(e *store.Entry, subjects *subjects) {
	name := fmt.Sprintf("journal entry %d", e.BatchNo)
	switch {
	case e.BatchNo != f.last.BatchNo+1:
		f.breach("I9", fmt.Sprintf("journal entries %d to %d", f.last.BatchNo+1, e.BatchNo-1), "are missing")
	case e.Chain(f.last.Checksum) != e.Checksum:
		f.breach("I9", name, "was changed: its checksum does not follow from the entry before and its content")
	}
	if e.First != f.seq+1 {
		f.breach("I9", name, "its first sequence is %d, after %d", e.First, f.seq)
	}
	if e.At < f.last.At {
		f.breach("I9", name, "its time is before that of the entry before")
	}
	events, err := inventory.DecodeEvents(e.First, e.At, e.Events)
	if err != nil {
		f.breach("I9", name, "%v", err)
	} else if len(events) != e.Count {
		f.breach("I9", name, "it says %d events and holds %d", e.Count, len(events))
	}
	for i := range events {
		f.event(&events[i])
		if events[i].Type == inventory.EventReservationConfirmed {
			f.pair(&events[i], events[i+1:])
		}
		subjects.add(&events[i])
	}
	f.seq = e.First + int64(e.Count) - 1
	f.last = *e
	f.report.Batches++
	f.report.Events += int64(len(events))
}

// event compares the movements of an event with those that its type must have.
func (f *follower) event(e *inventory.Event) {
	name := fmt.Sprintf("event %d (%v %s)", e.Seq, e.Type, e.Subject())
	expected := e.ExpectedMovements()
	wrong := len(expected) != len(e.Movements)
	for i := range e.Movements {
		m := &e.Movements[i]
		if !wrong && (m.StockKey != expected[i].StockKey || m.Delta != expected[i].Delta) {
			wrong = true
		}
		if !m.After.Valid() {
			f.breach("I1", name, "leaves %s at %s with a negative bucket: %+v", m.ProductID, m.Location, m.After)
		}
	}
	if wrong {
		f.breach("I9", name, "its movements are not those of such an event")
	}
}

// pair checks that the event after a confirmation is the creation of its order (I4).
func (f *follower) pair(confirmed *inventory.Event, after []inventory.Event) {
	if len(after) == 0 || after[0].Type != inventory.EventOrderCreated ||
		after[0].Order.ReservationID != confirmed.Reservation.ID {
		f.breach("I4", confirmed.Subject(), "its confirmation in event %d is not followed by the creation of its order",
			confirmed.Seq)
	}
}

// subjects are the resources that the events of a page are about, each with the last of those events.
type subjects struct {
	*auditor
	reservations map[inventory.ID]*inventory.Event
	ended        map[inventory.ID]int64 // the sequence of the event that ended it
	orders       map[inventory.ID]*inventory.Event
	products     map[string]*inventory.Event
	stock        map[inventory.StockKey]int64
}

func newSubjects(a *auditor) *subjects {
	return &subjects{
		auditor: a, reservations: map[inventory.ID]*inventory.Event{}, ended: map[inventory.ID]int64{},
		orders: map[inventory.ID]*inventory.Event{}, products: map[string]*inventory.Event{},
		stock: map[inventory.StockKey]int64{},
	}
}

func (s *subjects) add(e *inventory.Event) {
	switch {
	case e.Reservation != nil:
		id := e.Reservation.ID
		if at, ended := s.ended[id]; ended {
			s.breach("I3", e.Subject(), "it ended in event %d and changed again in event %d", at, e.Seq)
		}
		if e.Reservation.Status != inventory.ReservationActive {
			s.ended[id] = e.Seq
		}
		s.reservations[id] = e
	case e.Order != nil:
		s.orders[e.Order.ID] = e
	case e.Type != inventory.EventStockAdjusted:
		s.products[e.Product.ID] = e
	}
	for i := range e.Movements {
		s.stock[e.Movements[i].StockKey] = e.Seq
	}
}

// check looks the subjects up in the snapshot from which their events were read.
func (s *subjects) check(ctx context.Context, v store.View) error {
	if err := s.checkReservations(ctx, v); err != nil {
		return err
	}
	if err := s.checkOrders(ctx, v); err != nil {
		return err
	}
	return s.checkProducts(ctx, v)
}

// byID looks rows up, many at a time. If one of them cannot be used, it halves their number until it is alone: then its
// key is in bad. The row pass names it.
func byID[K comparable, T any](
	keys []K, key func(*T) K, read func([]K) ([]*T, error),
) (found map[K]*T, bad map[K]bool, err error) {
	found, bad = make(map[K]*T, len(keys)), map[K]bool{}
	for wait := [][]K{keys}; len(wait) > 0; {
		some := wait[len(wait)-1]
		wait = wait[:len(wait)-1]
		if len(some) > rowsPerPage {
			wait = append(wait, some[rowsPerPage:])
			some = some[:rowsPerPage]
		}
		if len(some) == 0 {
			continue
		}
		rows, err := read(some)
		row, err := corruptRow(err)
		switch {
		case err != nil:
			return nil, nil, err
		case row != nil && len(some) == 1:
			bad[some[0]] = true
		case row != nil:
			half := len(some) / 2
			wait = append(wait, some[:half], some[half:])
		}
		for _, r := range rows {
			found[key(r)] = r
		}
	}
	return found, bad, nil
}

func reservationsByID(ctx context.Context, v store.View,
	ids []inventory.ID,
) (found map[inventory.ID]*inventory.Reservation, bad map[inventory.ID]bool, err error) {
	return byID(ids, func(r *inventory.Reservation) inventory.ID { return r.ID },
		func(ids []inventory.ID) ([]*inventory.Reservation, error) {
			page, _, err := v.Reservations(ctx, store.ReservationQuery{IDs: ids})
			return page, err
		})
}

func ordersByID(
	ctx context.Context, v store.View, ids []inventory.ID,
) (found map[inventory.ID]*inventory.Order, bad map[inventory.ID]bool, err error) {
	return byID(ids, func(o *inventory.Order) inventory.ID { return o.ID },
		func(ids []inventory.ID) ([]*inventory.Order, error) {
			page, _, err := v.Orders(ctx, store.OrderQuery{IDs: ids})
			return page, err
		})
}

func (s *subjects) checkReservations(ctx context.Context, v store.View) error {
	found, bad, err := reservationsByID(ctx, v, slices.Collect(maps.Keys(s.reservations)))
	if err != nil {
		return err
	}
	for id, e := range s.reservations {
		if bad[id] {
			continue
		}
		seq := int64(0)
		if r := found[id]; r != nil {
			seq = r.Seq
		}
		s.checkAge(e, seq)
		if ended := s.ended[id]; ended != 0 && seq > ended {
			s.breach("I3", e.Subject(), "it ended in event %d and changed again in event %d", ended, seq)
		}
	}
	return nil
}

func (s *subjects) checkOrders(ctx context.Context, v store.View) error {
	found, bad, err := ordersByID(ctx, v, slices.Collect(maps.Keys(s.orders)))
	if err != nil {
		return err
	}
	for id, e := range s.orders {
		if bad[id] {
			continue
		}
		seq := int64(0)
		if o := found[id]; o != nil {
			seq = o.Seq
		}
		s.checkAge(e, seq)
	}
	return nil
}

// checkAge requires that a row is not older than an event about it. A sequence of 0 means that there is no row.
func (s *subjects) checkAge(e *inventory.Event, seq int64) {
	switch {
	case seq == 0:
		s.breach("I9", e.Subject(), "its row is missing; event %d is about it", e.Seq)
	case seq < e.Seq:
		s.breach("I9", e.Subject(), "its row is of event %d, but event %d is about it", seq, e.Seq)
	}
}

func (s *subjects) checkProducts(ctx context.Context, v store.View) error {
	ids := map[string]bool{}
	for id := range s.products {
		ids[id] = true
	}
	for key := range s.stock {
		ids[key.ProductID] = true
	}
	found, _, err := byID(slices.Collect(maps.Keys(ids)), func(p *inventory.Product) string { return p.ID },
		func(ids []string) ([]*inventory.Product, error) {
			page, _, err := v.Products(ctx, store.ProductQuery{IDs: ids})
			return page, err
		})
	if err != nil {
		return err
	}
	for id, e := range s.products {
		p := found[id]
		switch {
		case p == nil:
			s.breach("I9", "product "+id, "its row is missing or cannot be read; event %d is about it", e.Seq)
		case p.Seq < e.Seq:
			s.breach("I9", "product "+id, "its row is of event %d, but event %d is about it", p.Seq, e.Seq)
		}
	}
	for key, seq := range s.stock {
		p := found[key.ProductID]
		if p == nil {
			continue
		}
		switch stock := p.At(key.Location); {
		case stock == nil:
			s.breach("I9", stockName(key), "its row is missing; event %d moved units there", seq)
		case stock.Seq < seq:
			s.breach("I9", stockName(key), "its row is of event %d, but event %d moved units there", stock.Seq, seq)
		}
	}
	return nil
}

func stockName(key inventory.StockKey) string {
	return fmt.Sprintf("stock of %s at %s", key.ProductID, key.Location)
}

// balance is the third pass.
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
	err := b.eachProduct(ctx, func(_ store.View, p *inventory.Product, seq int64) error {
		for i := range p.Stock {
			key := inventory.StockKey{ProductID: p.ID, Location: p.Stock[i].Location}
			if b.mine(key) {
				b.rows[key] = &balance{readAt: seq, buckets: p.Stock[i].Buckets}
			}
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
