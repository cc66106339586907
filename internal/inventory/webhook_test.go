package inventory

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// desk decides one command after the other on its records.
type desk struct {
	*testing.T
	now     Time
	seq     int64
	records map[RecordKey]*Record
	batches int
}

func newDesk(t *testing.T) *desk {
	return &desk{T: t, now: 1000, seq: 10, records: map[RecordKey]*Record{}}
}

// do decides a command, in as many batches as it takes.
func (d *desk) do(c Command) Outcome {
	d.Helper()
	for {
		d.batches++
		s := NewState(d.now, d.seq, "")
		keys := KeysOf([]*Request{{Command: c}})
		for _, key := range keys.Records {
			if r := d.records[key]; r != nil {
				s.AddRecord(r)
			}
		}
		for _, of := range keys.Ranges {
			s.AddRange(of, d.rangeOf(of))
		}
		outcomes, changes, err := Decide(s, []*Request{{Command: c, Salt: 7}})
		if err != nil {
			d.Fatal(err)
		}
		for _, change := range changes.Records {
			if stored := d.records[change.RecordKey]; !reflect.DeepEqual(stored, change.Before) {
				d.Fatalf("%v was changed without being loaded", change.RecordKey)
			}
			if d.records[change.RecordKey] = change.After; change.After == nil {
				delete(d.records, change.RecordKey)
			}
		}
		d.seq += int64(changes.EventCount)
		if o := outcomes[0]; !o.Deferred {
			return o
		} else if o.Again != nil {
			c = o.Again
		}
	}
}

func (d *desk) rangeOf(of RecordRange) (page []*Record) {
	for _, key := range sortedKeys(d.records) {
		if key.Kind == of.Kind && key.Key > of.After && strings.HasPrefix(key.Key, of.Prefix) && len(page) < of.Limit {
			page = append(page, d.records[key])
		}
	}
	return page
}

func sortedKeys(records map[RecordKey]*Record) (keys []RecordKey) {
	for key := range records {
		keys = append(keys, key)
	}
	for i := range keys {
		for j := i; j > 0 && keys[j].Key < keys[j-1].Key; j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
	return keys
}

func (d *desk) count(status DeliveryStatus) (n int) {
	for key := range d.records {
		if key.Kind == deliveryKinds[status] {
			n++
		}
	}
	return n
}

const sender = "webhooks"

func (d *desk) webhook(holder string) *Webhook {
	d.Helper()
	w := d.do(&CreateWebhook{URL: "https://shop.example", Secret: "secret"}).Webhook
	d.do(&HoldSink{Name: sender, Holder: holder, Lease: 1000})
	return w
}

func (d *desk) report(w *Webhook, holder string, change func(*ReportDeliveries)) Outcome {
	d.Helper()
	c := &ReportDeliveries{Sender: sender, Holder: holder, WebhookID: w.ID, Generation: w.Generation, DisableAfter: 1000}
	change(c)
	return d.do(c)
}

func (d *desk) deliveryOf(w *Webhook, seq int64, status DeliveryStatus) Delivery {
	id := DeliveryID(w.ID, &Event{Seq: seq, Time: Time(100 + seq)})
	return Delivery{ID: id, EventID: "evt", Type: EventOrderCreated, Key: "k", Status: status, Attempts: 2, Tries: 2}
}

// TestWebhookSettings: version counts the changes of settings, a precondition is kept, and secrets are two at most.
func TestWebhookSettings(t *testing.T) {
	d := newDesk(t)
	w := d.webhook("a")
	if w.Position.Seq != 10 || w.Version != 1 || w.Status != WebhookActive {
		t.Fatalf("%+v", w)
	}
	url, types := "https://other.example", EventTypeSet(1<<EventOrderCreated)
	o := d.do(&UpdateWebhook{ID: w.ID, URL: &url, IfMatch: []int64{2}})
	if o.Refusal == nil || o.Refusal.Code != RefusedPreconditionFailed {
		t.Errorf("%+v", o)
	}
	w = d.do(&UpdateWebhook{ID: w.ID, URL: &url, Types: &types, IfMatch: []int64{1}}).Webhook
	if w.URL != url || w.Types != types || w.Version != 2 {
		t.Errorf("%+v", w)
	}
	if w = d.do(&UpdateWebhook{ID: w.ID, URL: &url}).Webhook; w.Version != 2 {
		t.Error("a change of nothing has a version")
	}
	d.do(&RotateWebhookSecret{ID: w.ID, Secret: "second", Overlap: 5})
	w = d.do(&RotateWebhookSecret{ID: w.ID, Secret: "third", Overlap: 5}).Webhook
	if w.Secret != "third" || w.OldSecret != "second" || w.OldUntil != 1005 || w.Version != 4 {
		t.Errorf("%+v", w)
	}
	read, err := DecodeOutcome(AppendOutcome(nil, &Outcome{Webhook: w}))
	if err != nil || read.Webhook.Secret != "" || read.Webhook.OldSecret != "" {
		t.Errorf("a receipt has the secret: %+v %v", read.Webhook, err)
	}
	none := ID{1}
	for _, c := range []Command{
		&UpdateWebhook{ID: none}, &RotateWebhookSecret{ID: none}, &ReplayWebhook{ID: none}, &DeleteWebhook{ID: none},
		&RetryDelivery{WebhookID: none},
	} {
		if o := d.do(c); o.Refusal == nil || o.Refusal.Code != RefusedWebhookNotFound {
			t.Errorf("%T: %+v", c, o)
		}
	}
	ahead := Cursor{Seq: 11}
	for _, c := range []Command{&CreateWebhook{After: &ahead}, &ReplayWebhook{ID: w.ID, After: ahead}} {
		if o := d.do(c); o.Refusal == nil || o.Refusal.Code != RefusedCursorAhead {
			t.Errorf("%T: %+v", c, o)
		}
	}
}

// TestReportFenced: who is not the sender, or has not heard of a replay, changes nothing.
func TestReportFenced(t *testing.T) {
	d := newDesk(t)
	w := d.webhook("a")
	move := func(c *ReportDeliveries) {
		c.Position = &Cursor{Seq: 9}
		c.Deliveries = []Delivery{d.deliveryOf(w, 9, DeliveryPending)}
	}
	if o := d.report(w, "b", move); o.Sink == nil || o.Sink.Holder != "a" || d.count(DeliveryPending) != 0 {
		t.Errorf("%+v", o)
	}
	d.do(&ReplayWebhook{ID: w.ID, After: Cursor{Seq: 3}})
	o := d.report(w, "a", move)
	if o.Webhook.Position.Seq != 3 || o.Webhook.Generation != 1 || d.count(DeliveryPending) != 0 {
		t.Errorf("%+v", o.Webhook)
	}
	w.Generation = 1
	if o := d.report(w, "a", move); o.Webhook.Position.Seq != 9 || d.count(DeliveryPending) != 1 {
		t.Errorf("%+v", o.Webhook)
	}
}

// TestDisabled: by the receiver's word, or because nothing got through for long; an event says so.
func TestDisabled(t *testing.T) {
	d := newDesk(t)
	w := d.webhook("a")
	failAt := func(at Time) func(*ReportDeliveries) {
		return func(c *ReportDeliveries) { c.LastFailureAt, c.LastFailure = at, "no" }
	}
	d.report(w, "a", failAt(2000))
	d.report(w, "a", func(c *ReportDeliveries) { c.LastSuccessAt = 2500 })
	d.report(w, "a", failAt(2600))
	if o := d.report(w, "a", failAt(3599)); o.Webhook.Status != WebhookActive {
		t.Errorf("%+v", o.Webhook)
	}
	o := d.report(w, "a", failAt(3600))
	if o.Webhook.Status != WebhookDisabled || d.seq != 11 || o.Webhook.Version != 2 {
		t.Errorf("%+v, %d events", o.Webhook, d.seq)
	}
	active := WebhookActive
	w = d.do(&UpdateWebhook{ID: w.ID, Status: &active}).Webhook
	if o := d.report(w, "a", failAt(9000)); o.Webhook.Status != WebhookActive {
		t.Error("what failed before it was set active counts")
	}
	gone := func(c *ReportDeliveries) { c.Gone = true }
	if o := d.report(w, "a", gone); o.Webhook.Status != WebhookDisabled || d.seq != 12 {
		t.Errorf("%+v", o.Webhook)
	}
	if d.report(w, "a", gone); d.seq != 12 {
		t.Error("it is disabled twice")
	}
}

// TestRetryDelivery: the schedule begins anew whatever the state; what the sender knew of it before does not count.
func TestRetryDelivery(t *testing.T) {
	d := newDesk(t)
	w := d.do(&CreateWebhook{URL: "https://shop.example", After: &Cursor{Seq: 2}}).Webhook
	d.do(&HoldSink{Name: sender, Holder: "a", Lease: 1000})
	for i, status := range DeliveryStatuses() {
		of := d.deliveryOf(w, int64(3+i), status)
		d.report(w, "a", func(c *ReportDeliveries) { c.Deliveries = []Delivery{of} })
		got := d.do(&RetryDelivery{WebhookID: w.ID, Delivery: Delivery{ID: of.ID}}).Delivery
		if got == nil || got.Status != DeliveryPending || got.Attempts != 2 || got.Tries != 0 ||
			got.Asked != 1 || got.NextAttemptAt != d.now {
			t.Fatalf("%v: %+v", status, got)
		}
		of.Status = DeliveryDead
		d.report(w, "a", func(c *ReportDeliveries) { c.Deliveries = []Delivery{of} })
	}
	if d.count(DeliveryPending) != 3 || d.count(DeliveryDead) != 0 || d.count(DeliveryDelivered) != 0 {
		t.Error("what was asked for is gone")
	}
	// One that succeeded at once is not stored.
	once := d.deliveryOf(w, 7, DeliveryDelivered)
	once.Attempts = 1
	if d.report(w, "a", func(c *ReportDeliveries) { c.Deliveries = []Delivery{once} }); d.count(DeliveryDelivered) != 0 {
		t.Error("it is stored")
	}
	if o := d.do(&RetryDelivery{WebhookID: w.ID, Delivery: Delivery{ID: once.ID}}); o.Refusal == nil {
		t.Error("one of which nothing is known is begun anew")
	}
	if o := d.do(&RetryDelivery{WebhookID: w.ID, Delivery: once}); o.Delivery == nil || o.Delivery.Attempts != 1 {
		t.Errorf("%+v", o)
	}
	early := d.deliveryOf(w, 2, DeliveryDelivered)
	o := d.do(&RetryDelivery{WebhookID: w.ID, Delivery: early})
	if o.Refusal == nil || o.Refusal.Code != RefusedDeliveryNotFound {
		t.Error("what was before the webhook is delivered")
	}
}

// TestSweeps: replay takes away what comes after its place, delete everything, prune what is old: in several batches.
func TestSweeps(t *testing.T) {
	d := newDesk(t)
	d.seq = 5000
	fill := func() *Webhook {
		w := d.webhook("a")
		for i := range 2 * sweptAtOnce {
			of := d.deliveryOf(w, int64(i+1), DeliveryStatuses()[i%3])
			d.report(w, "a", func(c *ReportDeliveries) { c.Deliveries = []Delivery{of} })
		}
		return w
	}
	w := fill()
	w = d.do(&ReplayWebhook{ID: w.ID, After: Cursor{Seq: 90}}).Webhook
	n := d.count(DeliveryPending) + d.count(DeliveryDelivered) + d.count(DeliveryDead)
	if n != 90 || w.Position.Seq != 90 {
		t.Errorf("%d are left, position %v", n, w.Position)
	}
	d.do(&PruneDeliveries{WebhookID: w.ID, Before: 131})
	if d.count(DeliveryPending) != 30 || d.count(DeliveryDelivered) != 20 || d.count(DeliveryDead) != 20 {
		t.Errorf("%d %d %d", d.count(DeliveryPending), d.count(DeliveryDelivered), d.count(DeliveryDead))
	}
	d.do(&DeleteWebhook{ID: w.ID})
	if len(d.records) != 1 { // the lease
		t.Errorf("%d records are left", len(d.records))
	}
}

// TestInverse: lists begin with what is newest.
func TestInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := NewID(Time(rapid.Int64Range(0, 1<<40).Draw(t, "a")), rapid.Int64Range(1, maxSequence).Draw(t, "sa"), 1)
		b := NewID(Time(rapid.Int64Range(0, 1<<40).Draw(t, "b")), rapid.Int64Range(1, maxSequence).Draw(t, "sb"), 1)
		if (bytes.Compare(a[:], b[:]) < 0) != (WebhookKey(a).Key > WebhookKey(b).Key) && a != b {
			t.Errorf("%v %v", a, b)
		}
	})
}
