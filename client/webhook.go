package client

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ErrWebhookSignature: nobody who knows the secret has sent this, or not in the last five minutes. Answer 400 or 401.
var ErrWebhookSignature = errors.New("holdfast: the webhook's signature is not valid")

// webhookTolerance is how far the sender's clock and ours may differ. A message that is older may be one that somebody
// has recorded and sends again.
const webhookTolerance = 5 * time.Minute

// VerifyWebhook makes sure that a webhook's message comes from whoever knows its secret (whsec_…), and returns the event
// in it. During a rotation give both secrets. Body is the request's, byte for byte. The scheme is Standard Webhooks 1.0.0
// (github.com/standard-webhooks/standard-webhooks).
//
// A message can come more than once, always with the same [Event.ID]: remember those that were dealt with.
func VerifyWebhook(header http.Header, body []byte, secrets ...string) (*Event, error) {
	return verifyWebhook(time.Now(), header, body, secrets)
}

func verifyWebhook(now time.Time, header http.Header, body []byte, secrets []string) (*Event, error) {
	id, sent := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(sent, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > webhookTolerance {
		return nil, fmt.Errorf("%w: it was sent at %q, and it is %d now", ErrWebhookSignature, sent, now.Unix())
	}
	valid := false
	for _, secret := range secrets {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil {
			return nil, errors.New("holdfast: the secret of the webhook is not one: it is whsec_ and base64")
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", id, sent, body)
		want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		for signature := range strings.FieldsSeq(header.Get("webhook-signature")) {
			valid = subtle.ConstantTimeCompare([]byte(signature), want) == 1 || valid
		}
	}
	if !valid {
		return nil, ErrWebhookSignature
	}
	event := new(Event)
	if err := json.Unmarshal(body, event); err != nil {
		return nil, fmt.Errorf("holdfast: the webhook's event is not what it should be: %w", err)
	}
	return event, nil
}
