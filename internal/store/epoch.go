package store

import (
	"context"
	"fmt"

	"github.com/holdfast/holdfast/internal/inventory"
)

// BeginEpoch begins an epoch of the feed in a store that was brought back to an older state. Whoever followed the feed
// beyond that state is told when he comes back. The id must be random.
func BeginEpoch(ctx context.Context, s Store, id inventory.Epoch) error {
	err := s.Commit(ctx, inventory.KeysOf(nil), func(*inventory.State) (*inventory.Changes, error) {
		return &inventory.Changes{Epoch: id}, nil
	})
	if err != nil {
		return fmt.Errorf("beginning an epoch of the feed: %w", err)
	}
	return nil
}
