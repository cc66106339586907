package store

import (
	"context"

	"github.com/holdfast/holdfast/internal/inventory"
)

// Lister is what the View of a store offers to audits, beside the methods that all have: to list what everybody else
// finds by key alone.
type Lister interface {
	// Receipts returns receipts in an order of the store's own, from the one after a cursor on; the zero cursor is the
	// beginning. If there may be more, next is the after of the next query; else it is zero. A page may be empty and not
	// be the last. Pages may be of different snapshots: receipts that were dropped meanwhile are not returned.
	Receipts(ctx context.Context, after ReceiptCursor, limit int) (
		page []*inventory.Receipt, next ReceiptCursor, err error)
	// AllRecords returns the records that come after a kind and a key, in the byte order of kinds and then of keys. If
	// the page is full, next is the after of the next query; else it is the zero key.
	AllRecords(ctx context.Context, after inventory.RecordKey, limit int) (
		page []*inventory.Record, next inventory.RecordKey, err error)
}

// ReceiptCursor is a receipt's place in the order of its store, which uses those fields that it needs. Receipts are in
// several tables, numbered from 0 or from 1.
type ReceiptCursor struct {
	Table, Row int64
	Key        [16]byte
}
