package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast/holdfast/internal/store"
)

// SQLSTATE codes and classes (the first two characters of a code), from appendix A of the PostgreSQL manual.
const (
	serializationFailure       = "40001"
	deadlockDetected           = "40P01"
	statementCompletionUnknown = "40003"
	uniqueViolation            = "23505"
	duplicateTable             = "42P07"
	duplicateSchema            = "42P06"
	divisionByZero             = "22012"
	lockNotAvailable           = "55P03"
	readOnlyTransaction        = "25006"

	classData       = "22" // data exception
	classConstraint = "23" // integrity constraint violation
	classLimit      = "54" // program limit exceeded
)

var (
	// errUnsettled marks a COMMIT that was sent, and not answered or answered with a warning.
	errUnsettled = errors.New("the commit was not confirmed")
	// errRolledBack: COMMIT was answered with ROLLBACK.
	errRolledBack = errors.New("the server rolled the batch back")
	// errStale: the server does not have what this process has committed.
	errStale  = errors.New("the server shows less than was committed: an old primary is still up")
	errNoHead = fmt.Errorf("%w: the head row is missing: restore a backup", store.ErrUnavailable)
	// errStandby: what the server shows may be older than what was acknowledged.
	errStandby = errors.New("the server is a standby")
)

func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// isRace reports whether making the tables failed because another process was making them.
func isRace(err error) bool {
	switch code(err) {
	case uniqueViolation, duplicateTable, duplicateSchema, serializationFailure, deadlockDetected:
		return true
	}
	return false
}

// isAnswer reports whether the server refused a statement, and with it the transaction, while the connection lives on.
// After any other error (a lost connection, a session that the server ended) a COMMIT that was sent may have been
// carried out.
func isAnswer(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.SeverityUnlocalized == "ERROR" && e.Code != statementCompletionUnknown
}

// isReadOnly reports whether the server is no primary: it only reads, or is of the past.
func isReadOnly(err error) bool {
	return code(err) == readOnlyTransaction || errors.Is(err, errStandby) || errors.Is(err, errStale)
}

// translate turns an error of the driver into one of package store, by its code. An error that it returns unchanged is
// the fault of the batch. It must be used only for failures that certainly wrote nothing.
func translate(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || store.IsCorrupt(err) {
		return err
	}
	c := code(err)
	switch {
	case c == serializationFailure || c == deadlockDetected:
		return store.Retryable{Err: fmt.Errorf("%w: %w", store.ErrUnavailable, err)}
	case len(c) == 5 && (c[:2] == classData || c[:2] == classConstraint || c[:2] == classLimit):
		return err
	default:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
}
