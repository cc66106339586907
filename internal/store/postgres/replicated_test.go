package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// pairOf starts a pair whose commits wait for the standby, and a store on its primary. The role does not want to be
// sent warnings.
func pairOf(t *testing.T, o Options) (pair *dbtest.PostgresPair, s *Store, beside *pgx.Conn) {
	t.Helper()
	pair = dbtest.NewPostgresPair(t)
	_, address := pair.Primary()
	exec(t, address, "ALTER ROLE postgres SET client_min_messages = error")
	s = open(t, address, o)
	storetest.Must(t, s, storetest.Product("mug"))
	must(t, pair.Synchronous())
	storetest.Must(t, s, storetest.Hold("mug", ""))
	beside, err := pgx.Connect(t.Context(), address)
	must(t, err)
	t.Cleanup(func() { beside.Close(context.Background()) })
	return pair, s, beside
}

// waiting waits until a session waits for the standby, and returns its process.
func waiting(t *testing.T, beside *pgx.Conn) (process uint32) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		err := beside.QueryRow(t.Context(), "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' LIMIT 1").
			Scan(&process)
		if err == nil {
			return process
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			t.Fatal(err)
		}
	}
	t.Fatal("nobody waits for the standby")
	return 0
}

// batches counts the batches that a session beside the store can see.
func batches(t *testing.T, beside *pgx.Conn) (n int) {
	t.Helper()
	must(t, beside.QueryRow(t.Context(), "SELECT count(*) FROM holdfast.journal").Scan(&n))
	return n
}

// TestCancelledWait: where somebody cancels the wait of a commit for the standby, the batch is there and may be lost.
// It is acknowledged, and shown to readers, once a later commit has reached the standby.
func TestCancelledWait(t *testing.T) {
	pair, s, beside := pairOf(t, Options{timeouts: patient})
	standby, _ := pair.Standby()
	must(t, pair.KillStandby())
	committed, seen := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := storetest.Commit(context.Background(), s, storetest.Hold("mug", "key"))
		committed <- err
	}()
	process := waiting(t, beside)
	if n := batches(t, beside); n != 2 {
		t.Fatalf("%d batches while the commit waits", n)
	}
	_, err := beside.Exec(t.Context(), "SELECT pg_cancel_backend($1)", int64(process))
	must(t, err)
	for batches(t, beside) != 3 { // until then the wait goes on
	}
	go func() {
		h, err := headOf(t, s)
		if err == nil && h.BatchNo != 3 {
			err = errors.New("the batch is not shown")
		}
		seen <- err
	}()
	waiting(t, beside) // for a commit that proves the batch
	select {
	case err := <-committed:
		t.Fatalf("the batch was answered although no standby has it: %v", err)
	case err := <-seen:
		t.Fatalf("a reader was answered although no standby has the batch: %v", err)
	default:
	}
	must(t, standby.Start())
	must(t, <-committed)
	must(t, <-seen)
	if outcome := storetest.Must(t, s, storetest.Hold("mug", "key"))[0]; !outcome.Replayed {
		t.Error("the batch was not kept")
	}
}

// TestStandbyAway: while the standby is away, a batch is not answered, nobody is shown it, and repeating it with its
// key does not confirm it.
func TestStandbyAway(t *testing.T) {
	short := patient
	short.answer, short.settle, short.lock = 300*time.Millisecond, 600*time.Millisecond, 300*time.Millisecond
	trace := &trips{}
	pair, s, beside := pairOf(t, Options{timeouts: short, tracer: trace})
	standby, _ := pair.Standby()
	for _, end := range []string{"COMMIT", "ROLLBACK"} { // the first on a connection has to find out
		if end == "COMMIT" {
			s.disconnect()
		}
		_, err := storetest.Commit(t.Context(), s, storetest.Hold("cup", ""))
		if err != nil || trace.single != end {
			t.Errorf("a refusal ended with %s, want %s (%v)", trace.single, end, err)
		}
	}
	must(t, pair.KillStandby())
	if _, err := storetest.Commit(t.Context(), s, storetest.Hold("mug", "key")); !errors.Is(err, store.ErrOutcomeUnknown) {
		t.Fatalf("a batch without a standby: %v", err)
	}
	process := waiting(t, beside) // the store has asked nobody to cancel it
	if n := batches(t, beside); n != 2 {
		t.Fatalf("%d batches while the commit waits", n)
	}
	if h, err := headOf(t, s); err != nil || h.BatchNo != 2 {
		t.Errorf("reads while the commit waits: %+v %v", h, err)
	}
	_, err := beside.Exec(t.Context(), "SELECT pg_cancel_backend($1)", int64(process))
	must(t, err)
	for batches(t, beside) != 3 {
	}
	if _, err := headOf(t, s); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("reads of a batch that may be lost: %v", err)
	}
	if _, err := storetest.Commit(t.Context(), s, storetest.Hold("mug", "key")); err == nil {
		t.Error("its key was answered although no standby has it")
	}
	other := open(t, s.config.ConnString(), Options{timeouts: short}) // in another process
	if _, err := storetest.Commit(t.Context(), other, storetest.Hold("mug", "key")); err == nil {
		t.Error("another process answered its key although no standby has it")
	}
	must(t, standby.Start())
	must(t, pair.Synchronous())
	for _, s := range []*Store{s, other} {
		for deadline := time.Now().Add(time.Minute); ; {
			outcomes, err := storetest.Commit(t.Context(), s, storetest.Hold("mug", "key"))
			if err == nil {
				if !outcomes[0].Replayed {
					t.Error("the batch was not kept")
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("with the standby back: %v", err)
			}
		}
		if h, err := headOf(t, s); err != nil || h.BatchNo != 3 {
			t.Errorf("with the standby back: %+v %v", h, err)
		}
	}
}
