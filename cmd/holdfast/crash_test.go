package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/audit"
)

var crashRounds = flag.Int("crash-rounds", 20, "rounds of TestCrash")

const (
	crashWorkers    = 16
	crashProducts   = 3
	maxAcknowledged = 250 // answers after which the server is killed, at most
)

// acknowledgement is an answer that a worker was given: it must be given again after the crash.
type acknowledgement struct {
	path, body, key string
	status          int
	answer          []byte
}

// TestCrash kills the real binary under load, again and again. After each restart every acknowledged request, repeated with its
// key, has the answer that it was given, and the audit is clean.
func TestCrash(t *testing.T) {
	file := filepath.Join(t.TempDir(), "crash.db")
	random := rand.New(rand.NewPCG(1, 2))
	total := 0
	for round := range *crashRounds {
		s, err := startChild(t.Context(), "127.0.0.1:0", file)
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			createProducts(t, s.url)
		}
		w := &crashLoad{url: s.url, round: round, killAfter: int64(1 + random.IntN(maxAcknowledged)), kill: s.kill}
		acknowledged := w.run(t)
		total += len(acknowledged)
		verifyFile(t, file, round) // as the crash left it, with nobody serving it
		s, err = startChild(t.Context(), "127.0.0.1:0", file)
		if err != nil {
			t.Fatalf("round %d: restarting: %v", round, err)
		}
		for _, a := range acknowledged {
			again, err := post(t.Context(), http.DefaultClient, s.url, a.path, a.body, a.key)
			if err != nil || again.status != a.status || !bytes.Equal(again.answer, a.answer) {
				t.Errorf("round %d: %s %s was answered\n%d %s, and after the crash\n%+v (%v)", round, a.path, a.key, a.status, a.answer, again, err)
			}
		}
		verifyFile(t, file, round)
		http.DefaultClient.CloseIdleConnections()
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d rounds, %d acknowledgements, none lost", *crashRounds, total)
}

func createProducts(t *testing.T, url string) {
	t.Helper()
	c := client.New(url)
	for i := range crashProducts {
		_, err := c.CreateProduct(t.Context(), client.NewProduct{ID: fmt.Sprint("p", i), Name: "Product", Price: client.Money{Amount: 100, Currency: "EUR"}, TotalStock: 1_000_000})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func verifyFile(t *testing.T, file string, round int) {
	t.Helper()
	s, _, err := openStore(t.Context(), "sqlite:"+file, storeOptions{readOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	report, err := audit.Run(t.Context(), s, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range report.Breaches {
		t.Errorf("round %d: %v", round, b)
	}
}

// crashLoad is many workers that hold, confirm and cancel until the server is killed under them.
type crashLoad struct {
	url       string
	round     int
	killAfter int64
	kill      func() error

	answered     atomic.Int64
	mu           sync.Mutex
	acknowledged []acknowledgement
}

func (w *crashLoad) run(t *testing.T) []acknowledgement {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	transport := &http.Transport{MaxIdleConnsPerHost: crashWorkers}
	defer transport.CloseIdleConnections()
	var workers sync.WaitGroup
	for i := range crashWorkers {
		workers.Go(func() {
			err := w.work(ctx, &http.Client{Transport: transport}, i)
			if status := new(statusError); errors.As(err, &status) {
				t.Error(err)
			}
		})
	}
	workers.Wait()
	return w.acknowledged
}

type statusError struct{ acknowledgement }

func (e *statusError) Error() string {
	return fmt.Sprintf("%s %s: %d %s", e.path, e.body, e.status, e.answer)
}

// work goes on until the server is gone.
func (w *crashLoad) work(ctx context.Context, c *http.Client, worker int) error {
	for n := 0; ; n++ {
		key := fmt.Sprintf("r%d-w%d-%d", w.round, worker, n)
		hold, err := w.send(ctx, c, "/v1/reservations", fmt.Sprintf(`{"productId":"p%d","quantity":1}`, n%crashProducts), key+"-hold")
		if err != nil {
			return err
		}
		_, id, _ := strings.Cut(string(hold.answer), `"id":"`)
		id, _, _ = strings.Cut(id, `"`)
		switch n % 3 {
		case 0:
			_, err = w.send(ctx, c, "/v1/orders", fmt.Sprintf(`{"reservationId":%q,"reference":%q}`, id, key), key+"-order")
		case 1:
			_, err = w.send(ctx, c, "/v1/reservations/"+id+"/cancel", "", key+"-cancel")
		}
		if err != nil {
			return err
		}
	}
}

func (w *crashLoad) send(ctx context.Context, c *http.Client, path, body, key string) (acknowledgement, error) {
	a, err := post(ctx, c, w.url, path, body, key)
	if err != nil {
		return a, err
	}
	if a.status >= 300 {
		return a, &statusError{a}
	}
	w.mu.Lock()
	w.acknowledged = append(w.acknowledged, a)
	w.mu.Unlock()
	if w.answered.Add(1) == w.killAfter {
		return a, w.kill()
	}
	return a, nil
}

func post(ctx context.Context, c *http.Client, url, path, body, key string) (a acknowledgement, err error) {
	a = acknowledgement{path: path, body: body, key: key}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	response, err := c.Do(request)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	a.status = response.StatusCode
	a.answer, err = io.ReadAll(response.Body)
	return a, err
}
