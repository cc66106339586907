// Package store says what a store is: the rows, receipts and events of one Holdfast, written one batch at a time.
//
// A store knows rows, not features. It loads what a batch needs, hands it to a pure decision, and writes what comes
// back as one durable transaction. The suite in storetest checks every sentence below against every store.
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

// Format is the version of the stored layout that this program writes. It reads older ones as well: opening a store for
// writing brings it to this format, opening it for reading leaves it as it is.
//
//	1   products, stock, reservations, orders, receipts and the journal
//	2   records, and actors in the events
const Format = 2

// RecordsFormat is the first format with records: an older store, opened for reading, has none.
const RecordsFormat = 2

// MaxClockLag is how far a clock may be behind the last batch. Within it, time stands still until the clock has caught
// up.
const MaxClockLag = 5 * time.Second

// Receipts live for at least [RotateEvery]: a store writes them to one place for so long and then to another, and drops
// a place whole.
const (
	RotateEvery = inventory.Time(24 * time.Hour / time.Millisecond)
	// RotateRetry is how long a store goes on with the same place after it could not change it.
	RotateRetry = time.Minute
)

// Head is the one row that every batch locks first and writes last.
type Head struct {
	Store   string // the store's own id, made once
	Format  int
	BatchNo int64          // of the last batch, from 1; 0 is an empty store
	BatchID [16]byte       // fresh for every writing attempt
	Seq     int64          // of the last event
	At      inventory.Time // of the last batch; never goes back
	Chain   [32]byte       // checksum of the last journal entry
}

// Entry is one journal row: the events of one batch. A batch that wrote receipts or records alone has none.
type Entry struct {
	BatchNo  int64
	BatchID  [16]byte
	First    int64 // sequence of the first event, if there is one
	Count    int
	At       inventory.Time
	Events   []byte // for [inventory.DecodeEvents]
	Checksum [32]byte
}

// Chain is the checksum of an entry: SHA-256 over the checksum of the entry before it and everything the entry says, so
// that no old entry can be changed unnoticed.
func (e *Entry) Chain(before [32]byte) [32]byte {
	b := make([]byte, 0, 96+len(e.Events))
	b = append(b, before[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.BatchNo))
	b = append(b, e.BatchID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.First))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Count))
	b = binary.BigEndian.AppendUint64(b, uint64(e.At))
	return sha256.Sum256(append(b, e.Events...))
}

// Next is the journal entry that a batch adds to a head.
func (h *Head) Next(batchID [16]byte, at inventory.Time, c *inventory.Changes) Entry {
	e := Entry{BatchNo: h.BatchNo + 1, BatchID: batchID, First: h.Seq + 1, Count: c.EventCount, At: at, Events: c.Events}
	e.Checksum = e.Chain(h.Chain)
	return e
}

// After is the head once the entry has been written.
func (h Head) After(e *Entry) Head {
	h.BatchNo, h.BatchID, h.Seq, h.At, h.Chain = e.BatchNo, e.BatchID, h.Seq+int64(e.Count), e.At, e.Checksum
	return h
}

// Latest is the time that readers go by: the source, or the head's time where that is later.
func (h *Head) Latest(source time.Time) inventory.Time {
	return max(inventory.Time(source.UnixMilli()), h.At)
}

// Now is the time of a batch: the source, or the head's time where the source is a little behind it. A source further
// behind than [MaxClockLag] is an [ErrClockBehind], unless accept says that the operator knows.
func (h *Head) Now(source time.Time, accept bool) (inventory.Time, error) {
	now := inventory.Time(source.UnixMilli())
	if behind := time.Duration(h.At-now) * time.Millisecond; behind > MaxClockLag && !accept {
		return 0, fmt.Errorf("%w: it is %v behind the last batch; set the clock, or start with --accept-clock to let time "+
			"stand still until then",
			ErrClockBehind, behind)
	}
	return h.Latest(source), nil
}

// What a store's methods can fail with. Everything else is the fault of what was asked to be written: the batch had no
// effect, and one of its commands may be the cause.
var (
	// ErrClosed: the store was closed before the call.
	ErrClosed = errors.New("the store is closed")
	// ErrUnavailable: nothing was written; the same call may work later.
	ErrUnavailable = errors.New("the store cannot be reached")
	// ErrClockBehind: nothing was written; see [Head.Now].
	ErrClockBehind = errors.New("the clock is behind the store")
	// ErrOutcomeUnknown: the batch may or may not have been written, and it could not be found out in time.
	ErrOutcomeUnknown = errors.New("it is not known whether the batch was written")
	// ErrBroken: durability is in doubt (fsync error, full disk, corruption). The batch may or may not have been
	// written, and every later call fails the same way.
	ErrBroken = errors.New("the store is broken")
	// ErrNewerFormat: the store was written by a newer Holdfast.
	ErrNewerFormat = errors.New("the store was written by a newer Holdfast")
)

// CorruptRow is a stored row that contradicts itself or cannot be read.
type CorruptRow struct {
	Row    string       // names it for people
	ID     inventory.ID // of a reservation or order
	Key    string       // of a product
	Detail string
}

func (e *CorruptRow) Error() string { return e.Row + ": " + e.Detail }

// Decide is a pure decision over loaded rows. A store may call it again, with rows loaded anew; the last call counts.
// When it returns an error the batch is given up and the error is returned as it is.
type Decide func(*inventory.State) (*inventory.Changes, error)

// Store is one Holdfast's durable state. It is safe for concurrent use.
type Store interface {
	// Commit runs one batch. It locks the head, reads the clock (see [Head.Now]), loads the rows and records that keys
	// names, calls decide and writes what it returns as one transaction: rows, records, receipts, one journal entry and
	// the head. When Commit returns nil, the batch is durable, and every View that begins afterwards sees it. Where
	// decide changes nothing, nothing is written. Batches run one at a time, whoever calls. Once the transaction has
	// begun, the end of ctx no longer stops it.
	//
	// A range of records is loaded in the byte order of their keys, all of it up to its limit. A change begins with
	// what is stored: where the version of a record is not that of its Before, where a new one is there already, or one
	// that changes is not, the batch ends with an error and has no effect.
	Commit(ctx context.Context, keys *inventory.Keys, decide Decide) error
	// View reads one consistent snapshot. It never waits for a Commit, nor holds one up for long: keep it short.
	View(ctx context.Context, read func(View) error) error
	// SoleWriter reports whether nobody but this Store can write while it is open: what it committed last is then the
	// last state there is, without asking. Where it is so, clock is the source of the time of its batches (see
	// [Head.Now]). On a database that processes share, and opened for reading, it is not so, and clock is nil.
	SoleWriter() (clock func() time.Time, sole bool)
	// Close waits for the calls under way and releases everything. Calls made later fail with ErrClosed. Closing again
	// is fine.
	Close() error
}

// View is a snapshot. It is valid only while the function that was handed it runs, in one goroutine.
//
// Its methods take the context of that View call, or one derived from it. Once it has ended they fail with its error,
// and a scan that is under way stops.
//
// A row that contradicts itself ends a page with a [CorruptRow]; what was read before it is returned beside the error.
type View interface {
	Head(ctx context.Context) (Head, error)
	// Now is the clock that decides (see [Head.Now]) at about the time of the snapshot, and never before its head: what
	// it says is due, a batch that begins later will find due.
	Now(ctx context.Context) (inventory.Time, error)
	// Products returns products with all their stock rows, by id in byte order. Where the page is full (of products, or
	// of bytes), next is the After of the rest; else it is empty. A page may be short although more follow.
	Products(ctx context.Context, q ProductQuery) (page []*inventory.Product, next string, err error)
	// Reservations returns reservations, newest first. Where the page is full (of rows, or of bytes), or the store
	// stopped searching, next is the Before of the rest; else it is zero. A page may be short although more follow.
	Reservations(ctx context.Context, q ReservationQuery) (page []*inventory.Reservation, next inventory.ID, err error)
	// Orders is like Reservations.
	Orders(ctx context.Context, q OrderQuery) (page []*inventory.Order, next inventory.ID, err error)
	// Records returns those of Keys that are there, in the order of Keys; or else those of a range, in the byte order
	// of their keys. Where the page is full (of records, or of bytes), next is the After of the rest; else it is empty.
	Records(ctx context.Context, q RecordQuery) (page []*inventory.Record, next string, err error)
	// Journal returns the entries from that of a sequence on (the first batch whose last event is not before it),
	// oldest first: at most limit, and no more once they hold maxBytes of events.
	Journal(ctx context.Context, from JournalPosition, limit, maxBytes int) ([]Entry, error)
	// Due returns ACTIVE reservations with a deadline up to a time, earliest first.
	Due(ctx context.Context, until inventory.Time, limit int) ([]Deadline, error)
	// Strays names rows of the store's own bookkeeping (indexes it keeps by hand) that belong to no other row, at most
	// limit.
	Strays(ctx context.Context, limit int) ([]string, error)
}

// ProductQuery selects by IDs, or else the products after an id.
type ProductQuery struct {
	IDs   []string
	After string
	Limit int
}

// ReservationQuery selects by IDs, or else those older than Before that match every condition that is set.
type ReservationQuery struct {
	IDs        []inventory.ID
	Before     inventory.ID
	Status     inventory.ReservationStatus
	DueBy      inventory.Time // with Status Expired: ACTIVE ones with a deadline up to here match as well
	CustomerID string
	ProductID  string // only with Status Active
	Limit      int
	Check      bool // hold each row against the store's own bookkeeping as well: for audits
}

// OrderQuery selects by IDs, or else those older than Before that match every condition that is set.
type OrderQuery struct {
	IDs           []inventory.ID
	Before        inventory.ID
	Status        inventory.OrderStatus
	CustomerID    string
	Reference     string
	ReservationID inventory.ID
	Limit         int
}

// Matches reports whether a reservation meets the conditions, IDs and Before apart.
func (q *ReservationQuery) Matches(r *inventory.Reservation) bool {
	status := r.Status
	if q.Status == inventory.ReservationExpired && q.DueBy > 0 && r.Due(q.DueBy) {
		status = inventory.ReservationExpired
	}
	if (q.Status != 0 && q.Status != status) || (q.CustomerID != "" && q.CustomerID != r.CustomerID) {
		return false
	}
	if q.ProductID == "" {
		return true
	}
	for i := range r.Lines {
		if r.Lines[i].ProductID == q.ProductID {
			return true
		}
	}
	return false
}

// Matches reports whether an order meets the conditions, IDs and Before apart.
func (q *OrderQuery) Matches(o *inventory.Order) bool {
	return (q.Status == 0 || q.Status == o.Status) &&
		(q.CustomerID == "" || q.CustomerID == o.CustomerID) &&
		(q.Reference == "" || q.Reference == o.Reference) &&
		(q.ReservationID.IsZero() || q.ReservationID == o.ReservationID)
}

// JournalPosition is where to begin: at a batch, or at the batch that holds a sequence.
type JournalPosition struct {
	BatchNo int64
	Seq     int64 // used where BatchNo is 0
}

// Deadline is when a reservation falls due.
type Deadline struct {
	ID inventory.ID
	At inventory.Time
}
