package client

import (
	"bytes"
	"encoding/json"
	"time"
)

// Money is an amount in minor units (cents, say) of an ISO 4217 currency.
type Money struct {
	Amount   int64  `json:"amount"` // 0 to 2^53-1
	Currency string `json:"currency"`
}

// Stock is the units of a product at one location: Total = Available + Reserved + Committed.
type Stock struct {
	Location  string `json:"location"`
	Total     int64  `json:"total"`
	Available int64  `json:"available"`
	Reserved  int64  `json:"reserved"`
	Committed int64  `json:"committed"`
}

// Product is catalogue data with its stock, summed over the locations and for each of them.
type Product struct {
	ID             string            `json:"id"`
	Name           string            `json:"name"`
	Price          Money             `json:"price"`
	TotalStock     int64             `json:"totalStock"`
	AvailableStock int64             `json:"availableStock"`
	ReservedStock  int64             `json:"reservedStock"`
	CommittedStock int64             `json:"committedStock"`
	Stock          []Stock           `json:"stock"`
	Metadata       map[string]string `json:"metadata"`
	Version        int64             `json:"version"` // of the catalogue part
	CreatedAt      time.Time         `json:"createdAt"`
	UpdatedAt      time.Time         `json:"updatedAt"`
}

// Status is the state of a reservation or an order. Servers may come to know more of them.
type Status string

// The states of reservations (ACTIVE, or one of three endings) and of orders (CONFIRMED, then FULFILLED or CANCELLED).
const (
	Active    Status = "ACTIVE"
	Confirmed Status = "CONFIRMED"
	Expired   Status = "EXPIRED"
	Cancelled Status = "CANCELLED"
	Fulfilled Status = "FULFILLED"
)

// ReservationLine is one line of a reservation.
type ReservationLine struct {
	Line      int    `json:"line"`
	ProductID string `json:"productId"`
	Location  string `json:"location"`
	Quantity  int64  `json:"quantity"`
	UnitPrice Money  `json:"unitPrice"`
}

// Reservation is units held until ExpiresAt.
type Reservation struct {
	ID           string            `json:"id"`
	Status       Status            `json:"status"`
	Lines        []ReservationLine `json:"lines"`
	Total        Money             `json:"total"`
	CustomerID   *string           `json:"customerId"`
	Metadata     map[string]string `json:"metadata"`
	CreatedAt    time.Time         `json:"createdAt"`
	UpdatedAt    time.Time         `json:"updatedAt"`
	ExpiresAt    time.Time         `json:"expiresAt"`
	EndedAt      *time.Time        `json:"endedAt"`
	CancelReason *string           `json:"cancelReason"`
	OrderID      *string           `json:"orderId"`
	Version      int64             `json:"version"`
}

// OrderLine is one line of an order, at the price that the reservation was made with.
type OrderLine struct {
	Line            int    `json:"line"`
	ProductID       string `json:"productId"`
	Location        string `json:"location"`
	Quantity        int64  `json:"quantity"`
	PriceAtPurchase Money  `json:"priceAtPurchase"`
}

// Order is a confirmed reservation.
type Order struct {
	ID            string            `json:"id"`
	ReservationID string            `json:"reservationId"`
	Reference     *string           `json:"reference"`
	Status        Status            `json:"status"`
	Lines         []OrderLine       `json:"lines"`
	Total         Money             `json:"total"`
	CustomerID    *string           `json:"customerId"`
	Metadata      map[string]string `json:"metadata"`
	CreatedAt     time.Time         `json:"createdAt"`
	UpdatedAt     time.Time         `json:"updatedAt"`
	FulfilledAt   *time.Time        `json:"fulfilledAt"`
	CancelledAt   *time.Time        `json:"cancelledAt"`
	CancelReason  *string           `json:"cancelReason"`
	Version       int64             `json:"version"`
}

// Adjustment is a change of stock from outside.
type Adjustment struct {
	ID        string    `json:"id"`
	ProductID string    `json:"productId"`
	Location  string    `json:"location"`
	Delta     int64     `json:"delta"`
	Reason    string    `json:"reason"`
	Reference *string   `json:"reference"`
	CreatedAt time.Time `json:"createdAt"`
}

// Adjusted is an adjustment, with the product as it is after it.
type Adjusted struct {
	Adjustment *Adjustment `json:"adjustment"`
	Product    *Product    `json:"product"`
}

// Buckets are units by what they are there for.
type Buckets struct {
	Available int64 `json:"available"`
	Reserved  int64 `json:"reserved"`
	Committed int64 `json:"committed"`
}

// Movement is what an event did to one stock row.
type Movement struct {
	ProductID string  `json:"productId"`
	Location  string  `json:"location"`
	Delta     Buckets `json:"delta"`
	After     Buckets `json:"after"`
}

// Event is one fact of the feed.
type Event struct {
	Sequence int64     `json:"sequence"` // from 1, without a gap, in commit order
	ID       string    `json:"id"`
	Type     string    `json:"type"`
	Time     time.Time `json:"time"`
	Subject  string    `json:"subject"`
	Actor    *Actor    `json:"actor"` // nil where nobody was asked who he was
	Data     EventData `json:"data"`

	Cursor string          `json:"-"` // the place after it, for Feed.After; empty where the server gave none
	Raw    json.RawMessage `json:"-"` // the event as the server sent it
}

// UnmarshalJSON implements [json.Unmarshaler].
func (e *Event) UnmarshalJSON(data []byte) error {
	type plain Event // without this method
	err := json.Unmarshal(data, (*plain)(e))
	e.Raw = bytes.Clone(data)
	return err
}

// Actor is who made a change.
type Actor struct {
	Type string `json:"type"` // key, or system for what time did
	ID   string `json:"id"`   // of the key
	Name string `json:"name"` // of the key
}

// EventData is the resource as it is after the change, and the units that moved.
type EventData struct {
	Product     *Product     `json:"product,omitempty"`
	Adjustment  *Adjustment  `json:"adjustment,omitempty"`
	Reservation *Reservation `json:"reservation,omitempty"`
	Order       *Order       `json:"order,omitempty"`
	Movements   []Movement   `json:"movements"`
}

// EventPage is a part of the feed. Send NextAfter back to go on.
type EventPage struct {
	Data      []Event `json:"data"`
	NextAfter string  `json:"nextAfter"`
	Head      string  `json:"head"`
	Store     string  `json:"store"`
}

// NewProduct is what [Client.CreateProduct] sends. Without an ID the server makes one.
type NewProduct struct {
	ID         string            `json:"id,omitempty"`
	Name       string            `json:"name"`
	Price      Money             `json:"price"`
	TotalStock int64             `json:"totalStock,omitempty"`
	Location   string            `json:"location,omitempty"` // empty: main
	Metadata   map[string]string `json:"metadata,omitempty"`
}

// ProductPatch is what [Client.UpdateProduct] changes. Nil leaves a field as it is; a nil metadata value removes that member.
type ProductPatch struct {
	Name     *string            `json:"name,omitempty"`
	Price    *Money             `json:"price,omitempty"`
	Metadata map[string]*string `json:"metadata,omitempty"`
	Version  int64              `json:"version,omitempty"` // refuse unless the product has this version
}

// NewAdjustment is what [Client.AdjustStock] sends.
type NewAdjustment struct {
	Delta     int64  `json:"delta"` // not 0; a negative one takes available units
	Reason    string `json:"reason"`
	Reference string `json:"reference,omitempty"`
	Location  string `json:"location,omitempty"` // empty: main
}

// NewLine is one line of a [NewReservation].
type NewLine struct {
	ProductID string `json:"productId"`
	Quantity  int64  `json:"quantity"`
	Location  string `json:"location,omitempty"`  // empty: main
	UnitPrice *Money `json:"unitPrice,omitempty"` // nil: the product's price
}

// NewReservation is what [Client.Reserve] sends: every line is held, or none.
type NewReservation struct {
	Lines      []NewLine         `json:"lines"`
	TTLSeconds int64             `json:"ttlSeconds,omitempty"` // 0: the server's default
	CustomerID string            `json:"customerId,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
}

// NewOrder is what [Client.Confirm] sends.
type NewOrder struct {
	ReservationID string            `json:"reservationId"`
	Reference     string            `json:"reference,omitempty"` // the payment's id, say
	Metadata      map[string]string `json:"metadata,omitempty"`
}

// ReservationFilter selects what [Client.Reservations] lists. ProductID needs Status Active, and no CustomerID beside it.
type ReservationFilter struct {
	Status                Status
	CustomerID, ProductID string
}

// OrderFilter selects what [Client.Orders] lists.
type OrderFilter struct {
	Status                               Status
	CustomerID, Reference, ReservationID string
}
