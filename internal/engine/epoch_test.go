package engine

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// TestEpochBegins: an epoch that another process has begun is known to whoever follows, from the end in memory and from
// the store.
func TestEpochBegins(t *testing.T) {
	s := &shelf{Store: memory.Open(memory.Options{}), shared: true}
	mine, other := open(t, s, Options{}), open(t, s, Options{})
	do(t, mine, create("mug", 1))
	do(t, mine, create("cup", 1))
	if _, err := mine.Events(t.Context(), EventQuery{Limit: 10}); err != nil {
		t.Fatal(err)
	}
	epoch := inventory.Epoch{7}
	if err := store.BeginEpoch(context.Background(), s, epoch); err != nil {
		t.Fatal(err)
	}
	do(t, other, create("pot", 1))
	for name, e := range map[string]*Engine{"follows": mine, "wrote": other, "looks": open(t, s, Options{})} {
		page, err := e.Events(t.Context(), EventQuery{After: inventory.Cursor{Seq: 2}, Limit: 10})
		if err != nil || len(page.Events) != 1 || page.Events[0].Seq != 3 {
			t.Errorf("%s: after the last event that both have: %+v %v", name, page, err)
		}
		if got := e.CursorAt(3); got != (inventory.Cursor{Epoch: epoch, Seq: 3}) {
			t.Errorf("%s: event 3 is %v", name, got)
		}
		for _, lost := range []inventory.Cursor{{Seq: 3}, {Seq: 4}} {
			if _, err := e.AwaitEvents(t.Context(), EventQuery{After: lost}, time.Hour); err != nil {
				t.Errorf("%s: waiting after %v: %v", name, lost, err)
			}
			_, err := e.Events(t.Context(), EventQuery{After: lost, Limit: 10})
			var ahead *CursorAheadError
			if !errors.As(err, &ahead) || ahead.Shared != (inventory.Cursor{Seq: 2}) || !ahead.Known {
				t.Errorf("%s: after %v: %v %+v", name, lost, err, ahead)
			}
		}
		if _, err := e.Events(t.Context(), EventQuery{After: inventory.Cursor{Epoch: inventory.Epoch{8}, Seq: 3}, Limit: 1}); err == nil {
			t.Errorf("%s: an epoch that never was is taken", name)
		}
	}
}

// TestOtherHistory: where a failover has put another history in the place of the one that was followed, what was kept of
// the old one is shown no more. Its events have the sequences of others now.
func TestOtherHistory(t *testing.T) {
	old, kept := memory.Open(memory.Options{}), memory.Open(memory.Options{})
	s := &shelf{Store: old, shared: true}
	e := open(t, s, Options{})
	subjects := func() (list []string) {
		page, err := e.Events(t.Context(), EventQuery{Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		for i := range page.Events {
			list = append(list, page.Events[i].Subject())
		}
		return list
	}
	subjects()
	do(t, e, create("first", 1))
	do(t, e, create("lost", 1))
	if got := subjects(); !slices.Equal(got, []string{"first", "lost"}) {
		t.Fatal(got)
	}
	other := open(t, &shelf{Store: kept, shared: true}, Options{})
	for _, id := range []string{"first", "second", "third"} {
		do(t, other, create(id, 1))
	}
	s.Store = kept
	if got := subjects(); !slices.Equal(got, []string{"first", "second", "third"}) {
		t.Errorf("the feed has %v", got)
	}
}
