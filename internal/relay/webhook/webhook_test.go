package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
	"github.com/holdfast/holdfast/internal/wire"
)

// shared is a store that several engines use, as processes on one database do.
type shared struct {
	store.Store
	away atomic.Bool // of this process, which cannot reach the store
}

func (s *shared) SoleWriter() (func() time.Time, bool) { return nil, false }
func (s *shared) Close() error                         { return nil }

func (s *shared) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	if s.away.Load() {
		return store.ErrUnavailable
	}
	return s.Store.Commit(ctx, keys, decide)
}

// got is a request that a receiver has got.
type got struct {
	id, url  string
	sequence int64
	key      string
	at       time.Time
}

// receiver is a receiver without a network.
type receiver struct {
	mu     sync.Mutex
	got    []got
	answer func(g got) (*http.Response, error) // default: 200
	busy   int
	most   int // requests at a time
}

func (r *receiver) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	var event struct {
		ID       string
		Sequence int64
		Data     struct {
			Reservation struct{ ID string }
			Order       struct{ ReservationID string }
			Product     struct{ ID string }
		}
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return nil, err
	}
	g := got{request.Header.Get("webhook-id"), request.URL.String(), event.Sequence, "", time.Now()}
	g.key = event.Data.Reservation.ID + event.Data.Order.ReservationID + event.Data.Product.ID
	r.mu.Lock()
	r.got = append(r.got, g)
	r.busy++
	r.most = max(r.most, r.busy)
	answer := r.answer
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.busy--
		r.mu.Unlock()
	}()
	if answer == nil {
		return status(200)
	}
	return answer(g)
}

func status(code int, headers ...string) (*http.Response, error) {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(bytes.NewReader(nil))}, nil
}

func (r *receiver) set(answer func(got) (*http.Response, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) all() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *receiver) sequences() (list []int64) {
	for _, g := range r.all() {
		list = append(list, g.sequence)
	}
	return list
}

// bench is an engine with a webhook and a receiver.
type bench struct {
	*testing.T
	*engine.Engine
	receiver *receiver
	id       inventory.ID
}

func newBench(t *testing.T, s store.Store) *bench {
	b := &bench{T: t, Engine: engine.Open(s, engine.Options{}), receiver: &receiver{}}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	return b
}

func (b *bench) do(c inventory.Command) inventory.Outcome {
	b.Helper()
	o, err := b.Do(context.Background(), &inventory.Request{Command: c, Salt: mathrand.Uint32()})
	if err != nil || o.Refusal != nil {
		b.Fatalf("%T: %v %+v", c, err, o.Refusal)
	}
	return o
}

func (b *bench) webhook(after int64, types inventory.EventTypeSet) {
	b.Helper()
	from := &inventory.Cursor{Seq: after}
	c := &inventory.CreateWebhook{URL: "https://shop.example/hook", After: from, Types: types, Secret: "s"}
	b.id = b.do(c).Webhook.ID
}

// read is the webhook as it is stored.
func (b *bench) read() *inventory.Webhook {
	b.Helper()
	list, err := b.Records(context.Background(), []inventory.RecordKey{inventory.WebhookKey(b.id)})
	if err != nil || len(list) != 1 {
		b.Fatal(len(list), err)
	}
	w, err := inventory.DecodeWebhook(list[0].Data)
	if err != nil {
		b.Fatal(err)
	}
	return w
}

// deliveries are those that are stored, by sequence.
func (b *bench) deliveries(of inventory.DeliveryStatus) map[int64]*inventory.Delivery {
	b.Helper()
	found := map[int64]*inventory.Delivery{}
	page, _, err := b.RecordRange(context.Background(), inventory.DeliveryRange(b.id, inventory.ID{}, of, 20_000))
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range page {
		d, err := inventory.DecodeDelivery(r)
		if err != nil {
			b.Fatal(err)
		}
		found[d.Sequence()] = d
	}
	return found
}

var made atomic.Int64

// products makes products, an event each.
func (b *bench) products(n int) (ids []string) {
	b.Helper()
	for range n {
		id := fmt.Sprint("p", made.Add(1))
		price := inventory.Money{Currency: "EUR"}
		b.do(&inventory.CreateProduct{ID: id, Name: "p", Price: price, Location: inventory.MainLocation})
		ids = append(ids, id)
	}
	return ids
}

// rename makes another event of a product.
func (b *bench) rename(id string) {
	b.Helper()
	name := fmt.Sprint("n", made.Add(1))
	b.do(&inventory.UpdateProduct{ID: id, Name: &name})
}

func (b *bench) sender(o Options) *Sender {
	o.Engine, o.Transport = b.Engine, b.receiver
	return New(o)
}

// run starts a sender. Stopping it waits for its end.
func (b *bench) run(o Options) (s *Sender, stop func()) {
	b.Helper()
	s = b.sender(o)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { s.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		group.Wait()
	})
	b.Cleanup(stop)
	return s, stop
}

func (b *bench) expect(want ...int64) {
	b.Helper()
	if got := b.receiver.sequences(); !slices.Equal(got, want) {
		b.Errorf("the receiver has %v, expected %v", got, want)
	}
}

// TestDelivered: events come once each and in order; the position is noted within a second, and another sender goes on
// behind it.
func TestDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, memory.Open(memory.Options{}))
		id := b.products(1)[0]
		b.webhook(0, 0)
		s, stop := b.run(Options{})
		b.rename(id)
		b.rename(id)
		time.Sleep(3 * time.Second) // of the bubble's clock
		b.expect(1, 2, 3)
		w := b.read()
		if w.Position.Seq != 3 || w.LastSuccessAt == 0 || w.LastFailureAt != 0 {
			t.Errorf("%+v", w)
		}
		if recent := s.Recent(b.id); len(recent) != 3 || recent[0].Sequence() != 3 || recent[0].Attempts != 1 {
			t.Errorf("%+v", recent)
		}
		if n := len(b.deliveries(inventory.DeliveryDelivered)); n != 0 {
			t.Errorf("%d deliveries that succeeded at once are stored", n)
		}
		b.rename(id)
		synctest.Wait()
		stop() // which notes the position
		b.run(Options{})
		b.rename(id)
		time.Sleep(3 * time.Second)
		b.expect(1, 2, 3, 4, 5)
	})
}

// TestTypes: only events of the types come, and the position moves over the others.
func TestTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, memory.Open(memory.Options{}))
		ids := b.products(3)
		b.webhook(0, 1<<inventory.EventProductUpdated)
		b.run(Options{})
		b.rename(ids[0])
		b.products(1)
		time.Sleep(5 * time.Second)
		b.expect(4)
		if w := b.read(); w.Position.Seq != 5 {
			t.Errorf("%+v", w)
		}
		types := inventory.EventTypeSet(1 << inventory.EventProductCreated)
		b.do(&inventory.UpdateWebhook{ID: b.id, Types: &types})
		time.Sleep(3 * time.Second)
		b.rename(ids[1])
		b.products(1)
		time.Sleep(3 * time.Second)
		b.expect(4, 7)
	})
}

// TestRetries: the schedule, its jitter, and the end as a dead letter; the subject waits, and others go on.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, memory.Open(memory.Options{}))
		ids := b.products(2)
		b.webhook(2, 0)
		b.receiver.set(func(g got) (*http.Response, error) {
			if g.sequence == 3 {
				return status(503)
			}
			return status(200)
		})
		b.run(Options{Retries: []time.Duration{5 * time.Second, time.Minute}})
		b.rename(ids[0]) // 3
		synctest.Wait()
		b.rename(ids[0]) // 4, behind it
		b.rename(ids[1]) // 5
		time.Sleep(4 * time.Second)
		b.expect(3, 5)
		waiting := b.deliveries(inventory.DeliveryPending)
		if len(waiting) != 2 || waiting[3].Attempts != 1 || waiting[3].LastStatus != 503 ||
			waiting[3].LastError != "answered 503 Service Unavailable" ||
			waiting[4].Attempts != 0 || b.read().Position.Seq != 5 {
			t.Errorf("%+v, %+v", waiting, b.read())
		}
		time.Sleep(2 * time.Minute)
		b.expect(3, 5, 3, 3, 4)
		tries := b.receiver.all()
		for i, wait := range map[int]time.Duration{2: 5 * time.Second, 3: time.Minute} {
			before := tries[i-1].at
			if i == 2 {
				before = tries[0].at
			}
			if d := tries[i].at.Sub(before); d < wait || d > wait+wait/5+10*time.Millisecond {
				t.Errorf("try %d came after %v", i, d)
			}
		}
		dead := b.deliveries(inventory.DeliveryDead)
		if len(dead) != 1 || dead[3].Attempts != 3 || len(b.deliveries(inventory.DeliveryPending)) != 0 {
			t.Errorf("%+v", dead)
		}
		if len(b.deliveries(inventory.DeliveryDelivered)) != 0 {
			t.Error("what only waited is stored as delivered")
		}

		// Somebody asks for it again, when the receiver is well.
		b.receiver.set(nil)
		d := b.do(&inventory.RetryDelivery{WebhookID: b.id, Delivery: inventory.Delivery{ID: dead[3].ID}}).Delivery
		time.Sleep(3 * time.Second)
		b.expect(3, 5, 3, 3, 4, 3)
		done := b.deliveries(inventory.DeliveryDelivered)
		if d.Status != inventory.DeliveryPending || len(done) != 1 || done[3].Attempts != 4 ||
			len(b.deliveries(inventory.DeliveryDead)) != 0 {
			t.Errorf("%+v %+v", d, done[3])
		}
	})
}

// TestRetryAfter: what the receiver asks for lengthens the wait, up to a day.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		date := time.Now().UTC().Add(time.Hour).Format(http.TimeFormat)
		for text, want := range map[string]time.Duration{
			"120": 2 * time.Minute, "1": 5 * time.Second, "999999": 24 * time.Hour, "x": 5 * time.Second, "-5": 5 * time.Second,
			"99999999999999999999": 5 * time.Second, date: time.Hour,
		} {
			w := &session{worker: &worker{Sender: New(Options{Retries: []time.Duration{5 * time.Second}})}}
			after := retryAfter(text, time.Now())
			got := w.pauseAfter(&item{}, &try{retryAfter: after})
			if got < want-time.Second || got > want+time.Second {
				t.Errorf("%s: %v, expected %v", text, got, want)
			}
		}
	})
}

// TestGone: 410 disables; the delivery waits, and comes first when the webhook is active again.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, memory.Open(memory.Options{}))
		id := b.products(1)[0]
		b.webhook(1, 0)
		b.receiver.set(func(got) (*http.Response, error) { return status(410) })
		b.run(Options{})
		b.rename(id)
		time.Sleep(3 * time.Second)
		b.rename(id)
		time.Sleep(time.Hour)
		b.expect(2)
		w := b.read()
		if w.Status != inventory.WebhookDisabled || len(b.deliveries(inventory.DeliveryPending)) != 1 {
			t.Errorf("%+v", w)
		}
		page, err := b.Events(t.Context(), engine.EventQuery{After: inventory.Cursor{Seq: 2}, Limit: 10})
		if err != nil || page.Events[0].Type != inventory.EventWebhookDisabled ||
			page.Events[0].Subject() != w.ID.Text("whk_") ||
			page.Events[0].Webhook.Secret != "" || page.Events[0].Actor.Type != inventory.ActorSystem {
			t.Errorf("%+v %v", page.Events, err)
		}
		b.receiver.set(nil)
		active := inventory.WebhookActive
		b.do(&inventory.UpdateWebhook{ID: b.id, Status: &active})
		time.Sleep(3 * time.Second)
		got := b.receiver.sequences()
		slices.Sort(got) // webhook.disabled is of another subject
		if !slices.Equal(got, []int64{2, 2, 3, 4}) {
			t.Errorf("%v", got)
		}
	})
}

// TestDisabledAfterLong: where nothing gets through for too long.
func TestDisabledAfterLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, memory.Open(memory.Options{}))
		b.products(1)
		b.webhook(0, 0)
		b.receiver.set(func(got) (*http.Response, error) { return nil, errors.New("no route") })
		results := map[Result]int{}
		var mu sync.Mutex
		hourly := slices.Repeat([]time.Duration{time.Hour}, 9)
		b.run(Options{DisableAfter: 4 * time.Hour, Retries: hourly, Observe: func(r Result) {
			mu.Lock()
			defer mu.Unlock()
			results[r]++
		}})
		time.Sleep(3 * time.Hour)
		if w := b.read(); w.Status != inventory.WebhookActive || w.LastFailure != "no route" {
			t.Errorf("%+v", w)
		}
		time.Sleep(3 * time.Hour)
		if w := b.read(); w.Status != inventory.WebhookDisabled {
			t.Errorf("%+v", w)
		}
		mu.Lock()
		defer mu.Unlock()
		if results[Disabled] != 1 || results[Failed] < 4 {
			t.Errorf("%v", results)
		}
	})
}

// TestPause: nothing is sent while it is paused, and everything afterwards.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, memory.Open(memory.Options{}))
		id := b.products(1)[0]
		b.webhook(1, 0)
		b.run(Options{})
		paused, active := inventory.WebhookPaused, inventory.WebhookActive
		b.do(&inventory.UpdateWebhook{ID: b.id, Status: &paused})
		time.Sleep(2 * time.Second)
		b.rename(id)
		time.Sleep(time.Hour)
		b.expect()
		b.do(&inventory.UpdateWebhook{ID: b.id, Status: &active})
		time.Sleep(2 * time.Second)
		b.expect(2)
	})
}

// TestReplay: deliveries after the place start anew, those that were dead too, with the same ids.
func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, memory.Open(memory.Options{}))
		id := b.products(1)[0]
		b.webhook(1, 0)
		b.receiver.set(func(g got) (*http.Response, error) {
			if g.sequence == 3 {
				return status(500)
			}
			return status(200)
		})
		b.run(Options{Retries: []time.Duration{}})
		for range 3 {
			b.rename(id)
		}
		time.Sleep(3 * time.Second)
		b.expect(2, 3, 4)
		if len(b.deliveries(inventory.DeliveryDead)) != 1 {
			t.Error("3 is not dead")
		}
		b.receiver.set(nil)
		b.do(&inventory.ReplayWebhook{ID: b.id, After: inventory.Cursor{Seq: 2}})
		time.Sleep(3 * time.Second)
		b.expect(2, 3, 4, 3, 4)
		if len(b.deliveries(inventory.DeliveryDead)) != 0 || b.read().Position.Seq != 4 {
			t.Errorf("%+v", b.read())
		}
		all := b.receiver.all()
		if all[1].id != all[3].id || all[1].id == all[2].id {
			t.Errorf("%+v", all)
		}
	})
}

// TestDeleted: nothing is sent any more, and nothing is left.
func TestDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, memory.Open(memory.Options{}))
		id := b.products(1)[0]
		b.webhook(0, 0)
		b.receiver.set(func(got) (*http.Response, error) { return status(500) })
		s, _ := b.run(Options{})
		time.Sleep(2 * time.Second)
		b.do(&inventory.DeleteWebhook{ID: b.id})
		b.rename(id)
		time.Sleep(time.Hour)
		b.expect(1)
		if s.Recent(b.id) != nil || len(b.deliveries(inventory.DeliveryPending)) != 0 {
			t.Error("something is left")
		}
	})
}

// TestSideBySide: subjects are sent side by side, up to 64; one that waits takes no place.
func TestSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, memory.Open(memory.Options{}))
		b.products(100)
		b.webhook(0, 0)
		b.receiver.set(func(g got) (*http.Response, error) {
			if g.sequence <= 100 {
				return status(500)
			}
			time.Sleep(time.Second)
			return status(200)
		})
		b.run(Options{Retries: []time.Duration{time.Hour}})
		time.Sleep(3 * time.Second)
		b.products(128)
		time.Sleep(2500 * time.Millisecond)
		if got := len(b.receiver.all()); got != 228 || b.receiver.most != sideBySide {
			t.Errorf("%d requests, %d at a time", got, b.receiver.most)
		}
	})
}

// TestStandsStill: at most 10,000 deliveries wait. Beyond that nothing is read, and it goes on once there is room.
func TestStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, memory.Open(memory.Options{}))
		id := b.products(1)[0]
		b.webhook(0, 0)
		b.receiver.set(func(got) (*http.Response, error) { return status(500) })
		b.run(Options{Retries: []time.Duration{time.Hour, time.Hour}})
		for range waitingLimit + 500 {
			b.rename(id)
		}
		time.Sleep(10 * time.Second)
		waiting := len(b.deliveries(inventory.DeliveryPending))
		if w := b.read(); waiting > waitingLimit || waiting < waitingLimit-pageEvents || w.Position.Seq != int64(waiting) {
			t.Errorf("%d wait, position %v", waiting, w.Position)
		}
		b.receiver.set(nil)
		time.Sleep(2 * time.Hour)
		if w := b.read(); w.Position.Seq != waitingLimit+501 || len(b.deliveries(inventory.DeliveryPending)) != 0 {
			t.Errorf("%+v", w)
		}
		b.checkOrder()
	})
}

// checkOrder requires that each subject's events came in order, where what came again does not count, and that an event
// has one id.
func (b *bench) checkOrder() {
	b.Helper()
	delivered, last, ids := map[int64]bool{}, map[string]int64{}, map[int64]string{}
	for _, g := range b.receiver.all() {
		if id, known := ids[g.sequence]; known && id != g.id {
			b.Fatalf("event %d has the ids %s and %s", g.sequence, id, g.id)
		}
		ids[g.sequence] = g.id
		if delivered[g.sequence] {
			continue
		}
		delivered[g.sequence] = true
		if g.sequence < last[g.key] {
			b.Fatalf("%s: event %d came after %d", g.key, g.sequence, last[g.key])
		}
		last[g.key] = g.sequence
	}
}

// TestTakenOver: of two processes one sends; the other takes over within 5 s when it falls silent, and what the old one
// does then has no effect.
func TestTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.Open(memory.Options{})
		one, two := &shared{Store: s}, &shared{Store: s}
		a := newBench(t, one)
		id := a.products(1)[0]
		a.webhook(1, 0)
		b := newBench(t, two)
		b.id = a.id
		a.run(Options{})
		time.Sleep(time.Second)
		b.run(Options{})
		a.rename(id)
		time.Sleep(30 * time.Second)
		a.expect(2)
		b.expect()
		one.away.Store(true)
		b.rename(id)
		time.Sleep(6 * time.Second)
		b.expect(3)
		one.away.Store(false)
		b.rename(id)
		time.Sleep(30 * time.Second)
		b.expect(3, 4)
		if w := b.read(); w.Position.Seq != 4 {
			t.Errorf("%+v", w)
		}
		if n := len(a.receiver.all()); n > 2 { // 3 may have been sent before the lease was known to be lost
			t.Errorf("the old one has sent %v", a.receiver.sequences())
		}
	})
}

// TestManyThroughAnUnreliableReceiver: 10,000 events of 500 subjects, one try in ten fails, and the sender is cut off in
// the middle, again and again. None is lost, and the order of each subject is kept.
func TestManyThroughAnUnreliableReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, memory.Open(memory.Options{}))
		ids := b.products(500)
		b.webhook(0, 0)
		for i := range 9500 {
			b.rename(ids[i%len(ids)])
		}
		accepted := map[int64]int{}
		last := map[string]int64{}
		var mu sync.Mutex
		b.receiver.set(func(g got) (*http.Response, error) {
			time.Sleep(time.Duration(mathrand.IntN(10)) * time.Millisecond)
			if mathrand.IntN(10) == 0 {
				return status(500)
			}
			mu.Lock()
			defer mu.Unlock()
			if accepted[g.sequence]++; accepted[g.sequence] == 1 {
				if g.sequence < last[g.key] {
					t.Errorf("%s: event %d came after %d", g.key, g.sequence, last[g.key])
				}
				last[g.key] = g.sequence
			}
			return status(200)
		})
		retries := slices.Repeat([]time.Duration{time.Second}, 40)
		for range 5 { // cut off, without a word
			s := b.sender(Options{Retries: retries})
			if held, err := s.hold(t.Context(), lease); !held || err != nil {
				t.Fatal(held, err)
			}
			ctx, cut := context.WithCancelCause(t.Context())
			var workers sync.WaitGroup
			if any, err := s.look(ctx, cut, &workers); !any || err != nil {
				t.Fatal(any, err)
			}
			time.Sleep(1300 * time.Millisecond)
			cut(errLost)
			workers.Wait()
		}
		b.run(Options{Retries: retries})
		time.Sleep(10 * time.Minute)
		if len(accepted) != 10_000 || b.read().Position.Seq != 10_000 || len(b.deliveries(inventory.DeliveryPending)) != 0 {
			t.Errorf("%d of 10,000 events, %+v", len(accepted), b.read())
		}
		seen := map[int64]string{}
		for _, g := range b.receiver.all() {
			if id, known := seen[g.sequence]; known && id != g.id {
				t.Fatalf("event %d has the ids %s and %s", g.sequence, id, g.id)
			}
			seen[g.sequence] = g.id
		}
		if len(slices.Compact(slices.Sorted(maps.Values(seen)))) != 10_000 {
			t.Error("two events have one id")
		}
	})
}

// TestTest: a test is sent at once, says what came back, and looks like an event.
func TestTest(t *testing.T) {
	b := newBench(t, memory.Open(memory.Options{}))
	b.webhook(0, 0)
	b.receiver.set(func(g got) (*http.Response, error) {
		return status(418)
	})
	result := b.sender(Options{}).Test(t.Context(), wire.ShownWebhook{Webhook: b.read(), Head: 0})
	if result.Delivered || result.Status != 418 || result.Error != "answered 418 I'm a teapot" {
		t.Errorf("%+v", result)
	}
	b.receiver.set(nil)
	result = b.sender(Options{}).Test(t.Context(), wire.ShownWebhook{Webhook: b.read(), Head: 0})
	if !result.Delivered || result.Status != 200 || result.Error != "" {
		t.Errorf("%+v", result)
	}
	if all := b.receiver.all(); len(all) != 2 || all[0].id == all[1].id {
		t.Errorf("%+v", all)
	}
}
