package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Coalesce has changes that are made while a request is under way travel together in the next one, as one batch in which
// each stands for itself. A caller alone waits for nobody: there is no timer. It is for programs in which many goroutines
// share one client; each call means the same as without it.
func Coalesce() Option { return func(c *Client) { c.coalesce = &coalescer{} } }

// The bounds of a request that changes share, below those of the server.
const (
	coalesceLimit = 1_000
	coalesceBytes = 4 << 20
)

// coalescer is the changes that wait, and whoever sends them: one request at a time. The idea is that of TigerBeetle's
// clients, which gather what comes while a message is in flight.
type coalescer struct {
	mu      sync.Mutex
	waiting []*waiter
	sending bool
}

// waiter is a change with the caller that waits for it.
type waiter struct {
	*operation
	place    atomic.Int32
	attempts int
	done     chan answer // buffered: nobody waits for a caller that has left
}

// Where a change is.
const (
	queued int32 = iota
	taken        // it is sent, or was
	left         // its caller left before
)

type answer struct {
	content []byte
	err     error
}

func (w *waiter) tell(content []byte, err error) { w.done <- answer{content, err} }

// do carries a change out and returns the body of its answer. When ctx ends before the change was sent it is not sent at
// all; when it ends later, the change may still take effect.
func (q *coalescer) do(ctx context.Context, c *Client, o *operation) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("holdfast: %w", err)
	}
	w := &waiter{operation: o, done: make(chan answer, 1)}
	q.add(c, w)
	select {
	case a := <-w.done:
		return a.content, a.err
	case <-ctx.Done():
		err := fmt.Errorf("holdfast: %w", ctx.Err())
		if w.place.CompareAndSwap(queued, left) {
			return nil, err
		}
		return nil, unanswered(o.Key, err)
	}
}

// add has changes sent, by whoever sends already, or by a goroutine that ends when nothing waits any more.
func (q *coalescer) add(c *Client, changes ...*waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, changes...)
	if !q.sending {
		q.sending = true
		go q.run(c)
	}
}

// run sends what waits until nothing does.
func (q *coalescer) run(c *Client) {
	for {
		group := q.take()
		if len(group) == 0 {
			return
		}
		q.send(c, group)
	}
}

// take takes what fits into one request.
func (q *coalescer) take() []*waiter {
	q.yield()
	q.mu.Lock()
	defer q.mu.Unlock()
	var group []*waiter
	n, bytes := 0, 0
	for ; n < len(q.waiting) && len(group) < coalesceLimit; n++ {
		w := q.waiting[n]
		if bytes += len(w.Body); len(group) > 0 && bytes > coalesceBytes {
			break
		}
		if w.place.Load() == taken || w.place.CompareAndSwap(queued, taken) {
			group = append(group, w)
		}
	}
	q.waiting = slices.Clone(q.waiting[n:])
	q.sending = len(group) > 0
	return group
}

// yield lets the goroutines run that are ready to call, for as long as they do: the callers who were just answered would
// otherwise find that their next calls have to wait for a request with nobody else in it.
func (q *coalescer) yield() {
	for waiting := -1; ; {
		q.mu.Lock()
		now := len(q.waiting)
		q.mu.Unlock()
		if now == waiting {
			return
		}
		waiting = now
		runtime.Gosched()
	}
}

func (q *coalescer) send(c *Client, group []*waiter) {
	ctx := context.Background() // callers leave when their own contexts end
	if len(group) == 1 {        // as a request of its own: the same answer for less
		w := group[0]
		content, err := c.once(ctx, w.method, w.path(), w.Key, w.Body)
		q.settle(c, group, []answer{{content, err}})
		return
	}
	content, err := c.once(ctx, http.MethodPost, "/v1/batch", "", encodeGroup(group))
	if err == nil {
		var results []result
		if results, err = splitResults(content); err == nil && len(results) == len(group) {
			q.settle(c, group, answersOf(results))
			return
		}
		err = fmt.Errorf("holdfast: the answer is not what it should be: %w", errors.Join(err, errResults))
	}
	q.failed(c, group, err)
}

var errResults = errors.New("a batch is answered with a result for each operation")

// encodeGroup writes a batch around bodies that are encoded already.
func encodeGroup(group []*waiter) []byte {
	size := 64
	for _, w := range group {
		size += len(w.Body) + len(w.ID) + len(w.Key) + 96
	}
	b := append(make([]byte, 0, size), `{"operations":[`...)
	for i, w := range group {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, `{"operation":`...), quote(w.Operation)...)
		if w.ID != "" {
			b = append(append(b, `,"id":`...), quote(w.ID)...)
		}
		b = append(append(b, `,"idempotencyKey":`...), quote(keyHeader(w.Key))...)
		if w.Body != nil {
			b = append(append(b, `,"body":`...), w.Body...)
		}
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string can always be encoded
	}
	return b
}

func answersOf(results []result) []answer {
	list := make([]answer, len(results))
	for i := range results {
		list[i].content, list[i].err = results[i].content()
	}
	return list
}

// settle tells each caller its answer, and sends those again for which that can help.
func (q *coalescer) settle(c *Client, group []*waiter, answers []answer) {
	var again []*waiter
	var reason error
	for i, w := range group {
		err := answers[i].err
		var problem *Error
		switch w.attempts++; {
		case err == nil, errors.As(err, &problem) && !problem.temporary():
			w.tell(answers[i].content, err)
		case w.attempts >= c.attempts:
			w.tell(nil, unanswered(w.Key, err))
		default:
			again, reason = append(again, w), err
		}
	}
	if again != nil {
		time.AfterFunc(backoff(again[0].attempts, reason), func() { q.add(c, again...) })
	}
}

// failed deals with a batch that was not carried out, or of which nobody knows.
func (q *coalescer) failed(c *Client, group []*waiter, err error) {
	var problem *Error
	switch {
	case !errors.As(err, &problem), problem.temporary():
		answers := make([]answer, len(group))
		for i := range answers {
			answers[i].err = err
		}
		q.settle(c, group, answers)
	case problem.Status == http.StatusBadRequest && q.apart(c, group, problem):
	case problem.Code == BatchTooLarge || problem.Status == http.StatusRequestEntityTooLarge:
		half := len(group) / 2
		q.send(c, group[:half])
		q.send(c, group[half:])
	default: // a server that takes no batches, say: each learns what alone it comes to
		var sending sync.WaitGroup
		for i := range group {
			sending.Go(func() { q.send(c, group[i:i+1]) })
		}
		sending.Wait()
	}
}

// apart tells the callers whose operations a problem names what is wrong with theirs, and has the others sent again. It
// reports false where it names none.
func (q *coalescer) apart(c *Client, group []*waiter, problem *Error) bool {
	named := map[int]*Error{}
	for _, e := range problem.Errors {
		at, pointer, is := operationOf(e.Pointer)
		if !is || at >= len(group) {
			continue
		}
		if named[at] == nil {
			own := *problem
			own.Errors = nil
			named[at] = &own
		}
		e.Pointer = pointer
		named[at].Errors = append(named[at].Errors, e)
		named[at].Detail = strings.TrimPrefix(pointer+" "+e.Detail+".", " ")
	}
	var rest []*waiter
	for i, w := range group {
		if named[i] != nil {
			w.tell(nil, named[i])
		} else {
			rest = append(rest, w)
		}
	}
	if len(rest) == len(group) {
		return false
	}
	q.add(c, rest...)
	return true
}

// operationOf takes a pointer such as /operations/3/body/quantity apart.
func operationOf(pointer string) (at int, rest string, is bool) {
	text, is := strings.CutPrefix(pointer, "/operations/")
	if !is {
		return 0, "", false
	}
	number, rest, _ := strings.Cut(text, "/")
	at, err := strconv.Atoi(number)
	rest = strings.TrimPrefix("/"+rest, "/body")
	return at, rest, err == nil && at >= 0
}
