package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/dbtest"
)

var failoverRounds = flag.Int("failover-rounds", 2, "rounds of TestFailover")

const (
	failoverWorkers = 8
	// killAtMost and goOn are how many answers there are in a round before the primary is killed, at most, and after the
	// standby has taken over.
	killAtMost, goOn = 200, 50
	// backWithin is what a slow machine is allowed; the test says how long it took.
	backWithin = 30 * time.Second
	retryAfter = 20 * time.Millisecond
)

// TestFailover kills the primary of two PostgreSQL servers under the load of two processes that know both, and promotes
// the standby, which commits wait for. Then every request that was acknowledged has its answer still, at both
// processes, and the audit is clean. The old primary becomes the standby of the next round.
func TestFailover(t *testing.T) {
	pair := dbtest.NewPostgresPair(t)
	servers := []*childServer{child(t, "127.0.0.1:0", pair.URL()), child(t, "127.0.0.1:0", pair.URL())}
	createProducts(t, servers[0].url)
	random := rand.New(rand.NewPCG(*seed, 3))
	var all []acknowledgement
	var back []time.Duration
	for round := range *failoverRounds {
		if err := pair.Synchronous(); err != nil {
			t.Fatal(err)
		}
		f := &failover{pair: pair, servers: servers, round: round, killAfter: int64(1 + random.IntN(killAtMost))}
		f.run(t)
		_, address := pair.Primary()
		verifyStore(t, address, round)
		for _, s := range servers {
			repeat(t, s.url, round, f.acknowledged)
		}
		t.Logf("round %d: %d acknowledgements, served again %v after the promotion", round, len(f.acknowledged), f.back)
		all, back = append(all, f.acknowledged...), append(back, f.back...)
		if err := pair.Rebuild(); err != nil {
			t.Fatal(err)
		}
	}
	repeat(t, servers[0].url, *failoverRounds, all)
	slices.Sort(back)
	t.Logf("counted %d failovers", *failoverRounds)
	t.Logf("%d acknowledgements, none lost; served again after %v in the median, %v at the most", len(all),
		back[len(back)/2], back[len(back)-1])
	if back[len(back)-1] > backWithin {
		t.Errorf("served again only after %v", back[len(back)-1])
	}
	http.DefaultClient.CloseIdleConnections()
}

// failover is one round: the load of a few workers while the primary dies and its standby takes over.
type failover struct {
	pair      *dbtest.PostgresPair
	servers   []*childServer
	round     int
	killAfter int64

	answered     atomic.Int64
	kill         chan struct{} // closed after so many answers
	mu           sync.Mutex
	acknowledged []acknowledgement
	back         []time.Duration // from the promotion to the first answer of each process
}

func (f *failover) run(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	f.kill = make(chan struct{})
	transport := &http.Transport{MaxIdleConnsPerHost: failoverWorkers}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for i := range failoverWorkers {
		workers.Go(func() {
			if err := f.work(ctx, c, i, stop); err != nil {
				t.Error(err)
			}
		})
	}
	err := f.takeOver(ctx, c)
	close(stop)
	workers.Wait()
	if err != nil {
		t.Fatal(err)
	}
}

// takeOver kills the primary when it is time, promotes the standby, and waits until every process serves again.
func (f *failover) takeOver(ctx context.Context, c *http.Client) error {
	select {
	case <-f.kill:
	case <-ctx.Done():
		return ctx.Err()
	}
	primary, _ := f.pair.Primary()
	primary.Kill()
	if err := f.pair.Promote(); err != nil {
		return err
	}
	promoted := time.Now()
	for i := range f.servers {
		a := acknowledgement{
			path: "/v1/reservations", body: `{"productId":"p0","quantity":1}`, key: fmt.Sprintf("r%d-probe%d", f.round, i),
		}
		if _, err := f.insist(ctx, c, i, a, false); err != nil {
			return err
		}
		f.back = append(f.back, time.Since(promoted).Round(time.Millisecond))
	}
	for after := f.answered.Load() + goOn; f.answered.Load() < after; {
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// work holds, and orders or cancels what it holds, until it is told to stop.
func (f *failover) work(ctx context.Context, c *http.Client, worker int, stop <-chan struct{}) error {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		key := fmt.Sprintf("r%d-w%d-%d", f.round, worker, n)
		hold, err := f.insist(ctx, c, worker+n, acknowledgement{
			path: "/v1/reservations", body: fmt.Sprintf(`{"productId":"p%d","quantity":1}`, n%crashProducts), key: key + "-hold",
		}, true)
		if err != nil {
			return err
		}
		_, id, _ := strings.Cut(string(hold.answer), `"id":"`)
		id, _, _ = strings.Cut(id, `"`)
		next := acknowledgement{path: "/v1/reservations/" + id + "/cancel", key: key + "-cancel"}
		if n%2 == 0 {
			next = acknowledgement{
				path: "/v1/orders", body: fmt.Sprintf(`{"reservationId":%q,"reference":%q}`, id, key), key: key + "-order",
			}
		}
		if _, err := f.insist(ctx, c, worker+n, next, true); err != nil {
			return err
		}
	}
}

// insist sends a request until it is answered, by the process at a place or, if others may answer, by each in turn.
func (f *failover) insist(ctx context.Context, c *http.Client, at int, a acknowledgement, others bool) (
	acknowledgement, error,
) {
	for {
		answer, err := post(ctx, c, f.servers[at%len(f.servers)].url, a.path, a.body, a.key)
		switch {
		case ctx.Err() != nil:
			return a, fmt.Errorf("%s: %w", a.key, ctx.Err())
		case err == nil && answer.status < 300:
			f.note(answer)
			return answer, nil
		case err == nil && answer.status != http.StatusServiceUnavailable && answer.status != http.StatusGatewayTimeout:
			return a, &statusError{answer}
		}
		if others {
			at++
		}
		<-time.After(retryAfter)
	}
}

func (f *failover) note(a acknowledgement) {
	f.mu.Lock()
	f.acknowledged = append(f.acknowledged, a)
	f.mu.Unlock()
	if f.answered.Add(1) == f.killAfter {
		close(f.kill)
	}
}

// TestFailoverLoses: where commits do not wait for the standby, a failover loses the last ones. The store stays the
// same, and whoever has seen an event that is gone is told, though its sequence was given again.
func TestFailoverLoses(t *testing.T) {
	pair := dbtest.NewPostgresPair(t)
	s := child(t, "127.0.0.1:0", pair.URL())
	createProducts(t, s.url)
	c := client.New(s.url)
	if err := pair.Synchronous(); err != nil { // so that the standby has all up to here
		t.Fatal(err)
	}
	hold := func() {
		if _, err := c.Reserve(t.Context(), client.NewReservation{
			Lines: []client.NewLine{{ProductID: "p0", Quantity: 1}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	hold()
	kept, err := c.EventPage(t.Context(), "0", 100, 0)
	if err != nil {
		t.Fatal(err)
	}
	standby, _ := pair.Standby()
	if err := errors.Join(pair.KillStandby(), pair.Asynchronous()); err != nil {
		t.Fatal(err)
	}
	hold()
	lost, err := c.EventPage(t.Context(), "0", 100, 0)
	if err != nil || len(lost.Data) != len(kept.Data)+1 {
		t.Fatalf("%+v %v", lost, err)
	}
	primary, _ := pair.Primary()
	primary.Kill()
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
	if err := pair.Promote(); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, s.url)
	if page, err := c.EventPage(t.Context(), kept.NextAfter, 100, 0); err != nil || len(page.Data) != 0 {
		t.Errorf("what both have seen: %+v %v", page, err)
	}
	hold()
	hold()
	var ahead *client.Error
	if _, err := c.EventPage(t.Context(), lost.NextAfter, 100, 0); !errors.As(err, &ahead) ||
		ahead.Code != client.CursorAhead {
		t.Errorf("whoever saw the lost hold: %v", err)
	}
	page, err := c.EventPage(t.Context(), kept.NextAfter, 100, 0)
	if err != nil || len(page.Data) != 2 || page.Store != lost.Store || page.Data[0].ID == lost.Data[len(kept.Data)].ID {
		t.Errorf("whoever did not: %+v %v", page, err)
	}
	_, address := pair.Primary()
	verifyStore(t, address, 0)
}
