package store

import (
	"context"
	"sync"
)

// Turn lets one Commit of a store through at a time, and ends with the store.
type Turn struct {
	token  chan struct{} // holds a token while nobody commits
	closed chan struct{}
	once   sync.Once
}

// NewTurn makes a turn that is free.
func NewTurn() *Turn {
	t := &Turn{token: make(chan struct{}, 1), closed: make(chan struct{})}
	t.token <- struct{}{}
	return t
}

// Take waits until it is the caller's turn, who must [Turn.Give] it back. The error is ctx's, or [ErrClosed].
func (t *Turn) Take(ctx context.Context) error {
	select {
	case <-t.token:
	case <-t.closed:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	err := ctx.Err()
	if t.IsClosed() {
		err = ErrClosed
	}
	if err != nil {
		t.Give()
	}
	return err
}

// Give ends the caller's turn.
func (t *Turn) Give() { t.token <- struct{}{} }

// Closed is closed once the store is.
func (t *Turn) Closed() <-chan struct{} { return t.closed }

// IsClosed reports whether the store was closed.
func (t *Turn) IsClosed() bool {
	select {
	case <-t.closed:
		return true
	default:
		return false
	}
}

// Close lets nobody through any more, waits for whoever has the turn, and calls release once.
func (t *Turn) Close(release func() error) (err error) {
	t.once.Do(func() {
		close(t.closed)
		<-t.token
		defer t.Give()
		err = release()
	})
	return err
}
