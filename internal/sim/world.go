// Package sim runs the whole core in a world that a seed draws: commands of every kind, the faults of a store, crashes,
// a second process, a clock that jumps, callers that leave. After every step it holds what the core has done and said
// against a model that was written from the contract.
//
// A world is one goroutine that lets the others go on one at a time, in a bubble of testing/synctest, so that a seed
// always gives the same history. Each commit waits where a crash or a fault would make a difference, and the world
// decides what happens there.
//
// The model follows the events that are written, not the answers. Each event must be what its command has to come to at
// that point of history. An answer must be that effect or, where there was none, right at one of the points between the
// request and the answer. So the model needs to know neither the order in which commands were queued, nor how they were
// put into batches. What a group came to may depend on what has left no event: then its answer must be one of those
// that its events and receipts allow.
package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing/synctest"
	"time"

	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// world is one history.
type world struct {
	*rand.Rand
	rows   *memory.Store // what is durable: it outlives the processes
	model  *model
	at     inventory.Time                   // of the last batch that was written
	skew   time.Duration                    // of the clock that decides
	shared bool                             // several processes use the store
	wrong  string                           // the first thing that went wrong
	trace  func(format string, args ...any) // nil: nobody listens

	options   engine.Options
	processes []*process
	calls     []*call // under way
	reads     []*read // likewise
	number    int     // of the last call
	byNumber  map[string]*call
	keyed     []*inventory.Request // requests with keys, to be repeated
	written   []keyed              // the receipts of the batch that is followed, in the order of its commands
	owed      []keyed              // those that it must have
}

// Run runs the history of a seed and says what is wrong with it, if anything. It must be called in a bubble of
// testing/synctest. What happens is told to trace, if that is not nil.
func Run(seed uint64, trace func(format string, args ...any)) (wrong string) {
	w := &world{
		Rand: rand.New(rand.NewPCG(seed, 0)), model: newModel(), trace: trace, byNumber: map[string]*call{},
	}
	w.rows = memory.Open(memory.Options{Now: w.clock})
	w.shared = w.chance(3)
	w.options = engine.Options{
		BatchLimit: pick(w, 2, 3, 1024), QueueLimit: pick(w, 4, 8192, 8192), MemoryLimit: pick(w, 2000, 1<<20),
	}
	w.processes = append(w.processes, startProcess(w, w.options))
	if w.shared {
		w.processes = append(w.processes, startProcess(w, w.options))
	}
	w.stock()
	for range 20 + w.IntN(100) {
		if w.wrong == "" {
			w.step()
		}
	}
	w.end()
	return w.wrong
}

func (w *world) chance(oneIn int) bool { return w.IntN(oneIn) == 0 }

func pick[T any](w *world, choices ...T) T { return choices[w.IntN(len(choices))] }

// clock is the clock that decides.
func (w *world) clock() time.Time { return time.Now().Add(w.skew) }

// present is the time that the next batch will have at least.
func (w *world) present() inventory.Time { return max(inventory.Time(w.clock().UnixMilli()), w.at) }

func (w *world) fail(format string, args ...any) {
	if w.wrong == "" {
		w.wrong = fmt.Sprintf(format, args...)
	}
}

func (w *world) tell(format string, args ...any) {
	if w.trace != nil {
		w.trace(format, args...)
	}
}

func (w *world) step() {
	switch n := w.IntN(100); {
	case n < 45:
		w.call()
	case n < 70:
		w.goOn(w.drawFault())
	case n < 84:
		w.read()
	case n < 92:
		w.passTime()
	case n < 95:
		w.leave()
	case n < 97:
		w.crash(w.IntN(len(w.processes)))
	case n < 98:
		w.stop(w.IntN(len(w.processes)))
	default:
		w.drain()
	}
	w.settle()
}

// goOn lets one waiting commit go on. It reports false where none waits.
func (w *world) goOn(f fault) bool {
	first := w.IntN(len(w.processes))
	for i := range w.processes {
		p := w.processes[(first+i)%len(w.processes)]
		if p.stage == working {
			continue
		}
		if p.stage == written {
			f = none
		}
		w.tell("commit of process %d: stage %d, fault %d", (first+i)%len(w.processes), p.stage, f)
		w.mayFail(p, f != none && f != heldAfter)
		p.orders <- f
		return true
	}
	return false
}

// mayFail notes that what a process is asked now may fail.
func (w *world) mayFail(p *process, faulty bool) {
	for _, r := range w.reads {
		r.faulty = r.faulty || (faulty && r.process == p)
	}
}

func (w *world) drawFault() fault {
	if w.chance(2) {
		return none
	}
	return pick(w, unavailable, unknownLost, unknownWritten, decidedTwice, decidedTwice, heldAfter, heldAfter, heldAfter,
		heldAfter, pick(w, none, none, brokenLost, brokenWritten))
}

// settle lets everything run until it waits for the world, and holds the answers so far against the model.
func (w *world) settle() {
	for again := true; again; {
		again = false
		synctest.Wait()
		for _, p := range w.processes {
			if p.stage == reporting {
				p.orders <- none
				synctest.Wait()
				again = true
			}
		}
	}
	w.checkAnswers()
	for i, p := range w.processes {
		select {
		case <-p.engine.Broken():
			w.crash(i) // the process ends by itself
		default:
		}
	}
}

// checkAnswers takes out the calls and reads that were answered.
func (w *world) checkAnswers() {
	var calls []*call
	waiting := map[*process]bool{}
	for _, c := range w.calls {
		if c.done.Load() && !c.checked {
			w.tell("%v: %v %v", c, c.err, shown(describe, &c.outcome))
			if wrong := c.check(w.model); wrong != "" {
				w.fail("%v %s", c, wrong)
			}
		}
		waiting[c.process] = waiting[c.process] || !c.done.Load()
		if !c.closed {
			calls = append(calls, c)
		}
	}
	w.calls = calls
	for _, c := range calls {
		// What a process has not done once it has nothing left to do, it never does.
		c.closed = c.done.Load() && !waiting[c.process] && c.process.stage == working
	}
	var reads []*read
	for _, r := range w.reads {
		if !r.done.Load() {
			reads = append(reads, r)
		} else if wrong := r.check(); wrong != "" {
			w.fail("%s", wrong)
		}
	}
	w.reads = reads
}

// passTime lets time pass, or has the clock jump. Lists are not asked across it: what they show is then of two times.
func (w *world) passTime() {
	if len(w.reads) > 0 {
		return
	}
	stopped := w.isStopped()
	if !stopped && w.chance(2) {
		d := time.Duration(1+w.IntN(4000)) * time.Millisecond
		w.tell("%v pass", d)
		time.Sleep(d)
		return
	}
	to := w.at + inventory.Time(pick(w, -w.IntN(backAtMost), -w.IntN(backAtMost), w.IntN(5000), w.IntN(400_000)))
	switch r := w.model.reservations[w.drawHold()]; {
	case !stopped && w.chance(10):
		to = w.at - 20*second
	case r != nil && r.ExpiresAt > w.at && w.chance(2):
		to = r.ExpiresAt + pick[inventory.Time](w, -1, 0, 0, 1)
	}
	w.skew += time.UnixMilli(int64(to)).Sub(w.clock())
	w.tell("the clock jumps to %d", to)
}

// backAtMost is how far the clock jumps back, in milliseconds, for the store to go on.
const backAtMost = 4900

// isStopped reports whether the clock is so far behind that the store commits nothing.
func (w *world) isStopped() bool { return w.at-inventory.Time(w.clock().UnixMilli()) > backAtMost }

// leave has a caller leave.
func (w *world) leave() {
	if len(w.calls) > 0 {
		c := pick(w, w.calls...)
		w.tell("the caller of %d leaves", c.number)
		c.leave()
	}
}

// crash ends a process where it stands, and starts another in its place.
func (w *world) crash(i int) {
	p := w.processes[i]
	w.tell("process %d crashes", i)
	close(p.dead)
	w.forget(p)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.engine.Close(gone)
	synctest.Wait()
	w.checkRows()
	w.processes[i] = startProcess(w, w.options)
}

// forget drops what was under way in a process that crashed: nobody is told, and nothing may come of it any more.
func (w *world) forget(p *process) {
	var calls []*call
	for _, c := range w.calls {
		if c.process == p {
			c.closed = true
			c.leave()
		} else {
			calls = append(calls, c)
		}
	}
	w.calls = calls
	var reads []*read
	for _, r := range w.reads {
		if r.process == p {
			r.leave()
		} else {
			reads = append(reads, r)
		}
	}
	w.reads = reads
}

// stop ends a process well: it commits what it has accepted.
func (w *world) stop(i int) {
	p := w.processes[i]
	w.tell("process %d stops", i)
	w.mayFail(p, true)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := p.engine.Close(context.Background()); err != nil {
			w.fail("a process did not stop well: %v", err)
		}
	}()
	w.settle()
	for w.goOn(none) {
		w.settle()
	}
	<-ended
	for _, c := range w.calls {
		if c.process == p && !c.done.Load() {
			w.fail("%v was not answered by a process that stopped", c)
		}
	}
	w.processes[i] = startProcess(w, w.options)
}

// drain lets everything go on until nobody waits, and looks at all that there is.
func (w *world) drain() {
	w.settle()
	for w.goOn(none) {
		w.settle()
	}
	if len(w.reads) > 0 {
		w.fail("%s was not answered", w.reads[0].name)
	}
	for _, c := range w.calls {
		if !c.done.Load() {
			w.fail("%v was not answered", c)
		}
	}
	w.checkRows()
}

// end drains the world, asks every process for everything, and audits the store.
func (w *world) end() {
	w.drain()
	for _, p := range w.processes {
		if w.wrong == "" {
			w.readAll(p)
		}
		w.settle()
	}
	w.drain()
	for _, p := range w.processes {
		close(p.dead)
		_ = p.engine.Close(context.Background())
	}
	synctest.Wait()
	report, err := audit.Run(context.Background(), w.rows, audit.Options{})
	if err != nil {
		w.fail("the audit failed: %v", err)
	} else if !report.Clean() {
		w.fail("the audit found: %v", report.Breaches)
	}
}

// checkRows holds every stored row against the model.
func (w *world) checkRows() {
	ctx := context.Background()
	stored, expected := "", ""
	err := w.rows.View(ctx, func(v store.View) error {
		products, _, err := v.Products(ctx, store.ProductQuery{Limit: 1000})
		for _, p := range products {
			stored += describeRows(p, nil, nil, nil)
		}
		reservations, _, _ := v.Reservations(ctx, store.ReservationQuery{Limit: 1000})
		for _, r := range reservations {
			stored += describeRows(nil, nil, r, nil)
		}
		orders, _, _ := v.Orders(ctx, store.OrderQuery{Limit: 1000})
		for _, o := range orders {
			stored += describeRows(nil, nil, nil, o)
		}
		return err
	})
	for _, id := range sortedKeys(w.model.products) {
		expected += describeRows(w.model.products[id], nil, nil, nil)
	}
	for _, r := range newestFirst(w.model.reservations) {
		expected += describeRows(nil, nil, r, nil)
	}
	for _, o := range newestFirst(w.model.orders) {
		expected += describeRows(nil, nil, nil, o)
	}
	if err != nil || stored != expected {
		w.fail("stored (%v)\n  %s\nexpected\n  %s", err, stored, expected)
	}
}
