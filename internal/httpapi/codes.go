package httpapi

// Code names a problem, on the wire and in the path of its page. A refusal of the domain has the same code here.
type Code string

// The codes of the contract.
const (
	CodeInvalidJSON          Code = "invalid-json"
	CodeInvalidRequest       Code = "invalid-request"
	CodeMixedCurrencies      Code = "mixed-currencies"
	CodeTotalTooLarge        Code = "total-too-large"
	CodeNotFound             Code = "not-found"
	CodeProductNotFound      Code = "product-not-found"
	CodeReservationNotFound  Code = "reservation-not-found"
	CodeOrderNotFound        Code = "order-not-found"
	CodeEventNotFound        Code = "event-not-found"
	CodeWebhookNotFound      Code = "webhook-not-found"
	CodeDeliveryNotFound     Code = "delivery-not-found"
	CodeMethodNotAllowed     Code = "method-not-allowed"
	CodeProductExists        Code = "product-exists"
	CodeInsufficientStock    Code = "insufficient-stock"
	CodeStockLimit           Code = "stock-limit"
	CodeReservationExpired   Code = "reservation-expired"
	CodeReservationCancelled Code = "reservation-cancelled"
	CodeReservationConfirmed Code = "reservation-confirmed"
	CodeHoldLimitReached     Code = "hold-limit-reached"
	CodeOrderFulfilled       Code = "order-fulfilled"
	CodeOrderCancelled       Code = "order-cancelled"
	CodeVersionMismatch      Code = "version-mismatch"
	CodeCursorAhead          Code = "cursor-ahead"
	CodeBodyTooLarge         Code = "body-too-large"
	CodeUnsupportedMediaType Code = "unsupported-media-type"
	CodeBatchRefused         Code = "batch-refused"
	CodeBatchTooLarge        Code = "batch-too-large"
	CodeIdempotencyKeyReused Code = "idempotency-key-reused"
	CodeInternal             Code = "internal"
	CodeOverloaded           Code = "overloaded"
	CodeNotReady             Code = "not-ready"
	CodeOutcomeUnknown       Code = "outcome-unknown"
)

// problemType is what a code means.
type problemType struct {
	Code    Code
	Status  int
	Title   string
	Meaning string // what happened
	Advice  string // what the caller does next: the detail of a problem that has none of its own
}

// problemTypes is the one list of what the codes mean: answers, pages and tests go by it.
var problemTypes = []problemType{
	{
		CodeInvalidJSON, 400, "The body is not JSON",
		"The body could not be read as one JSON value: its syntax is wrong, a member is there twice, or " +
			"something follows the value.",
		"Send one JSON object, in UTF-8, with each member once.",
	},
	{
		CodeInvalidRequest, 400, "The request is not what the operation takes",
		"A member, parameter or header is unknown, missing, of the wrong type or out of its range. Nothing was " +
			"changed.",
		"Correct what `errors` names, and send the request again.",
	},
	{
		CodeMixedCurrencies, 400, "The lines have different currencies",
		"A reservation has one currency, and the lines that `errors` names have another than the first.",
		"Make one reservation for each currency.",
	},
	{
		CodeTotalTooLarge, 400, "The total is too large",
		"The sum of quantity times unit price is above 9007199254740991 minor units.",
		"Split the reservation.",
	},
	{
		CodeNotFound, 404, "There is nothing here",
		"No operation has this path.",
		"See /docs for the operations and their paths.",
	},
	{
		CodeProductNotFound, 404, "The product does not exist",
		"There is no product with this id. Ids are case-sensitive.",
		"Check the product id, or create the product first.",
	},
	{
		CodeReservationNotFound, 404, "The reservation does not exist",
		"There is no reservation with this id.",
		"Use the id that the reservation was created with.",
	},
	{
		CodeOrderNotFound, 404, "The order does not exist",
		"There is no order with this id.",
		"Use the id that the order was created with.",
	},
	{
		CodeEventNotFound, 404, "The event does not exist",
		"There is no event with this sequence.",
		"Use a sequence that an event of the feed has; the feed says where it ends (`head`).",
	},
	{
		CodeWebhookNotFound, 404, "The webhook does not exist",
		"There is no webhook with this id; it may have been deleted.",
		"Use the id that the webhook was created with, or list the webhooks.",
	},
	{
		CodeDeliveryNotFound, 404, "The delivery does not exist",
		"This webhook has no delivery with this id.",
		"Use an id that the list of the webhook's deliveries has.",
	},
	{
		CodeMethodNotAllowed, 405, "The method is not allowed here",
		"This path has operations, but not with this method.",
		"Use a method that the Allow header names.",
	},
	{
		CodeProductExists, 409, "The product exists already",
		"A product with this id was created before.",
		"Choose another id, or PATCH the product that is there.",
	},
	{
		CodeInsufficientStock, 409, "There is not enough stock",
		"At least one stock row has fewer available units than were asked for. `shortages` names every one.",
		"Ask for no more than is available, or try again later: holds that lapse give their units back.",
	},
	{
		CodeStockLimit, 409, "The stock would be too large",
		"A product holds at most 10^15 units over all its locations, of which it has at most 1,000.",
		"Adjust by less, or use a location that the product has.",
	},
	{
		CodeReservationExpired, 409, "The reservation has expired",
		"Its deadline came before this request. A lapsed hold is never revived.",
		"Make a new reservation.",
	},
	{
		CodeReservationCancelled, 409, "The reservation was cancelled",
		"Its units were given back.",
		"Make a new reservation.",
	},
	{
		CodeReservationConfirmed, 409, "The reservation has become an order",
		"It can no longer be changed; `current.orderId` names the order. On POST /v1/orders: the order was made " +
			"with another `reference`, so somebody may have paid twice.",
		"Work with the order that `current.orderId` names.",
	},
	{
		CodeHoldLimitReached, 409, "The hold cannot be that long",
		"The new deadline would be later than the reservation's creation plus the longest hold that this server " +
			"allows.",
		"Extend by less, or confirm the reservation.",
	},
	{
		CodeOrderFulfilled, 409, "The order was fulfilled",
		"Its units have left, so it can no longer be cancelled.",
		"Receive returned units with an adjustment.",
	},
	{
		CodeOrderCancelled, 409, "The order was cancelled",
		"Its units were given back.",
		"Make a new reservation.",
	},
	{
		CodeVersionMismatch, 409, "The resource has changed",
		"It is no longer in the version that the request names. With If-Match the status is 412.",
		"Read the resource again, and repeat the change on what it is now.",
	},
	{
		CodeCursorAhead, 409, "The cursor is not in the feed",
		"It is beyond the end, or the store was restored from an older state, and what came after that was lost.",
		"Rebuild what you derived from the events, starting from after=0.",
	},
	{
		CodeBatchRefused, 409, "An operation of the batch was refused",
		"The batch is atomic, and one of its operations was refused, so none had an effect. `results` has what each would " +
			"have come to, and null behind the one that was refused.",
		"Correct the operation that was refused, or send the others without it.",
	},
	{
		CodeBatchTooLarge, 409, "The batch is too large for one commit",
		"What the batch would write or answer is more than one commit may hold, about 4 MiB. Nothing was changed.",
		"Send its operations in several batches.",
	},
	{
		CodeBodyTooLarge, 413, "The body is too large",
		"A body has at most 1 MiB, that of a batch 8 MiB.",
		"Send a smaller body.",
	},
	{
		CodeUnsupportedMediaType, 415, "The media type is not supported",
		"Bodies are JSON.",
		"Send Content-Type: application/json.",
	},
	{
		CodeIdempotencyKeyReused, 422, "The idempotency key was used for another request",
		"A request with this key succeeded before, and its method, path or body was another.",
		"Use a fresh Idempotency-Key for each attempt, and repeat a key only with the same request.",
	},
	{
		CodeInternal, 500, "Something went wrong",
		"The server failed on this request. Whether it had an effect is not known.",
		"Repeat the request with the same Idempotency-Key; if it fails again, give the operator the requestId.",
	},
	{
		CodeOverloaded, 503, "The server is overloaded",
		"Too many commands or followers are waiting, or the memory for requests and answers is used up. " +
			"This request had no effect.",
		"Repeat the request after the seconds that Retry-After gives.",
	},
	{
		CodeNotReady, 503, "The server is not ready",
		"Commands cannot be committed now. This one had no effect.",
		"Repeat the request after the seconds that Retry-After gives.",
	},
	{
		CodeOutcomeUnknown, 504, "The outcome is not known",
		"The command was taken, but its answer could not be learned in time. It may have had its effect.",
		"Repeat the request with the same Idempotency-Key: the answer is then the true one.",
	},
}

var typeByCode = func() map[Code]*problemType {
	types := make(map[Code]*problemType, len(problemTypes))
	for i := range problemTypes {
		types[problemTypes[i].Code] = &problemTypes[i]
	}
	return types
}()
