package wire

import (
	"strings"

	"github.com/holdfast/holdfast/internal/inventory"
)

type orderBody struct {
	ReservationID optional[string]       `json:"reservationId"`
	Reference     optional[string]       `json:"reference"`
	Metadata      optional[metadataBody] `json:"metadata"`
}

// CreateOrder turns a body of the operation of that name into its command.
func CreateOrder(body []byte, t Target) (inventory.Command, error) {
	b, err := decode[orderBody](body)
	if err != nil {
		return nil, err
	}
	var c Checker
	command := &inventory.Confirm{
		Reference: c.text("/reference", &b.Reference, canOmit, 200),
		Metadata:  c.metadata(&b.Metadata),
	}
	if text := b.ReservationID.value; strings.HasPrefix(text, "#") && t.Reference != nil {
		t.Reference(text)
	} else if c.given("/reservationId", b.ReservationID.set, required) {
		// An id that no server made is no error of the body: it names nothing, which is found out after all checks.
		command.ReservationID, _ = inventory.ParseID(inventory.ReservationPrefix, text)
	}
	return command, c.Err()
}

// FulfillOrder turns a body of the operation of that name into its command.
func FulfillOrder(body []byte, t Target) (inventory.Command, error) {
	if _, err := decodeAction[emptyBody](body); err != nil {
		return nil, err
	}
	return &inventory.Fulfill{ID: t.order()}, nil
}

// CancelOrder turns a body of the operation of that name into its command.
func CancelOrder(body []byte, t Target) (inventory.Command, error) {
	b, err := decodeAction[reasonBody](body)
	if err != nil {
		return nil, err
	}
	var c Checker
	return &inventory.CancelOrder{ID: t.order(), Reason: c.reason(b)}, c.Err()
}

// AppendOrder appends an order.
func AppendOrder(b []byte, o *inventory.Order) []byte {
	b = append(b, `{"id":`...)
	b = AppendID(b, o.ID, inventory.OrderPrefix)
	b = append(b, `,"reservationId":`...)
	b = AppendID(b, o.ReservationID, inventory.ReservationPrefix)
	b = append(b, `,"reference":`...)
	b = appendOptional(b, o.Reference)
	b = append(b, `,"status":"`...)
	b = append(b, o.Status.String()...)
	b = append(b, `","lines":`...)
	b = appendLines(b, o.Lines, `"priceAtPurchase":`)
	b = append(b, `,"total":`...)
	b = appendMoney(b, o.Total)
	b = append(b, `,"customerId":`...)
	b = appendOptional(b, o.CustomerID)
	b = append(b, `,"metadata":`...)
	b = appendMetadata(b, o.Metadata)
	b = append(b, `,"createdAt":`...)
	b = AppendTime(b, o.CreatedAt)
	b = append(b, `,"updatedAt":`...)
	b = AppendTime(b, o.UpdatedAt)
	b = append(b, `,"fulfilledAt":`...)
	b = AppendTime(b, o.FulfilledAt)
	b = append(b, `,"cancelledAt":`...)
	b = AppendTime(b, o.CancelledAt)
	b = append(b, `,"cancelReason":`...)
	b = appendOptional(b, o.CancelReason)
	b = append(b, `,"version":`...)
	b = appendInt(b, o.Version)
	return append(b, '}')
}
