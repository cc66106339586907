package inventory

import (
	"reflect"
	"slices"
)

// MaxOperations is how many commands one [Group] may have.
const MaxOperations = 1_000

// Group is several commands that are decided one after the other in one commit, each on what those before it left
// behind. In an atomic group all of them succeed, or none has an effect. In any other each command stands for itself.
//
// What a group writes and what it answers is at most [MaxBatchBytes] each. Beyond that it is refused as a whole.
type Group struct {
	Atomic     bool
	Operations []Operation // 1 to MaxOperations
	// RequestID is the Request-Id of the request, at most 128 bytes. The problems among the results carry it, also when
	// they are replayed.
	RequestID string

	// first is the stock row whose overdue holds are loaded before those of others. The group was deferred because too
	// few of them were loaded. Zero: there is none.
	first StockKey
}

// Operation is one command of a group.
type Operation struct {
	Request *Request // its Actor is not looked at: it is that of the group's own request
	// Names, if not 0, is one more than the position of an earlier operation. The command is then about what that one
	// makes.
	Names int

	// named is the command about the resource in the stored answer of the operation that is named, so that its rows are
	// loaded; nil: there is no stored answer, or it was not read yet.
	named  Command
	broken bool // deciding it panicked: it is left out
}

// Results are what the operations of a group came to, in order. If an atomic group was refused, the last one is that of
// the operation that was refused.
type Results struct {
	RequestID string
	Outcomes  []Outcome
}

// referring is a command that can be about what another operation made.
type referring interface {
	Command
	// about is the same command for the resource of an outcome. If the outcome has no resource of the right kind, the
	// command names nothing, and will be refused.
	about(*Outcome) referring
}

// CanRefer reports whether a command can be about what another operation of its group made.
func CanRefer(c Command) bool {
	_, can := c.(referring)
	return can
}

func (g *Group) addKeys(k *Keys) {
	if g.first != (StockKey{}) {
		k.demand(g.first, 0)
	}
	for i := range g.Operations {
		o := &g.Operations[i]
		if receipt := o.Request.Receipt; receipt != nil {
			addOnce(&k.receipts, &k.Receipts, receipt.Key)
		}
		switch {
		case o.Names == 0:
			o.Request.Command.addKeys(k)
		case o.named != nil:
			o.named.addKeys(k)
		default:
			about := Outcome{Product: &Product{ID: g.productOf(o.Names - 1)}}
			if adjust, is := o.Request.Command.(*Adjust); is && about.Product.ID != "" {
				adjust.about(&about).addKeys(k)
			}
		}
	}
}

// productOf is the id of the product that an operation is about, or empty if its command does not say it. What the
// group itself makes needs no loading. But an adjustment that names an operation on a stored product may need overdue
// holds of that product.
func (g *Group) productOf(i int) string {
	o := &g.Operations[i]
	switch c := o.Request.Command.(type) {
	case *UpdateProduct:
		if o.Names == 0 {
			return c.ID
		}
	case *Adjust:
		if o.Names == 0 {
			return c.ProductID
		}
	default:
		return ""
	}
	return g.productOf(o.Names - 1)
}

func (g *Group) size() int {
	n := 0
	for i := range g.Operations {
		n += g.Operations[i].Request.Size()
	}
	return n
}

func (g *Group) decide(b *batch, request *Request) Outcome {
	if g.sharesKey(request.Receipt) {
		return refuse(RefusedIdempotencyKeyReused)
	}
	if again := g.reload(b); again != nil {
		return Outcome{Deferred: true, Again: again}
	}
	start := b.save()
	defer start.end()
	results := &Results{RequestID: g.RequestID, Outcomes: make([]Outcome, 0, len(g.Operations))}
	bytes, seq := 0, int64(0)
	for i := range g.Operations {
		b.operation = i
		outcome := g.operate(b, i, results.Outcomes)
		b.operation = noOperation
		if outcome.Deferred {
			start.undo()
			return Outcome{Deferred: true, Again: g.loading(b.unloaded)}
		}
		results.Outcomes = append(results.Outcomes, outcome)
		if outcome.Refusal != nil && g.Atomic {
			start.undo()
			return Outcome{Refusal: &Refusal{Code: RefusedBatch, Results: results}}
		}
		seq = max(seq, outcome.Seq)
		if bytes += outcome.size(); max(bytes, start.written()) > MaxBatchBytes {
			start.undo()
			return refuse(RefusedBatchTooLarge)
		}
	}
	if seq == 0 {
		seq = b.seq
	}
	return Outcome{Results: results, Seq: seq}
}

// sharesKey reports whether an operation has the key of the whole group: one key cannot answer for two requests.
func (g *Group) sharesKey(id *ReceiptID) bool {
	return id != nil && slices.ContainsFunc(g.Operations, func(o Operation) bool {
		return o.Request.Receipt != nil && o.Request.Receipt.Key == id.Key
	})
}

// loading is the group for the next batch, which loads the overdue holds of this stock row before those of others.
// There is a limit to how many are loaded: without this, those of rows that come first and do not need them could take
// it all, batch after batch.
func (g *Group) loading(first StockKey) *Group {
	again := *g
	again.first = first
	return &again
}

// operate decides one operation. If it is about what an earlier one made, its command is made of that one's outcome.
func (g *Group) operate(b *batch, i int, before []Outcome) Outcome {
	o := &g.Operations[i]
	switch {
	case o.broken:
		return Outcome{Broken: true}
	case o.Names == 0:
		return b.answer(o.Request)
	}
	request := *o.Request
	request.Command = o.Request.Command.(referring).about(&before[o.Names-1])
	return b.answer(&request)
}

// reload returns the group to decide in the next batch, or nil if it can be decided now. It has to wait if one of its
// operations has a stored answer and a later one is about the resource of that answer: which one that is stands in the
// receipt, so the resource could not be loaded with it.
func (g *Group) reload(b *batch) (again *Group) {
	for i := range g.Operations {
		o := &g.Operations[i]
		command := g.replayed(b, o)
		if command == nil || reflect.DeepEqual(command, o.named) {
			continue
		}
		if again == nil {
			again = g.loading(g.first)
			again.Operations = slices.Clone(g.Operations)
		}
		again.Operations[i].named = command
	}
	return again
}

// replayed is the command of an operation about the resource of a stored answer, or nil if it is about no such
// resource.
func (g *Group) replayed(b *batch, o *Operation) referring {
	if o.Names == 0 {
		return nil
	}
	id := g.Operations[o.Names-1].Request.Receipt
	if id == nil || b.Receipts[id.Key] == nil {
		return nil
	}
	outcome := replay(b.Receipts[id.Key], id)
	if outcome.Refusal != nil {
		return nil
	}
	return o.Request.Command.(referring).about(&outcome)
}

// WithoutOperation is the request without an operation that cannot be decided. It reports false if nothing is left to
// decide: the request is no group, or its group is atomic.
func (r *Request) WithoutOperation(i int) (*Request, bool) {
	g, isGroup := r.Command.(*Group)
	if !isGroup || g.Atomic || i == noOperation {
		return nil, false
	}
	rest := *g
	rest.Operations = slices.Clone(g.Operations)
	rest.Operations[i].broken = true
	request := *r
	request.Command = &rest
	return &request, true
}

// Commands is how many commands the request has: one, or those of its group.
func (r *Request) Commands() int {
	if g, isGroup := r.Command.(*Group); isGroup {
		return len(g.Operations)
	}
	return 1
}

// size is about how many bytes the outcome has in the answer.
func (o *Outcome) size() int {
	n := sizeOf(o.Product, o.Reservation, o.Order)
	if r := o.Refusal; r != nil {
		n += 256*len(r.Shortages) + 128*len(r.Lines)
	}
	return n
}

func (o *Outcome) productID() string {
	if o.Product == nil {
		return ""
	}
	return o.Product.ID
}

func (o *Outcome) reservationID() (id ID) {
	if o.Reservation != nil {
		id = o.Reservation.ID
	}
	return id
}

func (o *Outcome) orderID() (id ID) {
	if o.Order != nil {
		id = o.Order.ID
	}
	return id
}
