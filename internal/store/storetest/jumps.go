package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/store"
)

// ReceiptsOutliveJumps: a receipt lives for a day in which the store was served, however the clock jumps, whether or not
// the server is started anew after a jump. Receipts are dropped all the same, once they are two days old. Open opens the
// same store each time.
func ReceiptsOutliveJumps(t *testing.T, open func(now func() time.Time, clock *store.Clock) store.Store) {
	clock, running := NewClock(), time.Duration(0)
	start := func() store.Store {
		return open(clock.Now, store.NewClock(true, time.Minute, func() time.Duration { return running }))
	}
	run := func(by time.Duration) {
		running += by
		clock.Advance(by)
	}
	s, n := start(), 0
	Must(t, s, Product("mug"))
	isKnown := func(key string) bool {
		n++
		return Must(t, s, Hold("mug", key), Hold("mug", fmt.Sprint("key ", n)))[0].Replayed
	}
	run(23 * time.Hour)
	isKnown("of the first day")
	for i := range 11 {
		clock.Advance(30 * time.Hour)
		if i%2 == 0 {
			s.Close()
			s = start()
		}
		Must(t, s, Hold("mug", "")) // the first batch after the jump has no receipt
		run(2 * time.Hour)
		if !isKnown("of the first day") {
			t.Fatalf("jump %d: the receipt is gone after %v", i, running-23*time.Hour)
		}
	}
	for range 30 {
		run(time.Hour)
		isKnown("of the last day")
	}
	if isKnown("of the first day") {
		t.Error("a receipt of more than two days is still there")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
