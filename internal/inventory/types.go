package inventory

import (
	"math/bits"
	"sort"
	"strings"
)

// Time is an instant in whole milliseconds since the Unix epoch. Zero means "not yet".
type Time int64

// Limits of the domain. Every integer that reaches the wire stays below 2^53.
const (
	MaxAmount        = 1<<53 - 1             // minor units of money
	MaxQuantity      = 1_000_000_000         // units of one product at one location in a reservation
	MaxStock         = 1_000_000_000_000_000 // units of a product over all its locations
	MaxLocations     = 1_000                 // of a product
	MaxLines         = 100                   // of a reservation
	MaxMetadata      = 50                    // members of one resource
	MainLocation     = "main"                // where stock is when nobody says otherwise
	MaxOverdueLoaded = 1_024                 // overdue holds that one batch expires to make room
	MaxBatchBytes    = 4 << 20               // of events, receipts and records of a batch; then commands wait for the next
)

// Money is an amount in minor units (cents, say) of an ISO 4217 currency.
type Money struct {
	Amount   int64  // 0 to MaxAmount
	Currency string // three capitals
}

// Member is one name and value of [Metadata].
type Member struct{ Name, Value string }

// Metadata is the caller's own flat data, sorted by name, never changed in place.
type Metadata []Member

// NewMetadata makes metadata of a map.
func NewMetadata(values map[string]string) Metadata {
	if len(values) == 0 {
		return nil
	}
	m := make(Metadata, 0, len(values))
	for name, value := range values {
		m = append(m, Member{name, value})
	}
	sort.Slice(m, func(i, j int) bool { return m[i].Name < m[j].Name })
	return m
}

func (m Metadata) equal(other Metadata) bool {
	if len(m) != len(other) {
		return false
	}
	for i := range m {
		if m[i] != other[i] {
			return false
		}
	}
	return true
}

// Buckets are the units of one stock row, or a movement between its buckets.
type Buckets struct{ Available, Reserved, Committed int64 }

// Total is the units on hand.
func (b Buckets) Total() int64 { return b.Available + b.Reserved + b.Committed }

// Add is bucket-wise; the limits of the domain keep it from overflowing.
func (b Buckets) Add(d Buckets) Buckets {
	return Buckets{b.Available + d.Available, b.Reserved + d.Reserved, b.Committed + d.Committed}
}

// times is a movement of n units, where b is that of one.
func (b Buckets) times(n int64) Buckets {
	return Buckets{b.Available * n, b.Reserved * n, b.Committed * n}
}

// Valid reports whether the buckets keep invariant I1: none is negative.
func (b Buckets) Valid() bool { return b.Available >= 0 && b.Reserved >= 0 && b.Committed >= 0 }

// StockKey names one stock row.
type StockKey struct{ ProductID, Location string }

// Stock is the units of a product at one location.
type Stock struct {
	Location string
	Buckets
	Seq int64 // of the last event that moved units here
}

// Product is catalogue data with stock rows, sorted by location. Whoever asks for the product itself gets all of its
// rows. For a command on reservations or orders only those are loaded that it needs.
type Product struct {
	ID        string
	Name      string
	Price     Money
	Metadata  Metadata
	Version   int64 // counts the changes of the catalogue part, from 1
	CreatedAt Time
	UpdatedAt Time
	Seq       int64 // of the last event that changed the catalogue part
	Stock     []Stock
}

// Totals are the buckets summed over the product's locations.
func (p *Product) Totals() Buckets {
	var sum Buckets
	for i := range p.Stock {
		sum = sum.Add(p.Stock[i].Buckets)
	}
	return sum
}

// LastSeq is the sequence of the last event that changed anything the product shows, its stock included.
func (p *Product) LastSeq() int64 {
	last := p.Seq
	for i := range p.Stock {
		last = max(last, p.Stock[i].Seq)
	}
	return last
}

// At finds the stock row of a location, or nil.
func (p *Product) At(location string) *Stock {
	i, found := p.search(location)
	if !found {
		return nil
	}
	return &p.Stock[i]
}

func (p *Product) search(location string) (int, bool) {
	return sort.Find(len(p.Stock), func(i int) int { return strings.Compare(location, p.Stock[i].Location) })
}

// Put adds or replaces a stock row, keeping the order by location.
func (p *Product) Put(s Stock) {
	i, found := p.search(s.Location)
	if !found {
		p.Stock = append(p.Stock, Stock{})
		copy(p.Stock[i+1:], p.Stock[i:])
	}
	p.Stock[i] = s
}

// remove takes out the stock row of a location.
func (p *Product) remove(location string) {
	if i, found := p.search(location); found {
		p.Stock = append(p.Stock[:i], p.Stock[i+1:]...)
	}
}

// Clone copies the product with its stock rows, which change while a batch is decided.
func (p *Product) Clone() *Product {
	c := *p
	c.Stock = append([]Stock(nil), p.Stock...)
	return &c
}

// Line is one line of a reservation, and of the order that it becomes. Its price is the one that the shopper was shown.
type Line struct {
	ProductID string
	Location  string
	Quantity  int64 // 1 to MaxQuantity
	UnitPrice Money
}

// Key names the stock row that the line takes from.
func (l *Line) Key() StockKey { return StockKey{l.ProductID, l.Location} }

// Total adds up the lines. It reports false where the sum is above [MaxAmount]. Lines share one currency.
func Total(lines []Line) (Money, bool) {
	var sum Money
	for i := range lines {
		high, product := bits.Mul64(uint64(lines[i].Quantity), uint64(lines[i].UnitPrice.Amount))
		if high != 0 || product > MaxAmount || sum.Amount+int64(product) > MaxAmount {
			return Money{}, false
		}
		sum.Amount += int64(product)
		sum.Currency = lines[i].UnitPrice.Currency
	}
	return sum, true
}

// need is how many units a set of lines takes from one stock row.
type need struct {
	StockKey
	Quantity int64
}

// needs adds up lines of one product and location, in the order of their first line.
func needs(lines []Line) []need {
	sums := make([]need, 0, len(lines))
	for i := range lines {
		sums = addNeed(sums, lines[i].Key(), lines[i].Quantity)
	}
	return sums
}

func addNeed(sums []need, key StockKey, quantity int64) []need {
	for i := range sums {
		if sums[i].StockKey == key {
			sums[i].Quantity += quantity
			return sums
		}
	}
	return append(sums, need{key, quantity})
}

// ReservationStatus is the state of a reservation. ACTIVE turns into exactly one of the others, once (I3).
type ReservationStatus byte

// The states of a reservation.
const (
	ReservationActive ReservationStatus = 1 + iota
	ReservationConfirmed
	ReservationExpired
	ReservationCancelled
)

var reservationStatusNames = [...]string{
	ReservationActive:    "ACTIVE",
	ReservationConfirmed: "CONFIRMED",
	ReservationExpired:   "EXPIRED",
	ReservationCancelled: "CANCELLED",
}

// Valid reports whether s is one of the four states.
func (s ReservationStatus) Valid() bool { return s >= ReservationActive && s <= ReservationCancelled }

func (s ReservationStatus) String() string {
	if !s.Valid() {
		return "UNKNOWN"
	}
	return reservationStatusNames[s]
}

// ParseReservationStatus reads the name of a state.
func ParseReservationStatus(name string) (ReservationStatus, bool) {
	for s := ReservationActive; s <= ReservationCancelled; s++ {
		if reservationStatusNames[s] == name {
			return s, true
		}
	}
	return 0, false
}

// Reservation is units held for a limited time. A value is never changed in place: each change makes a new one.
type Reservation struct {
	ID           ID
	Status       ReservationStatus
	Lines        []Line
	Total        Money
	CustomerID   string // empty: none
	Metadata     Metadata
	CreatedAt    Time
	UpdatedAt    Time
	ExpiresAt    Time
	EndedAt      Time   // zero while ACTIVE; of an expired one, its deadline
	CancelReason string // empty: none
	OrderID      ID     // zero unless CONFIRMED
	Version      int64  // counts its changes, from 1
	Seq          int64  // of the last event about it
}

// Due reports whether the deadline has come (I7: a hold counts if and only if now < ExpiresAt).
func (r *Reservation) Due(now Time) bool { return r.Status == ReservationActive && now >= r.ExpiresAt }

// OrderStatus is the state of an order: CONFIRMED until it is shipped or cancelled.
type OrderStatus byte

// The states of an order.
const (
	OrderConfirmed OrderStatus = 1 + iota
	OrderFulfilled
	OrderCancelled
)

var orderStatusNames = [...]string{
	OrderConfirmed: "CONFIRMED",
	OrderFulfilled: "FULFILLED",
	OrderCancelled: "CANCELLED",
}

// Valid reports whether s is one of the three states.
func (s OrderStatus) Valid() bool { return s >= OrderConfirmed && s <= OrderCancelled }

func (s OrderStatus) String() string {
	if !s.Valid() {
		return "UNKNOWN"
	}
	return orderStatusNames[s]
}

// ParseOrderStatus reads the name of a state.
func ParseOrderStatus(name string) (OrderStatus, bool) {
	for s := OrderConfirmed; s <= OrderCancelled; s++ {
		if orderStatusNames[s] == name {
			return s, true
		}
	}
	return 0, false
}

// Order is a confirmed reservation. A value is never changed in place.
type Order struct {
	ID            ID
	ReservationID ID
	Reference     string // empty: none
	Status        OrderStatus
	Lines         []Line
	Total         Money
	CustomerID    string // empty: none
	Metadata      Metadata
	CreatedAt     Time
	UpdatedAt     Time
	FulfilledAt   Time   // zero unless FULFILLED
	CancelledAt   Time   // zero unless CANCELLED
	CancelReason  string // empty: none
	Version       int64  // counts its changes, from 1
	Seq           int64  // of the last event about it
}

// Adjustment is a change of stock from outside: goods received, counted, broken.
type Adjustment struct {
	ID        ID
	ProductID string
	Location  string
	Delta     int64 // not 0, ±MaxStock
	Reason    string
	Reference string // empty: none
	CreatedAt Time
}
