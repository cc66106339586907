package inventory

import "fmt"

// EventType says what happened.
type EventType byte

// The event types of the contract. Their numbers are stored: add, never renumber.
const (
	EventProductCreated EventType = 1 + iota
	EventProductUpdated
	EventStockAdjusted
	EventReservationCreated
	EventReservationExtended
	EventReservationConfirmed
	EventReservationCancelled
	EventReservationExpired
	EventOrderCreated
	EventOrderFulfilled
	EventOrderCancelled
)

var eventTypeNames = [...]string{
	EventProductCreated:       "product.created",
	EventProductUpdated:       "product.updated",
	EventStockAdjusted:        "stock.adjusted",
	EventReservationCreated:   "reservation.created",
	EventReservationExtended:  "reservation.extended",
	EventReservationConfirmed: "reservation.confirmed",
	EventReservationCancelled: "reservation.cancelled",
	EventReservationExpired:   "reservation.expired",
	EventOrderCreated:         "order.created",
	EventOrderFulfilled:       "order.fulfilled",
	EventOrderCancelled:       "order.cancelled",
}

// Tally counts events by type.
type Tally [EventOrderCancelled + 1]int

func (t EventType) valid() bool { return t >= EventProductCreated && t <= EventOrderCancelled }

func (t EventType) String() string {
	if !t.valid() {
		return "unknown"
	}
	return eventTypeNames[t]
}

// Movement is what an event did to one stock row. Setting After in sequence order is idempotent; adding up Delta from the
// beginning gives the stored stock.
type Movement struct {
	StockKey
	Delta, After Buckets
}

// Event is one fact of the journal: the resource as it is after the change, and the units that moved. Exactly the resources
// that belong to its type are set.
type Event struct {
	Seq         int64
	Type        EventType
	Time        Time
	Product     *Product // for EventStockAdjusted too
	Adjustment  *Adjustment
	Reservation *Reservation
	Order       *Order
	Movements   []Movement
}

// Subject is the text id of the resource that the event is about: of EventStockAdjusted, the adjustment.
func (e *Event) Subject() string {
	switch {
	case e.Reservation != nil:
		return e.Reservation.ID.Text(ReservationPrefix)
	case e.Order != nil:
		return e.Order.ID.Text(OrderPrefix)
	case e.Adjustment != nil:
		return e.Adjustment.ID.Text(AdjustmentPrefix)
	default:
		return e.Product.ID
	}
}

// ExpectedMovements says which units an event of this kind moves, by the table in the package comment: the audit compares it
// with what the journal says was moved. After is not filled in.
func (e *Event) ExpectedMovements() []Movement {
	switch e.Type {
	case EventStockAdjusted:
		return []Movement{{StockKey: StockKey{e.Adjustment.ProductID, e.Adjustment.Location}, Delta: Buckets{Available: e.Adjustment.Delta}}}
	case EventProductCreated:
		for i := range e.Product.Stock {
			if s := &e.Product.Stock[i]; s.Available > 0 {
				return []Movement{{StockKey: StockKey{e.Product.ID, s.Location}, Delta: Buckets{Available: s.Available}}}
			}
		}
	case EventReservationCreated:
		return linesMove(e.Reservation.Lines, perReserve)
	case EventReservationConfirmed:
		return linesMove(e.Reservation.Lines, perConfirm)
	case EventReservationCancelled, EventReservationExpired:
		return linesMove(e.Reservation.Lines, perRelease)
	case EventOrderFulfilled:
		return linesMove(e.Order.Lines, perFulfill)
	case EventOrderCancelled:
		return linesMove(e.Order.Lines, perCancelOrder)
	}
	return nil
}

func linesMove(lines []Line, per Buckets) []Movement {
	sums := needs(lines)
	movements := make([]Movement, len(sums))
	for i, n := range sums {
		movements[i] = Movement{StockKey: n.StockKey, Delta: Buckets{per.Available * n.Quantity, per.Reserved * n.Quantity, per.Committed * n.Quantity}}
	}
	return movements
}

// DecodeEvents reads the events of one batch, of which the first has this sequence.
func DecodeEvents(first int64, at Time, data []byte) ([]Event, error) {
	var events []Event
	for r := (reader{data: data}); len(r.data) > 0; {
		event := decodeEvent(&r, first+int64(len(events)), at)
		if r.failed {
			return nil, fmt.Errorf("journal: event %d cannot be read", first+int64(len(events)))
		}
		events = append(events, event)
	}
	return events, nil
}
