package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
)

const (
	// unwritable is the customer whose holds the store refuses to write.
	unwritable = "unwritable"
	// cursed is the product whose holds make the core panic.
	cursed = "cursed"

	second  = 1000
	maxHold = 60 * second
)

// stock makes the products that every history begins with.
func (w *world) stock() {
	for _, id := range []string{"a", "b", cursed} {
		c := &inventory.CreateProduct{
			ID: id, Name: id, Price: euros(100), Location: inventory.MainLocation, TotalStock: int64(w.IntN(9)),
		}
		w.send(w.processes[0], &inventory.Request{Command: c}, 0)
		w.drain()
	}
}

func euros(cents int64) inventory.Money { return inventory.Money{Amount: cents, Currency: "EUR"} }

// call sends a command, to be repeated perhaps.
func (w *world) call() {
	request := w.draw()
	_, expires := request.Command.(*inventory.Expire)
	switch {
	case expires: // the sweeper's, which has no keys
	case len(w.keyed) > 0 && w.chance(6): // the same again
		again := *w.drawKeyed()
		request = &again
	case len(w.keyed) > 0 && w.chance(20): // another command under the same key
		id := *pick(w, w.keyed...).Receipt
		id.Fingerprint = w.newKey().Fingerprint
		request.Receipt = &id
	case w.chance(2):
		request.Receipt = w.newKey()
	}
	if request.Receipt != nil {
		w.keyed = append(w.keyed, request)
	}
	p := pick(w, w.processes...)
	w.send(p, request, time.Duration(w.IntN(3)*w.IntN(3))*time.Second)
}

// drawKeyed is a request with a key, mostly one of the last: the first one may still be under way.
func (w *world) drawKeyed() *inventory.Request {
	if w.chance(3) {
		return pick(w, w.keyed...)
	}
	return pick(w, w.keyed[max(0, len(w.keyed)-4):]...)
}

func (w *world) newKey() *inventory.ReceiptID {
	id := &inventory.ReceiptID{}
	for i := range id.Key {
		id.Key[i], id.Fingerprint[i] = byte(w.IntN(256)), byte(w.IntN(256))
	}
	return id
}

// send sends a request, which is its sender's own from here on. A limit of 0 stands for none.
func (w *world) send(p *process, request *inventory.Request, limit time.Duration) {
	w.number++
	sent := *request
	sent.Salt = w.Uint32()
	sent.Actor = &inventory.Actor{Type: inventory.ActorKey, ID: fmt.Sprint("call ", w.number), Name: "sim"}
	ctx, cancel := context.WithCancel(context.Background())
	c := &call{number: w.number, request: &sent, process: p, leave: cancel}
	w.byNumber[sent.Actor.ID] = c
	w.calls = append(w.calls, c)
	w.tell("%v", c)
	go func() {
		if limit > 0 {
			c.outcome, c.err = p.engine.DoWithin(ctx, limit, &sent)
		} else {
			c.outcome, c.err = p.engine.Do(ctx, &sent)
		}
		c.done.Store(true)
		cancel()
	}()
}

// draw draws a command, or a group of them.
func (w *world) draw() *inventory.Request {
	if w.chance(5) {
		return &inventory.Request{Command: w.drawGroup()}
	}
	return &inventory.Request{Command: w.drawCommand()}
}

func (w *world) drawCommand() inventory.Command {
	switch n := w.IntN(100); {
	case n < 4:
		return w.drawCreate()
	case n < 8:
		return w.drawUpdate()
	case n < 18:
		return w.drawAdjust()
	case n < 50:
		return w.drawReserve()
	case n < 58:
		return &inventory.Cancel{ID: w.drawHold(), Reason: pick(w, "", "changed my mind")}
	case n < 68:
		return &inventory.Extend{ID: w.drawHold(), TTL: int64(1+w.IntN(90)) * second, MaxHold: maxHold}
	case n < 84:
		return &inventory.Confirm{ReservationID: w.drawHold(), Reference: pick(w, "", "x", "y")}
	case n < 90:
		return &inventory.Fulfill{ID: w.drawOrder()}
	case n < 95:
		return &inventory.CancelOrder{ID: w.drawOrder(), Reason: pick(w, "", "broken")}
	case n < 98:
		return &inventory.Expire{IDs: []inventory.ID{w.drawHold(), w.drawHold()}}
	}
	return &inventory.Reserve{TTL: second, Lines: []inventory.ReserveLine{{
		ProductID: cursed, Location: inventory.MainLocation, Quantity: -inventory.MaxStock, UnitPrice: &inventory.Money{},
	}}}
}

func (w *world) drawProduct() string { return pick(w, "a", "a", "a", "b", "b", "c", "d") }

func (w *world) drawLocation() string { return pick(w, "main", "main", "main", "east") }

// drawHold is a reservation that there is, mostly one of the last, or none.
func (w *world) drawHold() (id inventory.ID) {
	list := newestFirst(w.model.reservations)
	if len(list) > 0 && !w.chance(20) {
		id = list[min(w.IntN(len(list)), w.IntN(len(list)), w.IntN(len(list)))].ID
	}
	return id
}

func (w *world) drawOrder() (id inventory.ID) {
	list := newestFirst(w.model.orders)
	if len(list) > 0 && !w.chance(20) {
		id = list[min(w.IntN(len(list)), w.IntN(len(list)))].ID
	}
	return id
}

func (w *world) drawCreate() inventory.Command {
	return &inventory.CreateProduct{
		ID: pick(w, "a", "b", "c", "d", ""), Name: "new", TotalStock: int64(w.IntN(5)), Location: w.drawLocation(),
		Price:    inventory.Money{Amount: int64(w.IntN(500)), Currency: pick(w, "EUR", "EUR", "EUR", "USD")},
		Metadata: inventory.NewMetadata(map[string]string{"size": "L"}),
	}
}

func (w *world) drawUpdate() inventory.Command {
	name, amount := pick(w, "old", "new"), int64(w.IntN(3)*100)
	c := &inventory.UpdateProduct{ID: w.drawProduct(), Name: &name, Amount: &amount}
	switch p := w.model.products[c.ID]; {
	case p == nil:
	case w.chance(3):
		c.IfMatch = []int64{p.LastSeq()}
	case w.chance(3):
		c.Version = p.Version
	}
	return c
}

func (w *world) drawAdjust() inventory.Command {
	c := &inventory.Adjust{
		ProductID: w.drawProduct(), Location: w.drawLocation(), Delta: int64(w.IntN(12) - 5), Reason: "count",
		Reference: pick(w, "", "r"),
	}
	if c.Delta == 0 {
		c.Delta = pick[int64](w, 1, -1, inventory.MaxStock)
	}
	return c
}

func (w *world) drawReserve() inventory.Command {
	c := &inventory.Reserve{
		TTL: int64(1+w.IntN(8)) * second, CustomerID: pick(w, "", "ann", "bob", "ann", "bob", "ann", "bob"),
	}
	if w.chance(25) {
		c.CustomerID = unwritable
	}
	for range 1 + w.IntN(3)*w.IntN(2) {
		l := inventory.ReserveLine{
			ProductID: w.drawProduct(), Location: w.drawLocation(), Quantity: int64(1 + w.IntN(4)),
		}
		if w.chance(6) {
			price := inventory.Money{Amount: pick[int64](w, 1, 50, inventory.MaxAmount), Currency: pick(w, "EUR", "USD")}
			l.UnitPrice = &price
		}
		c.Lines = append(c.Lines, l)
	}
	if w.chance(3) {
		c.Metadata = inventory.NewMetadata(map[string]string{"cart": "1"})
	}
	return c
}

// drawGroup draws commands and, now and then, a hold with what becomes of it at once.
func (w *world) drawGroup() *inventory.Group {
	g := &inventory.Group{Atomic: w.chance(2), RequestID: fmt.Sprint("request ", w.number)}
	for range 1 + w.IntN(4) {
		if w.chance(3) {
			w.addChain(g)
			continue
		}
		c := w.drawCommand()
		if _, expires := c.(*inventory.Expire); !expires { // no caller can ask for one
			w.addOperation(g, c, 0)
		}
	}
	if len(g.Operations) == 0 {
		w.addOperation(g, w.drawReserve(), 0)
	}
	return g
}

func (w *world) addChain(g *inventory.Group) {
	w.addOperation(g, w.drawReserve(), 0)
	hold := len(g.Operations)
	if w.chance(4) {
		w.addOperation(g, &inventory.Extend{TTL: int64(1+w.IntN(90)) * second, MaxHold: maxHold}, hold)
	}
	if w.chance(4) {
		w.addOperation(g, &inventory.Cancel{Reason: "no"}, hold)
		return
	}
	w.addOperation(g, &inventory.Confirm{Reference: "x"}, hold)
	switch order := len(g.Operations); w.IntN(3) {
	case 0:
		w.addOperation(g, &inventory.Fulfill{}, order)
	case 1:
		w.addOperation(g, &inventory.CancelOrder{Reason: "no"}, order)
	}
}

// addOperation gives some operations a key of their own, and some one that was used before.
func (w *world) addOperation(g *inventory.Group, c inventory.Command, names int) {
	request := &inventory.Request{Command: c, Salt: w.Uint32()}
	switch {
	case names == 0 && len(w.keyed) > 0 && w.chance(8):
		used := w.drawKeyed()
		if used.Commands() == 1 && isSingle(used.Command) {
			request.Command, request.Receipt = used.Command, used.Receipt
		}
	case w.chance(3):
		request.Receipt = w.newKey()
		if names == 0 {
			w.keyed = append(w.keyed, request)
		}
	}
	g.Operations = append(g.Operations, inventory.Operation{Request: request, Names: names})
}

func isSingle(c inventory.Command) bool {
	switch c.(type) {
	case *inventory.Group, *inventory.Expire:
		return false
	}
	return true
}

// mayFail reports whether a request may be answered with an internal error: it panics, or cannot be written.
func mayFail(r *inventory.Request) bool {
	switch c := r.Command.(type) {
	case *inventory.Reserve:
		return c.CustomerID == unwritable || c.Lines[0].ProductID == cursed
	case *inventory.Group:
		for i := range c.Operations {
			if mayFail(c.Operations[i].Request) {
				return true
			}
		}
	}
	return false
}

// read asks a process something, if it is not being asked yet. Now and then it cannot look into the store.
func (w *world) read() {
	if len(w.reads) > 0 {
		return
	}
	p := pick(w, w.processes...)
	r := w.drawRead()
	if w.chance(10) {
		p.views = 1 + w.IntN(3)
		r.faulty = true
	} else {
		p.views = 0
	}
	w.ask(p, r)
}

func (w *world) drawRead() *read {
	switch w.IntN(7) {
	case 0:
		return readProduct(w.drawProduct())
	case 1:
		return readProducts([]string{"b", "a", pick(w, "c", "nothing")})
	case 2:
		return readReservations(engine.ReservationQuery{
			Status: inventory.ReservationStatus(w.IntN(5)), CustomerID: pick(w, "", "ann"), Limit: 1000,
		}, w.present())
	case 3:
		return readOrders(engine.OrderQuery{
			Status: inventory.OrderStatus(w.IntN(4)), Reference: pick(w, "", "x"), Limit: 1000,
		})
	case 4:
		return readEvents(w.Int64N(w.told() + 1))
	case 5:
		return readCatalogue()
	}
	return readReservation(w.drawHold(), w.present())
}

// told is the last event that anybody can have been told of.
func (w *world) told() int64 {
	seq := w.model.seq
	for _, p := range w.processes {
		if p.before != nil {
			seq = min(seq, p.before.seq)
		}
	}
	return seq
}

// ask begins a read. A batch that is written while its process does not know yet may be seen or not. But whoever has
// seen it must not be shown afterwards what was so before.
func (w *world) ask(p *process, r *read) {
	w.tell("ask for %s", r.name)
	ctx, cancel := context.WithCancel(context.Background())
	r.process, r.leave, r.possible = p, cancel, map[string]int64{}
	r.faulty = r.faulty || w.isStopped()
	w.reads = append(w.reads, r)
	r.observe(w.model)
	for _, other := range w.processes {
		if other.before != nil && other.before.seq >= p.shown {
			r.observe(other.before)
		}
	}
	go func() {
		r.answer, r.err = r.ask(ctx, p.engine)
		r.done.Store(true)
		cancel()
	}()
}

// readAll asks a process for all there is, one thing after the other.
func (w *world) readAll(p *process) {
	p.views = 0
	all := []*read{readCatalogue(), readEvents(0), readOrders(engine.OrderQuery{Limit: 1000})}
	for _, id := range sortedKeys(w.model.products) {
		all = append(all, readProduct(id))
	}
	for _, r := range newestFirst(w.model.reservations) {
		all = append(all, readReservation(r.ID, w.present()))
	}
	for _, r := range all {
		w.ask(p, r)
		w.drain()
	}
}
