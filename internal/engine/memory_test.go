package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// fault is how a commit fails.
type fault string

// shelf is a store that several engines may share, and whose commits and views a test can fail or watch.
type shelf struct {
	*memory.Store
	shared bool
	fault  fault
	views  int
	inView func() // called within a view, once its snapshot was read
	past   []bool // whether older answers the next views
	older  *memory.Store
}

func (s *shelf) SoleWriter() (func() time.Time, bool) { return time.Now, !s.shared }

func (s *shelf) Close() error { return nil } // another engine may use it

func (s *shelf) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	fault := s.fault
	s.fault = ""
	switch fault {
	case "unavailable":
		return store.ErrUnavailable
	case "unknown and not written":
		return store.ErrOutcomeUnknown
	case "unknown and written":
		return errors.Join(s.Store.Commit(ctx, keys, decide), store.ErrOutcomeUnknown)
	case "split":
		return errors.New("one of these cannot be written")
	}
	return s.Store.Commit(ctx, keys, decide)
}

func (s *shelf) View(ctx context.Context, read func(store.View) error) error {
	s.views++
	from := s.Store
	if len(s.past) > 0 {
		if s.past[0] {
			from = s.older
		}
		s.past = s.past[1:]
	}
	return from.View(ctx, func(v store.View) error {
		err := read(v)
		if s.inView != nil {
			s.inView()
		}
		return err
	})
}

const here = inventory.MainLocation

func create(id string, units int64) *inventory.CreateProduct {
	return &inventory.CreateProduct{ID: id, Name: id, Price: inventory.Money{Amount: 1, Currency: "EUR"}, TotalStock: units, Location: here}
}

func hold(id string, quantity int64) *inventory.Reserve {
	return &inventory.Reserve{TTL: 3_600_000, Lines: []inventory.ReserveLine{{ProductID: id, Location: here, Quantity: quantity}}}
}

func do(t interface{ Fatal(...any) }, e *Engine, c inventory.Command) inventory.Outcome {
	o, err := e.Do(context.Background(), &inventory.Request{Command: c})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestMemoryEqualsTheStore: after every batch, failed, split and unknown ones included, what readers are answered is what
// the store has; and so is everything that memory keeps, whoever wrote it.
func TestMemoryEqualsTheStore(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(map[bool]string{false: "sole", true: "shared"}[shared], func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { compareMemory(t, shared) })
		})
	}
}

func compareMemory(t *rapid.T, shared bool) {
	s := &shelf{Store: memory.Open(memory.Options{}), shared: shared}
	engines := []*Engine{Open(s, Options{MemoryLimit: 6 * entryBytes})}
	if shared {
		engines = append(engines, Open(s, Options{}))
	}
	w := &world{T: t, shelf: s, engines: engines}
	for range rapid.IntRange(1, 40).Draw(t, "steps") {
		w.step()
	}
	for _, e := range engines {
		if err := e.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// world is engines on one store, with what was made there.
type world struct {
	*rapid.T
	*shelf
	engines      []*Engine
	products     []string
	reservations []inventory.ID
}

func (w *world) step() {
	e := rapid.SampledFrom(w.engines).Draw(w.T, "engine")
	if rapid.IntRange(0, 2).Draw(w.T, "kind") == 0 && len(w.products) > 0 {
		w.read(e)
		return
	}
	w.fault = fault(rapid.SampledFrom([]string{"", "", "", "", "unavailable", "unknown and written", "unknown and not written", "split"}).Draw(w.T, "fault"))
	var requests []*inventory.Request
	for range rapid.IntRange(1, 3).Draw(w.T, "commands") {
		requests = append(requests, &inventory.Request{Command: w.command()})
	}
	for _, o := range w.together(e, requests) {
		if o.Created && o.Reservation != nil {
			w.reservations = append(w.reservations, o.Reservation.ID)
		}
	}
	for _, e := range w.engines {
		w.compare(e)
	}
}

// together sends commands that may share a batch, and returns the outcomes of those that have one.
func (w *world) together(e *Engine, requests []*inventory.Request) []inventory.Outcome {
	outcomes := make([]inventory.Outcome, len(requests))
	var sending sync.WaitGroup
	for i, r := range requests {
		sending.Go(func() { outcomes[i], _ = e.Do(context.Background(), r) }) // an error has no outcome
	}
	sending.Wait()
	return outcomes
}

func (w *world) command() inventory.Command {
	if len(w.products) == 0 || rapid.IntRange(0, 7).Draw(w.T, "new") == 0 {
		w.products = append(w.products, fmt.Sprint("p", len(w.products)))
		return create(w.products[len(w.products)-1], 5)
	}
	id := rapid.SampledFrom(w.products).Draw(w.T, "product")
	switch rapid.IntRange(0, 4).Draw(w.T, "command") {
	case 0:
		name := strings.Repeat("n", rapid.IntRange(1, 300).Draw(w.T, "name"))
		return &inventory.UpdateProduct{ID: id, Name: &name}
	case 1:
		at := rapid.SampledFrom([]string{here, "attic", "cellar"}).Draw(w.T, "location")
		return &inventory.Adjust{ProductID: id, Location: at, Delta: 2, Reason: "r"}
	case 2:
		if len(w.reservations) > 0 {
			return &inventory.Cancel{ID: rapid.SampledFrom(w.reservations).Draw(w.T, "hold")}
		}
	}
	return hold(id, 1)
}

// read asks for something, so that it is kept.
func (w *world) read(e *Engine) {
	ctx := context.Background()
	var err error
	switch {
	case len(w.reservations) > 0 && rapid.Bool().Draw(w.T, "a hold"):
		_, err = e.Reservation(ctx, rapid.SampledFrom(w.reservations).Draw(w.T, "hold"))
	case rapid.Bool().Draw(w.T, "several"):
		_, err = e.ProductsByID(ctx, w.products)
	default:
		_, err = e.Product(ctx, rapid.SampledFrom(w.products).Draw(w.T, "product"))
	}
	if err != nil {
		w.Fatal(err)
	}
}

// compare holds everything that memory keeps against the store.
func (w *world) compare(e *Engine) {
	ctx := context.Background()
	if err := e.check(ctx); err != nil {
		w.Fatal(err)
	}
	bytes := 0
	for id, k := range e.memory.products {
		bytes += k.bytes
		stored := w.stored(id)
		if shown := e.memory.product(id); shown == nil || !reflect.DeepEqual(shown.Product, stored) {
			w.Fatalf("product %s is %+v in memory, %+v in the store", id, k.product, stored)
		}
	}
	for id, k := range e.memory.reservations {
		bytes += k.bytes
		var page []*inventory.Reservation
		err := w.Store.View(ctx, func(v store.View) (err error) {
			page, _, err = v.Reservations(ctx, store.ReservationQuery{IDs: []inventory.ID{id}})
			return err
		})
		if err != nil || len(page) != 1 || !reflect.DeepEqual(page[0], k.row) {
			w.Fatalf("reservation %x is %+v in memory, %+v in the store (%v)", id, k.row, page, err)
		}
	}
	if n := len(e.memory.products) + len(e.memory.reservations); bytes != e.memory.bytes || n != len(e.memory.ring) {
		w.Fatalf("%d bytes in %d entries, counted %d in %d", bytes, n, e.memory.bytes, len(e.memory.ring))
	}
}

func (s *shelf) stored(id string) *inventory.Product {
	var page []*inventory.Product
	_ = s.Store.View(context.Background(), func(v store.View) (err error) {
		page, _, err = v.Products(context.Background(), store.ProductQuery{IDs: []string{id}})
		return err
	})
	if len(page) == 0 {
		return nil
	}
	return page[0]
}

// open starts an engine for a test and closes it at its end.
func open(t *testing.T, s store.Store, o Options) *Engine {
	e := Open(s, o)
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e
}

// TestReadsWithoutTheStore: once a row was asked for, readers no longer cost the store anything, and still see every commit.
func TestReadsWithoutTheStore(t *testing.T) {
	s := &shelf{Store: memory.Open(memory.Options{})}
	rendered := 0
	e := open(t, s, Options{Render: func(p *inventory.Product) []byte {
		rendered++
		return fmt.Append(nil, p.Totals().Available)
	}})
	do(t, e, create("mug", 9))
	if _, err := e.Product(t.Context(), "mug"); err != nil {
		t.Fatal(err)
	}
	s.views, rendered = 0, 0
	for left := range 9 {
		do(t, e, hold("mug", 1))
		for range 3 {
			p, err := e.Product(t.Context(), "mug")
			if want := fmt.Sprint(8 - left); err != nil || string(p.Rendered) != want {
				t.Fatalf("%s (%v), expected %s", p.Rendered, err, want)
			}
		}
	}
	if s.views != 0 || rendered != 9 {
		t.Errorf("%d views of the store, rendered %d times", s.views, rendered)
	}
}

// TestCommitDuringALoad: what is committed between a snapshot and its rows being entered is not lost.
func TestCommitDuringALoad(t *testing.T) {
	s := &shelf{Store: memory.Open(memory.Options{})}
	e := open(t, s, Options{})
	do(t, e, create("mug", 9))
	r := do(t, e, hold("mug", 1)).Reservation
	load := e.memory.begin([]string{"mug"}, []inventory.ID{r.ID})
	before := s.stored("mug").Clone()
	name := "Cup"
	do(t, e, &inventory.UpdateProduct{ID: "mug", Name: &name})
	do(t, e, &inventory.Adjust{ProductID: "mug", Location: "attic", Delta: 3, Reason: "r"})
	do(t, e, &inventory.Cancel{ID: r.ID})
	load.enter(&store.Head{Seq: e.memory.seq.Load()}, []*inventory.Product{before}, []*inventory.Reservation{r})
	if kept := e.memory.product("mug"); !reflect.DeepEqual(kept.Product, s.stored("mug")) {
		t.Errorf("kept %+v, stored %+v", kept.Product, s.stored("mug"))
	}
	if kept := e.memory.held(r.ID); kept.Status != inventory.ReservationCancelled {
		t.Errorf("kept %+v", kept)
	}
}

// TestLoadAcrossAnUnknownCommit: a load whose snapshot may be from before it enters nothing.
func TestLoadAcrossAnUnknownCommit(t *testing.T) {
	s := &shelf{Store: memory.Open(memory.Options{})}
	e := open(t, s, Options{})
	do(t, e, create("mug", 9))
	load := e.memory.begin([]string{"mug"}, nil)
	before := s.stored("mug").Clone()
	s.fault = "unknown and written"
	if _, err := e.Do(t.Context(), &inventory.Request{Command: hold("mug", 1)}); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	load.enter(&store.Head{Seq: 1}, []*inventory.Product{before}, nil)
	p, err := e.Product(t.Context(), "mug")
	if err != nil || p.Totals().Available != 8 {
		t.Errorf("%+v (%v), expected 8 available", p, err)
	}
}

// TestMemoryIsBounded: what is kept fits, and what is in use stays.
func TestMemoryIsBounded(t *testing.T) {
	s := &shelf{Store: memory.Open(memory.Options{})}
	e := open(t, s, Options{MemoryLimit: 20 * (entryBytes + stockRowBytes)})
	for i := range 100 {
		do(t, e, create(fmt.Sprint("p", i), 1))
	}
	read := func(i int) {
		if p, err := e.Product(t.Context(), fmt.Sprint("p", i)); err != nil || p == nil {
			t.Fatal(p, err)
		}
	}
	read(0)
	for round := range 300 {
		read(1 + round%99)
		read(0)
		if e.memory.bytes > e.options.MemoryLimit {
			t.Fatalf("%d bytes are kept, of %d", e.memory.bytes, e.options.MemoryLimit)
		}
		if e.memory.product("p0") == nil {
			t.Fatal("what is always in use was forgotten")
		}
	}
	if n := len(e.memory.products); n < 10 || n > 20 {
		t.Errorf("%d products are kept", n)
	}
}

// TestSnapshotAheadOfMemory: a snapshot may have a batch before its committer knows that it is written. Whoever has seen it
// is answered once memory has it too.
func TestSnapshotAheadOfMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake()
		gate := make(chan struct{})
		defer close(gate)
		e := Open(s, Options{})
		do(t, e, create("mug", 9))
		if _, err := e.Product(t.Context(), "mug"); err != nil {
			t.Fatal(err)
		}
		s.after = func() error { // the batch is stored, and its committer has not heard of it
			<-gate
			return nil
		}
		go func() { _, _ = e.Do(context.Background(), &inventory.Request{Command: hold("mug", 1)}) }()
		synctest.Wait()
		listed := make(chan int)
		go func() {
			page, _, err := e.Reservations(context.Background(), ReservationQuery{Limit: 10})
			if err != nil {
				t.Error(err)
			}
			listed <- len(page)
		}()
		synctest.Wait()
		select {
		case n := <-listed:
			t.Errorf("%d holds are shown, and memory shows the stock as it was before", n)
		default:
		}
		gate <- struct{}{}
		if n := <-listed; n != 1 {
			t.Errorf("%d holds", n)
		}
		if p, err := e.Product(t.Context(), "mug"); err != nil || p.Totals().Available != 8 {
			t.Errorf("%+v %v", p, err)
		}
		s.after = nil
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestSharedCheck: readers that wait together share one look at the head, which begins after each of them has come.
func TestSharedCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{Store: memory.Open(memory.Options{}), shared: true}
		e := Open(s, Options{})
		do(t, e, create("mug", 9))
		if _, err := e.Product(t.Context(), "mug"); err != nil {
			t.Fatal(err)
		}
		s.views = 0
		gate := make(chan struct{})
		s.inView = func() { <-gate }
		var reading sync.WaitGroup
		for i := range 100 {
			reading.Go(func() {
				if _, err := e.Product(context.Background(), "mug"); err != nil {
					t.Error(err)
				}
			})
			if i == 0 {
				synctest.Wait() // the first one's check is under way
			}
		}
		synctest.Wait()
		close(gate)
		reading.Wait()
		if s.views != 2 {
			t.Errorf("%d looks at the store for 100 readers, expected 2", s.views)
		}
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := e.Product(t.Context(), "mug"); !errors.Is(err, ErrNotReady) {
			t.Errorf("reading after the end: %v", err)
		}
	})
}

// TestFollow: memory follows the journal only where that continues what was followed before.
func TestFollow(t *testing.T) {
	s := &shelf{Store: memory.Open(memory.Options{}), shared: true}
	writer, reader := open(t, s, Options{}), open(t, s, Options{})
	do(t, writer, create("mug", 9))
	see := func(want int64) {
		t.Helper()
		if p, err := reader.Product(t.Context(), "mug"); err != nil || p.Totals().Available != want {
			t.Fatalf("%+v (%v), expected %d available", p, err, want)
		}
	}
	see(9)
	generation := reader.memory.generation
	do(t, writer, hold("mug", 1))
	see(8)
	if reader.memory.generation != generation {
		t.Error("memory was emptied although the journal continues it")
	}
	reader.memory.head.Chain[0]++ // another history
	do(t, writer, hold("mug", 1))
	see(7)
	if reader.memory.generation == generation {
		t.Error("memory was not emptied although the journal does not continue it")
	}
	generation = reader.memory.generation
	for range checkBatches + 1 {
		do(t, writer, &inventory.Adjust{ProductID: "mug", Location: here, Delta: 1, Reason: "r"})
	}
	see(7 + checkBatches + 1)
	if reader.memory.generation == generation {
		t.Error("memory followed more batches than a check may read")
	}
}

// TestStaleSnapshot: a snapshot from before what memory knew already is answered, and not kept: what it lacks would never
// come again.
func TestStaleSnapshot(t *testing.T) {
	s := &shelf{Store: memory.Open(memory.Options{}), shared: true}
	writer, reader := open(t, s, Options{}), open(t, s, Options{})
	do(t, writer, create("mug", 9))
	before := s.stored("mug").Clone()
	do(t, writer, hold("mug", 1))
	if err := reader.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	load := reader.memory.begin([]string{"mug"}, nil)
	load.enter(&store.Head{BatchNo: 1, Seq: 1}, []*inventory.Product{before}, nil)
	if p, err := reader.Product(t.Context(), "mug"); err != nil || p.Totals().Available != 8 {
		t.Errorf("%+v (%v), expected 8 available", p, err)
	}
}
