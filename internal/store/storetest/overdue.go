package storetest

import (
	"errors"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

func overdueIsLoaded(f *fixture) {
	f.do(newProduct("mug", 3), newProduct("cup", 3))
	late, early := f.hold("mug", 1, 2*time.Second), f.hold("mug", 1, time.Second)
	other := f.hold("cup", 3, time.Second)
	f.hold("mug", 1, time.Hour)
	f.Advance(5 * time.Second)
	f.do(reserve("mug", 1, time.Minute))
	for id, want := range map[inventory.ID]inventory.ReservationStatus{
		early.ID: inventory.ReservationExpired,
		late.ID:  inventory.ReservationActive, other.ID: inventory.ReservationActive,
	} {
		if got := f.reservation(id); got.Status != want {
			f.Errorf("%v is %v, want %v", id, got.Status, want)
		}
	}
	if r := f.reservation(early.ID); r.EndedAt != r.ExpiresAt {
		f.Error("an expired hold ends at its deadline")
	}
	f.stock("mug", inventory.Buckets{Reserved: 3})
}

func overdueIsBounded(f *fixture) {
	const holds = inventory.MaxOverdueLoaded + 200
	f.do(newProduct("mug", holds))
	batch := make([]inventory.Command, holds)
	for i := range batch {
		batch[i] = reserve("mug", 1, time.Second)
	}
	f.do(batch...)
	f.Advance(time.Second)
	all := reserve("mug", holds, time.Minute)
	if o := f.do(all)[0]; !o.Deferred {
		f.Fatalf("with more overdue holds left than a batch loads: %+v", o)
	}
	f.stock("mug", inventory.Buckets{Available: inventory.MaxOverdueLoaded, Reserved: 200})
	if o := f.do(all)[0]; o.Refusal != nil || o.Deferred {
		f.Fatalf("in the next batch: %+v", o)
	}
}

// overdueCart: an overdue hold is loaded with all its stock rows, not only the one that is wanted.
func overdueCart(f *fixture) {
	f.do(newProduct("mug", 1), newProduct("cup", 1))
	f.do(&inventory.Reserve{TTL: 1000, Lines: []inventory.ReserveLine{
		{ProductID: "mug", Location: inventory.MainLocation, Quantity: 1},
		{ProductID: "cup", Location: inventory.MainLocation, Quantity: 1},
	}})
	f.Advance(time.Second)
	f.hold("cup", 1, time.Minute)
	f.stock("mug", inventory.Buckets{Available: 1})
	f.stock("cup", inventory.Buckets{Reserved: 1})
}

func due(f *fixture) {
	f.do(newProduct("mug", 100))
	late, early, ended := f.hold("mug", 1, time.Hour), f.hold("mug", 1, time.Second), f.hold("mug", 1, time.Millisecond)
	f.do(&inventory.Cancel{ID: ended.ID})
	f.do(&inventory.Extend{ID: early.ID, TTL: 2000, MaxHold: 1e9})
	f.view(func(v store.View) error {
		list, err1 := v.Due(f.Context(), late.ExpiresAt, 10)
		if len(list) != 2 || list[0].ID != early.ID || list[0].At != early.CreatedAt+2000 || list[1].ID != late.ID {
			f.Errorf("due: %v", list)
		}
		one, err2 := v.Due(f.Context(), late.ExpiresAt, 1)
		sooner, err3 := v.Due(f.Context(), late.ExpiresAt-1, 10)
		if len(one) != 1 || len(sooner) != 1 || one[0].ID != early.ID || sooner[0].ID != early.ID {
			f.Errorf("limit 1: %v, and before the last: %v", one, sooner)
		}
		none, err4 := v.Due(f.Context(), early.CreatedAt+1999, 10)
		if len(none) != 0 {
			f.Errorf("before the first: %v", none)
		}
		return errors.Join(err1, err2, err3, err4)
	})
}
