package store

import "errors"

// Retryable marks a failure that wrote nothing and may not happen again if the same batch is tried once more. Stores
// use it to decide that for themselves; to their callers it is the error inside.
type Retryable struct{ Err error }

func (e Retryable) Error() string { return e.Err.Error() }
func (e Retryable) Unwrap() error { return e.Err }

// IsRetryable reports whether an error is a [Retryable].
func IsRetryable(err error) bool {
	_, retryable := errors.AsType[Retryable](err)
	return retryable
}
