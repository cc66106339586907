package engine

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Committed memory: readers of products and reservations, which is what shops poll, are answered from here. What is kept
// is exactly the last committed state of those that somebody has asked for.
//
// Invariants.
//   - What is kept is the state after the event whose sequence is seq. A batch is entered before anybody is told of it.
//   - A row is entered once it was loaded. What was committed while it was being loaded waits beside it, and whichever is
//     of a later event counts: so a load never has to be repeated, however fast commits follow each other.
//   - Where it is not known what was committed, everything is forgotten, and loads under way enter nothing.
//   - The bytes kept are bounded. Beyond that, what nobody has asked for since the last time round goes first.

// Product is a product with what was rendered of it. It is shared by readers: never change it.
type Product struct {
	*inventory.Product
	Rendered []byte // by [Options.Render]
}

// nothingKept is the sequence of a memory that keeps nothing, and therefore lacks nothing.
const nothingKept = math.MaxInt64

type committedMemory struct {
	limit  int
	render func(*inventory.Product) []byte

	seq atomic.Int64 // written under mu
	at  atomic.Int64 // the latest time of a batch that was seen, in milliseconds

	mu           sync.RWMutex
	generation   int        // counts what was forgotten
	head         store.Head // as the journal was last followed to; the zero head where it was not
	synced       int64      // the sequence from which on the commits of this process are followed
	products     map[string]*keptProduct
	reservations map[inventory.ID]*keptReservation
	ring         []kept // in the order in which they are looked at when room is needed
	hand         int
	bytes        int
}

// kept is an entry of the ring.
type kept interface {
	place() *ringPlace
	forget(*committedMemory)
}

// ringPlace is what the ring knows of an entry.
type ringPlace struct {
	used    atomic.Bool // since the hand last came by
	bytes   int         // 0: not in the ring, because it is being loaded
	loading int         // loads under way
}

func (p *ringPlace) place() *ringPlace { return p }

// use marks an entry as used. Most reads find it marked, and write nothing that other processors would have to fetch.
func (p *ringPlace) use() {
	if !p.used.Load() {
		p.used.Store(true)
	}
}

type keptProduct struct {
	ringPlace
	id      string
	product *inventory.Product      // changed in place by commits; nil until it was loaded
	news    *inventory.Product      // what was committed during a load; its Version is 0 where the catalogue part was not
	shown   atomic.Pointer[Product] // what readers are given; nil after a change
}

type keptReservation struct {
	ringPlace
	id  inventory.ID
	row *inventory.Reservation // nil until it was loaded or committed
}

func newMemory(limit int, render func(*inventory.Product) []byte) *committedMemory {
	m := &committedMemory{limit: limit, render: render}
	m.clear()
	return m
}

func (m *committedMemory) clear() {
	m.generation++
	m.products, m.reservations = map[string]*keptProduct{}, map[inventory.ID]*keptReservation{}
	m.ring, m.hand, m.bytes = nil, 0, 0
	m.head, m.synced = store.Head{}, 0
	m.seq.Store(nothingKept)
}

// forget empties the memory.
func (m *committedMemory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clear()
}

// enter brings the memory up to date with a batch that was decided on a state.
func (m *committedMemory) enter(state *inventory.State, c *inventory.Changes) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if seq := m.seq.Load(); seq != nothingKept && seq != state.Seq {
		m.clear() // an earlier batch was written that nobody knew of
	}
	if len(m.products) > 0 {
		for i := range c.Products {
			m.catalogue(c.Products[i].After)
		}
		for i := range c.Stock {
			m.stock(c.Stock[i].ProductID, *c.Stock[i].After)
		}
	}
	if len(m.reservations) > 0 {
		for i := range c.Reservations {
			m.reservation(c.Reservations[i].After)
		}
	}
	m.seq.Store(state.Seq + int64(c.EventCount))
	m.sawTime(state.Now)
	m.makeRoom()
}

// sawTime notes the time of a batch. It never goes back.
func (m *committedMemory) sawTime(t inventory.Time) {
	for {
		at := m.at.Load()
		if int64(t) <= at || m.at.CompareAndSwap(at, int64(t)) {
			return
		}
	}
}

// followed is the batch up to which the journal was followed.
func (m *committedMemory) followed() store.Head {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.head
}

// follow brings the memory from one head to a later one with the journal entries between them. Where they are not all
// there, or do not continue what was followed before, it begins anew.
func (m *committedMemory) follow(from, to *store.Head, entries []store.Entry) (continued bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.head != *from || !continues(from, to, entries) {
		m.clear()
		m.head = *to
		return false, nil
	}
	for i := range entries {
		events, err := inventory.DecodeEvents(entries[i].First, entries[i].At, entries[i].Events)
		if err != nil {
			m.clear()
			return false, err
		}
		m.enterEvents(events)
	}
	m.head = *to
	m.makeRoom()
	return true, nil
}

// continues reports whether the entries lead from one head to the other, by their numbers and checksums.
func continues(from, to *store.Head, entries []store.Entry) bool {
	if from.Store == "" || int64(len(entries)) != to.BatchNo-from.BatchNo {
		return false
	}
	at := *from
	for i := range entries {
		e := &entries[i]
		if e.BatchNo != at.BatchNo+1 || e.First != at.Seq+1 || e.Chain(at.Chain) != e.Checksum {
			return false
		}
		at = at.After(e)
	}
	return at.BatchID == to.BatchID
}

// enterEvents enters what a batch of the journal says.
func (m *committedMemory) enterEvents(events []inventory.Event) {
	for i := range events {
		e := &events[i]
		if p := e.Product; p != nil {
			m.catalogue(p)
			for _, row := range p.Stock {
				m.stock(p.ID, row)
			}
		}
		if e.Reservation != nil {
			m.reservation(e.Reservation)
		}
		for j := range e.Movements {
			moved := &e.Movements[j]
			m.stock(moved.ProductID, inventory.Stock{Location: moved.Location, Buckets: moved.After, Seq: e.Seq})
		}
	}
}

// catalogue enters the catalogue part of a product, whose stock rows are not looked at.
func (m *committedMemory) catalogue(p *inventory.Product) {
	k := m.products[p.ID]
	if k == nil {
		return
	}
	part := *p
	part.Stock = nil
	before := k.cost()
	k.update(&part)
	m.resize(k, k.cost()-before)
}

func (m *committedMemory) stock(productID string, row inventory.Stock) {
	k := m.products[productID]
	if k == nil {
		return
	}
	part := &inventory.Product{ID: productID, Stock: []inventory.Stock{row}}
	before := k.cost()
	k.update(part)
	m.resize(k, k.cost()-before)
}

// update takes over what is of a later event than what is there.
func (k *keptProduct) update(part *inventory.Product) {
	if k.product == nil {
		if k.news == nil {
			k.news = &inventory.Product{ID: k.id}
		}
		merge(k.news, part)
		return
	}
	merge(k.product, part)
	k.shown.Store(nil)
}

func merge(p, part *inventory.Product) {
	if part.Version > 0 && part.Seq > p.Seq {
		stock := p.Stock
		*p = *part
		p.Stock = stock
	}
	for _, row := range part.Stock {
		if old := p.At(row.Location); old == nil {
			p.Put(row)
		} else if row.Seq > old.Seq {
			*old = row
		}
	}
}

func (m *committedMemory) reservation(r *inventory.Reservation) {
	k := m.reservations[r.ID]
	if k == nil || (k.row != nil && k.row.Seq >= r.Seq) {
		return
	}
	before := k.cost()
	k.row = r
	m.resize(k, k.cost()-before)
}

// product is what is kept of a product, or nil.
func (m *committedMemory) product(id string) *Product {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.show(id)
}

// all are several products as they were at one moment. It reports false where one of them is not kept.
func (m *committedMemory) all(ids []string) ([]*Product, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	list := make([]*Product, len(ids))
	for i, id := range ids {
		if list[i] = m.show(id); list[i] == nil {
			return nil, false
		}
	}
	return list, true
}

func (m *committedMemory) show(id string) *Product {
	k := m.products[id]
	if k == nil || k.product == nil {
		return nil
	}
	k.use()
	shown := k.shown.Load()
	if shown == nil { // commits are kept out, so whoever else is here makes the same
		shown = &Product{Product: k.product.Clone()}
		shown.Rendered = m.render(shown.Product)
		k.shown.Store(shown)
	}
	return shown
}

// held is what is kept of a reservation, or nil.
func (m *committedMemory) held(id inventory.ID) *inventory.Reservation {
	m.mu.RLock()
	defer m.mu.RUnlock()
	k := m.reservations[id]
	if k == nil || k.bytes == 0 {
		return nil
	}
	k.use()
	return k.row
}

// sync notes the sequence of a snapshot as that of a memory that keeps nothing yet. From then on it follows the commits.
func (m *committedMemory) sync(seq int64) {
	if m.seq.Load() != nothingKept {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seq.Load() == nothingKept {
		m.seq.Store(seq)
		m.synced = seq
	}
}

// load is one load of rows that are not kept, from before its snapshot until its rows are entered.
type load struct {
	memory       *committedMemory
	ended        bool
	generation   int
	batchNo      int64 // up to which the journal was followed before the snapshot
	products     []string
	reservations []inventory.ID
}

// begin must be called before the snapshot is taken.
func (m *committedMemory) begin(products []string, reservations []inventory.ID) *load {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range products {
		if m.products[id] == nil {
			m.products[id] = &keptProduct{id: id}
		}
		m.products[id].loading++
	}
	for _, id := range reservations {
		if m.reservations[id] == nil {
			m.reservations[id] = &keptReservation{id: id}
		}
		m.reservations[id].loading++
	}
	return &load{memory: m, generation: m.generation, batchNo: m.head.BatchNo, products: products, reservations: reservations}
}

// enter ends the load with the rows that were found in a snapshot with this head, which must not be later than what
// memory has by now. A snapshot from before memory began to follow the commits lacks what nobody will tell again, and so
// does one of a database that answers a reader with less than it has told him: their rows are not kept.
func (l *load) enter(head *store.Head, products []*inventory.Product, reservations []*inventory.Reservation) {
	m := l.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.generation != m.generation {
		return
	}
	if head.BatchNo < l.batchNo || head.Seq < m.synced {
		l.end()
		return
	}
	for _, p := range products {
		if k := m.products[p.ID]; k.product == nil {
			k.product = p.Clone()
			if k.news != nil {
				merge(k.product, k.news)
				k.news = nil
			}
			m.keep(k, k.cost())
		}
	}
	for _, r := range reservations {
		k := m.reservations[r.ID]
		if k.row == nil || k.row.Seq < r.Seq {
			k.row = r
		}
		if k.bytes == 0 {
			m.keep(k, k.cost())
		}
	}
	l.end()
	m.makeRoom()
}

// abandon ends a load that failed; after enter it does nothing.
func (l *load) abandon() {
	l.memory.mu.Lock()
	defer l.memory.mu.Unlock()
	if !l.ended && l.generation == l.memory.generation {
		l.end()
	}
}

// end takes out what was not found.
func (l *load) end() {
	m := l.memory
	l.ended = true
	for _, id := range l.products {
		k := m.products[id]
		if k.loading--; k.loading == 0 && k.product == nil {
			delete(m.products, id)
		}
	}
	for _, id := range l.reservations {
		k := m.reservations[id]
		if k.loading--; k.loading == 0 && k.bytes == 0 {
			delete(m.reservations, id)
		}
	}
}

// The bytes that an entry takes, roughly: what is owned, what is shown and what was rendered.
const (
	entryBytes    = 512
	stockRowBytes = 256
	lineBytes     = 128
)

func (k *keptProduct) cost() int {
	if k.product == nil {
		return entryBytes
	}
	return entryBytes + 3*(len(k.product.Name)+k.product.Metadata.Size()) + stockRowBytes*len(k.product.Stock)
}

func (k *keptReservation) cost() int {
	if k.row == nil {
		return entryBytes
	}
	return entryBytes + len(k.row.CustomerID) + len(k.row.CancelReason) + k.row.Metadata.Size() + lineBytes*len(k.row.Lines)
}

// keep puts a loaded entry into the ring.
func (m *committedMemory) keep(k kept, bytes int) {
	k.place().bytes = bytes
	k.place().use()
	m.bytes += bytes
	m.ring = append(m.ring, k)
}

// resize follows an entry that has grown. Who loads next makes room.
func (m *committedMemory) resize(k kept, more int) {
	if p := k.place(); p.bytes > 0 {
		p.bytes += more
		m.bytes += more
	}
}

// makeRoom forgets entries until the rest fits: the hand goes round the ring, spares what was used since it last came by,
// and takes what was not (the CLOCK algorithm: Corbató, "A paging experiment with the Multics system", 1968).
func (m *committedMemory) makeRoom() {
	for looks := 2 * len(m.ring); m.bytes > m.limit && looks > 0; looks-- {
		m.hand %= len(m.ring)
		k := m.ring[m.hand]
		if p := k.place(); p.used.Swap(false) || p.loading > 0 {
			m.hand++
			continue
		}
		m.bytes -= k.place().bytes
		k.forget(m)
		last := len(m.ring) - 1
		m.ring[m.hand], m.ring[last] = m.ring[last], nil
		m.ring = m.ring[:last]
	}
}

func (k *keptProduct) forget(m *committedMemory)     { delete(m.products, k.id) }
func (k *keptReservation) forget(m *committedMemory) { delete(m.reservations, k.id) }
