package mongodb

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// noKills lets the server refuse to end sessions, as it does where that is not supported.
func noKills(t *testing.T, address string) {
	dbtest.FailPoint(t, address, "alwaysOn", bson.D{
		{Key: "failCommands", Value: bson.A{"killSessions"}},
		{Key: "errorCode", Value: 6},
	})
}

// always is more messages than a test sends.
const always = 1 << 30

// whenSettling is a log that calls f whenever a store begins to find out what became of a batch.
func whenSettling(f func()) *slog.Logger { return slog.New(settling{slog.DiscardHandler, f}) }

type settling struct {
	slog.Handler
	f func()
}

func (h settling) Enabled(context.Context, slog.Level) bool { return true }

func (h settling) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "finding out what became of it") {
		h.f()
	}
	return nil
}

// cutOff commits a hold through a connection that breaks between load and write.
func cutOff(s *Store, cut func()) error {
	requests := []*inventory.Request{storetest.Hold("mug", "")}
	return s.Commit(context.Background(), inventory.KeysOf(requests),
		func(state *inventory.State) (*inventory.Changes, error) {
			_, changes, err := inventory.Decide(state, requests)
			cut()
			return changes, err
		})
}

// TestKillSessionsIsNotNeeded: a store settles commits and goes on where the server ends no sessions.
func TestKillSessionsIsNotNeeded(t *testing.T) {
	_, address := dbtest.OwnMongoDB(t)
	proxy, proxied := dbtest.NewProxy(t, address)
	short := patient
	short.answer = 400 * time.Millisecond
	s := open(t, proxied, Options{timeouts: short, Log: whenSettling(func() { proxy.Arm(dbtest.Pass, "", 0) })})
	storetest.Must(t, s, storetest.Product("mug"))
	noKills(t, address)
	for i := range 3 {
		armed := false
		if err := cutOff(s, func() {
			if !armed {
				proxy.Arm(dbtest.SwallowIt, "commitTransaction", always)
			}
			armed = true
		}); err != nil {
			t.Fatalf("hold %d: %v", i, err)
		}
		storetest.Must(t, s, storetest.Hold("mug", ""))
	}
	if s.settled.Load() < 3 {
		t.Errorf("only %d commits were settled", s.settled.Load())
	}
}

// TestHealedProcess: a process that was cut off within its transaction and is back, so that its heartbeat is, ends that
// transaction by itself.
func TestHealedProcess(t *testing.T) {
	t.Parallel()
	_, address := dbtest.OwnMongoDB(t)
	proxy, proxied := dbtest.NewProxy(t, address)
	s := open(t, proxied+"&serverSelectionTimeoutMS=300", Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	noKills(t, address)
	if err := cutOff(s, proxy.Down); err == nil {
		t.Fatal("committed without a server")
	}
	if !s.leftOpen.Load() {
		t.Fatal("nothing was left open")
	}
	proxy.Up()
	five := patient
	five.head = 5 * time.Second
	storetest.Must(t, open(t, address, Options{timeouts: five}), storetest.Hold("mug", ""))
	storetest.Must(t, s, storetest.Hold("mug", ""))
}

// TestDeadProcess: who waits ends the transaction of a process that is gone, also if it cannot know that at first. If
// the server does not let it, that is reported, once.
func TestDeadProcess(t *testing.T) {
	t.Parallel()
	_, address := dbtest.OwnMongoDB(t)
	proxy, proxied := dbtest.NewProxy(t, address)
	dead := open(t, proxied+"&serverSelectionTimeoutMS=300", Options{})
	storetest.Must(t, dead, storetest.Product("mug"))
	if err := cutOff(dead, proxy.Down); err == nil {
		t.Fatal("committed without a server")
	}
	var log bytes.Buffer
	quick := patient
	quick.stale, quick.heartbeat = time.Second, 100*time.Millisecond
	s := open(t, address, Options{timeouts: quick, Log: slog.New(slog.NewTextHandler(&log, nil))})
	storetest.Must(t, s, storetest.Hold("mug", ""))
	s.Close() // nothing is logged any more
	if n := strings.Count(log.String(), "no longer says that it lives"); n != 1 {
		t.Errorf("%d reports: %s", n, log.String())
	}
}

// TestLiveProcessesAreLeftAlone: a heartbeat counts as stale only against one's own by the same server, and only if it
// does not move.
func TestLiveProcessesAreLeftAlone(t *testing.T) {
	s := open(t, dbtest.MongoDB(t), Options{})
	p := s.process
	stale := s.options.timeouts.stale
	d := &processDocument{ID: "other", HeartbeatAt: bson.NewDateTimeFromTime(storetest.Start)}
	own := func(ahead time.Duration) bson.DateTime {
		return bson.NewDateTimeFromTime(d.HeartbeatAt.Time().Add(ahead))
	}
	if p.isStale(d, own(time.Hour)) {
		t.Error("stale at first sight: another server's clock may be an hour ahead")
	}
	if p.isStale(d, own(time.Hour)) {
		t.Error("stale at the second look, at once")
	}
	p.seen["other"].since = time.Now().Add(-time.Minute)
	if p.isStale(d, own(stale)) {
		t.Error("stale while its heartbeat is not")
	}
	if !p.isStale(d, own(stale+time.Second)) {
		t.Error("not stale after all")
	}
	d.HeartbeatAt += 500
	if p.isStale(d, own(time.Hour)) {
		t.Error("stale after another heartbeat")
	}
}

// TestHeartbeatsDoNotWait: heartbeats are written and read on the primary alone. With those of a majority, a member
// that lags makes live processes look dead to each other.
func TestHeartbeatsDoNotWait(t *testing.T) {
	var mu sync.Mutex
	concerns := map[string]string{}
	s := open(t, dbtest.MongoDB(t), Options{monitor: &event.CommandMonitor{
		Started: func(_ context.Context, e *event.CommandStartedEvent) {
			collection, _ := e.Command.Lookup(e.CommandName).StringValueOK()
			if collection == processesName {
				mu.Lock()
				defer mu.Unlock()
				concerns[e.CommandName] = e.Command.Lookup("writeConcern").String() + e.Command.Lookup("readConcern").String()
			}
		},
	}})
	if err := s.process.endStale(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := concerns["findAndModify"]; !strings.Contains(got, `"w"`) || strings.Contains(got, "majority") {
		t.Errorf("a heartbeat is written with %s", got)
	}
	if got := concerns["find"]; !strings.Contains(got, "local") {
		t.Errorf("heartbeats are read with %s", got)
	}
}
