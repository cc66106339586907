package inventory

import (
	"fmt"
	"hash/fnv"
)

// A delivery is an event on its way to a webhook. Only those are stored that failed a try, or wait behind one that did:
// those that succeed at once leave nothing but the position of their webhook. Each state is a kind of record, so that
// what waits is found without looking at what is over.

// MaxDeliveryError bounds what a delivery keeps of the failure of its last try, in bytes.
const MaxDeliveryError = 300

// DeliveryStatus says what became of a delivery.
type DeliveryStatus byte

// The states of a delivery.
const (
	DeliveryPending DeliveryStatus = 1 + iota
	DeliveryDelivered
	DeliveryDead // it is not tried any more, unless somebody asks for it
)

var (
	deliveryStatusNames = [...]string{DeliveryPending: "PENDING", DeliveryDelivered: "DELIVERED", DeliveryDead: "DEAD"}
	deliveryKinds       = [...]string{
		DeliveryPending: "deliverypending", DeliveryDelivered: "deliverydone", DeliveryDead: "deliverydead",
	}
)

// DeliveryStatuses are all of them.
func DeliveryStatuses() []DeliveryStatus {
	return []DeliveryStatus{DeliveryPending, DeliveryDelivered, DeliveryDead}
}

func (s DeliveryStatus) valid() bool { return s >= DeliveryPending && s <= DeliveryDead }

func (s DeliveryStatus) String() string {
	if !s.valid() {
		return "UNKNOWN"
	}
	return deliveryStatusNames[s]
}

// ParseDeliveryStatus reads the name of a state.
func ParseDeliveryStatus(name string) (DeliveryStatus, bool) {
	for _, s := range DeliveryStatuses() {
		if s.String() == name {
			return s, true
		}
	}
	return 0, false
}

// Delivery is one of them.
type Delivery struct {
	ID            ID
	EventID       string
	Type          EventType
	Key           string // OrderKey of the event: those with the same one are delivered in order
	Status        DeliveryStatus
	Attempts      int64  // tries so far
	Tries         int64  // those of them since the schedule began
	LastStatus    int64  // HTTP status of the last answer; 0: there was none
	LastError     string // of the last try; empty: none
	NextAttemptAt Time   // zero: as soon as it is its turn
	UpdatedAt     Time
	Generation    int64 // of the webhook
	Asked         int64 // how often somebody asked for it to be tried again
}

// Sequence is that of the event.
func (d *Delivery) Sequence() int64 { return d.ID.Sequence() }

// DeliveryID is the id of the delivery of an event to a webhook: the same in every process, also where nothing is stored.
func DeliveryID(webhook ID, e *Event) ID {
	h := fnv.New32a()
	h.Write(webhook[:])
	return NewID(e.Time, e.Seq, h.Sum32())
}

func deliveryPrefix(webhook ID) string { return inverse(webhook) + "/" }

// DeliveryKey is the record of a delivery in a state.
func DeliveryKey(webhook, id ID, status DeliveryStatus) RecordKey {
	return RecordKey{deliveryKinds[status], deliveryPrefix(webhook) + inverse(id)}
}

// DeliveryRange are the deliveries to a webhook in a state that are older than another one, newest first. The zero id is
// that of none.
func DeliveryRange(webhook, before ID, status DeliveryStatus, limit int) RecordRange {
	r := RecordRange{Kind: deliveryKinds[status], Prefix: deliveryPrefix(webhook), Limit: limit}
	if !before.IsZero() {
		r.After = r.Prefix + inverse(before)
	}
	return r
}

func (b *batch) delivery(webhook, id ID, status DeliveryStatus) *Delivery {
	r := b.Records[DeliveryKey(webhook, id, status)]
	if r == nil {
		return nil
	}
	d, err := DecodeDelivery(r)
	if err != nil {
		panic(err)
	}
	return d
}

func (b *batch) putDelivery(webhook ID, d *Delivery) {
	b.putRecord(DeliveryKey(webhook, d.ID, d.Status), appendDelivery(nil, d))
}

// RetryDelivery begins the schedule of a delivery anew, whatever became of it.
type RetryDelivery struct {
	WebhookID ID
	// Delivery is what is known of it where nothing is stored, because it succeeded at once. With only its ID it must be
	// stored.
	Delivery Delivery
}

func (c *RetryDelivery) addKeys(k *Keys) {
	k.record(WebhookKey(c.WebhookID))
	for _, status := range DeliveryStatuses() {
		k.record(DeliveryKey(c.WebhookID, c.Delivery.ID, status))
	}
}

func (c *RetryDelivery) size() int { return len(c.Delivery.EventID) + len(c.Delivery.Key) }

func (c *RetryDelivery) decide(b *batch, _ *Request) Outcome {
	w := b.webhook(c.WebhookID)
	if w == nil {
		return refuse(RefusedWebhookNotFound)
	}
	var d *Delivery
	for _, status := range DeliveryStatuses() {
		if d = b.delivery(w.ID, c.Delivery.ID, status); d != nil {
			break
		}
	}
	switch {
	case d != nil:
		b.deleteRecord(DeliveryKey(w.ID, d.ID, d.Status))
	case c.Delivery.EventID == "" || c.Delivery.Sequence() <= w.Since || !w.Takes(c.Delivery.Type):
		return refuse(RefusedDeliveryNotFound)
	default:
		d = &c.Delivery
	}
	again := *d
	again.Status, again.Tries, again.NextAttemptAt, again.UpdatedAt = DeliveryPending, 0, b.Now, b.Now
	again.Generation = w.Generation
	again.Asked++
	b.putDelivery(w.ID, &again)
	changed := *w
	changed.Retries++
	b.putWebhook(&changed)
	return Outcome{Delivery: &again, Seq: b.seq}
}

// Takes reports whether events of a type are delivered to the webhook.
func (w *Webhook) Takes(t EventType) bool { return w.Types == 0 || w.Types.Has(t) }

// ReportDeliveries notes what the sender has come to. It has an effect only while its process is the sender, and only if
// the position was not set meanwhile. Otherwise the outcome's Sink or Webhook shows why not. Deliveries that somebody has
// asked for meanwhile stay as they are: the sender has to look for them.
type ReportDeliveries struct {
	Sender, Holder string // of the lease, see [HoldSink]
	WebhookID      ID
	Generation     int64
	Deliveries     []Delivery
	Position       *Cursor // nil: it stays
	LastSuccessAt  Time    // zero: none since the last report
	LastFailureAt  Time    // zero: none since
	LastFailure    string
	Gone           bool // the receiver says that it wants nothing more
	DisableAfter   Time // how long a webhook may fail, in milliseconds
}

// MaxReported is how many deliveries one report has.
const MaxReported = 500

func (c *ReportDeliveries) addKeys(k *Keys) {
	k.record(sinkKey(c.Sender))
	k.record(WebhookKey(c.WebhookID))
	for i := range c.Deliveries {
		d := &c.Deliveries[i]
		k.record(DeliveryKey(c.WebhookID, d.ID, DeliveryPending))
		k.record(DeliveryKey(c.WebhookID, d.ID, d.Status))
	}
}

func (c *ReportDeliveries) size() int { return 512 * len(c.Deliveries) }

func (c *ReportDeliveries) decide(b *batch, _ *Request) Outcome {
	var sink Sink
	if r := b.Records[sinkKey(c.Sender)]; r != nil {
		sink = decodeSink(r.Data)
	}
	w := b.webhook(c.WebhookID)
	switch {
	case sink.Holder != c.Holder:
		return Outcome{Sink: &sink, Seq: b.seq}
	case w == nil:
		return refuse(RefusedWebhookNotFound)
	case w.Generation != c.Generation:
		return Outcome{Sink: &sink, Webhook: w, Seq: b.seq}
	}
	for i := range c.Deliveries {
		b.report(w, c.Deliveries[i])
	}
	changed := *w
	set(&changed.Position, c.Position)
	c.tried(&changed)
	late := changed.FailingSince != 0 && c.LastFailureAt-changed.FailingSince >= c.DisableAfter
	if w.Status != WebhookDisabled && (c.Gone || late) {
		b.disable(&changed)
	} else if changed != *w {
		b.putWebhook(&changed)
	}
	return Outcome{Sink: &sink, Webhook: &changed, Seq: b.seq}
}

// tried notes how the tries went.
func (c *ReportDeliveries) tried(w *Webhook) {
	if c.LastSuccessAt != 0 {
		w.LastSuccessAt, w.FailingSince = c.LastSuccessAt, 0
	}
	if c.LastFailureAt == 0 {
		return
	}
	w.LastFailureAt, w.LastFailure = c.LastFailureAt, c.LastFailure
	if c.LastSuccessAt == 0 && w.FailingSince == 0 {
		w.FailingSince = c.LastFailureAt
	}
}

func (b *batch) disable(w *Webhook) {
	w.Status = WebhookDisabled
	b.changeWebhook(w)
	b.next()
	b.actor = systemActor
	b.emit(&Event{Type: EventWebhookDisabled, Webhook: w.public()})
}

// report writes one delivery.
func (b *batch) report(w *Webhook, d Delivery) {
	pending := b.delivery(w.ID, d.ID, DeliveryPending)
	if pending != nil && pending.Asked != d.Asked {
		return
	}
	d.Generation = w.Generation
	if pending != nil && d.Status != DeliveryPending {
		b.deleteRecord(DeliveryKey(w.ID, d.ID, DeliveryPending))
	}
	if d.Status == DeliveryDelivered && d.Attempts == 1 {
		return // it only waited behind another one
	}
	b.putDelivery(w.ID, &d)
}

// PruneDeliveries deletes the deliveries to a webhook that are over and whose events are old.
type PruneDeliveries struct {
	WebhookID ID
	Before    Time // of the event
}

func (c *PruneDeliveries) addKeys(k *Keys) {
	for _, of := range c.ranges() {
		k.recordRange(of)
	}
}

func (c *PruneDeliveries) size() int { return 0 }

func (c *PruneDeliveries) ranges() []RecordRange {
	before := NewID(c.Before, 0, 0)
	return []RecordRange{
		DeliveryRange(c.WebhookID, before, DeliveryDelivered, sweptAtOnce),
		DeliveryRange(c.WebhookID, before, DeliveryDead, sweptAtOnce),
	}
}

func (c *PruneDeliveries) decide(b *batch, _ *Request) Outcome {
	more := false
	for _, of := range c.ranges() {
		keys := b.Ranges[of]
		more = more || len(keys) == of.Limit
		for _, key := range keys {
			b.deleteRecord(key)
		}
	}
	return Outcome{Deferred: more, Seq: b.seq}
}

// sweptAtOnce is how many deliveries one batch takes away.
const sweptAtOnce = 500

// sweep goes over the deliveries to a webhook, newest first and state by state, and takes them away. It may take several
// batches.
type sweep struct {
	began bool
	state int    // index of the state that it has come to
	after string // key of the last delivery that it looked at
}

func (s *sweep) done() bool { return s.state == len(DeliveryStatuses()) }

func (s *sweep) of(webhook ID) RecordRange {
	r := DeliveryRange(webhook, ID{}, DeliveryStatuses()[s.state], sweptAtOnce)
	r.After = s.after
	return r
}

func (s *sweep) addKeys(k *Keys, webhook ID) { k.recordRange(s.of(webhook)) }

// run looks at the deliveries that were loaded, until one is the end of its state. It returns where to go on.
func (s sweep) run(b *batch, webhook ID, look func(*Delivery) (keep, end bool)) sweep {
	s.began = true
	of := s.of(webhook)
	keys := b.Ranges[of]
	for _, key := range keys {
		s.after = key.Key
		r := b.Records[key]
		if r == nil {
			continue // deleted by a command of the same batch
		}
		d, err := DecodeDelivery(r)
		if err != nil {
			panic(err)
		}
		keep, end := look(d)
		if end {
			return sweep{began: true, state: s.state + 1}
		}
		if !keep {
			b.deleteRecord(key)
		}
	}
	if len(keys) < of.Limit {
		return sweep{began: true, state: s.state + 1}
	}
	return s
}

func appendDelivery(b []byte, d *Delivery) []byte {
	b = append(b, d.ID[:]...)
	b = appendString(append(appendString(b, d.EventID), byte(d.Type)), d.Key)
	b = appendUint(appendUint(appendUint(b, d.Attempts), d.Tries), d.LastStatus)
	b = appendString(b, d.LastError)
	b = appendUint(appendUint(b, int64(d.NextAttemptAt)), int64(d.UpdatedAt))
	return appendUint(appendUint(b, d.Generation), d.Asked)
}

func (r *reader) delivery() *Delivery {
	return &Delivery{
		ID: r.id(), EventID: r.string(), Type: EventType(r.byte()), Key: r.string(),
		Attempts: r.uint(), Tries: r.uint(), LastStatus: r.uint(), LastError: r.string(),
		NextAttemptAt: Time(r.uint()), UpdatedAt: Time(r.uint()), Generation: r.uint(), Asked: r.uint(),
	}
}

// DecodeDelivery reads the record of a delivery.
func DecodeDelivery(record *Record) (*Delivery, error) {
	r := reader{data: record.Data}
	d := r.delivery()
	for _, status := range DeliveryStatuses() {
		if deliveryKinds[status] == record.Kind {
			d.Status = status
		}
	}
	if err := r.done(); err != nil || !d.Status.valid() {
		return nil, fmt.Errorf("%s %q is no delivery", record.Kind, record.Key)
	}
	return d, nil
}
