package wire

import (
	"encoding/base64"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
)

const maxDescription = 500

// secretPrefix is before the secret of a webhook, as Standard Webhooks 1.0.0 has it.
const secretPrefix = "whsec_"

// WebhookSecretOverlap is how long the secret before a new one signs beside it.
const WebhookSecretOverlap = 24 * time.Hour

type webhookBody struct {
	URL         optional[string]   `json:"url"`
	Types       optional[[]string] `json:"types"`
	Description optional[string]   `json:"description"`
	After       optional[string]   `json:"after"`
}

// CreateWebhook turns a body of the operation of that name into its command.
func CreateWebhook(body []byte, t Target) (inventory.Command, error) {
	b, err := decode[webhookBody](body)
	if err != nil {
		return nil, err
	}
	var c Checker
	command := &inventory.CreateWebhook{
		URL:         c.receiver("/url", &b.URL, required, t.PrivateWebhooks),
		Types:       c.eventTypes("/types", &b.Types),
		Description: c.text("/description", &b.Description, canOmit, maxDescription),
		Secret:      t.Secret,
	}
	if b.After.set {
		after := c.place("/after", &b.After)
		command.After = &after
	}
	return command, c.Err()
}

// webhookPatch is a merge-patch: null removes, and what cannot be removed cannot be null.
type webhookPatch struct {
	URL         notNull[string]     `json:"url"`
	Types       removable[[]string] `json:"types"`
	Description removable[string]   `json:"description"`
	Status      notNull[string]     `json:"status"`
}

// UpdateWebhook turns a body of the operation of that name, a merge-patch, into its command.
func UpdateWebhook(body []byte, t Target) (inventory.Command, error) {
	b, err := decode[webhookPatch](body)
	if err != nil {
		return nil, err
	}
	var c Checker
	c.receiver("/url", &b.URL.optional, canOmit, t.PrivateWebhooks)
	c.text("/description", &b.Description.optional, canOmit, maxDescription)
	command := &inventory.UpdateWebhook{
		ID: t.webhook(), IfMatch: t.IfMatch,
		URL: changed(&b.URL.optional), Description: removed(&b.Description, ""), Status: c.webhookStatus(&b.Status),
	}
	if types := c.eventTypes("/types", &b.Types.optional); b.Types.set || b.Types.null {
		command.Types = &types
	}
	return command, c.Err()
}

// removed is what a member of a patch sets, or none if it removes it, or nil if it was not sent.
func removed[T any](field *removable[T], none T) *T {
	if field.null {
		return &none
	}
	return changed(&field.optional)
}

func (c *Checker) webhookStatus(field *notNull[string]) *inventory.WebhookStatus {
	if !field.set {
		return nil
	}
	for _, status := range []inventory.WebhookStatus{inventory.WebhookActive, inventory.WebhookPaused} {
		if status.String() == field.value {
			return &status
		}
	}
	c.Add("/status", "must be ACTIVE or PAUSED")
	return nil
}

func (c *Checker) receiver(pointer string, field *optional[string], p presence, private bool) string {
	if c.given(pointer, field.set, p) {
		c.note(pointer, checkReceiver(field.value, private))
	}
	return field.value
}

// eventTypes reads names of event types; left out, all of them.
func (c *Checker) eventTypes(pointer string, field *optional[[]string]) (set inventory.EventTypeSet) {
	if field.set && len(field.value) == 0 {
		c.Add(pointer, "must not be empty: leave it out for all types")
	}
	for i, name := range field.value {
		t, known := inventory.ParseEventType(name)
		switch at := string(appendInt([]byte(pointer+"/"), int64(i))); {
		case !known:
			c.Add(at, "must be the name of an event type")
		case set.Has(t):
			c.Add(at, "is there twice")
		}
		set |= 1 << t
	}
	return set
}

func (c *Checker) place(pointer string, field *optional[string]) inventory.Cursor {
	cursor, err := inventory.ParseCursor(field.value)
	if err != nil {
		c.Add(pointer, "must be a nextAfter, head or Holdfast-Sequence that this server gave, or 0")
	}
	return cursor
}

// RotateWebhookSecret turns a body of the operation of that name into its command.
func RotateWebhookSecret(body []byte, t Target) (inventory.Command, error) {
	if _, err := decodeAction[emptyBody](body); err != nil {
		return nil, err
	}
	overlap := inventory.Time(WebhookSecretOverlap.Milliseconds())
	return &inventory.RotateWebhookSecret{ID: t.webhook(), Secret: t.Secret, Overlap: overlap}, nil
}

type replayBody struct {
	After optional[string] `json:"after"`
}

// ReplayWebhook turns a body of the operation of that name into its command.
func ReplayWebhook(body []byte, t Target) (inventory.Command, error) {
	b, err := decode[replayBody](body)
	if err != nil {
		return nil, err
	}
	var c Checker
	command := &inventory.ReplayWebhook{ID: t.webhook()}
	if c.given("/after", b.After.set, required) {
		command.After = c.place("/after", &b.After)
	}
	return command, c.Err()
}

// EmptyAction checks the body of an operation that takes nothing.
func EmptyAction(body []byte) error {
	_, err := decodeAction[emptyBody](body)
	return err
}

// webhook is the id of a webhook. One that no server made is zero, which names nothing.
func (t *Target) webhook() inventory.ID {
	id, _ := inventory.ParseID(inventory.WebhookPrefix, t.ID)
	return id
}

// ShownWebhook is a webhook in an answer.
type ShownWebhook struct {
	*inventory.Webhook
	Head int64 // sequence of the last event of the feed
}

// AppendWebhook appends a webhook, without its secret.
func AppendWebhook(b []byte, w ShownWebhook) []byte {
	return append(appendWebhookMembers(b, w), '}')
}

// AppendNewSecret appends a webhook with the secret that it was just given; null if that was shown before.
func AppendNewSecret(b []byte, w ShownWebhook) []byte {
	b = append(appendWebhookMembers(b, w), `,"secret":`...)
	secret := ""
	if w.Secret != "" {
		secret = SecretText(w.Secret)
	}
	return append(appendOptional(b, secret), '}')
}

// SecretText is how a webhook's secret is shown.
func SecretText(secret string) string {
	return secretPrefix + base64.StdEncoding.EncodeToString([]byte(secret))
}

func appendWebhookMembers(b []byte, w ShownWebhook) []byte {
	b = append(b, `{"id":`...)
	b = AppendID(b, w.ID, inventory.WebhookPrefix)
	b = append(b, `,"url":`...)
	b = appendString(b, w.URL)
	b = append(b, `,"types":`...)
	b = appendEventTypes(b, w.Types)
	b = append(b, `,"description":`...)
	b = appendOptional(b, w.Description)
	b = append(b, `,"status":"`...)
	b = append(b, w.Status.String()...)
	b = append(b, `","createdAt":`...)
	b = AppendTime(b, w.CreatedAt)
	b = append(b, `,"updatedAt":`...)
	b = AppendTime(b, w.UpdatedAt)
	b = append(b, `,"version":`...)
	b = appendInt(b, w.Version)
	b = append(b, `,"position":"`...)
	b = w.Position.Append(b)
	b = append(b, `","behind":`...)
	b = appendInt(b, max(w.Head-w.Position.Seq, 0))
	b = append(b, `,"lastSuccessAt":`...)
	b = AppendTime(b, w.LastSuccessAt)
	b = append(b, `,"lastFailure":`...)
	if w.LastFailureAt == 0 {
		return append(b, "null"...)
	}
	b = append(b, `{"at":`...)
	b = AppendTime(b, w.LastFailureAt)
	b = append(b, `,"detail":`...)
	return append(appendString(b, w.LastFailure), '}')
}

func appendEventTypes(b []byte, set inventory.EventTypeSet) []byte {
	if set == 0 {
		return append(b, "null"...)
	}
	b = append(b, '[')
	i := 0
	for _, t := range inventory.EventTypes() {
		if set.Has(t) {
			b = appendString(appendComma(b, i), t.String())
			i++
		}
	}
	return append(b, ']')
}

// AppendDelivery appends a delivery.
func AppendDelivery(b []byte, d *inventory.Delivery) []byte {
	b = append(b, `{"id":`...)
	b = AppendID(b, d.ID, inventory.DeliveryPrefix)
	b = append(b, `,"eventId":`...)
	b = appendString(b, d.EventID)
	b = append(b, `,"sequence":`...)
	b = appendInt(b, d.Sequence())
	b = append(b, `,"type":"`...)
	b = append(b, d.Type.String()...)
	b = append(b, `","status":"`...)
	b = append(b, d.Status.String()...)
	b = append(b, `","attempts":`...)
	b = appendInt(b, d.Attempts)
	b = append(b, `,"lastStatus":`...)
	b = appendStatus(b, d.LastStatus)
	b = append(b, `,"lastError":`...)
	b = appendOptional(b, d.LastError)
	b = append(b, `,"nextAttemptAt":`...)
	b = AppendTime(b, d.NextAttemptAt)
	b = append(b, `,"updatedAt":`...)
	b = AppendTime(b, d.UpdatedAt)
	return append(b, '}')
}

// appendStatus appends the status of an answer; null where there was none.
func appendStatus(b []byte, status int64) []byte {
	if status == 0 {
		return append(b, "null"...)
	}
	return appendInt(b, status)
}

// WebhookTest is what came of a test.
type WebhookTest struct {
	Delivered bool
	Status    int64  // of the answer; 0: there was none
	Error     string // empty: none
	Took      time.Duration
}

// AppendWebhookTest appends it.
func AppendWebhookTest(b []byte, t *WebhookTest) []byte {
	b = append(b, `{"delivered":`...)
	if t.Delivered {
		b = append(b, "true"...)
	} else {
		b = append(b, "false"...)
	}
	b = append(b, `,"status":`...)
	b = appendStatus(b, t.Status)
	b = append(b, `,"error":`...)
	b = appendOptional(b, t.Error)
	b = append(b, `,"durationMs":`...)
	b = appendInt(b, t.Took.Milliseconds())
	return append(b, '}')
}

// TestEventID makes the id of a test event of random bytes: it looks like any other, and is never an event's.
func TestEventID(random [16]byte) string {
	return inventory.ID(random).Text(eventPrefix)
}

// AppendTestEvent appends the event of a test. It is in no feed, so it has no sequence.
func AppendTestEvent(b []byte, id string, at inventory.Time, w ShownWebhook) []byte {
	b = append(b, `{"sequence":null,"id":`...)
	b = appendString(b, id)
	b = append(b, `,"type":"webhook.test","time":`...)
	b = AppendTime(b, at)
	b = append(b, `,"subject":`...)
	b = AppendID(b, w.ID, inventory.WebhookPrefix)
	b = append(b, `,"actor":null,"data":{"webhook":`...)
	b = AppendWebhook(b, w)
	return append(b, `,"movements":[]}}`...)
}
