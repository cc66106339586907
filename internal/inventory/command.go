package inventory

// Request is one command on its way through the door.
type Request struct {
	Command Command
	// Receipt makes the command repeatable; nil without an idempotency key.
	Receipt *ReceiptID
	// Salt has the random bits of the ids that the command makes. They come from outside, because Decide has no
	// randomness.
	Salt uint32
	// Actor is whoever sent the command; nil where nobody was asked. The events of the command carry it.
	Actor *Actor
	// Held is how many bytes the caller keeps beside the command until it is answered: those of the body that it came in.
	Held int
}

// ReceiptID is an idempotency key as the store knows it, with what it was used for.
type ReceiptID struct {
	Key         [16]byte // digest of the key
	Fingerprint [16]byte // digest of method, path and body
}

// Receipt is the stored answer to a request that succeeded (I6).
type Receipt struct {
	ReceiptID
	Answer []byte // an [Outcome], by [AppendOutcome]
}

// Command is one of the structs below.
type Command interface {
	// addKeys names the rows that the command works on.
	addKeys(*Keys)
	// decide runs the command on the rows of the batch.
	decide(*batch, *Request) Outcome
	// size is about how many bytes of the caller's text the command carries.
	size() int
}

// Size is about how many bytes the request takes while it waits. What it writes is not more than that.
func (r *Request) Size() int { return 256 + r.Command.size() + r.Held }

// Size is about how many bytes the metadata takes.
func (m Metadata) Size() int {
	n := 0
	for i := range m {
		n += len(m[i].Name) + len(m[i].Value) + 4
	}
	return n
}

// Outcome is what a command came to: a refusal, or the resource that it was about, as it is afterwards.
type Outcome struct {
	Refusal     *Refusal
	Created     bool     // the resource is new
	Replayed    bool     // the stored answer of an earlier request with the same idempotency key
	Deferred    bool     // decide again in the next batch: this one has expired, or written, as much as it may
	Again       Command  // with Deferred: the command to decide instead; nil: the same
	Broken      bool     // of an operation of a group: deciding it panicked, and the caller is promised nothing
	Expired     int      // reservations that Expire ended
	Results     *Results // of a group
	Product     *Product
	Reservation *Reservation
	Order       *Order
	Adjustment  *Adjustment
	Webhook     *Webhook // receipts and events have no secrets of it
	Delivery    *Delivery
	Sink        *Sink // of HoldSink and ReportDeliveries; not stored in receipts
	Seq         int64 // of the last event of the effect: the place in the feed after it
}

// Code names a refusal, as in the contract.
type Code string

// The refusals that a decision can make.
const (
	RefusedProductExists        Code = "product-exists"
	RefusedProductNotFound      Code = "product-not-found"
	RefusedReservationNotFound  Code = "reservation-not-found"
	RefusedOrderNotFound        Code = "order-not-found"
	RefusedWebhookNotFound      Code = "webhook-not-found"
	RefusedDeliveryNotFound     Code = "delivery-not-found"
	RefusedCursorAhead          Code = "cursor-ahead"
	RefusedInsufficientStock    Code = "insufficient-stock"
	RefusedStockLimit           Code = "stock-limit"
	RefusedMixedCurrencies      Code = "mixed-currencies"
	RefusedTotalTooLarge        Code = "total-too-large"
	RefusedReservationExpired   Code = "reservation-expired"
	RefusedReservationCancelled Code = "reservation-cancelled"
	RefusedReservationConfirmed Code = "reservation-confirmed"
	RefusedHoldLimitReached     Code = "hold-limit-reached"
	RefusedOrderFulfilled       Code = "order-fulfilled"
	RefusedOrderCancelled       Code = "order-cancelled"
	RefusedVersionMismatch      Code = "version-mismatch"
	RefusedPreconditionFailed   Code = "precondition-failed" // RefusedVersionMismatch, for If-Match
	RefusedMetadataTooLarge     Code = "metadata-too-large"  // after a patch was merged
	RefusedIdempotencyKeyReused Code = "idempotency-key-reused"
	RefusedBatch                Code = "batch-refused"
	RefusedBatchTooLarge        Code = "batch-too-large"
)

// Refusal says why a command had no effect, with what the answer needs.
type Refusal struct {
	Code      Code
	Shortages []Shortage // every short stock row, for RefusedInsufficientStock
	Lines     []int      // indexes of the lines that RefusedProductNotFound or RefusedMixedCurrencies is about
	Current   *Current   // state of the resource that refuses
	Results   *Results   // up to the operation that was refused, for RefusedBatch
}

// Current is the state of a reservation or order that refuses a command.
type Current struct {
	Status    string
	ExpiresAt Time
	EndedAt   Time
	OrderID   ID
	Version   int64 // of a product, for RefusedVersionMismatch
}
