package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/dbtest"
)

// TestServeRelays: a server takes its events to a file, goes on there after a stop and after a crash, and loses none.
func TestServeRelays(t *testing.T) {
	folder := t.TempDir()
	store, events := "sqlite:"+filepath.Join(folder, "shop.db"), filepath.Join(folder, "events.ndjson")
	for round := range 4 {
		s, err := startChild(t.Context(), "127.0.0.1:0", store, "--sink=file:"+events)
		if err != nil {
			t.Fatal(err)
		}
		makeProducts(t, s.url, round, 50)
		if round == 1 {
			awaitEvents(t, events, 100)
		}
		if round%2 == 0 {
			err = s.kill()
		} else {
			err = s.stop()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := startChild(t.Context(), "127.0.0.1:0", store, "--sink=file:"+events) // the last one may have stopped too soon
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.kill() }()
	awaitEvents(t, events, 200)
}

// TestWorkers: beside servers that relay nothing, one of two workers does. When it is killed the other goes on within
// five seconds.
func TestWorkers(t *testing.T) {
	address := dbtest.Postgres(t)
	events := filepath.Join(t.TempDir(), "events.ndjson")
	s, err := startChild(t.Context(), "127.0.0.1:0", address, "--no-sweep", "--no-relay", "--sink=file:"+events)
	if err != nil {
		t.Fatal(err)
	}
	defer s.kill()
	var workers []*childServer
	for range 2 {
		w, err := startProgram(t.Context(), "worker", "--store="+address, "--sink=file:"+events, "--listen=127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer w.kill()
		workers = append(workers, w)
	}
	makeProducts(t, s.url, 0, 20)
	awaitEvents(t, events, 20)
	for path, want := range map[string]string{
		"/livez": "live", "/readyz": "ready", "/metrics": `holdfast_relay_set_aside_total{sink="file:`, "/v1/products": "not-found",
		"/docs": "not-found",
	} {
		if got := fetch(t, workers[0].url+path); !strings.Contains(got, want) {
			t.Errorf("%s of a worker: %s", path, got)
		}
	}
	holder := 0
	if strings.Contains(fetch(t, workers[0].url+"/metrics"), `holdfast_relay_events_total{sink="file:`+events+`"} 0`) {
		holder = 1
	}
	_ = workers[holder].kill()
	c := client.New(s.url)
	hold, err := c.Reserve(t.Context(), client.NewReservation{
		Lines: []client.NewLine{{ProductID: "p0-0", Quantity: 1}}, TTLSeconds: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	awaitEvents(t, events, 22) // its end too: workers sweep
	if got, err := os.ReadFile(events); err != nil || !strings.Contains(string(got), `"reservation.expired","subject":"`+hold.ID) {
		t.Errorf("the hold's end is not there: %v", err)
	}
}

// TestPrintedEvents: what is printed for people goes elsewhere where events are printed.
func TestPrintedEvents(t *testing.T) {
	store := "sqlite:" + filepath.Join(t.TempDir(), "shop.db")
	ctx, cancel := context.WithCancel(t.Context())
	out, log := newOutput(), newOutput()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, &environment{out, log}, []string{"serve", "--listen=127.0.0.1:0", "--store=" + store, "--sink=stdout:"})
	}()
	rest, ready := "", false
	for !ready { // the log comes there as well
		_, rest, ready = strings.Cut(<-log.lines, "http://")
	}
	address, _, _ := strings.Cut(rest, " ")
	makeProducts(t, "http://"+address, 0, 1)
	if line := <-out.lines; !strings.HasPrefix(line, `{"specversion":"1.0","id":"evt_`) {
		t.Errorf("printed: %s", line)
	}
	cancel()
	if code := <-done; code != exitOK {
		t.Errorf("exit %d: %s", code, log)
	}
}

// TestWorkerOverHTTP: beside a server whose store belongs to it, a worker relays what the server's feed says. It and the
// server are killed in turn.
func TestWorkerOverHTTP(t *testing.T) {
	folder := t.TempDir()
	store, events := "sqlite:"+filepath.Join(folder, "shop.db"), filepath.Join(folder, "events.ndjson")
	s, err := startChild(t.Context(), "127.0.0.1:0", store)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.kill() }()
	worker := []string{
		"worker", "--url=" + s.url, "--sink=file:" + events, "--position-file=" + filepath.Join(folder, "positions.json"),
		"--listen=127.0.0.1:0",
	}
	start := func() (stop func() int) {
		ctx, cancel := context.WithCancel(t.Context())
		log, done := newOutput(), make(chan int, 1)
		go func() { done <- run(ctx, &environment{newOutput(), log}, worker) }()
		var health string
		for ready := false; !ready; {
			_, health, ready = strings.Cut(<-log.lines, "it is ready on ")
		}
		for path, want := range map[string]string{"/livez": "live", "/readyz": `"ready"`, "/metrics": "holdfast_relay_behind"} {
			if got := fetch(t, strings.TrimSpace(health)+path); !strings.Contains(got, want) {
				t.Errorf("%s: %s", path, got)
			}
		}
		return func() int {
			cancel()
			return <-done
		}
	}
	makeProducts(t, s.url, 0, 20)
	stop := start()
	awaitEvents(t, events, 20)
	if code, _, stderr := execute(t.Context(), worker...); code != exitFailure || !strings.Contains(stderr, "another worker") {
		t.Errorf("a second worker with the same file: exit %d: %s", code, stderr)
	}
	_ = s.kill()
	if s, err = startChild(t.Context(), s.address, store); err != nil {
		t.Fatal(err)
	}
	makeProducts(t, s.url, 1, 20)
	awaitEvents(t, events, 40)
	if code := stop(); code != exitOK {
		t.Errorf("the worker ended with %d", code)
	}
	makeProducts(t, s.url, 2, 20)
	stop = start()
	awaitEvents(t, events, 60)
	stop()
	if data, err := os.ReadFile(events); err != nil || strings.Count(string(data), "\n") != 60 {
		t.Errorf("after stops in good order there are %d lines for 60 events: %v", strings.Count(string(data), "\n"), err)
	}
	direct := filepath.Join(folder, "direct.ndjson")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	last := serve(t, "--store="+store, "--sink=file:"+direct)
	awaitEvents(t, direct, 60)
	last.stop()
	a, _ := os.ReadFile(events)
	if b, _ := os.ReadFile(direct); string(a) != string(b) {
		t.Error("over HTTP the events are not what the server itself relays")
	}
}

func makeProducts(t *testing.T, url string, round, n int) {
	t.Helper()
	c := client.New(url)
	for i := range n {
		if _, err := c.CreateProduct(t.Context(), client.NewProduct{
			ID: fmt.Sprintf("p%d-%d", round, i), Name: "P", Price: client.Money{Amount: 1, Currency: "EUR"}, TotalStock: 9,
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// awaitEvents waits until a file has so many events, in order, duplicates left out.
func awaitEvents(t *testing.T, path string, n int64) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		last := eventsIn(t, path)
		if last == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d events have arrived", last, n)
		}
		time.Sleep(20 * time.Millisecond) // another process writes the file
	}
}

// eventsIn requires that the events of a file are without a gap, and returns the last one's sequence.
func eventsIn(t *testing.T, path string) (last int64) {
	t.Helper()
	data, _ := os.ReadFile(path)
	for line := range strings.Lines(string(data)) {
		var event struct{ Data struct{ Sequence int64 } }
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil || event.Data.Sequence > last+1 {
			t.Fatalf("after event %d comes %s: %v", last, line, err)
		}
		last = max(last, event.Data.Sequence)
	}
	return last
}
