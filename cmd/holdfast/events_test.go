package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/inventory"
)

// dev starts holdfast dev, and stops it at the end.
func dev(t *testing.T) (url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, log := newOutput(), newOutput()
	done := make(chan int, 1)
	go func() { done <- run(ctx, &environment{out, log}, []string{"dev", "--listen=127.0.0.1:0"}) }()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != exitOK {
			t.Errorf("dev ended with %d: %s", code, log)
		}
	})
	_, rest, _ := strings.Cut(<-out.lines, "http://")
	address, _, _ := strings.Cut(rest, " ")
	return "http://" + address
}

// TestTriggerAndTail: each event can be caused, and is seen by whoever looks for it.
func TestTriggerAndTail(t *testing.T) {
	url := dev(t)
	for _, kind := range inventory.EventTypes() {
		if _, known := causes[kind.String()]; !known && kind != inventory.EventWebhookDisabled { // it takes a receiver

			t.Errorf("%s cannot be caused", kind)
		}
	}
	for name := range causes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, caused, stderr := execute(t.Context(), "trigger", name, "--url="+url)
			if code != exitOK || !strings.HasPrefix(caused, name+" of ") {
				t.Fatalf("exit %d: %s%s", code, caused, stderr)
			}
			var sequence int64
			_, after, _ := strings.Cut(caused, ": event ")
			if _, err := fmt.Sscanf(after, "%d", &sequence); err != nil {
				t.Fatal(caused, err)
			}
			tail := []string{"events", "tail", "--url=" + url, "--count=1", "--type=" + name, fmt.Sprint("--after=", sequence-1)}
			if code, stdout, stderr := execute(t.Context(), tail...); code != exitOK ||
				!strings.HasPrefix(strings.TrimSpace(stdout), fmt.Sprint(sequence, "  ")) || !strings.Contains(stdout, name) {
				t.Errorf("tail: exit %d: %s%s", code, stdout, stderr)
			}
			var event struct{ Type string }
			_, stdout, _ := execute(t.Context(), append(tail, "--json")...)
			if err := json.Unmarshal([]byte(stdout), &event); err != nil || event.Type != name {
				t.Errorf("tail --json: %s: %v", stdout, err)
			}
		})
	}
}

func TestTriggerRefusals(t *testing.T) {
	for _, arguments := range [][]string{
		{"trigger", "order.created", "--url=http://shop.example"},
		{"trigger", "order.created", "--url=http://10.0.0.1:8420"},
		{"trigger", "nothing"},
	} {
		if code, _, stderr := execute(t.Context(), arguments...); code != exitUsage {
			t.Errorf("%v: exit %d: %s", arguments, code, stderr)
		}
	}
}

// TestTailEnds: a tail that is told to stop ends well, and one that asks for what is not there fails.
func TestTailEnds(t *testing.T) {
	url := dev(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := newOutput()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, &environment{out, newOutput()}, []string{"events", "tail", "--url=" + url, "--after=0"})
	}()
	if line := <-out.lines; !strings.Contains(line, "product.created") || !strings.Contains(line, "mug +100 available") {
		t.Errorf("%s", line)
	}
	cancel()
	if code := <-done; code != exitOK {
		t.Errorf("exit %d", code)
	}
	code, _, stderr := execute(t.Context(), "events", "tail", "--url="+url, "--after=1000")
	if code != exitFailure || !strings.Contains(stderr, "after=0") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// TestListen: what a developer's own address gets is signed with the secret that listen prints, and what it answers is
// shown.
func TestListen(t *testing.T) {
	url := dev(t)
	type delivery struct {
		header http.Header
		body   []byte
	}
	got := make(chan delivery, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- delivery{r.Header, body}
		w.WriteHeader(http.StatusTeapot)
	}))
	defer receiver.Close()
	code, stdout, stderr := execute(t.Context(), "listen", "--url="+url, "--forward-to="+receiver.URL, "--after=0", "--count=2")
	_, secret, found := strings.Cut(strings.TrimSpace(stderr), "with the secret ")
	if code != exitOK || !found || !strings.Contains(stdout, "418 I'm a teapot in ") {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	for n := range 2 {
		d := <-got
		event, err := client.VerifyWebhook(d.header, d.body, secret)
		if err != nil || event.Sequence != int64(n+1) || event.ID != d.header.Get("webhook-id") {
			t.Errorf("%+v: %v", event, err)
		}
	}
	if code, _, _ := execute(t.Context(), "listen", "--url="+url, "--forward-to=nowhere"); code != exitUsage {
		t.Errorf("--forward-to=nowhere: exit %d", code)
	}
}
