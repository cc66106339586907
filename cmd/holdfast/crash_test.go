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
	"time"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/dbtest"
)

var (
	crashRounds = flag.Int("crash-rounds", 20, "rounds of TestCrash")
	seed        = flag.Uint64("seed", 1, "of the random choices of TestCrash, TestFailover and TestHistories")
)

const (
	crashWorkers    = 16
	crashProducts   = 3
	maxAcknowledged = 250 // answers after which the server is killed, at most
)

// acknowledgement is an answer that a worker was given. It must be given again after the crash.
type acknowledgement struct {
	path, body, key string
	status          int
	answer          []byte
}

// TestCrash kills the real binary under load, again and again, and the database as well where there is one. After each
// restart every acknowledged request, repeated with its key, has the answer that it was given, and the audit is clean.
func TestCrash(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		crash(t, nil, "sqlite:"+filepath.Join(t.TempDir(), "crash.db"), *crashRounds)
	})
	t.Run("postgres", func(t *testing.T) {
		database, address := dbtest.OwnPostgres(t)
		crash(t, database, address, *crashRounds)
	})
	t.Run("mongodb", func(t *testing.T) {
		database, address := dbtest.OwnMongoDB(t)
		crash(t, database, address, max(1, *crashRounds/4)) // it is slow
	})
}

func crash(t *testing.T, database *dbtest.Server, store string, rounds int) {
	random := rand.New(rand.NewPCG(*seed, 2))
	total := 0
	s, err := startChild(t.Context(), "127.0.0.1:0", store)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.stop() }()
	createProducts(t, s.url)
	for round := range rounds {
		started := make(chan error, 1)
		w := &crashLoad{url: s.url, round: round, killAfter: int64(1 + random.IntN(maxAcknowledged)), kill: s.kill}
		databaseDies := database != nil && round%2 == 1
		if databaseDies {
			w.kill = func() error {
				database.Kill()
				go func() { started <- database.Start() }()
				return nil
			}
		}
		acknowledged := w.run(t)
		total += len(acknowledged)
		if databaseDies {
			if err := <-started; err != nil {
				t.Fatal(err)
			}
			awaitReady(t, s.url)
		}
		verifyStore(t, store, round) // as the crash left it
		if !databaseDies {
			if s, err = startChild(t.Context(), "127.0.0.1:0", store); err != nil {
				t.Fatalf("round %d: restarting: %v", round, err)
			}
		}
		repeat(t, s.url, round, acknowledged)
		verifyStore(t, store, round)
		http.DefaultClient.CloseIdleConnections()
	}
	t.Logf("%d acknowledgements, none lost", total)
	t.Logf("counted %d kills", rounds)
}

// repeat requires of a server every answer that was acknowledged.
func repeat(t *testing.T, url string, round int, acknowledged []acknowledgement) {
	t.Helper()
	for _, a := range acknowledged {
		again, err := post(t.Context(), http.DefaultClient, url, a.path, a.body, a.key)
		if err != nil || again.status != a.status || !bytes.Equal(again.answer, a.answer) {
			t.Errorf("round %d: %s %s was answered\n%d %s, and afterwards\n%+v (%v)",
				round, a.path, a.key, a.status, a.answer, again, err)
		}
	}
}

// awaitReady polls until a server that lost its database has it back by itself.
func awaitReady(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		response, err := http.Get(url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the server does not become ready again")
		}
	}
}

func createProducts(t *testing.T, url string) {
	t.Helper()
	c := client.New(url)
	for i := range crashProducts {
		_, err := c.CreateProduct(t.Context(), client.NewProduct{
			ID: fmt.Sprint("p", i), Name: "Product",
			Price: client.Money{Amount: 100, Currency: "EUR"}, TotalStock: 1_000_000,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func verifyStore(t *testing.T, address string, round int) {
	t.Helper()
	s, _, err := openStore(t.Context(), address, storeOptions{readOnly: true})
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

// errDatabaseGone: the server says that it has lost its database.
var errDatabaseGone = errors.New("503 or 504")

type statusError struct{ acknowledgement }

func (e *statusError) Error() string {
	return fmt.Sprintf("%s %s: %d %s", e.path, e.body, e.status, e.answer)
}

// afterKill is how many more answers end a load if only the database was killed: the server gets that back by itself.
const afterKill = 100

// work goes on until the server is gone, or there were enough answers after the kill.
func (w *crashLoad) work(ctx context.Context, c *http.Client, worker int) error {
	for n := 0; w.answered.Load() < w.killAfter+afterKill; n++ {
		key := fmt.Sprintf("r%d-w%d-%d", w.round, worker, n)
		hold, err := w.send(ctx, c, "/v1/reservations",
			fmt.Sprintf(`{"productId":"p%d","quantity":1}`, n%crashProducts), key+"-hold")
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
	return nil
}

func (w *crashLoad) send(ctx context.Context, c *http.Client, path, body, key string) (acknowledgement, error) {
	a, err := post(ctx, c, w.url, path, body, key)
	if err != nil {
		return a, err
	}
	if a.status == http.StatusServiceUnavailable || a.status == http.StatusGatewayTimeout {
		return a, errDatabaseGone
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
