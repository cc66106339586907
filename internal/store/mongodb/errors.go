package mongodb

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/holdfast/holdfast/internal/store"
)

// Error codes of the MongoDB server (src/mongo/base/error_codes.yml) and of servers that speak its protocol.
const (
	illegalOperation         = 20 // transactions on a standalone server
	lockTimeout              = 24
	namespaceNotFound        = 26
	indexNotFound            = 27
	namespaceExists          = 48
	writeConflict            = 112
	conflictingOperation     = 117
	documentValidation       = 121
	snapshotUnavailable      = 246
	snapshotTooOld           = 239
	transactionTooOld        = 225
	migrationConflict        = 250
	noSuchTransaction        = 251
	duplicateKey             = 11000
	objectTooLarge           = 10334
	objectToInsertTooLarge   = 2
	otherServerWriteConflict = 16777220
	otherServerRetry         = 33685826
)

// retryableCodes mean that a transaction is over without a commit and may be tried again. Servers should say so by a
// label, but do not always.
var retryableCodes = []int{
	writeConflict, lockTimeout, snapshotUnavailable, snapshotTooOld, migrationConflict, noSuchTransaction,
	conflictingOperation,
	transactionTooOld, otherServerWriteConflict, otherServerRetry,
}

// passingCodes are failures of a step outside of a transaction that may pass: another process does the same, or another
// member becomes primary.
var passingCodes = append([]int{
	6, 7, 89, 91, 189, 202, 262, 9001, 10058, 10107, 11600, 11602, 13435, 13436, // networks and elections
	64, 134, // members that lag
	12586, 12587, // an index is being built, or a collection changed
}, retryableCodes...)

// mayPass reports whether a step outside of a transaction may work if it is tried again.
func mayPass(err error) bool {
	return err != nil && !errors.Is(err, errNoTransactions) && !errors.Is(err, context.Canceled) &&
		!errors.Is(err, context.DeadlineExceeded) && (mongo.IsNetworkError(err) || hasCode(err, passingCodes...) ||
		hasLabel(err, retryableLabel) || hasLabel(err, "RetryableWriteError") ||
		hasLabel(err, "UnknownTransactionCommitResult"))
}

// unsupportedCodes are how a server says that it does not know a command or an option.
var unsupportedCodes = []int{59, 72, 115, 238, 40415} // CommandNotFound, InvalidOptions, CommandNotSupported, ...

// retryableLabel is that label.
const retryableLabel = "TransientTransactionError"

// errNoHead means that somebody has deleted the head.
var errNoHead = fmt.Errorf("%w: the head document is missing: restore a backup", store.ErrUnavailable)

// lost marks a failure to reach the server. It may be a connection that had been lost before, so a batch is tried once
// more after it.
type lost struct{ error }

func (e lost) Unwrap() error { return e.error }

// isLost reports whether a command was not answered. The driver gives such errors the same label as those that a server
// wants tried again.
func isLost(err error) bool {
	var answered mongo.ServerError
	return mongo.IsNetworkError(err) || mongo.IsTimeout(err) || !errors.As(err, &answered)
}

func hasCode(err error, codes ...int) bool {
	var e mongo.ServerError
	return errors.As(err, &e) && slices.ContainsFunc(codes, e.HasErrorCode)
}

func hasLabel(err error, label string) bool {
	var e mongo.LabeledError
	return errors.As(err, &e) && e.HasErrorLabel(label)
}

// translate turns an error of the driver into one of package store, by its code or label. An error that it returns
// unchanged is the fault of the batch. It must be used only for failures that certainly wrote nothing: before a commit
// was sent.
func translate(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), store.IsCorrupt(err), errors.Is(err, errMatches),
		errors.Is(err, errNoHead), store.IsRetryable(err):
		return err
	case hasCode(err, duplicateKey, documentValidation, objectTooLarge, objectToInsertTooLarge):
		return err
	case isLost(err):
		return lost{fmt.Errorf("%w: %w", store.ErrUnavailable, err)}
	case hasLabel(err, retryableLabel), hasCode(err, retryableCodes...):
		return store.Retryable{Err: fmt.Errorf("%w: %w", store.ErrUnavailable, err)}
	default:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
}
