package load

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
)

// buyer acts out a workload on one connection.
type buyer struct {
	*Workload
	prefix string // of the products
	random *rand.Rand
	zipf   *rand.Zipf
	body   []byte
	key    []byte
}

func newBuyer(w *Workload, prefix string, seed, number uint64) *buyer {
	b := &buyer{Workload: w, prefix: prefix, random: rand.New(rand.NewPCG(seed, number))}
	if w.Zipf {
		b.zipf = rand.NewZipf(b.random, 1.1, 1, uint64(w.Products-1))
	}
	return b
}

func (b *buyer) product() int {
	if b.zipf != nil {
		return int(b.zipf.Uint64())
	}
	return b.random.IntN(b.Products)
}

// holdSeconds is long enough that no hold lapses in a run, except in the life workload.
func (b *buyer) holdSeconds() int64 {
	if b.Confirm+b.Cancel > 0 && b.Confirm+b.Cancel < 100 {
		return 1
	}
	return 3600
}

// hold appends the body of a request for a hold.
func (b *buyer) hold(body []byte) []byte {
	body = append(body, `{"ttlSeconds":`...)
	body = strconv.AppendInt(body, b.holdSeconds(), 10)
	if b.Lines == 1 {
		body = b.line(append(body, ','))
		return append(body, '}')
	}
	body = append(body, `,"lines":[`...)
	for i := range b.Lines {
		if i > 0 {
			body = append(body, ',')
		}
		body = b.line(append(body, '{'))
		body = append(body, '}')
	}
	return append(body, "]}"...)
}

func (b *buyer) line(body []byte) []byte {
	body = append(body, `"productId":"`...)
	body = append(body, b.prefix...)
	body = strconv.AppendInt(body, int64(b.product()), 10)
	return append(body, `","quantity":1`...)
}

// idempotencyKey makes a fresh key, random as those of clients are.
func (b *buyer) idempotencyKey() string {
	if !b.Keys {
		return ""
	}
	b.key = append(b.key[:0], b.prefix...) // another run of the same seed has keys of its own
	b.key = strconv.AppendUint(b.key, b.random.Uint64(), 16)
	b.key = append(b.key, '-')
	b.key = strconv.AppendUint(b.key, b.random.Uint64(), 16)
	return string(b.key)
}

// act sends the requests of one visit and tells each step.
func (b *buyer) act(c *conn, tell func(...step)) error {
	if b.Batch > 0 {
		return b.actBatch(c, tell)
	}
	times := 1
	if b.Retry {
		times = 2
	}
	key := b.idempotencyKey()
	b.body = b.hold(b.body[:0])
	var id string
	for range times {
		s, err := sendHold(c, key, b.body)
		if err != nil {
			return err
		}
		if s.id != "" {
			id = s.id
		}
		tell(s)
	}
	if id == "" {
		return nil
	}
	return b.end(c, id, tell)
}

func sendHold(c *conn, key string, body []byte) (step, error) {
	status, answer, err := c.post("/v1/reservations", key, body)
	if err != nil {
		return step{}, err
	}
	return holdStep(status, answer), nil
}

// holdStep is what the answer to a hold says.
func holdStep(status int, answer []byte) step {
	if status == http.StatusCreated {
		return step{kind: holds, status: status, id: member(answer, "id")}
	}
	return step{kind: holds, status: status, code: problemCode(status, answer)}
}

// end confirms or cancels the hold, or leaves it to lapse.
func (b *buyer) end(c *conn, id string, tell func(...step)) error {
	s := step{id: id}
	var path string
	var body []byte
	switch lot := b.random.IntN(100); {
	case lot < b.Confirm:
		s.kind, path, body = confirms, "/v1/orders", fmt.Appendf(b.body[:0], `{"reservationId":%q}`, id)
	case lot < b.Confirm+b.Cancel:
		s.kind, path = cancels, "/v1/reservations/"+id+"/cancel"
	default:
		return nil
	}
	status, answer, err := c.post(path, b.idempotencyKey(), body)
	if err != nil {
		return err
	}
	s.status = status
	if status >= http.StatusBadRequest {
		s.code = problemCode(status, answer)
	}
	tell(s)
	return nil
}
