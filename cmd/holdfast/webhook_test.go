package main

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// hookReceiver fails one try in ten, and checks the others.
type hookReceiver struct {
	*testing.T
	mu     sync.Mutex
	verify *standardwebhooks.Webhook
	ids    map[int64]string // of the events that it has accepted
	want   int
	all    chan struct{} // closed when it has as many as it wants
}

func (h *hookReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil || h.verify == nil || rand.IntN(10) == 0 {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if err := h.verify.Verify(body, r.Header); err != nil {
		h.Error(err)
	}
	var event struct {
		ID       string
		Sequence int64
	}
	if err := json.Unmarshal(body, &event); err != nil || event.ID != r.Header.Get("webhook-id") {
		h.Errorf("%s: %v", body, err)
	}
	if id, known := h.ids[event.Sequence]; known && id != event.ID {
		h.Errorf("event %d has the ids %s and %s", event.Sequence, id, event.ID)
	}
	h.ids[event.Sequence] = event.ID
	if len(h.ids) == h.want {
		close(h.all)
		h.want = 0
	}
}

// TestServeWebhooks: a server sends its events to a webhook whose receiver fails one try in ten. It is killed and
// started again, and none is lost.
func TestServeWebhooks(t *testing.T) {
	const rounds, products = 4, 50
	store := "sqlite:" + filepath.Join(t.TempDir(), "shop.db")
	h := &hookReceiver{T: t, ids: map[int64]string{}, want: rounds * products, all: make(chan struct{})}
	receiver := httptest.NewServer(h)
	defer receiver.Close()
	start := func() *childServer {
		t.Helper()
		s, err := startChild(t.Context(), "127.0.0.1:0", store, "--webhook-allow-private",
			"--webhook-retries=10ms,20ms,50ms,50ms,50ms,50ms,50ms,50ms")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := start()
	made, err := http.Post(s.url+"/v1/webhooks", "application/json", strings.NewReader(`{"url":"`+receiver.URL+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	var hook struct{ Secret string }
	if err := json.NewDecoder(made.Body).Decode(&hook); err != nil {
		t.Fatal(err)
	}
	made.Body.Close()
	h.mu.Lock()
	h.verify, err = standardwebhooks.NewWebhook(hook.Secret)
	h.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		makeProducts(t, s.url, round, products)
		if round%2 == 0 {
			err = s.kill()
		} else {
			err = s.stop()
		}
		if err != nil {
			t.Fatal(err)
		}
		s = start()
	}
	<-h.all
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}
