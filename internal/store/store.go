// Package store defines what a store is: the durable state of one Holdfast, written one batch at a time.
//
// A store knows rows and records, not features. It loads what a batch needs, hands it to a pure decision, and writes
// the result as one durable transaction. The suite in package storetest checks every sentence below against every
// store.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
)

// Format is the version of the stored layout that this program writes. Opening an older store for writing upgrades it
// to this format. Opening it for reading leaves it as it is.
//
//	1   products, stock, reservations, orders, receipts and the journal
//	2   records, and actors in the events
//	3   epochs in the head
const Format = 3

// The first formats that have records and epochs. An older store that is opened for reading has none.
const (
	RecordsFormat = 2
	EpochsFormat  = 3
)

// MaxClockLag is how far a clock may be behind the time of the last batch. Until the clock has caught up, new batches
// have that time as well.
const MaxClockLag = 5 * time.Second

// RotateEvery is how long receipts are written to the same table or collection. The one before it is kept, and older
// ones are dropped whole. So a receipt lives at least this long, and at most twice as long, by a clock that does not jump (see [Head.ReceiptsSince]).
const RotateEvery = inventory.Time(24 * time.Hour / time.Millisecond)

// RotateRetry is how long a store waits before it tries again to drop receipts, after that failed. Until then they live
// longer.
const RotateRetry = time.Minute

// Head is the state of the whole store. Every batch locks it first and writes it last, in whatever rows a store keeps
// it.
type Head struct {
	Store   string // the store's own id, made once
	Format  int
	BatchNo int64          // of the last batch; batches count from 1, and 0 means that there is none
	BatchID [16]byte       // of the last batch; random, and new for every attempt to write one
	Seq     int64          // of the last event; 0 means that there is none
	At      inventory.Time // of the last batch; never goes back
	Chain   [32]byte       // checksum of the last journal entry
	Epochs  inventory.Epochs
}

// Entry is one journal row: the events of one batch. A batch that wrote only receipts or records has an entry without
// events.
type Entry struct {
	BatchNo  int64
	BatchID  [16]byte
	First    int64 // sequence of the first event; without events, that of the next event there will be
	Count    int
	At       inventory.Time
	Events   []byte // for [inventory.DecodeEvents]
	Checksum [32]byte
	Begins   inventory.Epoch // the epoch that begins with this batch, or zero. The head has it; it is not stored here
}

// Chain returns the checksum that an entry must have: SHA-256 over the checksum of the entry before it and all that the
// entry says. So no entry can be changed without changing all that follow.
func (e *Entry) Chain(before [32]byte) [32]byte {
	b := make([]byte, 0, 96)
	b = append(b, before[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.BatchNo))
	b = append(b, e.BatchID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.First))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Count))
	b = binary.BigEndian.AppendUint64(b, uint64(e.At))
	sum := sha256.New()
	sum.Write(b)
	sum.Write(e.Events)
	return [32]byte(sum.Sum(nil))
}

// Next makes the journal entry of the batch after this head.
func (h *Head) Next(batchID [16]byte, at inventory.Time, c *inventory.Changes) Entry {
	e := Entry{
		BatchNo: h.BatchNo + 1, BatchID: batchID, First: h.Seq + 1, Count: c.EventCount, At: at, Events: c.Events,
		Begins: c.Epoch,
	}
	e.Checksum = e.Chain(h.Chain)
	return e
}

// After returns the head that follows when the entry is written.
func (h Head) After(e *Entry) Head {
	if e.Begins != (inventory.Epoch{}) {
		h.Epochs = h.Epochs.Begin(e.Begins, h.Seq)
	}
	h.BatchNo, h.BatchID, h.Seq, h.At, h.Chain = e.BatchNo, e.BatchID, h.Seq+int64(e.Count), e.At, e.Checksum
	return h
}

// Latest returns the time for readers: the source, or the head's time if that is later.
func (h *Head) Latest(source time.Time) inventory.Time {
	return max(inventory.Time(source.UnixMilli()), h.At)
}

// Now returns the time of the next batch: the source, or the head's time if that is later. It fails with
// [ErrClockBehind] if the source is more than [MaxClockLag] behind the head, and with [ErrClockJumped] if it has jumped
// ahead, unless the clock accepts that.
func (h *Head) Now(source time.Time, clock *Clock) (inventory.Time, error) {
	if err := clock.check(h.At, source); err != nil {
		return 0, err
	}
	now := inventory.Time(source.UnixMilli())
	if behind := time.Duration(h.At-now) * time.Millisecond; behind > MaxClockLag && !clock.accepts() {
		return 0, fmt.Errorf("%w: it is %v behind the last batch; set the clock, or start with --accept-clock to let time "+
			"stand still until then",
			ErrClockBehind, behind)
	}
	return h.Latest(source), nil
}

// The errors of a store. Any other error of Commit means that the batch had no effect because of what was asked to be
// written, and one of its commands may be the cause.
var (
	// ErrClosed: the store was closed before the call.
	ErrClosed = errors.New("the store is closed")
	// ErrUnavailable: nothing was written; the same call may work later.
	ErrUnavailable = errors.New("the store cannot be reached")
	// ErrClockBehind: nothing was written; see [Head.Now].
	ErrClockBehind = errors.New("the clock is behind the store")
	// ErrClockJumped: nothing was written; see [Clock].
	ErrClockJumped = errors.New("the clock has jumped ahead")
	// ErrOutcomeUnknown: the batch may or may not have been written, and it could not be found out in time.
	ErrOutcomeUnknown = errors.New("it is not known whether the batch was written")
	// ErrBroken: durability is in doubt (fsync error, corruption, a file that was moved or written by another program).
	// The batch may or may not have been written, and every later call fails the same way.
	ErrBroken = errors.New("the store is broken")
	// ErrNewerFormat: the store was written by a newer Holdfast.
	ErrNewerFormat = errors.New("the store was written by a newer Holdfast")
)

// CorruptRow is the error for a stored row that cannot be decoded or contradicts itself.
type CorruptRow struct {
	Row    string       // describes where it is, for people
	ID     inventory.ID // of a reservation or order; else zero
	Key    string       // of a product or record; else empty
	Detail string
}

func (e *CorruptRow) Error() string { return e.Row + ": " + e.Detail }

// Decide decides a batch over its loaded rows. It must be pure: a store may call it several times for one batch, each
// time with rows loaded anew, and only the result of the last call is written. If it returns an error, nothing is
// written and Commit returns that error.
type Decide func(*inventory.State) (*inventory.Changes, error)

// Store is one Holdfast's durable state. It is safe for concurrent use.
type Store interface {
	// Commit runs one batch as one transaction. It locks the head, takes the time (see [Head.Now]), loads what keys
	// names, calls decide, and writes the changed rows, records and receipts, one journal entry and the head. Batches
	// run one at a time, even if several processes share the database. When Commit returns nil, the batch is durable
	// and every View that begins afterwards sees it. If decide changes nothing, nothing is written. If ctx ends before
	// the transaction begins, Commit fails with its error; afterwards the end of ctx changes nothing.
	//
	// A range of records is loaded in the byte order of keys, from its first record up to its limit. A change of a
	// record requires that the stored version is the one of its Before, and a new record that there is none. Otherwise
	// Commit fails and the batch has no effect.
	Commit(ctx context.Context, keys *inventory.Keys, decide Decide) error
	// View calls read with one consistent snapshot. A View and a Commit do not wait for each other for long, if the
	// View is short.
	View(ctx context.Context, read func(View) error) error
	// SoleWriter reports whether only this Store can write while it is open. If so, what it committed last is the
	// current state, without asking, and clock is the source of the time of its batches (see [Head.Now]). On a database
	// that several processes can share, and for a store opened for reading, sole is false and clock is nil.
	SoleWriter() (clock func() time.Time, sole bool)
	// Close waits for calls under way and releases everything. Later calls fail with [ErrClosed]. Closing again does
	// nothing.
	Close() error
}

// View is a snapshot of a store. It may be used only by the function that it was handed to, while that runs, and by one
// goroutine at a time.
//
// A method takes the context of the View call or one derived from it. When that context ends, the method stops and
// returns its error.
//
// A method that meets a row that cannot be used returns the rows before it together with a [CorruptRow].
type View interface {
	Head(ctx context.Context) (Head, error)
	// Now reads the clock that decides (see [Head.Now]), but never returns a time before that of the head. A hold that
	// is due at this time is due for every later batch.
	Now(ctx context.Context) (inventory.Time, error)
	// Products returns products with all their stock rows, in the byte order of ids. If the page is full (see [Page]),
	// next is the After of the next query; else it is empty. A page with fewer rows than the limit may be full.
	Products(ctx context.Context, q ProductQuery) (page []*inventory.Product, next string, err error)
	// Reservations returns reservations, newest first. If the page is full (see [Page]), next is the Before of the next
	// query; else it is zero. A page with fewer rows than the limit may be full.
	Reservations(ctx context.Context, q ReservationQuery) (page []*inventory.Reservation, next inventory.ID, err error)
	// Orders returns orders, newest first, in pages as Reservations does.
	Orders(ctx context.Context, q OrderQuery) (page []*inventory.Order, next inventory.ID, err error)
	// Records returns the records of Keys that exist, in the order of Keys. Without Keys it returns those of a range,
	// in the byte order of keys. If the page is full (see [Page]), next is the After of the next query; else it is
	// empty.
	Records(ctx context.Context, q RecordQuery) (page []*inventory.Record, next string, err error)
	// Journal returns entries, oldest first, from a position on: at most limit of them, and none after those before it
	// have maxBytes of events.
	Journal(ctx context.Context, from JournalPosition, limit, maxBytes int) ([]Entry, error)
	// Due returns at most limit ACTIVE reservations whose deadline is at or before until, earliest first. It does not
	// decode them: one that is damaged is among them if its id is known, and a batch that is to load it fails.
	Due(ctx context.Context, until inventory.Time, limit int) ([]Deadline, error)
	// Strays describes at most limit rows that the store keeps for itself, such as entries of an index that it
	// maintains, and that belong to no other row.
	Strays(ctx context.Context, limit int) ([]string, error)
}

// ProductQuery selects the products of IDs. If IDs is nil, it selects those after an id.
type ProductQuery struct {
	IDs   []string
	After string
	Limit int
}

// ReservationQuery selects the reservations of IDs. If IDs is nil, it selects those older than Before (if that is set)
// that meet every condition that is set.
type ReservationQuery struct {
	IDs        []inventory.ID
	Before     inventory.ID
	Status     inventory.ReservationStatus
	DueBy      inventory.Time // with Status Expired: ACTIVE ones that are due by then match too
	CustomerID string
	ProductID  string // only with Status Active
	Limit      int
	Check      bool // compare each row with the index that the store maintains, too: for audits
}

// OrderQuery selects the orders of IDs. If IDs is nil, it selects those older than Before (if that is set) that meet
// every condition that is set.
type OrderQuery struct {
	IDs           []inventory.ID
	Before        inventory.ID
	Status        inventory.OrderStatus
	CustomerID    string
	Reference     string
	ReservationID inventory.ID
	Limit         int
}

// Matches reports whether a reservation meets the conditions other than IDs and Before.
func (q *ReservationQuery) Matches(r *inventory.Reservation) bool {
	status := r.Status
	if q.Status == inventory.ReservationExpired && q.DueBy > 0 && r.Due(q.DueBy) {
		status = inventory.ReservationExpired
	}
	if (q.Status != 0 && q.Status != status) || (q.CustomerID != "" && q.CustomerID != r.CustomerID) {
		return false
	}
	return q.ProductID == "" || inventory.HasLine(r.Lines, q.ProductID)
}

// Matches reports whether an order meets the conditions other than IDs and Before.
func (q *OrderQuery) Matches(o *inventory.Order) bool {
	return (q.Status == 0 || q.Status == o.Status) &&
		(q.CustomerID == "" || q.CustomerID == o.CustomerID) &&
		(q.Reference == "" || q.Reference == o.Reference) &&
		(q.ReservationID.IsZero() || q.ReservationID == o.ReservationID)
}

// JournalPosition is where to begin: at BatchNo or, if that is 0, at the first batch whose last event is Seq or later.
type JournalPosition struct {
	BatchNo int64
	Seq     int64
}

// Deadline is an ACTIVE reservation and when it falls due.
type Deadline struct {
	ID inventory.ID
	At inventory.Time
}
