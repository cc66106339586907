package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/dbtest"
)

// onSharedStores runs a test on the stores that several processes can share.
func onSharedStores(t *testing.T, test func(t *testing.T, address string)) {
	t.Run("postgres", func(t *testing.T) { test(t, dbtest.Postgres(t)) })
	t.Run("mongodb", func(t *testing.T) { test(t, dbtest.MongoDB(t)) })
}

func child(t *testing.T, listen, address string) *childServer {
	t.Helper()
	s, err := startChild(t.Context(), listen, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.stop() })
	return s
}

const (
	processUnits   = 300 // for sale
	processBuyers  = 12
	processCrashes = 4
)

// TestProcesses: three processes sell the same units from one database while one of them is killed and started again
// and again. The buyers come back with their keys, to any process. Nothing is oversold, each key has one answer, and
// the audit is clean.
func TestProcesses(t *testing.T) {
	onSharedStores(t, func(t *testing.T, address string) {
		servers := []*childServer{
			child(t, "127.0.0.1:0", address), child(t, "127.0.0.1:0", address), child(t, "127.0.0.1:0", address),
		}
		urls := make([]string, len(servers))
		for i, s := range servers {
			urls[i] = s.url
		}
		c := client.New(urls[0])
		if _, err := c.CreateProduct(t.Context(), client.NewProduct{
			ID: "seat", Name: "Seat",
			Price: client.Money{Amount: 1, Currency: "EUR"}, TotalStock: processUnits,
		}); err != nil {
			t.Fatal(err)
		}
		var sold, refused atomic.Int64
		var crashing sync.WaitGroup
		shareSold := make(chan struct{}, processUnits)
		crashing.Go(func() { // the third process dies whenever a share of the units was sold
			s := servers[2]
			for range processCrashes {
				<-shareSold
				_ = s.kill()
				again, err := startChild(context.Background(), s.address, address)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { _ = again.stop() })
				s = again
			}
		})
		var buyers sync.WaitGroup
		var mu sync.Mutex
		var acknowledged []acknowledgement
		for b := range processBuyers {
			buyers.Go(func() {
				transport := &http.Transport{}
				defer transport.CloseIdleConnections()
				for n := 0; ; n++ {
					a, err := persist(t, &http.Client{Transport: transport}, urls, b+n, fmt.Sprintf("b%d-%d", b, n))
					if err != nil {
						t.Error(err)
						return
					}
					if a.status == http.StatusConflict {
						refused.Add(1)
						return
					}
					mu.Lock()
					acknowledged = append(acknowledged, a)
					mu.Unlock()
					if sold.Add(1)%(processUnits/(processCrashes+2)) == 0 {
						shareSold <- struct{}{}
					}
				}
			})
		}
		buyers.Wait()
		crashing.Wait()
		if sold.Load() != processUnits || refused.Load() != processBuyers {
			t.Errorf("%d of %d units sold, %d of %d buyers refused", sold.Load(), processUnits, refused.Load(), processBuyers)
		}
		for i, a := range acknowledged {
			url := urls[i%len(urls)]
			again, err := post(t.Context(), http.DefaultClient, url, a.path, a.body, a.key)
			if err != nil || again.status != a.status || !bytes.Equal(again.answer, a.answer) {
				t.Errorf("%s at %s: %+v (%v), and before %s", a.key, url, again, err, a.answer)
			}
		}
		http.DefaultClient.CloseIdleConnections()
		verifyStore(t, address, 0)
	})
}

// persist sends a hold to one process after another until one of them says what became of it.
func persist(t *testing.T, c *http.Client, urls []string, first int, key string) (acknowledgement, error) {
	for try := first; try < first+1000; try++ {
		a, err := post(t.Context(), c, urls[try%len(urls)], "/v1/reservations", `{"productId":"seat","quantity":1}`, key)
		if err == nil && (a.status == http.StatusCreated || a.status == http.StatusConflict) {
			return a, nil
		}
		if err == nil && a.status != http.StatusServiceUnavailable && a.status != http.StatusGatewayTimeout {
			return a, &statusError{a}
		}
	}
	return acknowledgement{}, fmt.Errorf("%s: no process answers", key)
}

// TestFeedCrossesProcesses: who waits for events at one process is woken by a commit of another.
func TestFeedCrossesProcesses(t *testing.T) {
	onSharedStores(t, func(t *testing.T, address string) {
		a, b := serve(t, "--store="+address), serve(t, "--store="+address)
		type waited struct {
			page *client.EventPage
			err  error
			took time.Duration
		}
		committed := make(chan time.Time, 1)
		done := make(chan waited, 1)
		go func() {
			page, err := client.New(b.url, client.WithAttempts(1)).EventPage(context.Background(), "0", 10, 30*time.Second)
			done <- waited{page, err, time.Since(<-committed)}
		}()
		if _, err := client.New(a.url).CreateProduct(t.Context(),
			client.NewProduct{ID: "mug", Name: "Mug", Price: client.Money{Amount: 1, Currency: "EUR"}}); err != nil {
			t.Fatal(err)
		}
		committed <- time.Now()
		w := <-done
		if w.err != nil || len(w.page.Data) != 1 {
			t.Fatalf("%+v", w)
		}
		t.Logf("woken %v after the commit was acknowledged elsewhere", w.took)
	})
}

// TestExpiryIsDoneOnce: every process sweeps, and each hold ends once.
func TestExpiryIsDoneOnce(t *testing.T) {
	const holds = 30
	onSharedStores(t, func(t *testing.T, address string) {
		urls := []string{serve(t, "--store="+address).url, serve(t, "--store="+address).url, serve(t, "--store="+address).url}
		createProducts(t, urls[0])
		for i := range holds {
			a, err := post(t.Context(), http.DefaultClient, urls[i%len(urls)], "/v1/reservations",
				`{"productId":"p0","quantity":1,"ttlSeconds":1}`, fmt.Sprint("k", i))
			if err != nil || a.status != http.StatusCreated {
				t.Fatalf("%+v %v", a, err)
			}
		}
		expired := map[string]int{}
		c := client.New(urls[1])
		for after := "0"; len(expired) < holds; {
			page, err := c.EventPage(t.Context(), after, 1000, 10*time.Second)
			if err != nil || len(page.Data) == 0 {
				t.Fatalf("%d of %d holds ended: %v", len(expired), holds, err)
			}
			for _, e := range page.Data {
				if e.Type == "reservation.expired" {
					expired[e.Subject]++
				}
			}
			after = page.NextAfter
		}
		for id, n := range expired {
			if n != 1 {
				t.Errorf("%s ended %d times", id, n)
			}
		}
		http.DefaultClient.CloseIdleConnections()
		verifyStore(t, address, 0)
	})
}

// TestDeadInTransaction: a process that is stopped, killed or cut off inside its transaction holds the others up for
// five seconds at most; one that only slept goes on afterwards.
func TestDeadInTransaction(t *testing.T) {
	const limit = 5 * time.Second
	for name, die := range map[string]func(s *childServer) error{
		"stopped": func(s *childServer) error { return s.process.Process.Signal(syscall.SIGSTOP) },
		"killed":  func(s *childServer) error { return s.process.Process.Kill() },
		// Its host is gone as well, so the database is not told.
		"killed behind": func(s *childServer) error { return s.process.Process.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			onSharedStores(t, func(t *testing.T, address string) {
				proxy, proxied := dbtest.NewProxy(t, address)
				victim, other := child(t, "127.0.0.1:0", proxied), child(t, "127.0.0.1:0", address)
				createProducts(t, other.url)
				const body = `{"productId":"p0","quantity":1,"customerId":"the-victim"}`
				hit := proxy.Arm(dbtest.SwallowIt, "the-victim", 1) // the customer's name is sent when the hold is written
				answered := make(chan acknowledgement, 1)
				go func() {
					a, _ := post(context.Background(), http.DefaultClient, victim.url, "/v1/reservations", body, "k")
					answered <- a
				}()
				<-hit
				if err := die(victim); err != nil {
					t.Fatal(err)
				}
				if name == "killed" {
					_ = victim.process.Wait()
					proxy.Down() // the server sees the connections end, as the kernel of a killed process ends them
					proxy.Up()
				}
				start := time.Now()
				a, err := post(t.Context(), http.DefaultClient, other.url, "/v1/reservations",
					`{"productId":"p0","quantity":1}`, "other")
				took := time.Since(start)
				if err != nil || a.status != http.StatusCreated || took > limit {
					t.Errorf("the other process answered after %v: %+v %v", took, a, err)
				}
				t.Logf("the other process was held up for %v", took)
				if name == "stopped" {
					if err := victim.process.Process.Signal(syscall.SIGCONT); err != nil {
						t.Fatal(err)
					}
					if a := <-answered; a.status != http.StatusCreated {
						t.Errorf("the process that was stopped answered %d %s", a.status, a.answer)
					}
				}
				again, err := post(t.Context(), http.DefaultClient, other.url, "/v1/reservations", body, "k")
				if err != nil || again.status != http.StatusCreated {
					t.Errorf("the victim's hold, repeated: %+v %v", again, err)
				}
				page, err := client.New(other.url).Product(t.Context(), "p0")
				if err != nil || page.ReservedStock != 2 {
					t.Errorf("%d units are reserved, not 2: %v", page.ReservedStock, err)
				}
				http.DefaultClient.CloseIdleConnections()
				verifyStore(t, address, 0)
			})
		})
	}
}

// TestLostDatabase: while the database cannot be reached, requests are answered 503 and have no effect; afterwards
// everything resumes by itself. No message has the password.
func TestLostDatabase(t *testing.T) {
	onSharedStores(t, func(t *testing.T, address string) {
		proxy, proxied := dbtest.NewProxy(t, address)
		if strings.HasPrefix(proxied, "postgres:") {
			proxied = strings.Replace(proxied, "postgres@", "postgres:hunter2@", 1)
		} else {
			proxied += "&serverSelectionTimeoutMS=500"
		}
		s := serve(t, "--store="+proxied)
		createProducts(t, s.url)
		proxy.Down()
		for i := range 3 {
			a, err := post(t.Context(), http.DefaultClient, s.url, "/v1/reservations",
				`{"productId":"p0","quantity":1}`, fmt.Sprint("lost-", i))
			if err != nil || a.status != http.StatusServiceUnavailable {
				t.Errorf("a hold: %d %s %v", a.status, a.answer, err)
			}
			for _, path := range []string{"/readyz", "/v1/products/p0"} {
				response, err := http.Get(s.url + path)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
					t.Errorf("%s: %d", path, response.StatusCode)
				}
			}
		}
		proxy.Up()
		awaitReady(t, s.url)
		if a, err := post(t.Context(), http.DefaultClient, s.url, "/v1/reservations", `{"productId":"p0","quantity":1}`,
			"back"); err != nil || a.status != http.StatusCreated {
			t.Errorf("a hold afterwards: %+v %v", a, err)
		}
		p, err := client.New(s.url).Product(t.Context(), "p0")
		if err != nil || p.ReservedStock != 1 {
			t.Errorf("what was answered 503 had an effect: %+v %v", p, err)
		}
		if strings.Contains(s.log.String(), "hunter2") {
			t.Error("the password is in the log")
		}
		http.DefaultClient.CloseIdleConnections()
	})
}
