package webhook

import (
	"context"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

// worker serves one webhook. All that it knows belongs to one goroutine, but for what it was told and remembers.
type worker struct {
	*Sender
	id     inventory.ID
	log    *slog.Logger
	told   chan *inventory.Webhook // the latest state of the webhook; it holds one
	recent recent
	stop   context.CancelFunc
	done   chan struct{} // closed at its end
}

func (s *Sender) newWorker(id inventory.ID) *worker {
	return &worker{
		Sender: s, id: id, log: s.o.Log.With("webhook", id.Text(inventory.WebhookPrefix)),
		told: make(chan *inventory.Webhook, 1), done: make(chan struct{}),
	}
}

// tell hands the worker the state of its webhook. It is for one goroutine.
func (w *worker) tell(hook *inventory.Webhook) {
	select {
	case <-w.told:
	default:
	}
	w.told <- hook
}

func (w *worker) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// Why a session ends where another one begins: with what it knew before, it has nothing to do.
var (
	errAnew   = errors.New("the position of the webhook was set")
	errReread = errors.New("the webhook takes other events")
)

// run works until ctx ends, the webhook is gone, or this process is not the sender any more.
func (w *worker) run(ctx context.Context) error {
	hook := <-w.told // which it is before it runs
	for {
		next, err := w.session(ctx, hook)
		if !errors.Is(err, errAnew) && !errors.Is(err, errReread) {
			return err
		}
		hook = next
	}
}

// item is an event on its way.
type item struct {
	inventory.Delivery
	subject *subject
	event   *inventory.Event // nil once it waits: then it is read again when its turn comes
	ids     wire.EventIDs
	waits   bool // it is stored, or will be with the next report
	over    bool // it was delivered, or is dead
}

// subject is the events of one order key that are on their way, in order.
type subject struct {
	queue []*item
	due   time.Time // when the first one may be tried
	place int       // in the heap of those that wait; -1: it is not there
}

// session is what a worker knows between two settings of the position.
type session struct {
	*worker
	hook     *inventory.Webhook
	sending  context.Context // of the tries
	subjects map[string]*subject
	ready    []*subject // whose turn it is, in order
	waiting  waiting    // those whose first event is to be tried later
	inFlight int
	waits    int             // items that wait
	queued   int             // items that were read and do not wait
	window   []*item         // what was read, from the first that is on its way
	stored   map[int64]*item // that have a record, or will have one, by sequence
	next     inventory.Cursor
	epochs   inventory.Epochs
	noted    inventory.Cursor // the position that was reported

	dirty      map[*item]bool // to be reported
	lastGood   inventory.Time // since the last report; 0: none
	lastBad    inventory.Time
	lastDetail string
	gone       bool // the receiver wants nothing more
	failing    bool // it is logged once

	results   chan result
	pages     chan engine.Page
	reports   chan reported
	reporting bool
}

type result struct {
	*item
	try
}

// session works from the position of a webhook on.
func (w *worker) session(ctx context.Context, hook *inventory.Webhook) (*inventory.Webhook, error) {
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	s := &session{
		worker: w, hook: hook, sending: sending, subjects: map[string]*subject{}, stored: map[int64]*item{},
		next: hook.Position, noted: hook.Position, dirty: map[*item]bool{},
		results: make(chan result, sideBySide), pages: make(chan engine.Page), reports: make(chan reported, 1),
	}
	for err := s.load(ctx, 0); err != nil; err = s.load(ctx, 0) {
		if ctx.Err() != nil {
			return s.hook, context.Cause(ctx)
		}
		w.log.Warn("deliveries that wait cannot be read now: trying again", "error", err)
		wait(ctx, pause)
	}
	reading, stop := context.WithCancel(ctx)
	read := make(chan struct{})
	go func() {
		defer close(read)
		s.read(reading, hook.Position)
	}()
	err := s.work(ctx)
	stop()
	<-read
	if !errors.Is(err, context.Canceled) && !errors.Is(err, errReread) {
		cut() // what comes of it cannot be noted any more
	}
	s.finish(ctx, cut, err)
	return s.hook, err
}

// read hands over the events that come after a place, page by page, until ctx ends. A page may be empty: then it says
// how far there is nothing for this webhook.
func (s *session) read(ctx context.Context, after inventory.Cursor) {
	filter := inventory.EventFilter{Types: s.hook.Types}
	for idle := 0; ctx.Err() == nil; {
		query := engine.EventQuery{After: after, Limit: pageEvents, Bytes: pageBytes, Filter: filter}
		page, err := s.o.Engine.Events(ctx, query)
		var ahead *engine.CursorAheadError
		switch {
		case errors.As(err, &ahead):
			after = s.elsewhere(after, ahead)
			continue
		case err != nil:
			wait(ctx, pause)
			continue
		case page.Next != after:
			idle = 0
			select {
			case s.pages <- page:
				after = page.Next
			case <-ctx.Done():
			}
			continue
		}
		if idle++; idle > 1 {
			wait(ctx, readAgain) // an engine that stops does not let anybody wait
		}
		if _, err := s.o.Engine.AwaitEvents(ctx, query, pause); err != nil {
			wait(ctx, pause)
		}
	}
}

// readAgain is the least time between two looks for events where there are none.
const readAgain = 10 * time.Millisecond

// elsewhere deals with a feed that does not have the position: the store was restored from an older state. It goes on
// behind the last event that both have.
func (s *session) elsewhere(after inventory.Cursor, ahead *engine.CursorAheadError) inventory.Cursor {
	if !ahead.Known {
		ahead.Shared = inventory.Cursor{}
	}
	s.log.Warn("the store was restored from an older state", "sent", after.String(), "goesOnAfter", ahead.Shared.String())
	return ahead.Shared
}

// load reads the deliveries that wait. Of those that are known already it takes only what somebody has asked for more
// often than asked.
func (s *session) load(ctx context.Context, asked int64) error {
	var list []*inventory.Delivery
	of := inventory.DeliveryRange(s.id, inventory.ID{}, inventory.DeliveryPending, 1000)
	for more := true; more; more = of.After != "" {
		page, next, err := s.o.Engine.RecordRange(ctx, of)
		if err != nil {
			return err
		}
		for _, r := range page {
			d, err := inventory.DecodeDelivery(r)
			if err != nil {
				return err
			}
			list = append(list, d)
		}
		of.After = next
	}
	slices.Reverse(list)
	for _, d := range list {
		if known := s.stored[d.Sequence()]; known == nil && d.Asked >= asked || known != nil && d.Asked > known.Asked {
			s.ask(known, d)
		}
	}
	return nil
}

// ask enters a stored delivery: a new one, or one that somebody has asked for.
func (s *session) ask(known *item, d *inventory.Delivery) {
	if known != nil && !known.over {
		known.Asked, known.Tries, known.NextAttemptAt = d.Asked, 0, d.NextAttemptAt
		if q := known.subject; q.queue[0] == known && q.place >= 0 {
			s.waiting.remove(q)
			s.line(q)
		}
		return
	}
	it := &item{Delivery: *d, waits: true}
	s.stored[d.Sequence()] = it
	delete(s.dirty, known) // what became of it before does not count
	s.waits++
	s.enter(it)
}

// enter puts an item where it belongs in the order of its subject.
func (s *session) enter(it *item) {
	q := s.subjects[it.Key]
	if q == nil {
		q = &subject{place: -1}
		s.subjects[it.Key] = q
	}
	it.subject = q
	at := len(q.queue)
	for at > 0 && q.queue[at-1].Sequence() > it.Sequence() {
		at--
	}
	busy := len(q.queue) > 0
	if busy && at == 0 && q.place < 0 {
		at = 1 // the first one has its turn already
	}
	q.queue = slices.Insert(q.queue, at, it)
	switch {
	case !busy:
		s.line(q)
	case at == 0: // before one that waits
		s.waiting.remove(q)
		s.line(q)
	case q.queue[0].waits && !it.waits:
		s.hold(it)
	}
}

// hold lets an item wait: it is stored, so that the position moves on.
func (s *session) hold(it *item) {
	it.waits, it.event = true, nil
	s.queued--
	s.waits++
	s.stored[it.Sequence()] = it
	s.dirty[it] = true
}

// line lets the first event of a subject have its turn, now or when it is due.
func (s *session) line(q *subject) {
	q.due = time.UnixMilli(int64(q.queue[0].NextAttemptAt))
	if time.Until(q.due) > 0 {
		s.waiting.add(q)
		return
	}
	s.ready = append(s.ready, q)
}

func (s *session) active() bool { return s.hook.Status == inventory.WebhookActive && !s.gone }

// hasRoom reports whether more events may be read.
func (s *session) hasRoom() bool {
	return s.active() && s.queued < queueLimit && s.waits+s.queued+pageEvents <= waitingLimit
}

// work is the loop of a session.
func (s *session) work(ctx context.Context) error {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	for {
		s.send()
		if at, any := s.waiting.first(); any && s.active() {
			due.Reset(time.Until(at))
		} else {
			due.Stop()
		}
		pages := s.pages
		if !s.hasRoom() {
			pages = nil
		}
		var err error
		select {
		case page := <-pages:
			s.take(&page)
		case r := <-s.results:
			s.settle(r)
		case <-due.C:
			s.wake()
		case <-ticker.C:
			s.report(ctx)
		case r := <-s.reports:
			err = s.reported(r)
		case hook := <-s.told:
			err = s.hear(ctx, hook)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// take enters the events of a page.
func (s *session) take(page *engine.Page) {
	s.next, s.epochs = page.Next, page.Epochs
	ids := wire.EventIDs{Store: page.Store, Epochs: page.Epochs}
	for i := range page.Events {
		e := &page.Events[i]
		if s.stored[e.Seq] != nil {
			continue // somebody has asked for it before its turn
		}
		it := &item{event: e, Delivery: inventory.Delivery{
			ID: inventory.DeliveryID(s.id, e), EventID: ids.ID(e.Seq), Type: e.Type, Key: e.OrderKey(),
			Status: inventory.DeliveryPending, UpdatedAt: now(), Generation: s.hook.Generation,
		}}
		it.ids = ids
		s.window = append(s.window, it)
		s.queued++
		s.enter(it)
	}
}

func now() inventory.Time { return inventory.Time(time.Now().UnixMilli()) }

// wake lets those have their turn that are due.
func (s *session) wake() {
	for {
		at, any := s.waiting.first()
		if !any || time.Until(at) > 0 {
			return
		}
		s.ready = append(s.ready, s.waiting.pop())
	}
}

// send starts tries while there are places.
func (s *session) send() {
	for s.inFlight < sideBySide && len(s.ready) > 0 && s.active() {
		it := s.ready[0].queue[0]
		s.ready = s.ready[1:]
		s.inFlight++
		go func(hook *inventory.Webhook) { s.results <- result{it, s.try(hook, it)} }(s.hook)
	}
}

// try sends an event. What has waited is read again.
func (s *session) try(hook *inventory.Webhook, it *item) try {
	e, ids := it.event, it.ids
	if e == nil {
		page, err := s.o.Engine.Event(s.sending, it.Sequence())
		switch {
		case err != nil:
			return try{ended: true}
		case len(page.Events) == 0:
			return try{err: "the event is not in the feed any more"}
		}
		e, ids = &page.Events[0], wire.EventIDs{Store: page.Store, Epochs: page.Epochs}
	}
	return s.client.send(s.sending, hook, it.EventID, wire.AppendEvent(nil, e, &ids))
}

// settle notes what came of a try.
func (s *session) settle(r result) {
	s.inFlight--
	it := r.item
	if r.ended { // by us, or the event could not be read
		it.subject.due = time.Now().Add(pause)
		s.waiting.add(it.subject)
		return
	}
	it.Attempts++
	it.UpdatedAt, it.LastStatus, it.LastError, it.NextAttemptAt = now(), int64(r.status), r.err, 0
	if r.err == "" {
		s.succeeded(it)
	} else {
		s.failed(it, &r.try)
	}
}

func (s *session) succeeded(it *item) {
	s.lastGood = it.UpdatedAt
	it.Status = inventory.DeliveryDelivered
	if it.Attempts == 1 {
		s.recent.add(&it.Delivery)
	}
	s.finished(it)
	s.o.Observe(Delivered)
	if s.failing {
		s.failing = false
		s.log.Info("events are delivered again")
	}
}

// finished takes an item out, and lets the next one of its subject have its turn.
func (s *session) finished(it *item) {
	it.over, it.event = true, nil
	if it.waits {
		s.waits--
		s.dirty[it] = true
	} else {
		s.queued--
	}
	q := it.subject
	if q.queue = q.queue[1:]; len(q.queue) == 0 {
		delete(s.subjects, it.Key)
		return
	}
	s.line(q)
}

func (s *session) failed(it *item, t *try) {
	s.lastBad, s.lastDetail = it.UpdatedAt, t.err
	if !s.failing {
		s.failing = true
		s.log.Warn("an event could not be delivered", "sequence", it.Sequence(), "attempts", it.Attempts, "error", t.err)
	}
	for _, behind := range it.subject.queue {
		if !behind.waits {
			s.hold(behind)
		}
	}
	s.dirty[it] = true
	switch {
	case t.gone():
		s.gone = true
	case int(it.Tries) >= len(s.o.Retries):
		it.Tries++
		it.Status = inventory.DeliveryDead
		s.log.Warn("a delivery is dead", "sequence", it.Sequence(), "attempts", it.Attempts, "error", t.err)
		s.o.Observe(Dead)
		s.finished(it)
		return
	default:
		it.NextAttemptAt = it.UpdatedAt + inventory.Time(s.pauseAfter(it, t).Milliseconds())
		it.Tries++
	}
	s.o.Observe(Failed)
	s.line(it.subject)
}

// pauseAfter is how long to wait after a try that failed: as the schedule says and up to a fifth more, or as the receiver
// asks if that is longer.
func (s *session) pauseAfter(it *item, t *try) time.Duration {
	d := s.o.Retries[it.Tries]
	return max(d+mathrand.N(d/5+1), t.retryAfter)
}

// hear takes over what somebody has changed.
func (s *session) hear(ctx context.Context, hook *inventory.Webhook) error {
	before := s.hook
	switch {
	case hook.Generation < before.Generation || hook.Version < before.Version || hook.Retries < before.Retries:
		return nil // read before the last report
	case hook.Generation > before.Generation:
		s.hook = hook
		return errAnew
	case hook.Types != before.Types:
		s.hook = hook
		return errReread
	}
	s.hook = hook
	if hook.Status != inventory.WebhookDisabled && before.Status == inventory.WebhookDisabled {
		s.gone = false
	}
	if hook.Retries == before.Retries {
		return nil
	}
	if err := s.load(ctx, 1); err != nil && ctx.Err() == nil {
		s.hook = before // so that it is read again
		return nil
	}
	return nil
}

// position is the place up to which everything was delivered, is dead, or waits.
func (s *session) position() inventory.Cursor {
	for len(s.window) > 0 && (s.window[0].over || s.window[0].waits) {
		s.window[0] = nil
		s.window = s.window[1:]
	}
	if len(s.window) > 0 {
		return s.epochs.At(s.window[0].Sequence() - 1)
	}
	return s.next
}

// reported is what came of a report.
type reported struct {
	outcome  inventory.Outcome
	err      error
	position inventory.Cursor
	sent     []*item
	gone     bool
	undo     func() // where it failed
}

// report notes what has changed since the last report, without waiting for it.
func (s *session) report(ctx context.Context) {
	position := s.position()
	nothing := position == s.noted && len(s.dirty) == 0 && !s.gone && s.lastGood == 0 && s.lastBad == 0
	if nothing || s.reporting {
		return
	}
	s.reporting = true
	r, send := s.prepare(position)
	go func() { s.reports <- send(ctx, r) }()
}

// prepare takes what is to be reported, and returns how it is sent.
func (s *session) prepare(position inventory.Cursor) (reported, func(context.Context, reported) reported) {
	r := reported{position: position, gone: s.gone}
	changed := make([]inventory.Delivery, 0, len(s.dirty))
	for it := range s.dirty {
		r.sent = append(r.sent, it)
		changed = append(changed, it.Delivery)
	}
	clear(s.dirty)
	last := inventory.ReportDeliveries{
		Sender: leaseName, Holder: s.holder, WebhookID: s.id, Generation: s.hook.Generation,
		LastSuccessAt: s.lastGood, LastFailureAt: s.lastBad, LastFailure: s.lastDetail, Gone: s.gone, Position: &r.position,
		DisableAfter: inventory.Time(s.o.DisableAfter.Milliseconds()),
	}
	good, bad := s.lastGood, s.lastBad
	s.lastGood, s.lastBad = 0, 0
	r.undo = func() {
		s.lastGood, s.lastBad = max(good, s.lastGood), max(bad, s.lastBad)
		for _, it := range r.sent {
			s.dirty[it] = true
		}
	}
	return r, func(ctx context.Context, r reported) reported {
		r.outcome, r.err = s.sendReport(ctx, changed, last)
		return r
	}
}

// sendReport commits a report: where it has many deliveries, in parts, of which the last has the rest.
func (s *session) sendReport(
	ctx context.Context, changed []inventory.Delivery, last inventory.ReportDeliveries,
) (o inventory.Outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	for part := range slices.Chunk(changed, inventory.MaxReported) {
		if len(changed) <= inventory.MaxReported {
			last.Deliveries = part
			break
		}
		command := inventory.ReportDeliveries{
			Sender: last.Sender, Holder: last.Holder, WebhookID: last.WebhookID, Generation: last.Generation,
			DisableAfter: last.DisableAfter, Deliveries: part,
		}
		o, err = s.o.Engine.Do(ctx, &inventory.Request{Command: &command})
		if err != nil || s.refused(&o, last.Generation) != nil {
			return o, err
		}
	}
	return s.o.Engine.Do(ctx, &inventory.Request{Command: &last})
}

// errDeleted is why a worker ends whose webhook is not there any more.
var errDeleted = errors.New("the webhook was deleted")

// refused says why a report had no effect.
func (s *session) refused(o *inventory.Outcome, generation int64) error {
	switch {
	case o.Refusal != nil:
		return errDeleted
	case o.Sink.Holder != s.holder:
		return errLost
	case o.Webhook.Generation != generation:
		return errAnew
	}
	return nil
}

// reported takes over what came of a report.
func (s *session) reported(r reported) error {
	s.reporting = false
	if r.err != nil {
		r.undo()
		return nil
	}
	if err := s.refused(&r.outcome, s.hook.Generation); err != nil {
		if errors.Is(err, errAnew) {
			s.hook = r.outcome.Webhook
		}
		return err
	}
	s.noted = r.position
	for _, it := range r.sent {
		if it.over && !s.dirty[it] && s.stored[it.Sequence()] == it {
			delete(s.stored, it.Sequence())
		}
	}
	hook, before := r.outcome.Webhook, s.hook
	if hook.Status == inventory.WebhookDisabled && before.Status != inventory.WebhookDisabled {
		s.log.Warn("the webhook was disabled", "reason", hook.LastFailure)
		s.o.Observe(Disabled)
	}
	if hook.Types == before.Types && hook.Retries == before.Retries && hook.Version >= before.Version {
		s.hook = hook
		s.gone = s.gone && !r.gone
	}
	return nil
}

// finish waits for the tries under way, cuts them where they take too long, and notes what has changed, unless another
// process may be the sender.
func (s *session) finish(ctx context.Context, cut context.CancelFunc, why error) {
	defer time.AfterFunc(grace, cut).Stop()
	for s.inFlight > 0 {
		s.settle(<-s.results)
	}
	if s.reporting {
		if r := <-s.reports; r.err != nil {
			r.undo()
		} else {
			s.noted = r.position
		}
	}
	if !errors.Is(why, context.Canceled) && !errors.Is(why, errReread) {
		return
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), pause)
	defer cancel()
	if r, send := s.prepare(s.position()); len(r.sent) > 0 || r.position != s.noted {
		if r = send(last, r); r.err != nil {
			s.log.Warn("the last deliveries could not be noted: some are made again", "error", r.err)
		} else if s.refused(&r.outcome, s.hook.Generation) == nil {
			s.noted = r.position
		}
	}
	next := *s.hook
	next.Position = s.noted
	s.hook = &next
}
