package store

import (
	"context"
	"sync"
)

// Turn lets one Commit of a store run at a time. It also knows whether the store is closed.
type Turn struct {
	token  chan struct{} // holds a token while nobody commits
	closed chan struct{}
	once   sync.Once
}

// NewTurn makes a Turn that nobody has.
func NewTurn() *Turn {
	t := &Turn{token: make(chan struct{}, 1), closed: make(chan struct{})}
	t.token <- struct{}{}
	return t
}

// Take waits for the turn. The caller must give it back with [Turn.Give]. The error is that of ctx, or [ErrClosed].
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

// Give gives the turn back.
func (t *Turn) Give() { t.token <- struct{}{} }

// Closed returns a channel that is closed when the store closes.
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

// Close makes Take fail from now on, waits for whoever has the turn, and calls release. A second call does nothing.
func (t *Turn) Close(release func() error) (err error) {
	t.once.Do(func() {
		close(t.closed)
		<-t.token
		defer t.Give()
		err = release()
	})
	return err
}
