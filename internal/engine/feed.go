package engine

import (
	"context"
	"errors"
	"math"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// The feed is the journal, for those who follow it. Its end is kept in memory: a commit costs one look at what was
// written, however many follow, and those who are up to date cost nothing until there is more. Where this process alone
// writes the store, commits enter the end as they are made; elsewhere checks (see check.go) read what others wrote, every
// half a second while somebody waits.

const (
	// feedPoll is how often others' commits are looked for while somebody waits.
	feedPoll = 500 * time.Millisecond
	// maxPageBytes bounds the stored events that one page of the feed holds, but for a last batch.
	maxPageBytes = 1 << 20
	// pageBytes is about how much JSON fills a page.
	pageBytes = 2 << 20
	// endBytes bounds the stored events that are kept of the end.
	endBytes = 8 << 20
)

// feed is the end of the journal, and those who wait for more.
type feed struct {
	mu       sync.Mutex
	store    string // the store's own id; empty until it was read
	epochs   atomic.Pointer[inventory.Epochs]
	head     int64         // sequence of the last event; unknownHead until it was read
	batches  []*batchInEnd // without a gap, up to head
	bytes    int
	next     chan struct{} // closed by the next commit
	waiting  int
	stopping chan struct{}
	stop     sync.Once
	polling  sync.WaitGroup
}

const unknownHead = math.MinInt64

// batchInEnd is one batch with events. They are read once, by whoever needs them first.
type batchInEnd struct {
	first, last int64
	at          inventory.Time
	stored      []byte
	read        sync.Once
	events      []inventory.Event
	err         error
}

func (b *batchInEnd) decoded() ([]inventory.Event, error) {
	b.read.Do(func() { b.events, b.err = inventory.DecodeEvents(b.first, b.at, b.stored) })
	return b.events, b.err
}

func (f *feed) open() {
	f.head, f.next, f.stopping = unknownHead, make(chan struct{}), make(chan struct{})
	f.epochs.Store(new(inventory.Epochs))
}

// changed is closed by the next commit that this process hears of.
func (f *feed) changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}

// send wakes all who wait.
func (f *feed) send() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wake()
}

func (f *feed) wake() {
	close(f.next)
	f.next = make(chan struct{})
}

// sync notes where the feed ends, once it was read.
func (f *feed) sync(head *store.Head) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.store = head.Store
	f.sawEpochs(head.Epochs)
	if f.head == unknownHead {
		f.head = head.Seq
	}
}

// sawEpochs notes the epochs. They seldom change.
func (f *feed) sawEpochs(epochs inventory.Epochs) {
	if *f.epochs.Load() != epochs {
		f.epochs.Store(&epochs)
	}
}

// CursorAt is the place in the feed after an event that a batch of this engine, or a look into its store, has met.
func (e *Engine) CursorAt(seq int64) inventory.Cursor { return e.feed.epochs.Load().At(seq) }

// forget drops the end: it is not known any more where that is.
func (f *feed) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head, f.batches, f.bytes = unknownHead, nil, 0
	f.wake()
}

// enter adds a batch that follows the sequence before it, and wakes those who wait.
func (f *feed) enter(before int64, at inventory.Time, count int, events []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(before, at, count, events)
	f.wake()
}

func (f *feed) add(before int64, at inventory.Time, count int, events []byte) {
	if before != f.head {
		f.batches, f.bytes = nil, 0
	}
	f.head = before + int64(count)
	if count > 0 {
		f.batches = append(f.batches, &batchInEnd{first: before + 1, last: f.head, at: at, stored: events})
		f.bytes += len(events)
	}
	for len(f.batches) > 0 && f.bytes > endBytes {
		f.bytes -= len(f.batches[0].stored)
		f.batches = f.batches[1:]
	}
}

// follow adds what a check has read of the journal, at once: nobody sees an end in the middle. Where that does not lead
// from the end to the head, the end begins anew.
func (f *feed) follow(head *store.Head, entries []store.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.head
	f.store = head.Store
	f.sawEpochs(head.Epochs)
	for i := range entries {
		e := &entries[i]
		f.add(e.First-1, e.At, e.Count, e.Events)
	}
	if f.head != head.Seq {
		f.head, f.batches, f.bytes = head.Seq, nil, 0
	}
	if f.head != before {
		f.wake()
	}
}

// end is the sequence of the last event. It reports false where nothing is known of it.
func (f *feed) end() (head int64, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.head, f.head != unknownHead && f.store != ""
}

// after is what the end has behind a sequence: batches whose events fill a page. It reports false where it does not
// reach so far back, or nothing is known of it.
func (f *feed) after(seq int64) (list []*batchInEnd, page Page, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	page = Page{Head: f.head, Store: f.store, Epochs: *f.epochs.Load()}
	switch {
	case f.head == unknownHead || f.store == "":
		return nil, page, false
	case seq >= f.head:
		return nil, page, true
	case len(f.batches) == 0 || seq+1 < f.batches[0].first:
		return nil, page, false
	}
	i := sort.Search(len(f.batches), func(i int) bool { return f.batches[i].last > seq })
	end := i
	for bytes := 0; end < len(f.batches) && bytes < maxPageBytes; end++ {
		bytes += len(f.batches[end].stored)
	}
	return f.batches[i:end:end], page, true
}

// EventQuery asks for a part of the feed.
type EventQuery struct {
	After  inventory.Cursor
	Limit  int // of events
	Filter inventory.EventFilter
	// Bytes is about how much JSON there may be: once it is reached, the page ends. Default: two megabytes.
	Bytes int
}

// Page is a part of the feed. Its events are shared by those who follow: never change them.
type Page struct {
	Events []inventory.Event
	Next   inventory.Cursor // where to go on: behind the last event that was looked at
	Head   int64            // sequence of the last event that there is
	Store  string           // the store's own id
	Epochs inventory.Epochs

	bytes int
}

// End is the place after the last event that there is.
func (p *Page) End() inventory.Cursor { return p.Epochs.At(p.Head) }

// add adds the events of a batch that the query takes, until the page is full: of events, or of bytes. It has at least
// one, however large.
func (p *Page) add(events []inventory.Event, q *EventQuery) (full bool) {
	for i := range events {
		e := &events[i]
		if e.Seq <= p.Next.Seq {
			continue
		}
		if len(p.Events) >= q.Limit || p.bytes >= q.Bytes {
			return true
		}
		p.Next.Seq = e.Seq
		if q.Filter.Takes(e) {
			p.Events = append(p.Events, *e)
			p.bytes += e.Size()
		}
	}
	return false
}

// fill adds batches until the page is full.
func (p *Page) fill(q *EventQuery, batches int, decoded func(int) ([]inventory.Event, error)) error {
	for i, full := 0, false; i < batches && !full; i++ {
		events, err := decoded(i)
		if err != nil {
			return err
		}
		full = p.add(events, q)
	}
	p.Next = p.Epochs.At(p.Next.Seq)
	return nil
}

// CursorAheadError is the error for a place that is not in the feed: beyond its end, or in an epoch that a restore has
// ended before.
type CursorAheadError struct {
	Shared inventory.Cursor // the last place before that the feed has, if Known
	Known  bool
}

func (e *CursorAheadError) Error() string { return "the cursor is not in this feed" }

// begin puts a page that is empty yet at a place, or fails with a [CursorAheadError] if that is not in the feed.
func (p *Page) begin(c inventory.Cursor) error {
	p.Next = c
	if c.Seq <= p.Head && (c.Seq == 0 || p.Epochs.At(c.Seq) == c) {
		return nil
	}
	shared, known := p.Epochs.Shared(c)
	if known && shared.Seq > p.Head {
		shared = p.End()
	}
	return &CursorAheadError{shared, known}
}

// filteredLooks is how often a page with a filter goes on to the next part of the journal while nothing is found. One
// part is up to a megabyte of stored events.
const filteredLooks = 8

// Events returns the events that come after a place and that the filter takes. A page may be short, or with a filter
// empty, and ends at a place to go on from; the feed ends where that is [Page.End]. For a place that is not in the feed
// it fails with a [CursorAheadError].
func (e *Engine) Events(ctx context.Context, q EventQuery) (page Page, err error) {
	setDefault(&q.Bytes, pageBytes)
	for range filteredLooks {
		if page, err = e.page(ctx, &q); err != nil || len(page.Events) > 0 || page.Next == page.End() {
			return page, err
		}
		q.After = page.Next
	}
	return page, nil
}

func (e *Engine) page(ctx context.Context, q *EventQuery) (Page, error) {
	if err := e.check(ctx); err != nil {
		return Page{}, err
	}
	batches, page, known := e.feed.after(q.After.Seq)
	if !known {
		return e.storedPage(ctx, q)
	}
	if err := page.begin(q.After); err != nil {
		return page, err
	}
	err := page.fill(q, len(batches), func(i int) ([]inventory.Event, error) { return batches[i].decoded() })
	return page, err
}

// Event returns the event of a sequence, in a page of its own, which is empty if there is none.
func (e *Engine) Event(ctx context.Context, seq int64) (Page, error) {
	if end, err := e.end(ctx); err != nil || seq < 1 || seq > end.Seq {
		return Page{}, err
	}
	return e.Events(ctx, EventQuery{After: e.CursorAt(seq - 1), Limit: 1})
}

// Origin is the place before a reservation was made, or the end of the feed if that has not happened.
func (e *Engine) Origin(ctx context.Context, reservation inventory.ID) (inventory.Cursor, error) {
	end, err := e.end(ctx)
	if err != nil || reservation.Sequence() < 1 || reservation.Sequence() > end.Seq {
		return end, err
	}
	return e.CursorAt(reservation.Sequence() - 1), nil
}

// AwaitEvents waits until there is an event after a place that the filter takes, but not longer than it is told, and not
// at all if the place is not in the feed. It returns where to go on. It makes no page: those who are woken together may
// need more memory for theirs than there is at once. Where too many wait already it fails with [ErrOverloaded].
func (e *Engine) AwaitEvents(ctx context.Context, q EventQuery, wait time.Duration) (inventory.Cursor, error) {
	changed := e.feed.changed() // before looking, so that nothing is missed between the two
	next, ends, err := e.skip(ctx, &q)
	if err != nil || !ends || wait <= 0 {
		return next, err
	}
	if err := e.startWaiting(); err != nil {
		return next, err
	}
	defer e.feed.stopWaiting()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-changed:
		case <-e.feed.stopping:
			return next, nil
		case <-timer.C:
			return next, nil
		case <-ctx.Done():
			return next, ctx.Err()
		}
		changed = e.feed.changed()
		q.After = next
		if next, ends, err = e.skip(ctx, &q); err != nil || !ends {
			return next, err
		}
	}
}

// skip moves on over events that the filter leaves out. It reports whether it has come to the end of the feed. A place
// that is not in the feed is for the reader to find out.
func (e *Engine) skip(ctx context.Context, q *EventQuery) (next inventory.Cursor, ends bool, err error) {
	if q.Filter.All() {
		end, err := e.end(ctx)
		return q.After, q.After == end, err
	}
	page, err := e.Events(ctx, EventQuery{After: q.After, Limit: 1, Filter: q.Filter})
	var ahead *CursorAheadError
	switch {
	case errors.As(err, &ahead):
		return q.After, false, nil
	case err != nil:
		return q.After, false, err
	case len(page.Events) > 0:
		return page.Epochs.At(page.Events[0].Seq - 1), false, nil
	}
	return page.Next, page.Next == page.End(), nil
}

// end is the place after the last event. It makes sure that the epochs are known.
func (e *Engine) end(ctx context.Context) (inventory.Cursor, error) {
	if err := e.check(ctx); err != nil {
		return inventory.Cursor{}, err
	}
	if head, known := e.feed.end(); known {
		return e.CursorAt(head), nil
	}
	head, err := e.snapshot(ctx, func(context.Context, store.View) error { return nil })
	if err == nil {
		e.feed.sync(&head)
	}
	return head.Epochs.At(head.Seq), err
}

// startWaiting counts one who waits. The first one has others' commits looked for.
func (e *Engine) startWaiting() error {
	f := &e.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting >= e.options.FollowerLimit {
		return ErrOverloaded
	}
	f.waiting++
	if f.waiting == 1 && e.clock == nil {
		f.polling.Go(e.poll)
	}
	return nil
}

func (f *feed) stopWaiting() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting--
}

// hasWaiting reports whether somebody waits.
func (f *feed) hasWaiting() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting > 0
}

// poll looks for others' commits for as long as somebody waits for them.
func (e *Engine) poll() {
	ticker := time.NewTicker(feedPoll)
	defer ticker.Stop()
	for e.feed.hasWaiting() {
		select {
		case <-ticker.C:
			_ = e.check(context.Background()) // one that fails is tried again; whoever asks by himself is told
		case <-e.feed.stopping:
			return
		}
	}
}

// StopFollowing answers those who wait for events with what there is.
func (e *Engine) StopFollowing() { e.feed.stop.Do(func() { close(e.feed.stopping) }) }

// filteredEntries bounds the journal entries of one look with a filter; without one, each entry that is read has an event
// for the page, but for those of batches without events.
const filteredEntries = 1000

func (e *Engine) storedPage(ctx context.Context, q *EventQuery) (page Page, err error) {
	var entries []store.Entry
	limit := q.Limit
	if !q.Filter.All() {
		limit = filteredEntries
	}
	head, err := e.snapshot(ctx, func(ctx context.Context, v store.View) error {
		head, err := v.Head(ctx)
		if err != nil || q.After.Seq >= head.Seq {
			return err
		}
		entries, err = v.Journal(ctx, store.JournalPosition{Seq: q.After.Seq + 1}, limit, maxPageBytes)
		return err
	})
	if err != nil {
		return page, err
	}
	e.feed.sync(&head)
	page.Head, page.Store, page.Epochs = head.Seq, head.Store, head.Epochs
	if err := page.begin(q.After); err != nil {
		return page, err
	}
	err = page.fill(q, len(entries), func(i int) ([]inventory.Event, error) {
		return inventory.DecodeEvents(entries[i].First, entries[i].At, entries[i].Events)
	})
	return page, err
}
