package mongodb

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

var (
	cutCommits = flag.Int("cuts", 700, "how many commits TestCutCommits cuts; others fail by fail points")
	seed       = flag.Uint64("seed", 0, "draw the cuts of TestCutCommits from it, instead of taking each in turn")
)

const (
	betweenHalfCut      = 35
	betweenVain         = 13
	failedCommits       = 300
	betweenStateChanges = failedCommits / 4
)

// TestCutCommits breaks the connection of commitTransaction: before the server sees it, in the middle, after, and
// before the answer; once, so that the driver sends it again, or until the driver and the store have sent it in vain
// and the head has to be asked; one in 35 without a word, so that only time-outs tell.
func TestCutCommits(t *testing.T) {
	proxy, address := dbtest.NewProxy(t, dbtest.MongoDB(t))
	mend := func() { proxy.Arm(dbtest.Pass, "", 0) }
	short := defaultTimeouts
	short.answer = 400 * time.Millisecond
	s := open(t, address, Options{timeouts: short, Log: whenSettling(mend)})
	random := rand.New(rand.NewPCG(*seed, 0))
	made, vain := map[string]int{}, 0
	storetest.Cuts(t, s, *cutCommits, func(i int) {
		if *seed > 0 {
			i = random.IntN(1 << 20)
		}
		cut := dbtest.CutAt(i, betweenHalfCut)
		times := 1
		if i%betweenVain == 1 { // prime to the number of cuts, so that all of them are made in vain
			times = always
			vain++
		}
		made[fmt.Sprint(cut, " always: ", times == always)]++
		proxy.Arm(cut, "commitTransaction", times)
	}, mend)
	t.Log(made)
	if n := s.settled.Load(); n < int64(vain) {
		t.Errorf("%d commits were settled by asking the head, and %d were cut in vain", n, vain)
	}
	t.Logf("counted %d cuts", *cutCommits)
}

// TestFailedCommits has the server fail commitTransaction: with codes and labels that say that it may have been done,
// with those that say that it was not, without any, and by closing the connection.
func TestFailedCommits(t *testing.T) {
	_, address := dbtest.OwnMongoDB(t) // fail points are of the whole server
	s := open(t, address, Options{})
	labels := func(names ...any) bson.E { return bson.E{Key: "errorLabels", Value: bson.A(names)} }
	code := func(code int) bson.E { return bson.E{Key: "errorCode", Value: code} }
	failures := []bson.D{
		{{Key: "closeConnection", Value: true}},
		{code(262), labels("RetryableWriteError", "UnknownTransactionCommitResult")}, // ExceededTimeLimit
		{code(50), labels("UnknownTransactionCommitResult")},                         // MaxTimeMSExpired
		{code(64)}, // WriteConcernFailed
		{code(251), labels("TransientTransactionError")},
		{code(112), labels("TransientTransactionError")},
		{code(112)},
		{code(24)},
		{code(250)},
		{code(16777220)},
	}
	// After these the driver looks for another primary, which takes it a heartbeat here, so there are few of them.
	stateChanges := []bson.D{
		{code(91), labels("RetryableWriteError", "UnknownTransactionCommitResult")},    // ShutdownInProgress
		{code(10107), labels("RetryableWriteError", "UnknownTransactionCommitResult")}, // NotWritablePrimary
	}
	storetest.Cuts(t, s, failedCommits, func(i int) {
		failure := failures[i%len(failures)]
		if i%betweenStateChanges == 0 {
			failure = stateChanges[i/betweenStateChanges%len(stateChanges)]
		}
		data := append(bson.D{{Key: "failCommands", Value: bson.A{"commitTransaction"}}}, failure...)
		dbtest.FailPoint(t, address, bson.D{{Key: "times", Value: 1 + 3*(i/len(failures)%3)}}, data)
	}, func() { dbtest.FailPoint(t, address, "off", nil) })
}
