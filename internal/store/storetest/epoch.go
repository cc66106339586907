package storetest

import (
	"context"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// epochs: an epoch begins with a batch of its own or together with events, every later batch and every head have it, and
// the journal goes on.
func epochs(f *fixture) {
	f.do(newProduct("mug", 5))
	before := f.head()
	if before.Epochs != "" {
		f.Fatalf("a new store has the epochs %x", before.Epochs)
	}
	if err := store.BeginEpoch(context.Background(), f.Store, inventory.Epoch{1, 2, 3, 4, 5}); err != nil {
		f.Fatal(err)
	}
	head := f.head()
	want := inventory.Epochs("").Begin(inventory.Epoch{1, 2, 3, 4, 5}, before.Seq)
	if head.Epochs != want || head.Seq != before.Seq || head.BatchNo != before.BatchNo+1 {
		f.Fatalf("an epoch has begun: %+v after %+v", head, before)
	}
	f.do(reserve("mug", 1, time.Minute))
	var loaded inventory.Epochs
	again := inventory.Epoch{9}
	request := []*inventory.Request{{Command: reserve("mug", 1, time.Minute)}}
	err := f.Commit(context.Background(), inventory.KeysOf(request), func(state *inventory.State) (*inventory.Changes, error) {
		loaded = state.Epochs
		_, changes, err := inventory.Decide(state, request)
		changes.Epoch = again
		return changes, err
	})
	if err != nil || loaded != want {
		f.Fatalf("the batch has the epochs %x, expected %x: %v", loaded, want, err)
	}
	want = want.Begin(again, before.Seq+1)
	if head := f.head(); head.Epochs != want || head.Seq != before.Seq+2 {
		f.Fatalf("another epoch has begun: %+v after %+v", head, before)
	}
	f.checkJournal(before.Seq + 2)
	f.expectEpochs(want)
}

// expectEpochs compares the epochs that other openings of the store have.
func (f *fixture) expectEpochs(want inventory.Epochs) {
	f.Helper()
	if f.backend.Share != nil {
		other := f.backend.Share(f.TB, f.Store, f.Now)
		err := other.Commit(context.Background(), inventory.KeysOf(nil),
			func(state *inventory.State) (*inventory.Changes, error) {
				if state.Epochs != want {
					f.Errorf("another process has the epochs %x, expected %x", state.Epochs, want)
				}
				return &inventory.Changes{}, nil
			})
		if err != nil {
			f.Fatal(err)
		}
	}
	if f.backend.Reopen != nil {
		f.Store = f.backend.Reopen(f.TB, f.Store, f.Now)
		if head := f.head(); head.Epochs != want {
			f.Errorf("opened again, the store has the epochs %x, expected %x", head.Epochs, want)
		}
	}
}
