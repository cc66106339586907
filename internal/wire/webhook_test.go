package wire

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
)

// TestWebhookJSON: what is appended is JSON, whatever the texts.
func TestWebhookJSON(t *testing.T) {
	odd := "a\"b\\c\u2028 é"
	w := ShownWebhook{&inventory.Webhook{
		ID: inventory.NewID(5, 7, 1), URL: "https://a.example/?x=%22", Types: 1 << inventory.EventOrderCreated,
		Description: odd, Status: inventory.WebhookDisabled, CreatedAt: 5, UpdatedAt: 6, Version: 2,
		Position: inventory.Cursor{Epoch: inventory.Epoch{1}, Seq: 4}, LastFailureAt: 6, LastFailure: odd,
		Secret: "\xff\x00secret",
	}, 10}
	for name, test := range map[string]struct {
		text []byte
		want map[string]any
	}{
		"webhook": {AppendWebhook(nil, w), map[string]any{
			"description": odd, "behind": 6.0, "position": "aeaaaaaa.4", "status": "DISABLED", "lastSuccessAt": nil,
		}},
		"secret": {AppendNewSecret(nil, w), map[string]any{"secret": "whsec_/wBzZWNyZXQ="}},
		"delivery": {AppendDelivery(nil, &inventory.Delivery{ID: w.ID, LastError: odd, Status: 3, Type: 1}), map[string]any{
			"lastError": odd, "sequence": 7.0, "lastStatus": nil, "status": "DEAD", "type": "product.created",
		}},
		"test": {AppendWebhookTest(nil, &WebhookTest{Error: odd, Took: time.Second}), map[string]any{
			"error": odd, "durationMs": 1000.0, "status": nil, "delivered": false,
		}},
		"event": {AppendTestEvent(nil, TestEventID([16]byte{1}), 5, w), map[string]any{
			"type": "webhook.test", "subject": w.ID.Text("whk_"), "sequence": nil,
		}},
	} {
		var read map[string]any
		if err := json.Unmarshal(test.text, &read); err != nil {
			t.Fatalf("%s: %v: %s", name, err, test.text)
		}
		for member, want := range test.want {
			if got, there := read[member]; got != want || !there {
				t.Errorf("%s: %s is %v, expected %v", name, member, got, want)
			}
		}
		if name != "secret" && strings.Contains(string(test.text), "secret") {
			t.Errorf("%s has the secret", name)
		}
	}
}

// FuzzAddress: no spelling that is taken for an address leads to one that is not public.
func FuzzAddress(f *testing.F) {
	for _, host := range []string{
		"127.0.0.1", "0x7f.1", "::1", "1.2.3", "0xg", "256.1.1.1", "08.8.8.8", "0x_7f000001", "4294967296", "0b1",
	} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		a, is := parseAddress(host)
		if is && !a.IsValid() {
			t.Errorf("%q", host)
		}
		if b, err := netip.ParseAddr(host); err == nil && a != b {
			t.Errorf("%q is %v, expected %v", host, a, b)
		}
		inner := a.Unmap().IsLoopback() || a.Unmap().IsPrivate() || a.IsLinkLocalUnicast()
		if is && inner && mayBePublic(host) && !strings.HasSuffix(host, ".") {
			t.Errorf("%q may be public", host)
		}
	})
}
