package wire

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/holdfast/holdfast/internal/inventory"
)

const eventPrefix = "evt_"

// EventIDs makes the ids of events: a digest of the store, and of the epoch but for the zero one, and the sequence.
type EventIDs struct {
	Store  string // its name
	Epochs inventory.Epochs

	known  bool
	epoch  inventory.Epoch // of the last event
	digest [8]byte         // for it
}

func (ids *EventIDs) of(seq int64) (id inventory.ID) {
	if epoch := ids.Epochs.At(seq).Epoch; !ids.known || epoch != ids.epoch {
		name := []byte(ids.Store)
		if epoch != (inventory.Epoch{}) {
			name = append(name, epoch[:]...)
		}
		sum := sha256.Sum256(name)
		ids.known, ids.epoch, ids.digest = true, epoch, [8]byte(sum[:8])
	}
	copy(id[:8], ids.digest[:])
	binary.BigEndian.PutUint64(id[8:], uint64(seq))
	return id
}

// EventPage is a part of the feed.
type EventPage struct {
	Events []inventory.Event
	Next   inventory.Cursor // where the next page begins
	Head   int64            // sequence of the last event of the feed
	Store  string           // name of the store
	Epochs inventory.Epochs
}

// AppendEventPage appends a page of the feed. Places to resume from are strings: to callers they are opaque.
func AppendEventPage(b []byte, p *EventPage) []byte {
	ids := EventIDs{Store: p.Store, Epochs: p.Epochs}
	b = append(b, `{"data":[`...)
	for i := range p.Events {
		b = appendComma(b, i)
		b = AppendEvent(b, &p.Events[i], &ids)
	}
	b = append(b, `],"nextAfter":"`...)
	b = p.Next.Append(b)
	b = append(b, `","head":"`...)
	b = p.Epochs.At(p.Head).Append(b)
	b = append(b, `","store":`...)
	b = appendString(b, p.Store)
	return append(b, '}')
}

// AppendEvent appends an event of the store whose ids these are.
func AppendEvent(b []byte, e *inventory.Event, ids *EventIDs) []byte {
	b = append(b, `{"sequence":`...)
	b = appendInt(b, e.Seq)
	b = append(b, `,"id":`...)
	b = AppendID(b, ids.of(e.Seq), eventPrefix)
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

// AppendCloudEvent appends an event as CloudEvents 1.0 in JSON (structured mode, github.com/cloudevents/spec), with the
// extensions sequence and partitionkey. Its data is the whole event.
func AppendCloudEvent(b []byte, e *inventory.Event, ids *EventIDs) []byte {
	b = (&CloudEvent{
		ID: ids.ID(e.Seq), Store: ids.Store, Type: e.Type.String(), Subject: e.Subject(), Time: e.Time, Sequence: e.Seq,
		OrderKey: e.OrderKey(),
	}).append(b)
	return append(AppendEvent(b, e, ids), '}')
}

// CloudEvent is what an event has outside of its data.
type CloudEvent struct {
	ID, Store, Type, Subject, OrderKey string
	Time                               inventory.Time
	Sequence                           int64
}

// Append appends it with its data, which is an event as JSON.
func (c *CloudEvent) Append(b, data []byte) []byte {
	return append(append(c.append(b), data...), '}')
}

// append appends everything before the data.
func (c *CloudEvent) append(b []byte) []byte {
	b = appendString(append(b, `{"specversion":"1.0","id":`...), c.ID)
	b = appendString(append(b, `,"source":`...), "urn:holdfast:"+c.Store)
	b = appendString(append(b, `,"type":`...), c.Type)
	b = appendString(append(b, `,"subject":`...), c.Subject)
	b = AppendTime(append(b, `,"time":`...), c.Time)
	b = append(b, `,"datacontenttype":"application/json","sequence":"`...)
	b = appendInt(b, c.Sequence)
	b = appendString(append(b, `","partitionkey":`...), c.OrderKey)
	return append(b, `,"data":`...)
}

// ID is the text id of the event with a sequence.
func (ids *EventIDs) ID(seq int64) string { return ids.of(seq).Text(eventPrefix) }

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
	case e.Webhook != nil:
		return AppendWebhook(append(b, `"webhook":`...), ShownWebhook{e.Webhook, e.Seq})
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
