package wire

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/holdfast/holdfast/internal/inventory"
)

const eventPrefix = "evt_"

// StoreDigest is the first half of the id of every event of one store: the second half is the event's sequence.
type StoreDigest [8]byte

// DigestStore makes the digest of a store from its name.
func DigestStore(name string) StoreDigest {
	sum := sha256.Sum256([]byte(name))
	return StoreDigest(sum[:8])
}

// EventPage is a part of the feed.
type EventPage struct {
	Events []inventory.Event
	Next   int64  // sequence after which the next page begins
	Head   int64  // sequence of the last event of the feed
	Store  string // name of the store
}

// AppendEventPage appends a page of the feed. Sequences to resume from are strings: to callers they are opaque.
func AppendEventPage(b []byte, p *EventPage) []byte {
	store := DigestStore(p.Store)
	b = append(b, `{"data":[`...)
	for i := range p.Events {
		b = appendComma(b, i)
		b = AppendEvent(b, &p.Events[i], store)
	}
	b = append(b, `],"nextAfter":"`...)
	b = appendInt(b, p.Next)
	b = append(b, `","head":"`...)
	b = appendInt(b, p.Head)
	b = append(b, `","store":`...)
	b = appendString(b, p.Store)
	return append(b, '}')
}

// AppendEvent appends an event of the store that has this digest.
func AppendEvent(b []byte, e *inventory.Event, store StoreDigest) []byte {
	b = append(b, `{"sequence":`...)
	b = appendInt(b, e.Seq)
	b = append(b, `,"id":`...)
	b = AppendID(b, eventID(e, store), eventPrefix)
	b = append(b, `,"type":"`...)
	b = append(b, e.Type.String()...)
	b = append(b, `","time":`...)
	b = AppendTime(b, e.Time)
	b = append(b, `,"subject":`...)
	b = appendString(b, e.Subject())
	b = append(b, `,"actor":`...)
	b = appendActor(b, e.Actor)
	b = append(b, `,"data":{`...)
	b = appendEventResources(b, e)
	b = append(b, `,"movements":[`...)
	for i := range e.Movements {
		b = appendComma(b, i)
		b = appendMovement(b, &e.Movements[i])
	}
	return append(b, `]}}`...)
}

func eventID(e *inventory.Event, store StoreDigest) (id inventory.ID) {
	copy(id[:8], store[:])
	binary.BigEndian.PutUint64(id[8:], uint64(e.Seq))
	return id
}

// appendActor appends who caused an event: null where nobody was asked who he is.
func appendActor(b []byte, a *inventory.Actor) []byte {
	switch {
	case a == nil:
		return append(b, "null"...)
	case a.Type == inventory.ActorSystem:
		return append(b, `{"type":"system"}`...)
	}
	b = appendString(append(b, `{"type":"key","id":`...), a.ID)
	b = appendString(append(b, `,"name":`...), a.Name)
	return append(b, '}')
}

// appendEventResources appends the resources that belong to the event's type, each under its name, without braces.
func appendEventResources(b []byte, e *inventory.Event) []byte {
	switch {
	case e.Adjustment != nil:
		return appendAdjusted(b, e.Adjustment, e.Product)
	case e.Product != nil:
		return AppendProduct(append(b, `"product":`...), e.Product)
	case e.Reservation != nil:
		return AppendReservation(append(b, `"reservation":`...), e.Reservation)
	default:
		return AppendOrder(append(b, `"order":`...), e.Order)
	}
}

func appendMovement(b []byte, m *inventory.Movement) []byte {
	b = append(b, `{"productId":`...)
	b = appendString(b, m.ProductID)
	b = append(b, `,"location":`...)
	b = appendString(b, m.Location)
	b = append(b, `,"delta":{`...)
	b = appendBuckets(b, m.Delta)
	b = append(b, `},"after":{`...)
	b = appendBuckets(b, m.After)
	return append(b, `}}`...)
}
