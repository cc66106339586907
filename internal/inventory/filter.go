package inventory

import "strings"

// EventFilter selects events: those that meet every condition that is set. The zero filter takes all.
type EventFilter struct {
	Types EventTypeSet
	// ProductID takes what is about the product, and what has a line of it, whether or not units moved.
	ProductID string
	// ReservationID takes the events of a reservation and of its order. The zero id is that of none.
	ReservationID *ID
}

// EventTypeSet has a bit for each event type. The empty set stands for all.
type EventTypeSet uint64

// ParseEventTypes reads names of event types with commas between them.
func ParseEventTypes(text string) (set EventTypeSet, ok bool) {
	for name := range strings.SplitSeq(text, ",") {
		t := eventTypeByName[name]
		if t == 0 {
			return 0, false
		}
		set |= 1 << t
	}
	return set, true
}

var eventTypeByName = func() map[string]EventType {
	types := map[string]EventType{}
	for _, t := range EventTypes() {
		types[t.String()] = t
	}
	return types
}()

// All reports whether the filter takes every event.
func (f *EventFilter) All() bool { return *f == EventFilter{} }

// Takes reports whether the filter takes an event.
func (f *EventFilter) Takes(e *Event) bool {
	return (f.Types == 0 || f.Types&(1<<e.Type) != 0) &&
		(f.ProductID == "" || e.concerns(f.ProductID)) &&
		(f.ReservationID == nil || e.belongsTo(*f.ReservationID))
}

func (e *Event) concerns(productID string) bool {
	switch {
	case e.Product != nil:
		return e.Product.ID == productID
	case e.Reservation != nil:
		return HasLine(e.Reservation.Lines, productID)
	case e.Order != nil:
		return HasLine(e.Order.Lines, productID)
	}
	return false
}

// HasLine reports whether a line is of a product.
func HasLine(lines []Line, productID string) bool {
	for i := range lines {
		if lines[i].ProductID == productID {
			return true
		}
	}
	return false
}

func (e *Event) belongsTo(id ID) bool {
	switch {
	case e.Reservation != nil:
		return e.Reservation.ID == id
	case e.Order != nil:
		return e.Order.ReservationID == id
	}
	return false
}

// ParseEventType reads the name of an event type.
func ParseEventType(name string) (EventType, bool) {
	t, known := eventTypeByName[name]
	return t, known
}

// Has reports whether a type is in the set. The empty set, which stands for all, has none.
func (s EventTypeSet) Has(t EventType) bool { return s&(1<<t) != 0 }
