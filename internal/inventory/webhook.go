package inventory

import "slices"

// A webhook is an address outside that gets the events of the feed, each as a request of its own. Its record has its
// settings, its secrets and how far its deliveries have come. Commands of callers change the settings; the one process
// that sends reports the rest.

const webhookKind = "webhook"

// The prefixes of their ids.
const (
	WebhookPrefix  = "whk_"
	DeliveryPrefix = "dlv_"
)

// MaxWebhookURLBytes bounds the URL of a webhook.
const MaxWebhookURLBytes = 2048

// WebhookStatus says whether deliveries are made.
type WebhookStatus byte

// The states of a webhook. Their numbers are stored.
const (
	WebhookActive   WebhookStatus = 1 + iota
	WebhookPaused                 // by a caller
	WebhookDisabled               // by its receiver, or because nothing got through to it for too long
)

var webhookStatusNames = [...]string{WebhookActive: "ACTIVE", WebhookPaused: "PAUSED", WebhookDisabled: "DISABLED"}

func (s WebhookStatus) String() string {
	if s < WebhookActive || s > WebhookDisabled {
		return "UNKNOWN"
	}
	return webhookStatusNames[s]
}

// Webhook is one of them. A value is never changed in place.
type Webhook struct {
	ID          ID
	URL         string
	Types       EventTypeSet // empty: all, also those that are added later
	Description string       // empty: none
	Status      WebhookStatus
	CreatedAt   Time
	UpdatedAt   Time  // of the settings
	Version     int64 // counts the changes of its settings, from 1

	Position Cursor // everything before it was delivered, is dead, or waits as a stored delivery
	Since    int64  // sequence: nothing up to it was ever meant for this webhook

	LastSuccessAt Time // zero: never
	LastFailureAt Time // zero: never
	LastFailure   string
	FailingSince  Time // zero: the last try succeeded

	// Secret signs deliveries. OldSecret, which it has replaced, signs them too until OldUntil. Where a webhook is shown,
	// in events and in answers, they are empty.
	Secret, OldSecret string
	OldUntil          Time

	// Generation counts how often its position was set: what was under way before does not count any more.
	Generation int64
	// Retries counts how often somebody asked for a delivery to be tried again, so that the sender looks for it.
	Retries int64
}

// public is the webhook without its secrets.
func (w *Webhook) public() *Webhook {
	shown := *w
	shown.Secret, shown.OldSecret, shown.OldUntil = "", "", 0
	return &shown
}

// inverse is the text of an id that sorts the other way round, without prefix: records are listed in the order of their
// keys, and these lists begin with what is newest.
func inverse(id ID) string {
	for i := range id {
		id[i] ^= 0xff
	}
	return id.Text("")
}

// WebhookKey is the record of a webhook.
func WebhookKey(id ID) RecordKey { return RecordKey{webhookKind, inverse(id)} }

// WebhookRange are the webhooks that were made before another one, newest first. The zero id is that of none.
func WebhookRange(before ID, limit int) RecordRange {
	r := RecordRange{Kind: webhookKind, Limit: limit}
	if !before.IsZero() {
		r.After = inverse(before)
	}
	return r
}

func (b *batch) webhook(id ID) *Webhook {
	r := b.Records[WebhookKey(id)]
	if r == nil {
		return nil
	}
	w, err := DecodeWebhook(r.Data)
	if err != nil {
		panic(err)
	}
	return w
}

func (b *batch) putWebhook(w *Webhook) { b.putRecord(WebhookKey(w.ID), appendWebhook(nil, w)) }

// holds reports whether the feed has this place.
func (b *batch) holds(c Cursor) bool {
	return c.Seq <= b.seq && (c.Seq == 0 || b.Epochs.At(c.Seq) == c)
}

// CreateWebhook adds a webhook.
type CreateWebhook struct {
	URL         string
	Types       EventTypeSet
	Description string
	After       *Cursor // where its deliveries begin; nil: with what happens from now on
	Secret      string  // random
}

func (c *CreateWebhook) addKeys(*Keys) {}
func (c *CreateWebhook) size() int     { return len(c.URL) + len(c.Description) }

func (c *CreateWebhook) decide(b *batch, request *Request) Outcome {
	position := b.Epochs.At(b.seq)
	if c.After != nil {
		position = *c.After
	}
	if !b.holds(position) {
		return refuse(RefusedCursorAhead)
	}
	// A webhook has no event of its own, so its id has the sequence of the next one there will be.
	salt := request.Salt
	id := NewID(b.Now, b.seq+1, salt)
	for b.Records[WebhookKey(id)] != nil { // of the same batch
		salt++
		id = NewID(b.Now, b.seq+1, salt)
	}
	w := &Webhook{
		ID: id, URL: c.URL, Types: c.Types, Description: c.Description, Status: WebhookActive,
		CreatedAt: b.Now, UpdatedAt: b.Now, Version: 1, Position: position, Since: position.Seq, Secret: c.Secret,
	}
	b.putWebhook(w)
	return Outcome{Created: true, Webhook: w, Seq: b.seq}
}

// UpdateWebhook changes settings. Nil leaves one as it is.
type UpdateWebhook struct {
	ID          ID
	URL         *string
	Types       *EventTypeSet
	Description *string
	Status      *WebhookStatus // WebhookActive or WebhookPaused
	IfMatch     []int64        // if not nil, it must contain the version
}

func (c *UpdateWebhook) addKeys(k *Keys) { k.record(WebhookKey(c.ID)) }

func (c *UpdateWebhook) size() int {
	n := 0
	for _, text := range []*string{c.URL, c.Description} {
		if text != nil {
			n += len(*text)
		}
	}
	return n
}

func (c *UpdateWebhook) decide(b *batch, _ *Request) Outcome {
	w := b.webhook(c.ID)
	switch {
	case w == nil:
		return refuse(RefusedWebhookNotFound)
	case c.IfMatch != nil && !slices.Contains(c.IfMatch, w.Version):
		current := &Current{Version: w.Version}
		return Outcome{Refusal: &Refusal{Code: RefusedPreconditionFailed, Current: current}}
	}
	changed := *w
	set(&changed.URL, c.URL)
	set(&changed.Types, c.Types)
	set(&changed.Description, c.Description)
	set(&changed.Status, c.Status)
	if changed == *w {
		return Outcome{Webhook: w, Seq: b.seq}
	}
	if changed.Status == WebhookActive && w.Status != WebhookActive {
		changed.FailingSince = 0 // the time in which nothing was tried does not count
	}
	b.changeWebhook(&changed)
	return Outcome{Webhook: &changed, Seq: b.seq}
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

// changeWebhook writes a webhook whose settings have changed.
func (b *batch) changeWebhook(w *Webhook) {
	w.Version++
	w.UpdatedAt = b.Now
	b.putWebhook(w)
}

// RotateWebhookSecret gives a webhook a new secret. The one before signs beside it for a while; an older one does not.
type RotateWebhookSecret struct {
	ID      ID
	Secret  string // random
	Overlap Time   // how long both sign, in milliseconds
}

func (c *RotateWebhookSecret) addKeys(k *Keys) { k.record(WebhookKey(c.ID)) }
func (c *RotateWebhookSecret) size() int       { return len(c.Secret) }

func (c *RotateWebhookSecret) decide(b *batch, _ *Request) Outcome {
	w := b.webhook(c.ID)
	if w == nil {
		return refuse(RefusedWebhookNotFound)
	}
	changed := *w
	changed.Secret, changed.OldSecret, changed.OldUntil = c.Secret, w.Secret, b.Now+c.Overlap
	b.changeWebhook(&changed)
	return Outcome{Webhook: &changed, Seq: b.seq}
}

// ReplayWebhook sets the position of a webhook. What comes after it is delivered anew, whatever became of it before.
type ReplayWebhook struct {
	ID    ID
	After Cursor

	swept sweep // of the deliveries that are begun anew
}

func (c *ReplayWebhook) addKeys(k *Keys) {
	k.record(WebhookKey(c.ID))
	c.swept.addKeys(k, c.ID)
}

func (c *ReplayWebhook) size() int { return 0 }

// decide sets the position first. So nothing is lost where the rest, which may take several batches, is cut off.
func (c *ReplayWebhook) decide(b *batch, _ *Request) Outcome {
	w := b.webhook(c.ID)
	switch {
	case w == nil:
		return refuse(RefusedWebhookNotFound)
	case !b.holds(c.After):
		return refuse(RefusedCursorAhead)
	}
	changed := *w
	if !c.swept.began {
		changed.Position, changed.Since = c.After, min(w.Since, c.After.Seq)
		changed.Generation++
		b.putWebhook(&changed)
	}
	rest := c.swept.run(b, c.ID, func(d *Delivery) (keep, end bool) {
		return d.Generation >= changed.Generation, d.Sequence() <= c.After.Seq
	})
	if !rest.done() {
		again := *c
		again.swept = rest
		return Outcome{Deferred: true, Again: &again}
	}
	return Outcome{Webhook: &changed, Seq: b.seq}
}

// DeleteWebhook takes a webhook away, with its deliveries.
type DeleteWebhook struct {
	ID ID

	swept sweep
}

func (c *DeleteWebhook) addKeys(k *Keys) {
	k.record(WebhookKey(c.ID))
	c.swept.addKeys(k, c.ID)
}

func (c *DeleteWebhook) size() int { return 0 }

func (c *DeleteWebhook) decide(b *batch, _ *Request) Outcome {
	w := b.webhook(c.ID)
	if w == nil {
		return refuse(RefusedWebhookNotFound)
	}
	rest := c.swept.run(b, c.ID, func(*Delivery) (keep, end bool) { return false, false })
	if !rest.done() {
		again := *c
		again.swept = rest
		return Outcome{Deferred: true, Again: &again}
	}
	b.deleteRecord(WebhookKey(c.ID))
	return Outcome{Webhook: w, Seq: b.seq}
}

func appendWebhook(b []byte, w *Webhook) []byte {
	b = append(b, w.ID[:]...)
	b = appendUint(appendString(b, w.URL), int64(w.Types))
	b = append(appendString(b, w.Description), byte(w.Status))
	b = appendUint(appendUint(appendUint(b, int64(w.CreatedAt)), int64(w.UpdatedAt)), w.Version)
	b = appendUint(append(b, w.Position.Epoch[:]...), w.Position.Seq)
	b = appendUint(b, w.Since)
	b = appendUint(appendUint(b, int64(w.LastSuccessAt)), int64(w.LastFailureAt))
	b = appendUint(appendString(b, w.LastFailure), int64(w.FailingSince))
	b = appendUint(appendString(appendString(b, w.Secret), w.OldSecret), int64(w.OldUntil))
	return appendUint(appendUint(b, w.Generation), w.Retries)
}

func (r *reader) webhook() *Webhook {
	w := &Webhook{
		ID: r.id(), URL: r.string(), Types: EventTypeSet(r.uint()), Description: r.string(), Status: WebhookStatus(r.byte()),
		CreatedAt: Time(r.uint()), UpdatedAt: Time(r.uint()), Version: r.uint(),
	}
	copy(w.Position.Epoch[:], r.bytes(int64(len(w.Position.Epoch))))
	w.Position.Seq, w.Since = r.uint(), r.uint()
	w.LastSuccessAt, w.LastFailureAt = Time(r.uint()), Time(r.uint())
	w.LastFailure, w.FailingSince = r.string(), Time(r.uint())
	w.Secret, w.OldSecret, w.OldUntil = r.string(), r.string(), Time(r.uint())
	w.Generation, w.Retries = r.uint(), r.uint()
	return w
}

// DecodeWebhook reads the record of a webhook.
func DecodeWebhook(data []byte) (*Webhook, error) {
	r := reader{data: data}
	w := r.webhook()
	return w, r.done()
}
