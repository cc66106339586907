package postgres

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

var (
	cutCommits = flag.Int("cuts", 1000, "how many commits TestCutCommits cuts")
	seed       = flag.Uint64("seed", 0, "draw the cuts of TestCutCommits from it, instead of taking each in turn")
)

const betweenHalfCut = 50

// TestCutCommits breaks the connection of a thousand batches, or of as many as -cuts says, at every point of their
// second round trip: before the server sees it, in the middle, after, and before the answer; one in fifty of them
// without a word, so that only time-outs tell.
func TestCutCommits(t *testing.T) {
	proxy, address := dbtest.NewProxy(t, dbtest.Postgres(t))
	short := defaultTimeouts
	short.answer, short.idle = 150*time.Millisecond, 300*time.Millisecond
	s := open(t, address, Options{timeouts: short})
	random := rand.New(rand.NewPCG(*seed, 0))
	made := map[dbtest.Cut]int{}
	storetest.Cuts(t, s, *cutCommits, func(i int) {
		if *seed > 0 {
			i = random.IntN(1 << 20)
		}
		cut := dbtest.CutAt(i, betweenHalfCut)
		made[cut]++
		proxy.Arm(cut, "", 1)
	}, func() {})
	t.Log(made)
	t.Logf("counted %d cuts", *cutCommits)
}
