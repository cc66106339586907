package store

import "errors"

// Retryable marks a failure after which nothing was written, and the same batch may succeed when it is tried again.
// Stores use it within themselves.
type Retryable struct{ Err error }

func (e Retryable) Error() string { return e.Err.Error() }
func (e Retryable) Unwrap() error { return e.Err }

// IsRetryable reports whether an error is a [Retryable].
func IsRetryable(err error) bool {
	_, retryable := errors.AsType[Retryable](err)
	return retryable
}
