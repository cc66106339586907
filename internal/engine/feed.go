package engine

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

const (
	// feedPoll is how often a waiting follower looks for events that another process committed.
	feedPoll = 500 * time.Millisecond
	// maxPageBytes bounds the stored events that one page of the feed reads.
	maxPageBytes = 1 << 20
)

// feed wakes those who wait for commits.
type feed struct {
	mu       *sync.Mutex
	next     chan struct{} // closed by the next commit
	stopping chan struct{}
	stop     *sync.Once
}

func newFeed() feed {
	return feed{mu: new(sync.Mutex), next: make(chan struct{}), stopping: make(chan struct{}), stop: new(sync.Once)}
}

// changed is closed by the next commit of this process.
func (f *feed) changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}

func (f *feed) send() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.next)
	f.next = make(chan struct{})
}

// Page is a part of the event feed.
type Page struct {
	Events []inventory.Event
	Head   int64  // sequence of the last event that there is
	Store  string // the store's own id
}

// Events returns up to limit events that come after a sequence, at least one where there is any, and no more once they
// hold about a megabyte. Where there is none it waits so long for one to be committed. An after beyond the end is
// [ErrCursorAhead].
func (e *Engine) Events(ctx context.Context, after int64, limit int, wait time.Duration) (Page, error) {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	poll := time.NewTicker(feedPoll)
	defer poll.Stop()
	for {
		changed := e.feed.changed() // before looking, so that nothing is missed between the two
		page, err := e.page(ctx, after, limit)
		if err != nil || len(page.Events) > 0 || wait == 0 {
			return page, err
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-e.feed.stopping:
			return page, nil
		case <-waiting.Done():
			return page, nil
		}
	}
}

// StopFollowing answers those who wait for events with what there is.
func (e *Engine) StopFollowing() { e.feed.stop.Do(func() { close(e.feed.stopping) }) }

func (e *Engine) page(ctx context.Context, after int64, limit int) (page Page, err error) {
	var entries []store.Entry
	err = e.view(ctx, func(ctx context.Context, v store.View) error {
		head, err := v.Head(ctx)
		page.Head, page.Store = head.Seq, head.Store
		if err != nil || after >= head.Seq {
			return err
		}
		entries, err = v.Journal(ctx, store.JournalPosition{Seq: after + 1}, limit, maxPageBytes)
		return err
	})
	if err != nil {
		return page, err
	}
	if after > page.Head {
		return page, ErrCursorAhead
	}
	for i := range entries {
		events, err := inventory.DecodeEvents(entries[i].First, entries[i].At, entries[i].Events)
		if err != nil {
			return page, err
		}
		for j := range events {
			if events[j].Seq > after && len(page.Events) < limit {
				page.Events = append(page.Events, events[j])
			}
		}
	}
	return page, nil
}
