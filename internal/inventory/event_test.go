package inventory

import (
	"reflect"
	"testing"
)

// TestEventTypes: the table is whole, so that a type which was added is named, stored, read and counted.
func TestEventTypes(t *testing.T) {
	seen := map[string]bool{}
	for _, eventType := range EventTypes() {
		kind := eventKinds[eventType]
		if kind.name == "" || kind.carries == 0 || seen[kind.name] {
			t.Errorf("type %d has no name of its own, or carries nothing: %+v", eventType, kind)
		}
		seen[kind.name] = true
		var tally Tally
		tally[eventType]++ // panics if there is no place for the type
		for _, actor := range []*Actor{nil, systemActor, {Type: ActorKey, ID: "key_1", Name: "checkout"}} {
			event := sampleEvent(eventType)
			event.Actor = actor
			event.Movements = event.ExpectedMovements()
			read, err := DecodeEvents(7, 1000, AppendEvent(nil, event))
			if err != nil || len(read) != 1 || !reflect.DeepEqual(&read[0], event) {
				t.Errorf("%v: wrote %+v, read %+v (%v)", eventType, event, read, err)
			}
		}
	}
	if EventType(0).valid() || EventType(len(eventKinds)).valid() {
		t.Error("a type that is not in the table is valid")
	}
}

// sampleEvent has what its type carries, and nothing else.
func sampleEvent(eventType EventType) *Event {
	e := &Event{Seq: 7, Time: 1000, Type: eventType}
	price := Money{1999, "EUR"}
	lines := []Line{{"mug", MainLocation, 2, price}}
	carries := eventKinds[eventType].carries
	if carries&hasProduct != 0 {
		e.Product = &Product{ID: "mug", Name: "Mug", Price: price, Version: 1, CreatedAt: 5, UpdatedAt: 5, Seq: 1}
		e.Product.Stock = []Stock{{MainLocation, Buckets{Available: 3}, 1}}
	}
	if carries&hasAdjustment != 0 {
		id := NewID(1000, 7, 1)
		e.Adjustment = &Adjustment{
			ID: id, ProductID: "mug", Location: MainLocation,
			Delta: -1, Reason: "broken", CreatedAt: 1000,
		}
	}
	if carries&hasReservation != 0 {
		id := NewID(900, 3, 1)
		e.Reservation = &Reservation{
			ID: id, Status: ReservationActive, Lines: lines,
			Total: Money{3998, "EUR"}, Version: 1, Seq: 3,
		}
		e.Reservation.CreatedAt, e.Reservation.UpdatedAt, e.Reservation.ExpiresAt = 900, 900, 2000
	}
	if carries&hasOrder != 0 {
		id, reservation := NewID(950, 5, 1), NewID(900, 3, 1)
		e.Order = &Order{
			ID: id, ReservationID: reservation, Status: OrderConfirmed,
			Lines: lines, Total: Money{3998, "EUR"}, Version: 1, Seq: 5,
		}
		e.Order.CreatedAt, e.Order.UpdatedAt = 950, 950
	}
	if carries&hasWebhook != 0 {
		e.Webhook = &Webhook{
			ID: NewID(900, 3, 1), URL: "https://shop.example/hook", Types: 1 << EventOrderCreated, Description: "orders",
			Status: WebhookDisabled, CreatedAt: 900, UpdatedAt: 1000, Version: 2, Position: Cursor{Epoch{1}, 5}, Since: 3,
			LastFailureAt: 1000, LastFailure: "answered 410", FailingSince: 990, Generation: 1, Retries: 2,
		}
	}
	return e
}

// TestActor: events carry whoever sent the command, and those of time the system.
func TestActor(t *testing.T) {
	w := newWorld()
	key := &Actor{Type: ActorKey, ID: "key_1", Name: "checkout"}
	w.Now = 1000
	w.decide(t, &Request{Command: &CreateProduct{
		ID: "mug", Name: "Mug",
		Price: Money{1, "EUR"}, TotalStock: 1, Location: MainLocation,
	}})
	hold := &Reserve{Lines: []ReserveLine{{ProductID: "mug", Location: MainLocation, Quantity: 1}}, TTL: 1000}
	w.decide(t, &Request{Command: hold, Actor: key})
	w.Now = 5000
	_, changes := w.decide(t, &Request{Command: hold, Actor: key}) // takes over the lapsed one
	events, err := DecodeEvents(3, w.Now, changes.Events)
	if err != nil || len(events) != 2 {
		t.Fatalf("%d events (%v), expected the expiry and the hold", len(events), err)
	}
	if *events[0].Actor != *systemActor || *events[1].Actor != *key {
		t.Errorf("the expiry is %+v's, the hold %+v's", events[0].Actor, events[1].Actor)
	}
}
