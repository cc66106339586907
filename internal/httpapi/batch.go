package httpapi

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

const maxBatchBodyBytes = 8 << 20

// batchParts are the operations of a batch, decoded.
type batchParts struct {
	server *Server
	sent   *wire.Batch
	group  inventory.Group
	kinds  []*mutation // of the operations
	wire.Checker
}

// batch decides several mutations in one commit.
func (s *Server) batch(c *call) error {
	body, err := c.body(maxBatchBodyBytes)
	if err != nil {
		return err
	}
	if err := c.noQuery(); err != nil {
		return err
	}
	parts, err := s.decodeBatch(body)
	if err != nil {
		return err
	}
	receipt, err := c.receipt(body)
	if err != nil {
		return err
	}
	parts.group.RequestID = c.id
	outcome, err := c.do(&inventory.Request{Command: &parts.group, Receipt: receipt, Held: len(body)})
	if err != nil {
		return err
	}
	if outcome.Refusal != nil {
		return parts.refuse(c, outcome.Refusal)
	}
	c.placed(&outcome)
	c.send(http.StatusOK, func(b []byte) []byte {
		return append(parts.appendResults(append(b, `{"results":`...), c, outcome.Results), '}')
	})
	return nil
}

// decodeBatch finds everything that is wrong with a batch and can be seen without the store.
func (s *Server) decodeBatch(body []byte) (*batchParts, error) {
	sent, err := wire.DecodeBatch(body)
	if err != nil {
		return nil, err
	}
	n := len(sent.Operations)
	p := &batchParts{server: s, sent: sent, kinds: make([]*mutation, n)}
	p.group = inventory.Group{Atomic: sent.Atomic, Operations: make([]inventory.Operation, n)}
	for i := range sent.Operations {
		p.decode(i, &sent.Operations[i])
	}
	return p, p.Err()
}

// decode makes the command of one operation.
func (p *batchParts) decode(i int, sent *wire.BatchOperation) {
	pointer := wire.OperationPointer(i)
	m := mutationByName[sent.Operation]
	if m == nil {
		p.Add(pointer+"/operation", "is not the operationId of a change that a batch can make")
		return
	}
	p.kinds[i] = m
	o := &p.group.Operations[i]
	target := p.server.o.target(sent.ID)
	refer := func(member string) func(string) {
		return func(text string) { o.Names = p.reference(pointer+member, text, i) }
	}
	target.Reference = refer("/body/reservationId")
	switch takesID := strings.Contains(m.path, "{id}"); {
	case takesID && sent.ID == "":
		p.Add(pointer+"/id", "is required: the operation is about a resource")
	case !takesID && sent.ID != "":
		p.Add(pointer+"/id", "is not taken: the operation's path has no id")
	case strings.HasPrefix(sent.ID, "#"):
		refer("/id")(sent.ID)
		target.ID = ""
	}
	command, err := m.decode(sent.Body, target)
	p.wrong(pointer+"/body", err)
	o.Request = &inventory.Request{Command: command, Receipt: p.receipt(pointer, sent, m), Salt: rand.Uint32()}
}

// reference is one more than the position of the operation that a text names.
func (p *batchParts) reference(pointer, text string, before int) int {
	at, _, ok := wire.Reference(text, before)
	if !ok {
		p.Add(pointer, "must name an earlier operation of the batch, as #0 names the first")
	}
	return at + 1
}

// wrong notes what is wrong with the body of an operation.
func (p *batchParts) wrong(pointer string, err error) {
	var invalid *wire.Invalid
	var syntax *wire.SyntaxError
	switch {
	case errors.As(err, &invalid):
		for _, e := range invalid.Under(pointer).Errors {
			p.Add(e.Pointer, "%s", e.Detail)
		}
	case errors.As(err, &syntax): // the batch was JSON, so there is none
		p.Add(pointer, "is required")
	}
}

// receipt is that of a single request with the same method, path, body and key.
func (p *batchParts) receipt(pointer string, sent *wire.BatchOperation, m *mutation) *inventory.ReceiptID {
	if sent.IdempotencyKey == nil {
		return nil
	}
	key, ok := parseIdempotencyKey(*sent.IdempotencyKey)
	if !ok {
		p.Add(pointer+"/idempotencyKey", keyRule)
		return nil
	}
	path := strings.Replace(m.path, "{id}", (&url.URL{Path: sent.ID}).EscapedPath(), 1)
	return receiptOf(key, m.method, path, sent.Body)
}

func (p *batchParts) refuse(c *call, r *inventory.Refusal) error {
	refused := (&refusal{Refusal: r}).problem()
	if r.Results != nil {
		refused.Results = p.appendResults(nil, c, r.Results)
	}
	return refused
}

// appendResults appends what the operations came to, and null for those that were not decided.
func (p *batchParts) appendResults(b []byte, c *call, r *inventory.Results) []byte {
	b = append(b, '[')
	for i := range p.kinds {
		if i > 0 {
			b = append(b, ',')
		}
		if i >= len(r.Outcomes) {
			b = append(b, "null"...)
			continue
		}
		b = p.appendResult(b, c, i, r)
	}
	return append(b, ']')
}

func (p *batchParts) appendResult(b []byte, c *call, i int, r *inventory.Results) []byte {
	o, m := &r.Outcomes[i], p.kinds[i]
	var failed *problem
	switch {
	case o.Broken:
		failed = fail(CodeInternal)
	case o.Refusal != nil:
		failed = c.explain(m.refuse(o.Refusal, p.sent.Operations[i].Body))
	}
	if failed != nil {
		failed.RequestID = r.RequestID
		body, err := json.Marshal(failed)
		if err != nil {
			panic(err) // every member is a plain value
		}
		return append(append(appendStatus(b, failed.Status), body...), '}')
	}
	status := http.StatusOK
	if o.Created {
		status = http.StatusCreated
	}
	return append(m.result(o).append(appendStatus(b, status)), '}')
}

func appendStatus(b []byte, status int) []byte {
	b = strconv.AppendInt(append(b, `{"status":`...), int64(status), 10)
	return append(b, `,"body":`...)
}
