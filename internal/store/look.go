package store

import (
	"context"

	"github.com/holdfast/holdfast/internal/inventory"
)

// Looker is what a store on a server offers, beside the methods that all have: what who follows the store asks for
// again and again, in one round trip. A View of the same needs several.
type Looker interface {
	// Look returns what [View.Head], [View.Now] and [View.Journal] of one View would, the entries from the batch after
	// this one on. No entry is of a batch after the head. If more than limit follow, there may be none: whoever is so far
	// behind begins anew.
	Look(ctx context.Context, after int64, limit, maxBytes int) (Head, inventory.Time, []Entry, error)
}
