package audit_test

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

const (
	largeBatches   = 100
	holdsPerBatch  = 100
	bytesPerHold   = 8 << 10
	memoryPerAudit = 20 << 20 // of the 80 MB that the holds have
)

// large is a store with many large batches, which it makes anew whenever they are read.
type large struct {
	store.View
	head      store.Head
	checksums [][32]byte
	metadata  inventory.Metadata
	reads     int
	most      uint64 // bytes in use at the beginning of a read, at most
}

func newLarge() *large {
	l := &large{head: store.Head{Store: strings.Repeat("a", 26), Format: store.Format}}
	l.metadata = inventory.NewMetadata(map[string]string{"note": strings.Repeat("n", bytesPerHold)})
	for range int64(1 + largeBatches) {
		e := l.entry(l.head.BatchNo + 1)
		e.Checksum = e.Chain(l.head.Chain)
		l.checksums = append(l.checksums, e.Checksum)
		l.head = l.head.After(&e)
	}
	return l
}

// measure takes the memory in use before something is read, which is what the audit has kept. It does so at some of
// the reads, because it takes time.
func (l *large) measure() {
	if l.reads++; l.reads%7 != 1 {
		return
	}
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	l.most = max(l.most, stats.HeapAlloc)
}

// entry makes the entry of a batch: the product comes with the first, and holds with the others.
func (l *large) entry(batchNo int64) store.Entry {
	e := store.Entry{BatchNo: batchNo, First: 1, Count: 1, At: inventory.Time(storetest.Start.UnixMilli())}
	if batchNo == 1 {
		e.Events = inventory.AppendEvent(nil, &inventory.Event{
			Type: inventory.EventProductCreated, Product: l.product(0), Movements: l.moves(0, inventory.Buckets{Available: 1e9}),
		})
	} else {
		e.First, e.Count = 2+(batchNo-2)*holdsPerBatch, holdsPerBatch
		for seq := e.First; seq < e.First+holdsPerBatch; seq++ {
			e.Events = inventory.AppendEvent(e.Events, &inventory.Event{
				Type: inventory.EventReservationCreated, Reservation: l.hold(seq),
				Movements: l.moves(seq-1, inventory.Buckets{Available: -1, Reserved: 1}),
			})
		}
	}
	if batchNo <= int64(len(l.checksums)) {
		e.Checksum = l.checksums[batchNo-1]
	}
	return e
}

func (l *large) product(holds int64) *inventory.Product {
	p := &inventory.Product{ID: "mug", Version: 1, Seq: 1}
	p.Put(inventory.Stock{Location: inventory.MainLocation, Seq: holds + 1, Buckets: after(holds)})
	return p
}

func after(holds int64) inventory.Buckets {
	return inventory.Buckets{Available: 1e9 - holds, Reserved: holds}
}

func (l *large) moves(holds int64, delta inventory.Buckets) []inventory.Movement {
	key := inventory.StockKey{ProductID: "mug", Location: inventory.MainLocation}
	return []inventory.Movement{{StockKey: key, Delta: delta, After: after(holds)}}
}

func (l *large) hold(seq int64) *inventory.Reservation {
	at := inventory.Time(storetest.Start.UnixMilli())
	line := inventory.Line{ProductID: "mug", Location: inventory.MainLocation, Quantity: 1}
	return &inventory.Reservation{
		ID: inventory.NewID(at, seq, 1), Status: inventory.ReservationActive, Lines: []inventory.Line{line},
		Metadata: l.metadata, CreatedAt: at, UpdatedAt: at, ExpiresAt: at + 1000, Version: 1, Seq: seq,
	}
}

func (l *large) Head(context.Context) (store.Head, error) { return l.head, nil }

func (l *large) Journal(
	_ context.Context, from store.JournalPosition, limit, maxBytes int,
) (page []store.Entry, err error) {
	l.measure()
	batchNo := from.BatchNo
	if batchNo == 0 {
		batchNo = 1 + (from.Seq+holdsPerBatch-2)/holdsPerBatch
	}
	for bytes := 0; batchNo <= l.head.BatchNo && len(page) < limit && bytes < maxBytes; batchNo++ {
		page = append(page, l.entry(batchNo))
		bytes += len(page[len(page)-1].Events)
	}
	return page, nil
}

func (l *large) Products(context.Context, store.ProductQuery) ([]*inventory.Product, string, error) {
	return []*inventory.Product{l.product(l.head.Seq - 1)}, "", nil
}

func (l *large) Reservations(
	_ context.Context, q store.ReservationQuery,
) (list []*inventory.Reservation, next inventory.ID, err error) {
	l.measure()
	if q.IDs != nil {
		for _, id := range q.IDs {
			list = append(list, l.hold(id.Sequence()))
		}
		return list, next, nil
	}
	page := store.NewPage[inventory.Reservation, inventory.ID](q.Limit)
	seq := l.head.Seq
	if !q.Before.IsZero() {
		seq = q.Before.Sequence() - 1
	}
	for ; seq > 1 && !page.Done(); seq-- {
		r := l.hold(seq)
		page.Add(r, r.ID, bytesPerHold)
	}
	return page.Result()
}

func (l *large) Orders(context.Context, store.OrderQuery) (page []*inventory.Order, next inventory.ID, err error) {
	return nil, next, nil
}

func (l *large) Strays(context.Context, int) ([]string, error) { return nil, nil }

// TestMemory: the memory of an audit does not grow with the batches.
func TestMemory(t *testing.T) {
	l := newLarge()
	l.measure()
	before := l.most
	report := run(t, fakeStore{view: l}, audit.Options{})
	if !report.Clean() || report.Reservations != largeBatches*holdsPerBatch {
		t.Errorf("%+v", report)
	}
	if used := l.most - before; used > memoryPerAudit {
		t.Errorf("it kept %d MB", used>>20)
	} else {
		t.Logf("it kept %d MB", used>>20)
	}
}
