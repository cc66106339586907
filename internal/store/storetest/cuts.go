package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Cuts commits n holds, one after another. Between the load and the write of each it calls cut, which breaks the
// connection to the database, and afterwards mend. The store must find out what became of each batch: every hold is
// acknowledged and stored once, and the audit is clean. On a busy machine one hold in two hundred may fail as
// unavailable; then the same key must make the hold. The store reads its own clock.
func Cuts(t *testing.T, s store.Store, n int, cut func(i int), mend func()) {
	f := &fixture{TB: t, Store: s}
	f.do(newProduct("mug", int64(n)))
	gaveUp := 0
	for i := range n {
		hold := reserve("mug", 1, time.Hour)
		hold.CustomerID = fmt.Sprint("buyer-", i)
		requests := []*inventory.Request{keyed(hold.CustomerID, hold)}
		decided := false
		var outcome inventory.Outcome
		commit := func() error {
			return s.Commit(context.Background(), inventory.KeysOf(requests),
				func(state *inventory.State) (*inventory.Changes, error) {
					outcomes, changes, err := inventory.Decide(state, requests)
					if !decided {
						cut(i)
					}
					decided = true
					outcome = outcomes[0]
					return changes, err
				})
		}
		err := commit()
		mend()
		for err != nil && errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrOutcomeUnknown) && gaveUp < n/200 {
			t.Logf("hold %d: %v", i, err)
			gaveUp++
			err = commit()
		}
		if err != nil || outcome.Refusal != nil || outcome.Replayed {
			t.Fatalf("hold %d: %+v %v", i, outcome, err)
		}
		if repeated := f.requests(requests...)[0]; !repeated.Replayed || repeated.Reservation.ID != outcome.Reservation.ID {
			t.Fatalf("hold %d repeated: %+v", i, repeated)
		}
		if got := f.listReservations(store.ReservationQuery{CustomerID: hold.CustomerID, Limit: 10}); len(got) != 1 ||
			got[0] != outcome.Reservation.ID {
			t.Fatalf("hold %d is there as %v", i, got)
		}
	}
	f.stock("mug", inventory.Buckets{Reserved: int64(n)})
	f.checkJournal(int64(n) + 1)
	report, err := audit.Run(context.Background(), s, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range report.Breaches {
		t.Error(b)
	}
}
