package inventory

// Request is one command on its way through the door.
type Request struct {
	Command Command
	// Receipt makes the command repeatable; nil without an idempotency key.
	Receipt *ReceiptID
	// Salt are the random bits of the ids this command makes. They come in from outside because Decide has no randomness.
	Salt uint32
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

// CreateProduct adds a product, with stock at one location.
type CreateProduct struct {
	ID         string // empty: the server makes one
	Name       string
	Price      Money
	TotalStock int64 // 0 to MaxStock
	Location   string
	Metadata   Metadata
}

// UpdateProduct is a merge-patch (RFC 7396) of the catalogue part. Nil leaves a field as it is.
type UpdateProduct struct {
	ID       string
	Name     *string
	Amount   *int64
	Currency *string
	Metadata *MetadataPatch
	// IfMatch, if not nil, must contain the product's current LastSeq (its ETag), else the command is refused.
	IfMatch []int64
	// Version, if not 0, must be the catalogue part's current version.
	Version int64
}

// MetadataPatch is a merge-patch of metadata: Clear removes everything first, a nil value removes a member.
type MetadataPatch struct {
	Clear bool
	Set   map[string]*string
}

// Adjust receives units (Delta > 0) or takes available ones (Delta < 0).
type Adjust struct {
	ProductID string
	Location  string
	Delta     int64 // not 0, ±MaxStock
	Reason    string
	Reference string
}

// ReserveLine is one line of [Reserve]; without a UnitPrice the catalogue's price is charged.
type ReserveLine struct {
	ProductID string
	Location  string
	Quantity  int64 // 1 to MaxQuantity, also after adding up lines of one product and location
	UnitPrice *Money
}

// Reserve holds units for TTL milliseconds: every line or none.
type Reserve struct {
	Lines      []ReserveLine // 1 to MaxLines
	TTL        int64         // milliseconds, at least 1,000
	CustomerID string
	Metadata   Metadata
}

// Cancel gives the units of an ACTIVE reservation back.
type Cancel struct {
	ID     ID
	Reason string
}

// Extend moves the deadline of an ACTIVE reservation to TTL from now, but never past MaxHold after its creation, and never back.
type Extend struct {
	ID      ID
	TTL     int64 // milliseconds
	MaxHold int64 // milliseconds
}

// Confirm turns an ACTIVE reservation into an order, once.
type Confirm struct {
	ReservationID ID
	Reference     string
	Metadata      Metadata
}

// Fulfill ships an order: its units leave.
type Fulfill struct{ ID ID }

// CancelOrder gives the units of an order that was not shipped back.
type CancelOrder struct {
	ID     ID
	Reason string
}

// Expire ends those of the named reservations whose deadline has come, and leaves the others as they are.
type Expire struct{ IDs []ID }

// Code names a refusal, as in the contract.
type Code string

// The refusals that a decision can make.
const (
	RefusedProductExists        Code = "product-exists"
	RefusedProductNotFound      Code = "product-not-found"
	RefusedReservationNotFound  Code = "reservation-not-found"
	RefusedOrderNotFound        Code = "order-not-found"
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
	RefusedPreconditionFailed   Code = "precondition-failed" // RefusedVersionMismatch for If-Match: another status, the same code on the wire
	RefusedMetadataTooLarge     Code = "metadata-too-large"  // after a patch was merged
	RefusedIdempotencyKeyReused Code = "idempotency-key-reused"
)

// Refusal says why a command had no effect, with what the answer needs.
type Refusal struct {
	Code      Code
	Shortages []Shortage // every short stock row, for RefusedInsufficientStock
	Lines     []int      // indexes of the lines that RefusedProductNotFound is about
	Current   *Current   // state of the resource that refuses
}

// Shortage is one stock row that has too little.
type Shortage struct {
	StockKey
	Requested, Available, Reserved int64
}

// Current is the state of a reservation or order that refuses a command.
type Current struct {
	Status    string
	ExpiresAt Time
	EndedAt   Time
	OrderID   ID
	Version   int64 // of a product, for RefusedVersionMismatch
}

// Outcome is what a command came to: a refusal, or the resource it was about as it is afterwards.
type Outcome struct {
	Refusal     *Refusal
	Created     bool // the resource is new
	Replayed    bool // the stored answer of an earlier request with the same idempotency key
	Deferred    bool // decide again in the next batch: this one has expired, or written, as much as a batch may
	Expired     int  // reservations that Expire ended
	Product     *Product
	Reservation *Reservation
	Order       *Order
	Adjustment  *Adjustment
	Seq         int64 // place in the event feed after the effect
}
