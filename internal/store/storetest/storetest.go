// Package storetest is the one conformance suite of all stores: every sentence of the contract in package store has a
// test here.
package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Backend says how to get a kind of store, and in what it differs from the others.
type Backend struct {
	// Open makes an empty store that reads this clock. The suite closes the store.
	Open func(t testing.TB, now func() time.Time) store.Store
	// Reopen closes a store and opens it once more. It is nil if the store keeps nothing.
	Reopen func(t testing.TB, s store.Store, now func() time.Time) store.Store
	// Share opens another store on the same database, as another process would. It is nil if that is not possible.
	Share func(t testing.TB, s store.Store, now func() time.Time) store.Store
	// Damage makes the row of a reservation unreadable. It is nil if that is not possible.
	Damage func(t testing.TB, s store.Store, id inventory.ID)
	// Enforces says that the store itself refuses a negative bucket (the second wall of I1).
	Enforces bool
}

// Start is the time at which the suite's clocks begin.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Run runs the suite.
func Run(t *testing.T, b Backend) {
	tests := map[string]func(*fixture){
		"Empty": empty, "Commit": commits, "NothingToWrite": nothingToWrite, "DecideError": decideError,
		"DecidedAgain":     decidedAgain,
		"RefusedNeighbour": refusedNeighbour, "NegativeBucket": negativeBucket, "AfterClose": afterClose,
		"CancelledContext": cancelledContext, "CancelledLate": cancelledLate, "CancelledInside": cancelledInside,
		"CaseOfIDs": caseOfIDs, "WrongSalt": wrongSalt, "Precision": precision, "ClockJumps": clockJumps,
		"ConcurrentWriters": concurrentWriters,
		"Receipts":          receipts, "OverdueIsLoaded": overdueIsLoaded, "OverdueIsBounded": overdueIsBounded,
		"OverdueCart": overdueCart, "OverdueAsNeeded": overdueAsNeeded, "OverdueIsShared": overdueIsShared,
		"OverdueBytes":     overdueBytes,
		"ListReservations": listReservations, "ListManyHolds": listManyHolds,
		"ListOrders": listOrders, "ListProducts": listProducts, "PageBytes": pageBytes,
		"Due": due, "Looks": looks, "DamagedHold": damagedHold, "Journal": journal,
		"Locations": locations, "Reopen": reopen, "WholeLife": wholeLife, "SnapshotIsOne": snapshotIsOne,
		"RecordLife": recordLife, "RecordsAreLoaded": recordsAreLoaded, "RecordOrder": recordOrder,
		"RecordPages":  recordPages,
		"RecordGuards": recordGuards, "RecordsWithoutEvents": recordsWithoutEvents, "RecordsRollBack": recordsRollBack,
		"RecordsLikeAMap": recordsLikeAMap,
		"ViewClock":       viewClock, "SharedByProcesses": sharedByProcesses, "SoleWriter": soleWriter,
		"Epochs": epochs, "ListReceipts": listReceipts, "ListRecords": listRecords,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(b.fixture(t))
		})
	}
}

// BenchmarkProductHolds measures a page of one ACTIVE reservation of a product that has 100,000.
func BenchmarkProductHolds(b *testing.B, backend Backend) {
	const holds = 100_000
	f := backend.fixture(b)
	f.do(newProduct("mug", holds))
	f.holdsOf("mug", holds)
	q := store.ReservationQuery{ProductID: "mug", Status: inventory.ReservationActive, Limit: 1}
	for b.Loop() {
		f.view(func(v store.View) error { return third(v.Reservations(f.Context(), q)) })
	}
}

// Benchmark measures commands a second in batches of 1, 64 and 1,024, on one product and on 1,000.
func Benchmark(b *testing.B, backend Backend) {
	for _, size := range []int{1, 64, 1024} {
		for _, products := range []int{1, 1000} {
			b.Run(fmt.Sprintf("batch=%d/products=%d", size, products), func(b *testing.B) {
				f := backend.fixture(b)
				for i := range products {
					f.do(newProduct(fmt.Sprint("p", i), inventory.MaxStock/1000))
				}
				n := 0
				b.ResetTimer()
				for range b.N {
					batch := make([]inventory.Command, size)
					for i := range batch {
						batch[i] = reserve(fmt.Sprint("p", n*7919%products), 1, time.Hour)
						n++
					}
					f.do(batch...)
				}
				b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "commands/s")
			})
		}
	}
}
