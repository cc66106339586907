package webhook

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/holdfast/holdfast/internal/inventory"
)

func hook(url string) *inventory.Webhook {
	return &inventory.Webhook{URL: url, Secret: "0123456789abcdef0123456789abcdef"}
}

// TestSignatures: what we sign is right by the reference library, with one secret and, for a while, with two.
func TestSignatures(t *testing.T) {
	w := hook("https://shop.example")
	w.OldSecret, w.OldUntil = "fedcba9876543210fedcba9876543210", inventory.Time(time.Now().Add(time.Hour).UnixMilli())
	body := []byte(`{"type":"order.created"}`)
	verify := func(secret string, h http.Header, body []byte) error {
		reference, err := standardwebhooks.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString([]byte(secret)))
		if err != nil {
			t.Fatal(err)
		}
		return reference.Verify(body, h)
	}
	h := http.Header{}
	Sign(h, "evt_1", time.Now(), body, secrets(w, time.Now())...)
	if err := verify(w.Secret, h, body); err != nil {
		t.Error(err)
	}
	if err := verify(w.OldSecret, h, body); err != nil {
		t.Errorf("by the secret before: %v", err)
	}
	if verify(w.Secret, h, append(body, ' ')) == nil || verify("another secret of the same length", h, body) == nil {
		t.Error("a wrong body or secret verifies")
	}
	h = http.Header{}
	later := time.Now().Add(2 * time.Hour)
	Sign(h, "evt_1", later, body, secrets(w, later)...)
	if signatures := strings.Fields(h.Get("webhook-signature")); len(signatures) != 1 {
		t.Errorf("the secret before signs for ever: %v", signatures)
	}
}

func private() *client { return newClient(newTransport(true), true) }

func send(t *testing.T, c *client, url string) try {
	t.Helper()
	return c.send(t.Context(), hook(url), "evt_1", []byte(`{}`))
}

// TestBadReceivers: whatever a receiver does, a try ends, and says what was wrong.
func TestBadReceivers(t *testing.T) {
	var redirected atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { redirected.Store(true) }))
	defer elsewhere.Close()
	release := make(chan struct{})
	defer close(release)
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		status int
		err    string // a part of it; empty: delivered
	}{
		"204": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, 204, ""},
		"a huge body": {func(w http.ResponseWriter, _ *http.Request) {
			for range 1000 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, 200, ""},
		"a body without end": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
			<-release
		}, 200, ""},
		"huge headers": {func(w http.ResponseWriter, _ *http.Request) {
			for i := range 100 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 4000))
			}
		}, 0, "exceeded"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, 307, "answered 307 Temporary Redirect"},
		"500":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 500, "answered 500 Internal Server"},
		"no known status": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(599) }, 599, "answered 599"},
		"a reset": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}, 0, "reset"},
		"no HTTP": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_, _ = conn.Write([]byte("220 mail.example ESMTP\r\n"))
			_ = conn.Close()
		}, 0, "malformed HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(test.answer)
			server.Config.ErrorLog = nil
			got := send(t, private(), server.URL+"/path?token=s3cret")
			server.CloseClientConnections()
			if got.status != test.status || (got.err == "") != (test.err == "") || !strings.Contains(got.err, test.err) {
				t.Errorf("%+v", got)
			}
			if strings.Contains(got.err, "s3cret") {
				t.Errorf("the error has the URL: %s", got.err)
			}
		})
	}
	if redirected.Load() {
		t.Error("a redirect was followed")
	}
}

// TestAsksForPatience: the wait that a receiver asks for is heard, with whatever it answers that is no success.
func TestAsksForPatience(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer server.Close()
	if got := send(t, private(), server.URL); got.status != 429 || got.retryAfter != 2*time.Minute || got.gone() {
		t.Errorf("%+v", got)
	}
}

// TestSilentReceiver: a try takes 15 s at most, up to the last header; a slow body takes no more than a second.
func TestSilentReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			says  string
			took  time.Duration
			right bool
		}{
			"nothing":    {"", tryTimeout, false},
			"one header": {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", tryTimeout, false},
			"no body":    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", drainTimeout, true},
		} {
			transport := newTransport(true)
			transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go func() {
					if _, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
						_, _ = io.WriteString(theirs, test.says)
					}
				}()
				return ours, nil
			}
			start := time.Now()
			got := send(t, newClient(transport, true), "http://shop.example")
			if took := time.Since(start); took != test.took || (got.err == "") != test.right {
				t.Errorf("%s: %+v after %v", name, got, took)
			}
			if !test.right && got.err != "no answer within 15s" {
				t.Error(got.err)
			}
			transport.CloseIdleConnections()
		}
	})
}

// TestCertificate: one that is not trusted is refused.
func TestCertificate(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	if got := send(t, private(), server.URL); got.status != 0 || !strings.Contains(got.err, "certificate") {
		t.Errorf("%+v", got)
	}
	transport := newTransport(true)
	transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	if got := send(t, newClient(transport, true), server.URL); got.status != 404 {
		t.Errorf("%+v", got)
	}
}

// TestNotPublic: what is connected to decides, however it is spelled, and no proxy is asked.
func TestNotPublic(t *testing.T) {
	var reached atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer server.Close()
	t.Setenv("HTTPS_PROXY", server.URL)
	u, _ := url.Parse(server.URL)
	c := newClient(newTransport(false), false)
	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]",
		"169.254.169.254", "0.0.0.0",
	} {
		got := send(t, c, "https://"+host+":"+u.Port())
		if got.err == "" || got.status != 0 {
			t.Errorf("%s: %+v", host, got)
		}
	}
	if got := send(t, c, "https://"+u.Host); got.err != errNotPublic.Error() {
		t.Errorf("%+v", got)
	}
	if got := send(t, c, "http://shop.example"); !strings.Contains(got.err, "not https") {
		t.Errorf("plain HTTP: %+v", got)
	}
	if reached.Load() {
		t.Error("an address that is not public was reached")
	}
	if got := send(t, private(), server.URL); got.err != "" {
		t.Errorf("with the flag: %+v", got)
	}
}

// TestEnded: a try that we end says nothing of the receiver.
func TestEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		cancel()
		<-release
	}))
	defer server.Close()
	defer close(release)
	if got := private().send(ctx, hook(server.URL), "evt_1", []byte("{}")); !got.ended {
		t.Errorf("%+v", got)
	}
}
