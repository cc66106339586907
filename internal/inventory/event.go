package inventory

import "fmt"

// EventType says what happened.
type EventType byte

// The event types of the contract. Their numbers are stored: add at the end, never renumber. What else is known of a
// type stands in one place, the table below.
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
	EventWebhookDisabled
)

// eventKind is what is known of an event type: its name in the contract, the resources that it carries, and the units
// that it moves (nil: none).
type eventKind struct {
	name    string
	carries uint16
	moves   func(*Event) []Movement
}

// eventKinds is the table of event types. The codec, the audit, the tallies and the names all go by it.
var eventKinds = [...]eventKind{
	EventProductCreated:       {"product.created", hasProduct, firstStock},
	EventProductUpdated:       {"product.updated", hasProduct, nil},
	EventStockAdjusted:        {"stock.adjusted", hasProduct | hasAdjustment, adjustedStock},
	EventReservationCreated:   {"reservation.created", hasReservation, reservationMoves(perReserve)},
	EventReservationExtended:  {"reservation.extended", hasReservation, nil},
	EventReservationConfirmed: {"reservation.confirmed", hasReservation, reservationMoves(perConfirm)},
	EventReservationCancelled: {"reservation.cancelled", hasReservation, reservationMoves(perRelease)},
	EventReservationExpired:   {"reservation.expired", hasReservation, reservationMoves(perRelease)},
	EventOrderCreated:         {"order.created", hasOrder, nil},
	EventOrderFulfilled:       {"order.fulfilled", hasOrder, orderMoves(perFulfill)},
	EventOrderCancelled:       {"order.cancelled", hasOrder, orderMoves(perCancelOrder)},
	EventWebhookDisabled:      {"webhook.disabled", hasWebhook, nil},
}

// Tally counts events by type.
type Tally [len(eventKinds)]int

func (t EventType) valid() bool { return t > 0 && int(t) < len(eventKinds) }

func (t EventType) String() string {
	if !t.valid() {
		return "unknown"
	}
	return eventKinds[t].name
}

// EventTypes are all of them, in the order of their numbers.
func EventTypes() []EventType {
	list := make([]EventType, 0, len(eventKinds))
	for t := EventType(1); t.valid(); t++ {
		list = append(list, t)
	}
	return list
}

// ActorType says what kind of caller made a change.
type ActorType byte

// The kinds of actor. Their numbers are stored.
const (
	ActorSystem ActorType = 1 + iota // time, or the server on its own account
	ActorKey                         // whoever has the API key
)

// Actor is who made a change.
type Actor struct {
	Type ActorType
	ID   string // text id of the key; empty for ActorSystem
	Name string // of the key; empty for ActorSystem
}

var systemActor = &Actor{Type: ActorSystem}

// Movement is what an event did to one stock row. Setting After in sequence order is idempotent; adding up Delta from
// the beginning gives the stored stock.
type Movement struct {
	StockKey
	Delta, After Buckets
}

// Event is one fact of the journal: the resource as it is after the change, and the units that moved. Exactly the
// resources that belong to its type are set.
type Event struct {
	Seq         int64
	Type        EventType
	Time        Time
	Actor       *Actor   // nil where nobody was asked who he was
	Product     *Product // for EventStockAdjusted too
	Adjustment  *Adjustment
	Reservation *Reservation
	Order       *Order
	Webhook     *Webhook // without its secrets
	Movements   []Movement
}

// Size is about how many bytes the event has as JSON.
func (e *Event) Size() int {
	n := sizeOf(e.Product, e.Reservation, e.Order) + 256*len(e.Movements)
	if e.Webhook != nil {
		n += len(e.Webhook.URL) + len(e.Webhook.Description)
	}
	return n
}

// sizeOf is about how many bytes resources have as JSON.
func sizeOf(p *Product, r *Reservation, o *Order) int {
	n := 512
	if p != nil {
		n += len(p.Name) + p.Metadata.Size() + 128*len(p.Stock)
	}
	if r != nil {
		n += r.Metadata.Size() + 160*len(r.Lines)
	}
	if o != nil {
		n += o.Metadata.Size() + 160*len(o.Lines)
	}
	return n
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
	case e.Webhook != nil:
		return e.Webhook.ID.Text(WebhookPrefix)
	default:
		return e.Product.ID
	}
}

// OrderKey is the text id of what the event must stay in order with: the reservation, for its own events and those of
// its order, the product, or the webhook. By the subject, an order could overtake its reservation, and an adjustment another.
func (e *Event) OrderKey() string {
	switch {
	case e.Reservation != nil:
		return e.Reservation.ID.Text(ReservationPrefix)
	case e.Order != nil:
		return e.Order.ReservationID.Text(ReservationPrefix)
	case e.Webhook != nil:
		return e.Webhook.ID.Text(WebhookPrefix)
	default:
		return e.Product.ID
	}
}

// ExpectedMovements says which units an event of this type moves, by the table in the package comment. The audit
// compares it with the movements in the journal. After is not filled in.
func (e *Event) ExpectedMovements() []Movement {
	if moves := eventKinds[e.Type].moves; moves != nil {
		return moves(e)
	}
	return nil
}

// firstStock is the stock that a product is created with.
func firstStock(e *Event) []Movement {
	for i := range e.Product.Stock {
		if s := &e.Product.Stock[i]; s.Available > 0 {
			return []Movement{{StockKey: StockKey{e.Product.ID, s.Location}, Delta: Buckets{Available: s.Available}}}
		}
	}
	return nil
}

func adjustedStock(e *Event) []Movement {
	a := e.Adjustment
	return []Movement{{StockKey: StockKey{a.ProductID, a.Location}, Delta: Buckets{Available: a.Delta}}}
}

func reservationMoves(per Buckets) func(*Event) []Movement {
	return func(e *Event) []Movement { return linesMove(e.Reservation.Lines, per) }
}

func orderMoves(per Buckets) func(*Event) []Movement {
	return func(e *Event) []Movement { return linesMove(e.Order.Lines, per) }
}

func linesMove(lines []Line, per Buckets) []Movement {
	sums := needs(lines)
	movements := make([]Movement, len(sums))
	for i, n := range sums {
		movements[i] = Movement{StockKey: n.StockKey, Delta: per.times(n.Quantity)}
	}
	return movements
}

// DecodeEvents reads the events of one batch, of which the first has the sequence first. It fails with the sequence of
// the first event that cannot be read.
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
