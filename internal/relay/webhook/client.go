package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

// Requests follow Standard Webhooks 1.0.0 (github.com/standard-webhooks/standard-webhooks). What a receiver answers is
// believed by its status alone, and as little of the rest is read as HTTP allows.

const (
	// tryTimeout bounds a try, from connecting to the last header of the answer.
	tryTimeout = 15 * time.Second
	// answerBytes bounds what is read of a body, and of headers.
	answerBytes = 64 << 10
	// drainTimeout bounds how long a body is read, only so that its connection can be used again.
	drainTimeout = time.Second
	// longestRetryAfter bounds what a receiver can ask for.
	longestRetryAfter = 24 * time.Hour
)

var errNotPublic = errors.New("the address is not public: --webhook-allow-private lets it be used")

// newTransport makes connections to receivers: not by a proxy, and without private only to public addresses.
func newTransport(private bool) *http.Transport {
	dialer := &net.Dialer{Timeout: tryTimeout}
	if !private {
		dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil || !wire.IsPublic(to.Addr()) {
				return errNotPublic
			}
			return nil
		}
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    tryTimeout,
		MaxResponseHeaderBytes: answerBytes,
		MaxIdleConns:           1024,
		MaxIdleConnsPerHost:    sideBySide,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true, // nobody looks into the body
	}
}

// try is what came of sending an event.
type try struct {
	status     int           // 0: there was no answer
	err        string        // empty: it was delivered
	retryAfter time.Duration // that the receiver asks for
	ended      bool          // by us: it says nothing of the receiver
}

func (t *try) gone() bool { return t.status == http.StatusGone }

// client sends events.
type client struct {
	http    *http.Client
	private bool // plain HTTP may be used
}

func newClient(transport http.RoundTripper, private bool) *client {
	return &client{private: private, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// send makes one try. When ctx ends, it ends.
func (c *client) send(ctx context.Context, w *inventory.Webhook, id string, body []byte) try {
	attempt, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(attempt, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return try{err: "the URL cannot be used"}
	}
	if !c.private && request.URL.Scheme != "https" { // it was made when that was allowed
		return try{err: "the URL is not https: --webhook-allow-private lets it be used"}
	}
	now := time.Now()
	Sign(request.Header, id, now, body, secrets(w, now)...)
	response, err := c.http.Do(request)
	switch {
	case err != nil && ctx.Err() != nil:
		return try{ended: true}
	case err != nil:
		return try{err: describe(err)}
	}
	defer response.Body.Close()
	defer time.AfterFunc(drainTimeout, cancel).Stop()
	_, _ = io.CopyN(io.Discard, response.Body, answerBytes)
	result := try{status: response.StatusCode}
	if result.status < 200 || result.status > 299 {
		result.err = "answered " + strings.TrimSpace(strconv.Itoa(result.status)+" "+http.StatusText(result.status))
		result.retryAfter = retryAfter(response.Header.Get("Retry-After"), time.Now())
	}
	return result
}

// secrets are those that sign: for a while after a rotation, two of them.
func secrets(w *inventory.Webhook, at time.Time) []string {
	if w.OldSecret != "" && at.UnixMilli() < int64(w.OldUntil) {
		return []string{w.Secret, w.OldSecret}
	}
	return []string{w.Secret}
}

// Sign sets the headers of a request by Standard Webhooks 1.0.0. Each secret signs.
func Sign(h http.Header, id string, at time.Time, body []byte, secrets ...string) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		signatures[i] = signature(secret, id, timestamp, body)
	}
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "Holdfast")
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", timestamp)
	h.Set("webhook-signature", strings.Join(signatures, " "))
}

func signature(secret, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		if seconds > int64(longestRetryAfter/time.Second) {
			return longestRetryAfter
		}
		return max(time.Duration(seconds)*time.Second, 0)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), longestRetryAfter)
}

// describe says why there was no answer, without the URL, which may have secrets of the receiver.
func describe(err error) string {
	if wrapped, is := errors.AsType[*url.Error](err); is {
		err = wrapped.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %v", tryTimeout)
	}
	if errors.Is(err, errNotPublic) {
		return errNotPublic.Error()
	}
	text := strings.ToValidUTF8(err.Error(), "?")
	text = strings.Map(func(r rune) rune {
		if wire.HasControl(string(r)) {
			return ' '
		}
		return r
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), inventory.MaxDeliveryError)], "")
}
