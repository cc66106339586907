package client

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// script answers each request with the next of its parts, and notes what was asked.
type script struct {
	parts []func(http.ResponseWriter)
	asked []string
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked = append(s.asked, r.URL.RawQuery)
	part := s.parts[0]
	s.parts = s.parts[1:]
	part(w)
}

func streamed(messages ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, strings.Join(messages, ""))
	}
}

func message(n int) string {
	return fmt.Sprintf("id: %d\nevent: order.created\ndata: {\"sequence\":%d,\"type\":\"order.created\"}\n\n", n, n)
}

func answered(status int, kind, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func problemAnswer(status int, code Code) func(http.ResponseWriter) {
	return answered(status, "application/problem+json", fmt.Sprintf(`{"status":%d,"code":%q,"detail":"d"}`, status, code))
}

func follow(t *testing.T, s *script, f Feed) (sequences []int64, cursors string, err error) {
	t.Helper()
	server := httptest.NewServer(s)
	defer server.Close()
	for event, failure := range New(server.URL).Follow(t.Context(), f) {
		if failure != nil {
			return sequences, cursors, failure
		}
		sequences, cursors = append(sequences, event.Sequence), cursors+event.Cursor+" "
	}
	return sequences, cursors, nil
}

// TestFollowResumes: streams that are cut off, refused for a while or end are taken up behind the last event, and behind
// what a comment says. What repeating cannot mend ends it.
func TestFollowResumes(t *testing.T) {
	s := &script{parts: []func(http.ResponseWriter){
		streamed(message(3), message(4), "id: 5\nevent: order.created\ndata: {\"seq"),
		problemAnswer(503, NotReady),
		streamed(message(5), ":\nid: 9\n\n"),
		streamed("event: end\ndata: {}\n\n"),
		answered(502, "text/html", "<h1>Bad gateway</h1>"),
		streamed(message(10)),
		problemAnswer(409, CursorAhead),
	}}
	got, cursors, err := follow(t, s, Feed{After: "2", Types: []string{"order.created", "order.cancelled"}, ProductID: "mug"})
	var problem *Error
	if !slices.Equal(got, []int64{3, 4, 5, 10}) || cursors != "3 4 5 10 " || !errors.As(err, &problem) ||
		problem.Code != CursorAhead {
		t.Errorf("events %v at %s: %v", got, cursors, err)
	}
	filter := "&productId=mug&types=order.created%2Corder.cancelled"
	want := []string{"after=2", "after=4", "after=4", "after=9", "after=9", "after=9", "after=10"}
	for i := range want {
		want[i] += filter
	}
	if !slices.Equal(s.asked, want) {
		t.Errorf("asked %q", s.asked)
	}
}

// TestFollowPolls: a server that does not stream is polled.
func TestFollowPolls(t *testing.T) {
	s := &script{parts: []func(http.ResponseWriter){
		answered(200, "application/json", `{"data":[],"nextAfter":"0","head":"0"}`),
		answered(200, "application/json", `{"data":[{"sequence":1},{"sequence":2}],"nextAfter":"2","head":"2"}`),
		answered(200, "application/json", `{"data":[{"sequence":3}],"nextAfter":"3","head":"3"}`),
		problemAnswer(400, InvalidRequest),
	}}
	got, cursors, err := follow(t, s, Feed{})
	if !slices.Equal(got, []int64{1, 2, 3}) || cursors != " 2 3 " || err == nil {
		t.Errorf("events %v at %q: %v", got, cursors, err)
	}
}

// TestFollowEnds: with its context, and when nobody wants more.
func TestFollowEnds(t *testing.T) {
	block := func(w http.ResponseWriter) {
		streamed(message(1))(w)
		_ = http.NewResponseController(w).Flush()
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		block(w)
		<-r.Context().Done()
	}))
	defer server.Close()
	for event, err := range New(server.URL).Follow(t.Context(), Feed{}) {
		if err != nil || event.Sequence != 1 {
			t.Fatal(event, err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range New(server.URL).Follow(ctx, Feed{}) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("it ends with %v", last)
	}
}

func TestVerifyWebhook(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	secret, old := "whsec_"+base64.StdEncoding.EncodeToString([]byte("a secret of 24 bytes ...")), "whsec_b2xk"
	body := []byte(`{"sequence":7,"id":"evt_1","type":"order.created"}`)
	sign := func(secret, id string, at time.Time) string {
		key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body)
		return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	header := func(at time.Time, signatures ...string) http.Header {
		h := http.Header{}
		h.Set("webhook-id", "evt_1")
		h.Set("webhook-timestamp", fmt.Sprint(at.Unix()))
		h.Set("webhook-signature", strings.Join(signatures, " "))
		return h
	}
	for name, c := range map[string]struct {
		header  http.Header
		secrets []string
		valid   bool
	}{
		"good":             {header(now, sign(secret, "evt_1", now)), []string{secret}, true},
		"while rotating":   {header(now, sign(old, "evt_1", now), "v1a,x", sign(secret, "evt_1", now)), []string{secret}, true},
		"two secrets":      {header(now, sign(old, "evt_1", now)), []string{secret, old}, true},
		"another secret":   {header(now, sign(old, "evt_1", now)), []string{secret}, false},
		"another id":       {header(now, sign(secret, "evt_2", now)), []string{secret}, false},
		"no signature":     {header(now), []string{secret}, false},
		"no secret":        {header(now, sign(secret, "evt_1", now)), nil, false},
		"old":              {header(now.Add(-6*time.Minute), sign(secret, "evt_1", now.Add(-6*time.Minute))), []string{secret}, false},
		"of the future":    {header(now.Add(6*time.Minute), sign(secret, "evt_1", now.Add(6*time.Minute))), []string{secret}, false},
		"four minutes old": {header(now.Add(-4*time.Minute), sign(secret, "evt_1", now.Add(-4*time.Minute))), []string{secret}, true},
		"no headers":       {http.Header{}, []string{secret}, false},
	} {
		event, err := verifyWebhook(now, c.header, body, c.secrets)
		if valid := err == nil; valid != c.valid || valid && event.Sequence != 7 {
			t.Errorf("%s: %+v %v", name, event, err)
		} else if !valid && !errors.Is(err, ErrWebhookSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := VerifyWebhook(header(now, sign(secret, "evt_1", now)), body, "whsec_?"); err == nil {
		t.Error("what is no secret is taken")
	}
}
