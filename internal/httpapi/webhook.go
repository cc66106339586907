package httpapi

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

// Webhooks are what sends to webhooks in this process.
type Webhooks interface {
	// Test sends a test event now.
	Test(context.Context, wire.ShownWebhook) wire.WebhookTest
	// Recent are the last deliveries that succeeded at once, newest first, if it is this process that sends.
	Recent(webhook inventory.ID) []inventory.Delivery
}

// webhookMutations are no operations of a batch: what they change is not stock, and a batch would keep secrets.
var webhookMutations = []mutation{
	{
		operation: "createWebhook", method: http.MethodPost, path: "/v1/webhooks",
		decode: withSecret(wire.CreateWebhook), result: resultSecret,
	},
	{
		operation: "updateWebhook", method: http.MethodPatch, path: "/v1/webhooks/{id}",
		mediaTypes: []string{"application/merge-patch+json"},
		decode:     wire.UpdateWebhook, result: resultWebhook,
	},
	{
		operation: "rotateWebhookSecret", method: http.MethodPost, path: "/v1/webhooks/{id}/rotate-secret",
		decode: withSecret(wire.RotateWebhookSecret), result: resultSecret,
	},
	{
		operation: "replayWebhook", method: http.MethodPost, path: "/v1/webhooks/{id}/replay",
		decode: wire.ReplayWebhook, result: resultWebhook,
	},
}

func (s *Server) routeWebhooks() {
	for _, m := range webhookMutations {
		s.handle(m.method+" "+m.path, m.operation, m.serve)
	}
	s.handle("GET /v1/webhooks", "listWebhooks", s.listWebhooks)
	s.handle("GET /v1/webhooks/{id}", "getWebhook", s.getWebhook)
	s.handle("DELETE /v1/webhooks/{id}", "deleteWebhook", s.deleteWebhook)
	s.handle("POST /v1/webhooks/{id}/test", "testWebhook", s.testWebhook)
	s.handle("GET /v1/webhooks/{id}/deliveries", "listDeliveries", s.listDeliveries)
	s.handle("POST /v1/webhooks/{id}/deliveries/{delivery}/retry", "retryDelivery", s.retryDelivery)
}

// secretBytes is how long a secret is.
const secretBytes = 32

// decoder makes a command of a body.
type decoder = func([]byte, wire.Target) (inventory.Command, error)

func withSecret(decode decoder) decoder {
	return func(body []byte, t wire.Target) (inventory.Command, error) {
		var secret [secretBytes]byte
		_, _ = rand.Read(secret[:]) // never fails
		t.Secret = string(secret[:])
		return decode(body, t)
	}
}

// webhook is a webhook as an answer. Its version is that of its settings alone.
type webhook struct{ wire.ShownWebhook }

func shownWebhook(o *inventory.Outcome) webhook {
	return webhook{wire.ShownWebhook{Webhook: o.Webhook, Head: o.Seq}}
}

func resultWebhook(o *inventory.Outcome) resource { return shownWebhook(o) }

func (w webhook) version() int64         { return w.Version }
func (w webhook) path() string           { return "/v1/webhooks/" + w.ID.Text(inventory.WebhookPrefix) }
func (w webhook) append(b []byte) []byte { return wire.AppendWebhook(b, w.ShownWebhook) }

// newSecret is a webhook that was just given a secret, which is shown this once.
type newSecret struct{ webhook }

func resultSecret(o *inventory.Outcome) resource { return newSecret{shownWebhook(o)} }

func (w newSecret) append(b []byte) []byte { return wire.AppendNewSecret(b, w.ShownWebhook) }

// delivery is a delivery as an answer.
type delivery struct{ *inventory.Delivery }

func (d delivery) version() int64         { return 0 }
func (d delivery) path() string           { return "" }
func (d delivery) append(b []byte) []byte { return wire.AppendDelivery(b, d.Delivery) }

// webhook reads the webhook in the path.
func (c *call) webhook() (w wire.ShownWebhook, err error) {
	e := c.server.o.Engine
	found, err := e.Records(c.Context(), []inventory.RecordKey{inventory.WebhookKey(c.pathID(inventory.WebhookPrefix))})
	switch {
	case err != nil:
		return w, err
	case len(found) == 0:
		return w, fail(CodeWebhookNotFound)
	}
	if w.Webhook, err = inventory.DecodeWebhook(found[0].Data); err != nil {
		return w, err
	}
	end, err := e.End(c.Context())
	w.Head = end.Seq
	return w, err
}

func (s *Server) getWebhook(c *call) error {
	if err := c.noQuery(); err != nil {
		return err
	}
	found, err := c.webhook()
	if err != nil {
		return err
	}
	shown := webhook{found}
	// What it shows moves without its version, so its ETag is for If-Match alone.
	c.w.Header()["Etag"] = []string{etag(shown.version())}
	c.send(http.StatusOK, shown.append)
	return nil
}

func (s *Server) listWebhooks(c *call) error {
	q, err := c.query("limit", "cursor")
	if err != nil {
		return err
	}
	of := inventory.WebhookRange(q.cursor(), q.limit())
	if err := q.err(); err != nil {
		return err
	}
	if err := c.claimPage(pageBytes); err != nil {
		return err
	}
	records, more, err := s.o.Engine.RecordRange(c.Context(), of)
	if err != nil {
		return err
	}
	end, err := s.o.Engine.End(c.Context())
	if err != nil {
		return err
	}
	page, next := make([]wire.ShownWebhook, len(records)), ""
	for i, r := range records {
		page[i].Head = end.Seq
		if page[i].Webhook, err = inventory.DecodeWebhook(r.Data); err != nil {
			return err
		}
		if more != "" {
			next = cursor(page[i].ID)
		}
	}
	c.send(http.StatusOK, func(b []byte) []byte { return wire.AppendPage(b, page, next, wire.AppendWebhook) })
	return nil
}

func (s *Server) deleteWebhook(c *call) error {
	if err := c.noQuery(); err != nil {
		return err
	}
	outcome, err := c.do(&inventory.Request{Command: &inventory.DeleteWebhook{ID: c.pathID(inventory.WebhookPrefix)}})
	switch {
	case err != nil:
		return err
	case outcome.Refusal != nil:
		return &refusal{Refusal: outcome.Refusal}
	}
	c.placed(&outcome)
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// action reads a request that has nothing but its path, and what its key makes repeatable.
func (c *call) action() (*inventory.ReceiptID, error) {
	body, err := c.body(maxBodyBytes)
	if err != nil {
		return nil, err
	}
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	if err := wire.EmptyAction(body); err != nil {
		return nil, err
	}
	return c.receipt(body)
}

// testWebhook sends a test. It commits nothing, so its key makes nothing repeatable: each request is a test.
func (s *Server) testWebhook(c *call) error {
	if _, err := c.action(); err != nil {
		return err
	}
	found, err := c.webhook()
	if err != nil {
		return err
	}
	if s.o.Webhooks == nil {
		return fail(CodeNotReady)
	}
	result := s.o.Webhooks.Test(c.Context(), found)
	c.placed(&inventory.Outcome{Seq: found.Head})
	c.send(http.StatusOK, func(b []byte) []byte { return wire.AppendWebhookTest(b, &result) })
	return nil
}

func (s *Server) listDeliveries(c *call) error {
	q, err := c.query("status", "limit", "cursor")
	if err != nil {
		return err
	}
	statuses, before, limit := q.deliveryStatuses(), q.cursor(), q.limit()
	if err := q.err(); err != nil {
		return err
	}
	found, err := c.webhook()
	if err != nil {
		return err
	}
	if err := c.claimPage(pageBytes); err != nil {
		return err
	}
	list, err := s.deliveries(c.Context(), found.ID, before, statuses, limit+1)
	if err != nil {
		return err
	}
	next := ""
	if len(list) > limit {
		list = list[:limit]
		next = cursor(list[limit-1].ID)
	}
	c.send(http.StatusOK, func(b []byte) []byte { return wire.AppendPage(b, list, next, wire.AppendDelivery) })
	return nil
}

func (q *query) deliveryStatuses() []inventory.DeliveryStatus {
	name, given := q.get("status")
	if !given {
		return inventory.DeliveryStatuses()
	}
	status, known := inventory.ParseDeliveryStatus(name)
	if !known {
		q.add("status", "must be PENDING, DELIVERED or DEAD")
	}
	return []inventory.DeliveryStatus{status}
}

// deliveries are those in one of the states that are older than another one, newest first: the stored ones, and where
// this process sends also those that succeeded at once. Each state is a list of its own, and none of them is cut by its
// size, because a delivery is small.
func (s *Server) deliveries(
	ctx context.Context, webhook, before inventory.ID, statuses []inventory.DeliveryStatus, limit int,
) (list []*inventory.Delivery, err error) {
	for _, status := range statuses {
		page, _, err := s.o.Engine.RecordRange(ctx, inventory.DeliveryRange(webhook, before, status, limit))
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			d, err := inventory.DecodeDelivery(r)
			if err != nil {
				return nil, err
			}
			list = append(list, d)
		}
	}
	if s.o.Webhooks != nil && slices.Contains(statuses, inventory.DeliveryDelivered) {
		recent := s.o.Webhooks.Recent(webhook)
		for i := range recent {
			if d := &recent[i]; before.IsZero() || d.Sequence() < before.Sequence() {
				list = append(list, d)
			}
		}
	}
	// Of one that is stored too, because somebody has asked for it again, the stored one counts.
	slices.SortStableFunc(list, func(a, b *inventory.Delivery) int { return int(b.Sequence() - a.Sequence()) })
	list = slices.CompactFunc(list, func(a, b *inventory.Delivery) bool { return a.ID == b.ID })
	return list[:min(len(list), limit)], nil
}

func (s *Server) retryDelivery(c *call) error {
	receipt, err := c.action()
	if err != nil {
		return err
	}
	command := &inventory.RetryDelivery{WebhookID: c.pathID(inventory.WebhookPrefix)}
	if command.Delivery, err = s.delivery(c, command.WebhookID); err != nil {
		return err
	}
	outcome, err := c.do(&inventory.Request{Command: command, Receipt: receipt})
	switch {
	case err != nil:
		return err
	case outcome.Refusal != nil:
		return &refusal{Refusal: outcome.Refusal}
	}
	c.answer(&outcome, delivery{outcome.Delivery})
	return nil
}

// delivery is what can be said of the delivery in the path without looking for it: where it succeeded at once, nothing is
// stored of it, but its id says of which event it is.
func (s *Server) delivery(c *call, webhook inventory.ID) (d inventory.Delivery, err error) {
	d.ID, _ = inventory.ParseID(inventory.DeliveryPrefix, c.PathValue("delivery"))
	page, err := s.o.Engine.Event(c.Context(), d.Sequence())
	if err != nil || len(page.Events) == 0 {
		return d, err
	}
	e := &page.Events[0]
	if inventory.DeliveryID(webhook, e) != d.ID {
		return d, nil
	}
	ids := wire.EventIDs{Store: page.Store, Epochs: page.Epochs}
	d.EventID, d.Type, d.Key = ids.ID(e.Seq), e.Type, e.OrderKey()
	d.Status, d.Attempts = inventory.DeliveryDelivered, 1
	return d, nil
}
