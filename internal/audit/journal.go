package audit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// follower walks the journal entry by entry, up to the batch that was the last when it began.
type follower struct {
	*auditor
	last  store.Entry // the last entry that it has seen
	seq   int64
	until int64 // number of the batch where it ends

	anchors anchors
}

// journal is the pass over the journal.
func (a *auditor) journal(ctx context.Context) error {
	f := follower{auditor: a, anchors: anchors{a, slices.Clone(a.options.Anchors)}}
	slices.SortStableFunc(f.anchors.list, func(a, b Anchor) int { return cmp.Compare(a.BatchNo, b.BatchNo) })
	if err := a.store.View(ctx, func(v store.View) error { return f.head(ctx, v) }); err != nil {
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
	f.anchors.end()
	a.report.Last.BatchNo, a.report.Last.Seq, a.report.Last.Checksum = f.last.BatchNo, f.seq, f.last.Checksum
	return nil
}

// head reads where to end, and compares the head with the journal entry of its batch.
func (f *follower) head(ctx context.Context, v store.View) error {
	head, err := v.Head(ctx)
	if err != nil {
		return err
	}
	f.until = head.BatchNo
	f.report.Last.Store = head.Store
	f.anchors.head(&head)
	if !storeID(head.Store) {
		f.breach("I9", "head", "its store %q is not an id that a store is given", head.Store)
	}
	if err := head.Epochs.Check(head.Seq); err != nil {
		f.breach("I9", "head", "its epochs cannot be: %v", err)
	}
	entry := store.Entry{First: 1} // the head of an empty store is as if there were such an entry
	if head.BatchNo > 0 {
		found, err := f.entryOf(ctx, v, head.BatchNo)
		if err != nil || found == nil {
			return err // the end of the pass names what is missing
		}
		entry = *found
	}
	f.compareHead(&head, &entry)
	next, err := f.entryOf(ctx, v, head.BatchNo+1)
	if next != nil {
		f.breach("I9", "head", "its batch is %d, but the journal goes on with entry %d", head.BatchNo, next.BatchNo)
	}
	return err
}

// storeIDLength is that of the text of [crypto/rand.Text], which in lower case is the id of a store.
const storeIDLength = 26

func storeID(id string) bool {
	return len(id) == storeIDLength && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// entryOf returns the journal entry of a batch, or nil.
func (f *follower) entryOf(ctx context.Context, v store.View, batchNo int64) (*store.Entry, error) {
	entries, err := v.Journal(ctx, store.JournalPosition{BatchNo: batchNo}, 1, 1)
	if err != nil || len(entries) == 0 || entries[0].BatchNo != batchNo {
		return nil, err
	}
	return &entries[0], nil
}

func (f *follower) compareHead(head *store.Head, e *store.Entry) {
	differs := func(what string) {
		f.breach("I9", "head", "its %s is not that of journal entry %d", what, head.BatchNo)
	}
	if head.Seq != e.First+int64(e.Count)-1 {
		differs("sequence")
	}
	if head.Chain != e.Checksum {
		differs("checksum")
	}
	if head.BatchID != e.BatchID {
		differs("batch id")
	}
	if head.BatchNo > 0 && head.At != e.At {
		differs("time")
	}
}

func (f *follower) page(ctx context.Context, v store.View) (done bool, err error) {
	entries, err := v.Journal(ctx, store.JournalPosition{BatchNo: f.last.BatchNo + 1}, entriesPerPage, bytesPerPage)
	if err != nil {
		return false, err
	}
	if len(entries) == 0 && f.last.BatchNo < f.until {
		f.breach("I9", fmt.Sprintf("journal entries %d to %d", f.last.BatchNo+1, f.until), "are missing at the end")
		return true, nil
	}
	subjects := newSubjects(f.auditor)
	for i := range entries {
		f.entry(&entries[i], subjects)
	}
	return f.last.BatchNo >= f.until, subjects.check(ctx, v)
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
	f.anchors.entry(e)
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
	f.status(e, name)
	f.deadline(e, name)
}

// The state of the resource after each type of event about a reservation or an order.
var (
	reservationStatus = map[inventory.EventType]inventory.ReservationStatus{
		inventory.EventReservationCreated:   inventory.ReservationActive,
		inventory.EventReservationExtended:  inventory.ReservationActive,
		inventory.EventReservationConfirmed: inventory.ReservationConfirmed,
		inventory.EventReservationCancelled: inventory.ReservationCancelled,
		inventory.EventReservationExpired:   inventory.ReservationExpired,
	}
	orderStatus = map[inventory.EventType]inventory.OrderStatus{
		inventory.EventOrderCreated:   inventory.OrderConfirmed,
		inventory.EventOrderFulfilled: inventory.OrderFulfilled,
		inventory.EventOrderCancelled: inventory.OrderCancelled,
	}
)

func (f *follower) status(e *inventory.Event, name string) {
	if r := e.Reservation; r != nil && r.Status != reservationStatus[e.Type] {
		f.breach("I3", name, "it leaves the reservation %v", r.Status)
	}
	if o := e.Order; o != nil && o.Status != orderStatus[e.Type] {
		f.breach("I9", name, "it leaves the order %v", o.Status)
	}
}

// deadline checks that time ends a hold at its deadline or later, and that whoever changes it does so before (I7).
func (f *follower) deadline(e *inventory.Event, name string) {
	switch r := e.Reservation; {
	case r == nil:
	case e.Type == inventory.EventReservationExpired:
		if e.Time < r.ExpiresAt {
			f.breach("I7", name, "it is of %d, before the deadline %d", e.Time, r.ExpiresAt)
		}
	case e.Time >= r.ExpiresAt:
		f.breach("I7", name, "it is of %d, not before the deadline %d", e.Time, r.ExpiresAt)
	}
}

// pair checks that the event after a confirmation is the creation of its order (I4).
func (f *follower) pair(confirmed *inventory.Event, after []inventory.Event) {
	if len(after) == 0 || after[0].Type != inventory.EventOrderCreated ||
		after[0].Order.ReservationID != confirmed.Reservation.ID || after[0].Order.ID != confirmed.Reservation.OrderID {
		f.breach("I4", confirmed.Subject(), "its confirmation in event %d is not followed by the creation of its order",
			confirmed.Seq)
	}
}

// subjects are the resources that the events of a page are about, each with the sequence of the last of those events.
// They do not hold the events, which may have megabytes.
type subjects struct {
	*auditor
	reservations map[inventory.ID]int64
	ended        map[inventory.ID]int64 // the sequence of the event that ended it
	orders       map[inventory.ID]int64
	products     map[string]int64
	stock        map[inventory.StockKey]int64
}

func newSubjects(a *auditor) *subjects {
	return &subjects{
		auditor: a, reservations: map[inventory.ID]int64{}, ended: map[inventory.ID]int64{},
		orders: map[inventory.ID]int64{}, products: map[string]int64{}, stock: map[inventory.StockKey]int64{},
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
		s.reservations[id] = e.Seq
	case e.Order != nil:
		s.orders[e.Order.ID] = e.Seq
	case e.Product != nil && e.Type != inventory.EventStockAdjusted:
		s.products[e.Product.ID] = e.Seq
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

func productsByID(
	ctx context.Context, v store.View, ids map[string]bool,
) (found map[string]*inventory.Product, bad map[string]bool, err error) {
	return byID(slices.Collect(maps.Keys(ids)), func(p *inventory.Product) string { return p.ID },
		func(ids []string) ([]*inventory.Product, error) {
			page, _, err := v.Products(ctx, store.ProductQuery{IDs: ids})
			return page, err
		})
}

func (s *subjects) checkReservations(ctx context.Context, v store.View) error {
	found, bad, err := reservationsByID(ctx, v, slices.Collect(maps.Keys(s.reservations)))
	if err != nil {
		return err
	}
	for id, last := range s.reservations {
		if bad[id] {
			continue
		}
		seq := int64(0)
		if r := found[id]; r != nil {
			seq = r.Seq
		}
		name := id.Text(inventory.ReservationPrefix)
		s.checkAge(name, last, seq)
		if ended := s.ended[id]; ended != 0 && seq > ended {
			s.breach("I3", name, "it ended in event %d and changed again in event %d", ended, seq)
		}
	}
	return nil
}

func (s *subjects) checkOrders(ctx context.Context, v store.View) error {
	found, bad, err := ordersByID(ctx, v, slices.Collect(maps.Keys(s.orders)))
	if err != nil {
		return err
	}
	for id, last := range s.orders {
		if bad[id] {
			continue
		}
		seq := int64(0)
		if o := found[id]; o != nil {
			seq = o.Seq
		}
		s.checkAge(id.Text(inventory.OrderPrefix), last, seq)
	}
	return nil
}

// checkAge requires that a row is not older than the last event about it. A sequence of 0 means that there is no row.
func (s *subjects) checkAge(name string, last, seq int64) {
	switch {
	case seq == 0:
		s.breach("I9", name, "its row is missing; event %d is about it", last)
	case seq < last:
		s.breach("I9", name, "its row is of event %d, but event %d is about it", seq, last)
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
	found, _, err := productsByID(ctx, v, ids)
	if err != nil {
		return err
	}
	for id, last := range s.products {
		p := found[id]
		switch {
		case p == nil:
			s.breach("I9", "product "+id, "its row is missing or cannot be read; event %d is about it", last)
		case p.Seq < last:
			s.breach("I9", "product "+id, "its row is of event %d, but event %d is about it", p.Seq, last)
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
