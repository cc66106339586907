package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Commit decides requests as one batch.
func Commit(
	ctx context.Context, s store.Store, requests ...*inventory.Request,
) (outcomes []inventory.Outcome, err error) {
	err = s.Commit(ctx, inventory.KeysOf(requests), func(state *inventory.State) (changes *inventory.Changes, err error) {
		outcomes, changes, err = inventory.Decide(state, requests)
		return changes, err
	})
	return outcomes, err
}

// Must commits requests of which none may be refused.
func Must(t testing.TB, s store.Store, requests ...*inventory.Request) []inventory.Outcome {
	t.Helper()
	outcomes, err := Commit(context.Background(), s, requests...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range outcomes {
		if outcomes[i].Refusal != nil {
			t.Fatalf("command %d: %+v", i, outcomes[i].Refusal)
		}
	}
	return outcomes
}

// Product is a request for a product with 100 units at main.
func Product(id string) *inventory.Request { return &inventory.Request{Command: newProduct(id, 100)} }

// Head reads the head.
func Head(t testing.TB, s store.Store) (head store.Head) {
	t.Helper()
	err := s.View(context.Background(), func(v store.View) (err error) {
		head, err = v.Head(context.Background())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// Hold is a request for one unit, by the customer anna, for a minute; with an idempotency key unless it is empty.
func Hold(productID, key string) *inventory.Request {
	hold := reserve(productID, 1, time.Minute)
	hold.CustomerID = "anna"
	if key == "" {
		return &inventory.Request{Command: hold}
	}
	return keyed(key, hold)
}
