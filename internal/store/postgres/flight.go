package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// flight is the batch whose COMMIT is under way. A snapshot may have that batch before COMMIT is answered, and the
// answer may be that it is not on the standby that it should be on. A reader who was shown it would see it vanish when
// the standby takes over. So a view that has it waits until it is known what became of it. Views of other processes do
// not know that they should wait.
type flight struct {
	mu      sync.Mutex
	batchNo int64         // 0: nothing is under way
	landed  chan struct{} // closed when that is over
	lost    int64         // the first batch of which it could not be found out; 0: there is none
	newest  int64         // the last batch that the connection that commits has written or loaded
	trying  chan struct{} // closed when the attempt to find out more is over; nil: there is none
	group   sync.WaitGroup
}

// begin notes that the COMMIT of a batch is about to be sent.
func (f *flight) begin(batchNo int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batchNo, f.landed = batchNo, make(chan struct{})
}

// end notes what became of it. If err is nil, every batch up to it is where it should be, those that were lost
// included.
func (f *flight) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.lost = 0
		f.newest = max(f.newest, f.batchNo)
	} else if errors.Is(err, store.ErrOutcomeUnknown) && f.lost == 0 {
		f.lost = f.batchNo
	}
	if f.batchNo != 0 {
		f.batchNo = 0
		close(f.landed)
	}
}

// loaded notes the head that a batch has found. After a failover it may be older than what was written before.
func (f *flight) loaded(batchNo int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.newest = batchNo
}

// floor is the least that a view which begins now has to show.
func (f *flight) floor() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.newest
}

// shows returns what somebody who is shown batches up to this one has to wait for: nil for nothing.
func (f *flight) shows(batchNo int64) (wait <-chan struct{}, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.lost != 0 && batchNo >= f.lost:
		return nil, true
	case f.batchNo != 0 && batchNo >= f.batchNo:
		return f.landed, false
	}
	return nil, false
}

// awaitFlight waits until batches up to this one may be shown.
func (s *Store) awaitFlight(ctx context.Context, batchNo int64) error {
	wait, lost := s.flight.shows(batchNo)
	if lost {
		wait = s.findOut()
	}
	for wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
		if wait, lost = s.flight.shows(batchNo); lost {
			return fmt.Errorf("%w: it is not known yet whether its last batch is on the standby", store.ErrUnavailable)
		}
	}
	return nil
}

// checkFloor fails if a view shows less than this process has committed or loaded before it began, and the server that
// commits still has that: then the view is of an old primary that is still up.
func (s *Store) checkFloor(ctx context.Context, shown, floor int64) error {
	if shown >= floor {
		return nil
	}
	select {
	case <-s.findOut():
	case <-ctx.Done():
		return ctx.Err()
	}
	if shown < s.flight.floor() {
		return errStale
	}
	return nil // the store itself is older now
}

// findOut begins to find out where the store is, and with that about the lost batch, unless somebody does that already.
// A batch that changes nothing does it. The channel is closed when that is over.
func (s *Store) findOut() <-chan struct{} {
	f := &s.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.trying == nil {
		done := make(chan struct{})
		f.trying = done
		f.group.Go(func() {
			err := s.Commit(context.Background(), &inventory.Keys{}, func(*inventory.State) (*inventory.Changes, error) {
				return &inventory.Changes{}, nil
			})
			if err != nil {
				s.options.Log.Warn("it is still not known what became of a batch: reads fail until then", "error", err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.trying = nil
			close(done)
		})
	}
	return f.trying
}
