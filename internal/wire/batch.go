package wire

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/holdfast/holdfast/internal/inventory"
)

// Batch is the body of a request for several operations at once.
type Batch struct {
	Atomic     bool
	Operations []BatchOperation // 1 to [inventory.MaxOperations]
}

// BatchOperation is one operation as it was sent. Its body is not decoded: that is for its own decoder.
type BatchOperation struct {
	Operation      string // operationId
	ID             string // what its path would carry; empty: nothing was sent
	IdempotencyKey *string
	Body           []byte // as it stands in the batch; nil: nothing was sent
}

// MaxBodyBytes bounds the body of one operation, alone or in a batch.
const MaxBodyBytes = 1 << 20

type batchBody struct {
	Atomic     optional[bool]          `json:"atomic"`
	Operations optional[operationList] `json:"operations"`
}

type operationList struct{ bounded[operationBody] }

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (l *operationList) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return l.decode(d, inventory.MaxOperations)
}

type operationBody struct {
	Operation      optional[string]         `json:"operation"`
	ID             optional[string]         `json:"id"`
	IdempotencyKey optional[string]         `json:"idempotencyKey"`
	Body           optional[jsontext.Value] `json:"body"`
}

// DecodeBatch decodes the body of a batch as far as it is not its operations' own. The error is a [SyntaxError] or an
// [Invalid].
func DecodeBatch(body []byte) (*Batch, error) {
	b, err := decode[batchBody](body)
	if err != nil {
		return nil, err
	}
	var c Checker
	batch := &Batch{Atomic: b.Atomic.value}
	if c.given("/operations", b.Operations.set, required) {
		batch.Operations = c.operations(&b.Operations.value)
	}
	return batch, c.Err()
}

func (c *Checker) operations(body *operationList) []BatchOperation {
	sent := body.kept
	if n := body.sent; n == 0 || n > inventory.MaxOperations {
		c.Add("/operations", "must have 1 to %d entries, it has %d", inventory.MaxOperations, n)
		return nil
	}
	list := make([]BatchOperation, len(sent))
	for i := range sent {
		o := &sent[i]
		pointer := OperationPointer(i)
		c.given(pointer+"/operation", o.Operation.set, required)
		if o.ID.set && o.ID.value == "" {
			c.Add(pointer+"/id", "must not be empty: leave it out where the operation's path has no id")
		}
		if n := len(o.Body.value); n > MaxBodyBytes {
			c.Add(pointer+"/body", "must have at most 1 MiB, as it has alone")
		}
		list[i] = BatchOperation{Operation: o.Operation.value, ID: o.ID.value, Body: o.Body.value}
		if o.IdempotencyKey.set {
			list[i].IdempotencyKey = &o.IdempotencyKey.value
		}
	}
	return list
}

// OperationPointer is where operation i stands in the body of a batch.
func OperationPointer(i int) string { return "/operations/" + strconv.Itoa(i) }

// Reference reads an id that stands for what an earlier operation of the same batch makes: "#0" for that of the first.
// It reports is for every text that begins so, and ok where the operation is one of so many.
func Reference(text string, operations int) (at int, is, ok bool) {
	number, is := strings.CutPrefix(text, "#")
	if !is {
		return 0, false, false
	}
	at, err := strconv.Atoi(number)
	return at, true, err == nil && at >= 0 && at < operations && number == strconv.Itoa(at)
}
