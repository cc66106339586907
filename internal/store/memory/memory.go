// Package memory is the reference store: it says in the fewest lines what a store does. Its state ends with the
// process.
package memory

import (
	"bytes"
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Options are what a store needs from outside.
type Options struct {
	Now   func() time.Time // default: time.Now
	Clock *store.Clock     // which readings of the clock are gone by; nil: all that are not behind the store
}

// Open makes an empty store.
func Open(o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{
		options:  o,
		head:     store.Head{Store: strings.ToLower(rand.Text()), Format: store.Format},
		products: map[string]*inventory.Product{}, receipts: map[[16]byte]*inventory.Receipt{},
		reservations: map[inventory.ID]*inventory.Reservation{}, orders: map[inventory.ID]*inventory.Order{},
		records: map[inventory.RecordKey]*inventory.Record{},
	}
}

// Store is an in-memory [store.Store].
type Store struct {
	options Options

	mu           sync.RWMutex
	closed       bool
	head         store.Head
	journal      []store.Entry // entry of batch n at n-1
	products     map[string]*inventory.Product
	receipts     map[[16]byte]*inventory.Receipt
	reservations map[inventory.ID]*inventory.Reservation
	orders       map[inventory.ID]*inventory.Order
	records      map[inventory.RecordKey]*inventory.Record
	byAge        []inventory.ID // reservations, oldest first
	ordersByAge  []inventory.ID
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Lister = view{}
)

// Close implements [store.Store].
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// SoleWriter implements [store.Store]. Nobody else has this memory.
func (s *Store) SoleWriter() (clock func() time.Time, sole bool) { return s.options.Now, true }

// Commit implements [store.Store].
func (s *Store) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	now, err := s.head.Now(s.options.Now(), s.options.Clock)
	if err != nil {
		return err
	}
	changes, err := decide(s.load(keys, now))
	if err != nil || changes.Empty() {
		return err
	}
	if err := s.checkRecords(changes.Records); err != nil {
		return err
	}
	s.write(changes, now)
	return nil
}

func (s *Store) load(keys *inventory.Keys, now inventory.Time) *inventory.State {
	state := inventory.NewState(now, s.head.Seq, s.head.Epochs)
	for _, key := range keys.Receipts {
		if r := s.receipts[key]; r != nil {
			state.Receipts[key] = r
		}
	}
	for _, id := range keys.Products {
		s.loadProduct(state, id)
	}
	for _, id := range keys.Reservations {
		s.loadReservation(state, id)
	}
	for _, id := range keys.Orders {
		if o := s.orders[id]; o != nil {
			state.Orders[id] = o
			s.loadLines(state, o.Lines)
		}
	}
	for i := range keys.Stock {
		s.loadProduct(state, keys.Stock[i].ProductID)
	}
	for _, key := range keys.Records {
		if r := s.records[key]; r != nil {
			state.AddRecord(r)
		}
	}
	for _, of := range keys.Ranges {
		found := s.recordsOf(of)
		state.AddRange(of, found[:min(of.Limit, len(found))])
	}
	s.loadOverdue(state, keys)
	return state
}

func (s *Store) loadProduct(state *inventory.State, id string) {
	if p := s.products[id]; p != nil && state.Products[id] == nil {
		state.Products[id] = p.Clone()
	}
}

func (s *Store) loadLines(state *inventory.State, lines []inventory.Line) {
	for i := range lines {
		s.loadProduct(state, lines[i].ProductID)
	}
}

func (s *Store) loadReservation(state *inventory.State, id inventory.ID) {
	r := s.reservations[id]
	if r == nil {
		return
	}
	state.Reservations[id] = r
	if o := s.orders[r.OrderID]; o != nil {
		state.Orders[o.ID] = o
	}
	s.loadLines(state, r.Lines)
}

// loadOverdue looks through all holds, once for all stock rows, if any has too few units.
func (s *Store) loadOverdue(state *inventory.State, keys *inventory.Keys) {
	var due map[inventory.StockKey][]inventory.ID
	_ = store.LoadOverdue(state, keys, func(key inventory.StockKey, skip, limit int,
		use func(*inventory.Reservation, int) bool,
	) (more bool, err error) {
		if due == nil {
			due = s.due(state.Now)
		}
		rest := due[key][skip:]
		for _, id := range rest[:min(limit, len(rest))] {
			r := s.reservations[id]
			if !use(r, len(inventory.AppendReservation(nil, r))) {
				break
			}
		}
		return len(rest) > limit, nil
	})
	for _, ids := range state.Overdue {
		for _, id := range ids {
			s.loadLines(state, s.reservations[id].Lines)
		}
	}
}

// due lists the overdue holds of each stock row, earliest deadline first.
func (s *Store) due(now inventory.Time) map[inventory.StockKey][]inventory.ID {
	due := map[inventory.StockKey][]inventory.ID{}
	for _, d := range s.deadlines(func(r *inventory.Reservation) bool { return r.Due(now) }) {
		for _, line := range s.reservations[d.ID].Lines {
			ids := due[line.Key()]
			if len(ids) == 0 || ids[len(ids)-1] != d.ID { // else it has another line there
				due[line.Key()] = append(ids, d.ID)
			}
		}
	}
	return due
}

func (s *Store) deadlines(match func(*inventory.Reservation) bool) []store.Deadline {
	var list []store.Deadline
	for _, id := range s.byAge {
		if r := s.reservations[id]; r.Status == inventory.ReservationActive && match(r) {
			list = append(list, store.Deadline{ID: id, At: r.ExpiresAt})
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].At < list[j].At })
	return list
}

func (s *Store) write(c *inventory.Changes, now inventory.Time) {
	for i := range c.Products {
		after := *c.Products[i].After
		if before := s.products[after.ID]; before != nil {
			after.Stock = before.Stock
		} else {
			after.Stock = nil
		}
		s.products[after.ID] = &after
	}
	for i := range c.Stock {
		p := s.products[c.Stock[i].ProductID].Clone()
		p.Put(*c.Stock[i].After)
		s.products[p.ID] = p
	}
	for _, change := range c.Reservations {
		s.reservations[change.After.ID] = change.After
		if change.Before == nil {
			s.byAge = append(s.byAge, change.After.ID)
		}
	}
	for _, change := range c.Orders {
		s.orders[change.After.ID] = change.After
		if change.Before == nil {
			s.ordersByAge = append(s.ordersByAge, change.After.ID)
		}
	}
	for _, r := range c.Receipts {
		s.receipts[r.Key] = r
	}
	s.writeRecords(c.Records)
	var batchID [16]byte
	rand.Read(batchID[:])
	entry := s.head.Next(batchID, now, c)
	s.journal = append(s.journal, entry)
	s.head = s.head.After(&entry)
}

// View implements [store.Store].
func (s *Store) View(ctx context.Context, read func(store.View) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return read(view{s})
}

type view struct{ s *Store }

func (v view) Head(ctx context.Context) (store.Head, error) { return v.s.head, ctx.Err() }

func (v view) Now(ctx context.Context) (inventory.Time, error) {
	return v.s.head.Latest(v.s.options.Now()), ctx.Err()
}

func (v view) Products(ctx context.Context, q store.ProductQuery) ([]*inventory.Product, string, error) {
	var found []*inventory.Product
	for id, p := range v.s.products {
		if (q.IDs != nil && slices.Contains(q.IDs, id)) || (q.IDs == nil && id > q.After) {
			found = append(found, p)
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].ID < found[j].ID })
	if q.IDs != nil {
		return found, "", ctx.Err()
	}
	page := store.NewPage[inventory.Product, string](q.Limit)
	for _, p := range found {
		page.Add(p, p.ID, len(inventory.AppendProduct(nil, p))+len(p.Stock)*store.StockBytes)
	}
	return result(ctx, page)
}

func result[Row, Cursor any](ctx context.Context, page *store.Page[Row, Cursor]) (rows []*Row, next Cursor, err error) {
	if err := ctx.Err(); err != nil {
		return nil, next, err
	}
	return page.Result()
}

func (v view) Reservations(
	ctx context.Context, q store.ReservationQuery,
) ([]*inventory.Reservation, inventory.ID, error) {
	if q.IDs != nil {
		return byID(v.s.reservations, q.IDs), inventory.ID{}, ctx.Err()
	}
	return result(ctx, search(v.s.reservations, v.s.byAge, q.Before, q.Limit, q.Matches, inventory.AppendReservation))
}

func (v view) Orders(ctx context.Context, q store.OrderQuery) ([]*inventory.Order, inventory.ID, error) {
	if q.IDs != nil {
		return byID(v.s.orders, q.IDs), inventory.ID{}, ctx.Err()
	}
	return result(ctx, search(v.s.orders, v.s.ordersByAge, q.Before, q.Limit, q.Matches, inventory.AppendOrder))
}

func byID[T any](rows map[inventory.ID]*T, ids []inventory.ID) (list []*T) {
	for _, id := range ids {
		if row := rows[id]; row != nil {
			list = append(list, row)
		}
	}
	return list
}

// search collects the rows that match, newest first. Their sizes are those of the encoding that other stores keep.
func search[T any](
	rows map[inventory.ID]*T, byAge []inventory.ID, before inventory.ID, limit int, matches func(*T) bool,
	encode func([]byte, *T) []byte,
) *store.Page[T, inventory.ID] {
	page := store.NewPage[T, inventory.ID](limit)
	var scratch []byte
	for _, id := range slices.Backward(byAge) {
		if page.Done() {
			break
		}
		row := rows[id]
		switch {
		case !before.IsZero() && id.Sequence() >= before.Sequence():
		case matches(row):
			scratch = encode(scratch[:0], row)
			page.Add(row, id, len(scratch))
		default:
			page.Skip(id)
		}
	}
	return page
}

func (v view) Journal(ctx context.Context, from store.JournalPosition, limit, maxBytes int) ([]store.Entry, error) {
	start := from.BatchNo - 1
	if from.BatchNo == 0 {
		start = int64(sort.Search(len(v.s.journal), func(i int) bool {
			e := &v.s.journal[i]
			return e.First+int64(e.Count)-1 >= from.Seq
		}))
	}
	var page []store.Entry
	for bytes := 0; start < int64(len(v.s.journal)) && len(page) < limit && bytes < maxBytes; start++ {
		page = append(page, v.s.journal[start])
		bytes += len(v.s.journal[start].Events)
	}
	return page, ctx.Err()
}

func (v view) Due(ctx context.Context, until inventory.Time, limit int) ([]store.Deadline, error) {
	list := v.s.deadlines(func(r *inventory.Reservation) bool { return r.ExpiresAt <= until })
	return list[:min(limit, len(list))], ctx.Err()
}

// Receipts implements [store.Lister].
func (v view) Receipts(
	ctx context.Context, after store.ReceiptCursor, limit int,
) ([]*inventory.Receipt, store.ReceiptCursor, error) {
	keys := slices.SortedFunc(maps.Keys(v.s.receipts), func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	page := store.NewPage[inventory.Receipt, store.ReceiptCursor](limit)
	for _, key := range keys {
		if bytes.Compare(key[:], after.Key[:]) > 0 {
			page.Add(v.s.receipts[key], store.ReceiptCursor{Key: key}, len(v.s.receipts[key].Answer))
		}
	}
	return result(ctx, page)
}

func (v view) Strays(ctx context.Context, _ int) ([]string, error) { return nil, ctx.Err() }
