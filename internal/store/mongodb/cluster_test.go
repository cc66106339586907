package mongodb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// The tests in this file need a real MongoDB and are skipped without one: see [dbtest.RealMongoDB].

const clusterCuts = 20

// admin runs a command on the servers that a URL names.
func admin(t testing.TB, address string, command bson.D) (reply bson.Raw, err error) {
	with(t, address, func(db *mongo.Database) {
		err = db.Client().Database("admin").RunCommand(context.Background(), command).Decode(&reply)
	})
	return reply, err
}

// primary is the host of the primary.
func primary(t testing.TB, address string) string {
	reply, err := admin(t, address, bson.D{{Key: "hello", Value: 1}})
	if err != nil {
		t.Fatal(err)
	}
	name, _ := reply.Lookup("primary").StringValueOK()
	return name
}

func routed(t testing.TB, address string) bool {
	reply, err := admin(t, address, bson.D{{Key: "hello", Value: 1}})
	return err == nil && reply.Lookup("msg").String() == `"isdbgrid"`
}

// throughElections makes holds and lets cut bring down the primary between the load and the commit of every fourth. Who
// is answered that the store cannot be reached repeats with the key, as callers do. Each hold is made once.
func throughElections(t *testing.T, address string, cut func(i int)) {
	s := open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	made := map[inventory.ID]bool{}
	for i := range clusterCuts {
		requests := []*inventory.Request{storetest.Hold("mug", fmt.Sprint("key ", i))}
		decided := false
		var outcomes []inventory.Outcome
		for begun := time.Now(); ; {
			err := s.Commit(context.Background(), inventory.KeysOf(requests),
				func(state *inventory.State) (changes *inventory.Changes, err error) {
					outcomes, changes, err = inventory.Decide(state, requests)
					if !decided && i%4 == 0 {
						cut(i)
					}
					decided = true
					return changes, err
				})
			if err == nil {
				t.Logf("hold %d: %v", i, time.Since(begun))
				break
			}
			if time.Since(begun) > time.Minute {
				t.Fatalf("hold %d: %v", i, err)
			}
		}
		if outcomes[0].Reservation == nil || made[outcomes[0].Reservation.ID] {
			t.Fatalf("hold %d: %+v", i, outcomes[0])
		}
		made[outcomes[0].Reservation.ID] = true
	}
	report, err := audit.Run(t.Context(), s, audit.Options{})
	if err != nil || len(report.Breaches) > 0 || report.Reservations != clusterCuts {
		t.Errorf("%+v: %v", report, err)
	}
}

// TestStepDown has the primary step down.
func TestStepDown(t *testing.T) {
	address := dbtest.RealMongoDB(t)
	if routed(t, address) {
		t.Skip("SKIPPED: it needs the URL of a replica set")
	}
	throughElections(t, address, func(i int) {
		_, err := admin(t, address, bson.D{
			{Key: "replSetStepDown", Value: 5}, {Key: "secondaryCatchUpPeriodSecs", Value: 4}, {Key: "force", Value: true},
		})
		t.Logf("hold %d: stepping down: %v", i, err)
	})
}

// TestPrimaryKilled kills the primary. HOLDFAST_TEST_MONGODB_KILL is a command that kills the mongod at the host that
// is its argument, and has it started again.
func TestPrimaryKilled(t *testing.T) {
	address := dbtest.RealMongoDB(t)
	kill := os.Getenv("HOLDFAST_TEST_MONGODB_KILL")
	if kill == "" {
		t.Skip("SKIPPED: name a command that kills a member and starts it again in HOLDFAST_TEST_MONGODB_KILL")
	}
	throughElections(t, address, func(i int) {
		host := primary(t, address)
		out, err := exec.Command("sh", "-c", kill+` "$0"`, host).CombinedOutput()
		t.Logf("hold %d: killing %s: %v %s", i, host, err, out)
	})
}

// TestMajorityLags: while no majority has a batch, it is not acknowledged, and processes do not take each other for
// dead. Afterwards its key gets the true answer.
func TestMajorityLags(t *testing.T) {
	address := dbtest.RealMongoDB(t)
	hosts := dbtest.MongoDBHosts(t, address)
	if routed(t, address) || len(hosts) < 3 {
		t.Skip("SKIPPED: it needs the URL of a replica set that names three members")
	}
	var log bytes.Buffer
	short := defaultTimeouts
	short.answer, short.settle, short.head = time.Second, 3*time.Second, 3*time.Second
	s := open(t, address, Options{timeouts: short})
	other := open(t, address, Options{timeouts: short, Log: slog.New(slog.NewTextHandler(&log, nil))})
	storetest.Must(t, s, storetest.Product("mug"))
	lag := func(mode string) {
		for _, host := range hosts {
			_, err := admin(t, host, bson.D{{Key: "configureFailPoint", Value: "stopReplProducer"}, {Key: "mode", Value: mode}})
			if err != nil {
				t.Fatalf("%s: %v", host, err)
			}
		}
	}
	lag("alwaysOn")
	defer lag("off")
	if _, err := storetest.Commit(t.Context(), s, storetest.Hold("mug", "k")); !errors.Is(err, store.ErrOutcomeUnknown) &&
		!errors.Is(err, store.ErrUnavailable) {
		t.Errorf("no majority has the batch, and it is answered with %v", err)
	}
	for range 3 {
		if _, err := storetest.Commit(t.Context(), other, storetest.Hold("mug", "k2")); err == nil {
			t.Error("no majority has the batch, and it is acknowledged")
		}
	}
	lag("off")
	first := storetest.Must(t, s, storetest.Hold("mug", "k"))[0].Reservation.ID
	if again := storetest.Must(t, other, storetest.Hold("mug", "k"))[0].Reservation.ID; again != first {
		t.Errorf("one key made %v and %v", first, again)
	}
	other.Close()
	if strings.Contains(log.String(), "no longer says that it lives") {
		t.Errorf("a live process was taken for dead: %s", log.String())
	}
}

// TestTwoRouters: what was acknowledged through one router is seen through another, by views and by looks.
func TestTwoRouters(t *testing.T) {
	address := dbtest.RealMongoDB(t)
	hosts := dbtest.MongoDBHosts(t, address)
	if !routed(t, address) || len(hosts) < 2 {
		t.Skip("SKIPPED: it needs a URL that names two mongos")
	}
	s, other := open(t, hosts[0], Options{}), open(t, hosts[1], Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	for range 50 {
		seq := storetest.Must(t, s, storetest.Hold("mug", ""))[0].Seq
		head, _, _, err := other.Look(t.Context(), 0, 1, 1)
		if err != nil || head.Seq < seq {
			t.Fatalf("event %d was acknowledged, a look sees %d: %v", seq, head.Seq, err)
		}
		err = other.View(t.Context(), func(v store.View) (err error) {
			head, err = v.Head(t.Context())
			return err
		})
		if err != nil || head.Seq < seq {
			t.Fatalf("event %d was acknowledged, a view sees %d: %v", seq, head.Seq, err)
		}
	}
}

// TestLeastPrivileges: a user with readWrite on the database alone can do everything that a process does.
func TestLeastPrivileges(t *testing.T) {
	address := dbtest.RealMongoDB(t)
	name, err := databaseOf(address)
	if err != nil {
		t.Fatal(err)
	}
	user := func(command bson.D) error {
		var err error
		with(t, address, func(db *mongo.Database) { err = db.RunCommand(context.Background(), command).Err() })
		return err
	}
	if err := user(bson.D{
		{Key: "createUser", Value: "holdfast"},
		{Key: "pwd", Value: "secret"},
		{Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: "readWrite"}, {Key: "db", Value: name}}}},
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = user(bson.D{{Key: "dropUser", Value: "holdfast"}}) })
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("holdfast", "secret")
	q := u.Query()
	q.Set("authSource", name)
	u.RawQuery = q.Encode()
	var log bytes.Buffer
	clock := storetest.NewClock()
	s := open(t, u.String(), Options{Now: clock.Now, Log: slog.New(slog.NewTextHandler(&log, nil))})
	storetest.Must(t, s, storetest.Product("mug"), storetest.Hold("mug", "a"))
	for i := range 3 {
		clock.Advance(25 * time.Hour)
		storetest.Must(t, s, storetest.Hold("mug", fmt.Sprint(i)))
	}
	awaitReceipts(t, s, address)
	if err := s.process.endStale(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.process.kill(t.Context(), s.process.session); err != nil {
		t.Errorf("ending a session of the same user: %v", err)
	}
	storetest.Must(t, s, storetest.Hold("mug", "last"))
	s.Close()
	open(t, u.String(), Options{}).Close()
	open(t, u.String(), Options{ReadOnly: true}).Close()
	if strings.Contains(log.String(), "Holdfast checks alone") {
		t.Errorf("validators could not be set: %s", log.String())
	}
}

// TestFirstStartOfTenReal is [TestFirstStartOfTen] without faults.
func TestFirstStartOfTenReal(t *testing.T) {
	address := dbtest.RealMongoDB(t)
	var starts sync.WaitGroup
	for i := range 10 {
		starts.Go(func() {
			s, err := Open(context.Background(), address, Options{})
			if err != nil {
				t.Errorf("process %d: %v", i, err)
				return
			}
			s.Close()
		})
	}
	starts.Wait()
}
