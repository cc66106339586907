package httpapi

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// The bytes of requests and answers that are in memory at the same time come out of one budget, so that however many
// callers there are, and however slowly they send or read, the process keeps to its memory. Who finds it used up is told
// 503 before anything has happened.

const (
	// defaultBytesLimit is the whole budget.
	defaultBytesLimit = 256 << 20
	// freeBytes of a body cost nothing: most requests are not larger, and connections are few beside such bytes.
	freeBytes = 4 << 10
	// pageBytes is what a page of a list or of the feed may take until it is written out.
	pageBytes = 8 << 20
)

type budget struct{ *semaphore.Weighted }

// claim takes bytes for a call out of the budget, or refuses.
func (c *call) claim(n int64) error {
	if n <= 0 {
		return nil
	}
	if !c.server.budget.TryAcquire(n) {
		return fail(CodeOverloaded)
	}
	c.claimed += n
	return nil
}

// claimPage takes what a page may need, and waits for it where others have it: they are done in a moment, unless they
// read slowly.
func (c *call) claimPage(n int64) error {
	ctx, cancel := context.WithTimeout(c.Context(), c.server.o.RequestTimeout)
	defer cancel()
	if err := c.server.budget.Acquire(ctx, n); err != nil {
		return fail(CodeOverloaded)
	}
	c.claimed += n
	return nil
}

// keep gives back what was claimed beyond so many bytes.
func (c *call) keep(n int64) {
	if spare := c.claimed - n; spare > 0 {
		c.server.budget.Release(spare)
		c.claimed = n
	}
}
