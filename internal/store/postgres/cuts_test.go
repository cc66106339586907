package postgres

import (
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

const (
	cutCommits     = 1000
	halfOpenCuts   = 20
	betweenHalfCut = cutCommits / halfOpenCuts
)

// TestCutCommits breaks the connection of a thousand batches at every point of their second round trip: before the
// server sees it, in the middle, after, and before the answer; twenty of them without a word, so that only time-outs
// tell.
func TestCutCommits(t *testing.T) {
	proxy, address := dbtest.NewProxy(t, dbtest.Postgres(t))
	short := defaultTimeouts
	short.answer, short.idle = 150*time.Millisecond, 300*time.Millisecond
	s := open(t, address, Options{timeouts: short})
	made := map[dbtest.Cut]int{}
	storetest.Cuts(t, s, cutCommits, func(i int) {
		cut := dbtest.CutAt(i, betweenHalfCut)
		made[cut]++
		proxy.Arm(cut, "", 1)
	}, func() {})
	t.Log(made)
}
