package load

import (
	"bytes"
	"net/http"
	"strconv"
)

// BatchPath is where many operations are sent in one request.
const BatchPath = "/v1/batch"

// actBatch sends many holds in one request, and tells all their steps at once: each took as long as the whole.
func (b *buyer) actBatch(c *conn, tell func(...step)) error {
	b.body = append(b.body[:0], `{"operations":[`...)
	for i := range b.Batch {
		if i > 0 {
			b.body = append(b.body, ',')
		}
		b.body = append(b.body, `{"operation":"createReservation","body":`...)
		b.body = b.hold(b.body)
		b.body = append(b.body, '}')
	}
	b.body = append(b.body, "]}"...)
	status, answer, err := c.post(BatchPath, b.idempotencyKey(), b.body)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		tell(step{status: status, code: problemCode(status, answer)})
		return nil
	}
	steps := batchSteps(answer, b.Batch)
	for len(steps) < b.Batch {
		steps = append(steps, step{code: "an operation without a result"})
	}
	tell(steps...)
	return nil
}

var resultBegins = []byte(`{"status":`)

// batchSteps reads the results of a batch of holds. A result begins with its status, a number; where the resource in it has
// a status, that is a word.
func batchSteps(answer []byte, most int) (steps []step) {
	_, rest, found := bytes.Cut(answer, resultBegins)
	for found && len(steps) < most {
		var result []byte
		result, rest, found = bytes.Cut(rest, resultBegins)
		digits, body, _ := bytes.Cut(result, []byte(","))
		status, err := strconv.Atoi(string(digits))
		if err != nil {
			return steps
		}
		steps = append(steps, holdStep(status, body))
	}
	return steps
}
