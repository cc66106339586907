package store

import (
	"fmt"

	"github.com/holdfast/holdfast/internal/inventory"
)

// ReservationRow is a reservation in a store with columns. The data column has the whole reservation and is
// authoritative. The other columns repeat a part of it, so that an index can find the row.
type ReservationRow struct {
	Key        int64 // the sequence that the id carries
	Status     int64
	ExpiresAt  int64
	CustomerID string
	Data       []byte // by [inventory.AppendReservation]
}

// Decode decodes the data column. A column that contradicts it, or data that cannot be decoded, is a [CorruptRow].
func (row *ReservationRow) Decode() (*inventory.Reservation, error) {
	r, err := inventory.DecodeReservation(row.Data)
	switch {
	case err != nil:
		return nil, row.Corrupt(err.Error())
	case r.ID.Sequence() != row.Key:
		return nil, row.Corrupt("its key is not that of its id " + r.ID.Text(inventory.ReservationPrefix))
	case int64(r.Status) != row.Status:
		return nil, row.Corrupt(fmt.Sprintf("column status says %v, its data says %v",
			inventory.ReservationStatus(row.Status), r.Status))
	case int64(r.ExpiresAt) != row.ExpiresAt:
		return nil, row.Corrupt("column expires_at is not the deadline in its data")
	case r.CustomerID != row.CustomerID:
		return nil, row.Corrupt("column customer is not the customer in its data")
	}
	return r, nil
}

// Corrupt makes the [CorruptRow] for this row.
func (row *ReservationRow) Corrupt(detail string) error {
	return corrupt("reservation", row.Key, row.Data, detail)
}

// OrderRow is an order in a store with columns, as [ReservationRow] is a reservation.
type OrderRow struct {
	Key           int64
	ReservationID int64 // the sequence that the reservation's id carries
	Status        int64
	CustomerID    string
	Reference     string
	Data          []byte // by [inventory.AppendOrder]
}

// Decode reads the data and holds the columns against it. The error is a [CorruptRow].
func (row *OrderRow) Decode() (*inventory.Order, error) {
	o, err := inventory.DecodeOrder(row.Data)
	detail := ""
	switch {
	case err != nil:
		detail = err.Error()
	case o.ID.Sequence() != row.Key:
		detail = "its key is not that of its id " + o.ID.Text(inventory.OrderPrefix)
	case o.ReservationID.Sequence() != row.ReservationID:
		detail = "column reservation is not the reservation in its data"
	case int64(o.Status) != row.Status:
		detail = fmt.Sprintf("column status says %v, its data says %v", inventory.OrderStatus(row.Status), o.Status)
	case o.CustomerID != row.CustomerID:
		detail = "column customer is not the customer in its data"
	case o.Reference != row.Reference:
		detail = "column reference is not the reference in its data"
	default:
		return o, nil
	}
	return nil, corrupt("order", row.Key, row.Data, detail)
}

// RowID returns the id with which the data of a reservation or order begins, if it fits the row key. Else it returns an
// id made from the key. That finds the row as well, and serves as a cursor to go on from.
func RowID(key int64, data []byte) inventory.ID {
	id := inventory.NewID(0, key, 0)
	if len(data) >= len(id) {
		if own := inventory.ID(data[:len(id)]); own.Sequence() == key {
			id = own
		}
	}
	return id
}

func corrupt(kind string, key int64, data []byte, detail string) error {
	return &CorruptRow{Row: fmt.Sprintf("%s row %d", kind, key), ID: RowID(key, data), Detail: detail}
}
