package sqlite

import (
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/store"
)

// translate turns a SQLite error into one of package store, by its code. An error that it returns unchanged is the
// fault of the batch.
func translate(err error) error {
	if diskFailed(err) {
		return fmt.Errorf("%w: the disk has failed to read or write the file or its log: %w", store.ErrUnavailable, err)
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultOK, sqlite.ResultConstraint, sqlite.ResultTooBig, sqlite.ResultMismatch, sqlite.ResultRange:
		return err
	case sqlite.ResultBusy, sqlite.ResultLocked:
		return fmt.Errorf("%w: another program has locked the file: %w", store.ErrUnavailable, err)
	case sqlite.ResultFull:
		return noSpace(err)
	case sqlite.ResultIOErr, sqlite.ResultCorrupt, sqlite.ResultNotADB, sqlite.ResultReadOnly,
		sqlite.ResultCantOpen, sqlite.ResultNoMem, sqlite.ResultProtocol:
		return fmt.Errorf("%w: %w", store.ErrBroken, err)
	default:
		return err
	}
}

// diskFailed reports whether a read, a write or a truncation has failed. Unlike after a failed flush, what was written
// and flushed before is as it was. Only a checkpoint truncates, before it notes that it has copied anything: the log
// still has it all.
func diskFailed(err error) bool {
	switch sqlite.ErrCode(err) {
	case sqlite.ResultIOErrRead, sqlite.ResultIOErrWrite, sqlite.ResultIOErrTruncate:
		return true
	}
	return false
}

func noSpace(err error) error {
	return fmt.Errorf("%w: there is no space left for the file or its log: make room on the disk: %w",
		store.ErrUnavailable, err)
}
