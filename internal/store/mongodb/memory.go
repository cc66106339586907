package mongodb

import (
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// memoryBytes is about how much the memory may take. When it is reached, the memory is emptied.
const memoryBytes = 32 << 20

// memory keeps rows that batches of this process loaded or wrote, as its last batch left them. They are current as long
// as the head has the id of that batch, which the lock of the head finds out. After a batch of another process nothing
// of it is used.
type memory struct {
	known        bool       // head is that of the last batch of this process, and the rows are as it left them
	head         store.Head // all but what is in the document of the head alone
	products     map[string]inventory.Product
	stock        map[inventory.StockKey]inventory.Stock
	reservations map[inventory.ID]*inventory.Reservation // batches change none in place
	orders       map[inventory.ID]*inventory.Order
	bytes        int
}

// forget empties the memory.
func (m *memory) forget() { *m = memory{} }

// About how much memory a row takes, without its lines and metadata, and a line or a member of metadata.
const rowBytes, partBytes = 256, 96

// grow makes room for a row.
func (m *memory) grow(parts int) {
	n := rowBytes + parts*partBytes
	if m.bytes += n; m.products == nil || m.bytes > memoryBytes {
		m.products, m.stock = map[string]inventory.Product{}, map[inventory.StockKey]inventory.Stock{}
		m.reservations, m.orders = map[inventory.ID]*inventory.Reservation{}, map[inventory.ID]*inventory.Order{}
		m.bytes = n
	}
}

func (m *memory) putProduct(p *inventory.Product) {
	if _, known := m.products[p.ID]; !known {
		m.grow(len(p.Metadata))
	}
	copied := *p
	copied.Stock = nil
	m.products[p.ID] = copied
}

func (m *memory) putStock(key inventory.StockKey, row inventory.Stock) {
	if _, known := m.stock[key]; !known {
		m.grow(0)
	}
	m.stock[key] = row
}

func (m *memory) putReservation(r *inventory.Reservation) {
	if m.reservations[r.ID] == nil {
		m.grow(len(r.Lines) + len(r.Metadata))
	}
	m.reservations[r.ID] = r
}

func (m *memory) putOrder(o *inventory.Order) {
	if m.orders[o.ID] == nil {
		m.grow(len(o.Lines) + len(o.Metadata))
	}
	m.orders[o.ID] = o
}

// committed enters what a committed batch has loaded and written, and the head as it left it.
func (m *memory) committed(l *loader, head store.Head, changes *inventory.Changes) {
	if !l.own {
		m.forget()
	}
	m.known, m.head = true, head
	for _, p := range l.state.Products {
		m.putProduct(p)
		for i := range p.Stock {
			m.putStock(inventory.StockKey{ProductID: p.ID, Location: p.Stock[i].Location}, p.Stock[i])
		}
	}
	for i := range changes.Products {
		m.putProduct(changes.Products[i].After)
	}
	for i := range changes.Stock {
		m.putStock(changes.Stock[i].StockKey, *changes.Stock[i].After)
	}
	for i := range changes.Reservations {
		m.putReservation(changes.Reservations[i].After)
	}
	for i := range changes.Orders {
		m.putOrder(changes.Orders[i].After)
	}
}

// recall enters a row of memory into the state of a batch, and reports whether there was one.
func (l *loader) recallProduct(id string) bool {
	p, known := l.s.memory.products[id]
	if known && l.own {
		l.state.Products[id] = &p
	}
	return known && l.own
}

func (l *loader) recallStock(key inventory.StockKey) bool {
	p := l.state.Products[key.ProductID]
	row, known := l.s.memory.stock[key]
	if known && l.own && p != nil {
		p.Put(row)
	}
	return known && l.own && p != nil
}

func (l *loader) recallReservation(id inventory.ID) bool {
	r := l.s.memory.reservations[id]
	if r != nil && l.own {
		l.state.Reservations[id] = r
	}
	return r != nil && l.own
}

func (l *loader) recallOrder(id inventory.ID) bool {
	o := l.s.memory.orders[id]
	if o != nil && l.own {
		l.state.Orders[id] = o
	}
	return o != nil && l.own
}
