package httpapi_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/httpapi"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store/memory"
	"github.com/holdfast/holdfast/internal/store/storetest"
	"github.com/holdfast/holdfast/internal/wire"
)

// sends is what sends to webhooks, for tests.
type sends struct {
	mu     sync.Mutex
	tested []wire.ShownWebhook
	recent []inventory.Delivery
}

func (s *sends) Test(_ context.Context, w wire.ShownWebhook) wire.WebhookTest {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tested = append(s.tested, w)
	return wire.WebhookTest{Status: 500, Error: "answered 500 Internal Server Error", Took: 12 * time.Millisecond}
}

func (s *sends) Recent(inventory.ID) []inventory.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recent
}

const hookBody = `{"url":"https://shop.example/hook"}`

// TestWebhooks: a webhook is made, shown, changed, listed and deleted, on every store.
func TestWebhooks(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 5)
		made := h.request("POST", "/v1/webhooks",
			`{"url":"https://shop.example/hook","types":["order.created","reservation.expired"],"description":"the shop"}`, 201)
		secret, _ := made.at("secret").(string)
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if !strings.HasPrefix(secret, "whsec_") || err != nil || len(key) != 32 {
			h.Errorf("secret: %s", made.body)
		}
		path := "/v1/webhooks/" + made.id()
		if made.Header.Get("Location") != path || made.Header.Get("ETag") != `"1"` ||
			made.Header.Get("Holdfast-Sequence") != "1" {
			h.Errorf("%v", made.Header)
		}
		if made.at("position") != "1" || made.at("behind") != 0.0 || made.at("status") != "ACTIVE" ||
			made.at("types.1") != "order.created" {
			h.Errorf("%s", made.body)
		}
		h.product("cup", 1)
		read := h.request("GET", path, "", 200, "If-None-Match", `"1"`)
		if read.json["secret"] != nil || read.at("behind") != 1.0 || read.Header.Get("ETag") != `"1"` {
			h.Errorf("%s", read.body)
		}
		h.request("PATCH", path, `{"description":"other"}`, 412, "If-Match", `"2"`)
		patched := h.request("PATCH", path, `{"description":null,"types":null,"status":"PAUSED"}`, 200, "If-Match", `"1"`)
		if patched.at("description") != nil || patched.at("types") != nil || patched.at("status") != "PAUSED" ||
			patched.at("version") != 2.0 || patched.json["secret"] != nil {
			h.Errorf("%s", patched.body)
		}
		if same := h.request("PATCH", path, `{"status":"PAUSED"}`, 200); same.at("version") != 2.0 {
			h.Errorf("%s", same.body)
		}
		other := h.request("POST", "/v1/webhooks", hookBody, 201).id()
		page := h.request("GET", "/v1/webhooks?limit=1", "", 200)
		if page.at("data.0.id") != other || page.at("data.0.secret") != nil {
			h.Errorf("%s", page.body)
		}
		page = h.request("GET", "/v1/webhooks?limit=1&cursor="+page.at("nextCursor").(string), "", 200)
		if page.at("data.0.id") != made.id() {
			h.Errorf("%s", page.body)
		}
		if gone := h.request("DELETE", path, "", 204); len(gone.body) != 0 || gone.Header.Get("Holdfast-Sequence") != "2" {
			h.Errorf("%v", gone.Header)
		}
		h.request("DELETE", path, "", 404)
		if a := h.request("GET", path, "", 404); a.code() != "webhook-not-found" {
			h.Errorf("%s", a.body)
		}
	})
}

// TestWebhookSecrets: a secret is shown once, also when the request is repeated; a rotation gives another one.
func TestWebhookSecrets(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		first := h.request("POST", "/v1/webhooks", hookBody, 201, "Idempotency-Key", "make")
		again := h.request("POST", "/v1/webhooks", hookBody, 201, "Idempotency-Key", "make")
		if again.id() != first.id() || again.Header.Get("Idempotent-Replayed") != "true" {
			h.Errorf("%s", again.body)
		}
		if secret, shown := again.json["secret"]; secret != nil || !shown {
			h.Errorf("%s", again.body)
		}
		path := "/v1/webhooks/" + first.id() + "/rotate-secret"
		rotated := h.request("POST", path, "", 200, "Idempotency-Key", "rotate")
		if rotated.at("secret") == first.at("secret") || rotated.at("secret") == nil || rotated.at("version") != 2.0 {
			h.Errorf("%s", rotated.body)
		}
		if replayed := h.request("POST", path, "", 200, "Idempotency-Key", "rotate"); replayed.at("secret") != nil {
			h.Errorf("%s", replayed.body)
		}
		h.request("POST", path, "{}", 200)
		h.request("POST", path, `{"x":1}`, 400)
	})
}

// TestWebhookReplay: the position can be set to any place up to the head.
func TestWebhookReplay(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 5)
		id := h.request("POST", "/v1/webhooks", `{"url":"https://shop.example","after":"0"}`, 201).id()
		for after, status := range map[string]int{"0": 200, "1": 200, "2": 409, "abcdefgh.1": 409, "-1": 400, "x": 400} {
			a := h.request("POST", "/v1/webhooks/"+id+"/replay", fmt.Sprintf(`{"after":%q}`, after), status)
			if status == 200 && a.at("position") != after || status == 409 && a.code() != "cursor-ahead" {
				h.Errorf("%s: %s", after, a.body)
			}
		}
		h.request("POST", "/v1/webhooks/"+id+"/replay", "{}", 400)
		h.request("POST", "/v1/webhooks", `{"url":"https://shop.example","after":"7"}`, 409)
	})
}

func newSendsHarness(t *testing.T, o httpapi.Options) *harness {
	clock := storetest.NewClock()
	return newHarness(t, clock, memory.Open(memory.Options{Now: clock.Now}), o, engine.Options{})
}

// TestWebhookTest: what came back is told, whatever it was.
func TestWebhookTest(t *testing.T) {
	s := &sends{}
	h := newSendsHarness(t, httpapi.Options{Webhooks: s})
	id := h.request("POST", "/v1/webhooks", hookBody, 201).id()
	h.request("PATCH", "/v1/webhooks/"+id, `{"status":"PAUSED"}`, 200)
	a := h.request("POST", "/v1/webhooks/"+id+"/test", "", 200)
	if a.at("delivered") != false || a.at("status") != 500.0 || a.at("durationMs") != 12.0 ||
		len(s.tested) != 1 || s.tested[0].Secret == "" {
		h.Errorf("%s", a.body)
	}
	h.request("POST", "/v1/webhooks/whk_00000000000000000000000000/test", "", 404)
}

// TestDeliveries: those that are stored and those that are remembered make one list, and any of them can be tried again.
func TestDeliveries(t *testing.T) {
	s := &sends{}
	h := newSendsHarness(t, httpapi.Options{Webhooks: s})
	id := h.request("POST", "/v1/webhooks", hookBody, 201).id()
	for i := range 6 {
		h.product(fmt.Sprint("p", i), 1)
	}
	webhook, _ := inventory.ParseID(inventory.WebhookPrefix, id)
	page, err := h.engine.Events(t.Context(), engine.EventQuery{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	ids := wire.EventIDs{Store: page.Store, Epochs: page.Epochs}
	of := func(seq int, status inventory.DeliveryStatus, attempts int64) inventory.Delivery {
		e := &page.Events[seq-1]
		return inventory.Delivery{
			ID: inventory.DeliveryID(webhook, e), EventID: ids.ID(e.Seq), Type: e.Type, Key: e.OrderKey(), Status: status,
			Attempts: attempts, LastStatus: 200, UpdatedAt: e.Time,
		}
	}
	dead := of(3, inventory.DeliveryDead, 10)
	dead.LastStatus, dead.LastError = 500, "answered 500 Internal Server Error"
	report := &inventory.ReportDeliveries{Sender: "webhooks", Holder: "h", WebhookID: webhook}
	report.Deliveries = []inventory.Delivery{
		dead, of(2, inventory.DeliveryDelivered, 2), of(5, inventory.DeliveryPending, 1),
	}
	for _, c := range []inventory.Command{&inventory.HoldSink{Name: "webhooks", Holder: "h", Lease: 1000}, report} {
		if o, err := h.engine.Do(t.Context(), &inventory.Request{Command: c}); err != nil || o.Refusal != nil {
			t.Fatal(err, o.Refusal)
		}
	}
	s.recent = []inventory.Delivery{of(6, inventory.DeliveryDelivered, 1), of(4, inventory.DeliveryDelivered, 1)}
	list := "/v1/webhooks/" + id + "/deliveries"
	sequences := func(query string) (found []any) {
		h.Helper()
		for next := ""; ; {
			a := h.request("GET", list+"?limit=2"+query+next, "", 200)
			for _, d := range a.json["data"].([]any) {
				found = append(found, d.(map[string]any)["sequence"])
			}
			if a.at("nextCursor") == nil {
				return found
			}
			next = "&cursor=" + a.at("nextCursor").(string)
		}
	}
	for query, want := range map[string]string{
		"": "[6 5 4 3 2]", "&status=DEAD": "[3]", "&status=PENDING": "[5]", "&status=DELIVERED": "[6 4 2]",
	} {
		if got := fmt.Sprint(sequences(query)); got != want {
			h.Errorf("%s: %s, expected %s", query, got, want)
		}
	}
	h.request("GET", list+"?status=dead", "", 400)
	// Each kind of delivery is tried again: one that is dead, one that was delivered at once, and one that nobody remembers.
	for _, d := range []inventory.Delivery{dead, of(6, 0, 0), of(1, 0, 0)} {
		text := d.ID.Text(inventory.DeliveryPrefix)
		a := h.request("POST", list+"/"+text+"/retry", "", 200, "Idempotency-Key", text)
		if a.id() != text || a.at("status") != "PENDING" || a.at("eventId") != d.EventID || a.at("nextAttemptAt") == nil {
			h.Errorf("%s", a.body)
		}
		again := h.request("POST", list+"/"+text+"/retry", "", 200, "Idempotency-Key", text)
		if string(again.body) != string(a.body) {
			h.Errorf("%s", again.body)
		}
	}
	if got := fmt.Sprint(sequences("&status=PENDING")); got != "[6 5 3 1]" {
		h.Error(got)
	}
	foreign := inventory.NewID(page.Events[0].Time, 1, 5).Text(inventory.DeliveryPrefix)
	for _, unknown := range []string{foreign, "dlv_00000000000000000000000000", "x"} {
		if a := h.request("POST", list+"/"+unknown+"/retry", "", 404); a.code() != "delivery-not-found" {
			h.Errorf("%s", a.body)
		}
	}
	h.request("DELETE", "/v1/webhooks/"+id, "", 204)
	h.request("GET", list, "", 404)
}

// TestWebhookInput: what is wrong with a webhook is refused at once, and addresses that are not public are.
func TestWebhookInput(t *testing.T) {
	h := newSendsHarness(t, httpapi.Options{})
	for _, url := range []string{
		"http://shop.example", "ftp://shop.example", "shop.example", "https://", "https:shop.example", "https:///x", "",
		"https://user@shop.example", "https://u:p@shop.example", "https://shop.example/#f", "https://shop.example:0",
		"https://shop.example:99999", "https://shop example", "https://bücher.example", "https://１２７.0.0.1",
		"https://" + strings.Repeat("a", 2048),
		"https://localhost", "https://LOCALHOST.", "https://a.localhost", "https://127.0.0.1", "https://127.1",
		"https://127.0.0.1.",
		"https://2130706433", "https://0x7f000001", "https://0x7f.1", "https://0177.0.0.1", "https://017700000001",
		"https://0",
		"https://10.1.2.3", "https://192.168.0.1:8443", "https://172.16.0.1", "https://169.254.169.254/latest",
		"https://100.64.0.1",
		"https://255.255.255.255", "https://224.0.0.1", "https://[::1]", "https://[::]", "https://[::ffff:10.0.0.1]",
		"https://[::ffff:7f00:1]", "https://[fe80::1]", "https://[fe80::1%25eth0]", "https://[fd00::1]", "https://[fec0::1]",
		"https://[ff02::1]", "https://[64:ff9b::a9fe:a9fe]", "https://[64:ff9b:1::808:808]", "https://[2002:7f00:1::]",
		"https://[2001:0:1::1]", "https://[2001:db8::1]", "https://[::127.0.0.1]",
	} {
		a := h.request("POST", "/v1/webhooks", fmt.Sprintf(`{"url":%q}`, url), 400)
		if a.at("errors.0.pointer") != "/url" {
			h.Errorf("%s: %s", url, a.body)
		}
	}
	for _, url := range []string{
		"https://shop.example", "https://shop.example:8443/a?b=c", "https://8.8.8.8/x", "https://[2606:4700::1111]/",
		"https://[64:ff9b::808:808]", "https://localhost.example", "https://10.example",
	} {
		h.request("POST", "/v1/webhooks", fmt.Sprintf(`{"url":%q}`, url), 201)
	}
	id := h.request("POST", "/v1/webhooks", hookBody, 201).id()
	for body, pointer := range map[string]string{
		`{"url":"https://a.example","types":[]}`:                                "/types",
		`{"url":"https://a.example","types":["webhook.test"]}`:                  "/types/0",
		`{"url":"https://a.example","types":["order.created","order.created"]}`: "/types/1",
		`{"url":"https://a.example","description":""}`:                          "/description",
		`{"url":"https://a.example","after":"x"}`:                               "/after",
		`{"url":null}`: "/url",
		`{"url":"https://a.example","secret":"s"}`: "/secret",
	} {
		if a := h.request("POST", "/v1/webhooks", body, 400); a.at("errors.0.pointer") != pointer {
			h.Errorf("%s: %s", body, a.body)
		}
	}
	for body, pointer := range map[string]string{
		`{"url":null}`: "/url", `{"url":"https://127.0.0.1"}`: "/url", `{"status":"DISABLED"}`: "/status",
		`{"status":null}`: "/status",
		`{"types":[]}`:    "/types", `{"version":1}`: "/version",
	} {
		if a := h.request("PATCH", "/v1/webhooks/"+id, body, 400); a.at("errors.0.pointer") != pointer {
			h.Errorf("%s: %s", body, a.body)
		}
	}
	private := newSendsHarness(t, httpapi.Options{PrivateWebhooks: true})
	for _, url := range []string{"http://localhost:3000/hook", "http://10.0.0.1", "https://[::1]:8443"} {
		private.request("POST", "/v1/webhooks", fmt.Sprintf(`{"url":%q}`, url), 201)
	}
	private.request("POST", "/v1/webhooks", `{"url":"ftp://localhost"}`, 400)
}

// TestWebhookNotInBatch: a batch makes no webhooks.
func TestWebhookNotInBatch(t *testing.T) {
	h := newSendsHarness(t, httpapi.Options{})
	h.request("POST", "/v1/batch", `{"operations":[{"operation":"createWebhook","body":`+hookBody+`}]}`, 400)
}

// TestWebhookDisabledEvent: the feed shows it by the contract.
func TestWebhookDisabledEvent(t *testing.T) {
	h := newSendsHarness(t, httpapi.Options{})
	id := h.request("POST", "/v1/webhooks", hookBody, 201).id()
	webhook, _ := inventory.ParseID(inventory.WebhookPrefix, id)
	for _, c := range []inventory.Command{
		&inventory.HoldSink{Name: "webhooks", Holder: "h", Lease: 1000},
		&inventory.ReportDeliveries{
			Sender: "webhooks", Holder: "h", WebhookID: webhook, Gone: true, DisableAfter: 1,
			LastFailureAt: 5, LastFailure: "answered 410 Gone",
		},
	} {
		if o, err := h.engine.Do(t.Context(), &inventory.Request{Command: c}); err != nil || o.Refusal != nil {
			t.Fatal(err, o.Refusal)
		}
	}
	a := h.request("GET", "/v1/events?types=webhook.disabled", "", 200)
	if a.at("data.0.subject") != id || a.at("data.0.data.webhook.status") != "DISABLED" ||
		a.at("data.0.actor.type") != "system" ||
		a.at("data.0.data.webhook.lastFailure.detail") != "answered 410 Gone" || strings.Contains(string(a.body), "secret") {
		h.Errorf("%s", a.body)
	}
	if w := h.request("GET", "/v1/webhooks/"+id, "", 200); w.at("status") != "DISABLED" || w.at("behind") != 1.0 {
		h.Errorf("%s", w.body)
	}
}
