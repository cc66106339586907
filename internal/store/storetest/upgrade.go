package storetest

import (
	"testing"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Upgrade opens a store of format 1 that has the product mug with 100 units, made by one batch. Opened for reading, it
// stays as it is and has no records. Opened for writing, it is upgraded and keeps what it had.
func Upgrade(t *testing.T, open func(readOnly bool) store.Store) {
	reader := &fixture{TB: t, Store: open(true)}
	if head := reader.head(); head.Format != 1 {
		t.Errorf("opened for reading, the store has format %d", head.Format)
	}
	reader.expectRecords("")
	if list, _ := reader.listRecords(store.RecordQuery{Keys: []inventory.RecordKey{recordKey("a")}}); len(list) != 0 {
		t.Errorf("a store without records has %d", len(list))
	}
	if reader.product("mug") == nil {
		t.Error("opened for reading, the product is not there")
	}
	writer := &fixture{TB: t, Store: open(false)}
	if head := writer.head(); head.Format != store.Format || head.BatchNo != 1 {
		t.Errorf("opened for writing, the head is %+v", head)
	}
	writer.records(put(record("a", 1, "x")))
	writer.expectRecords("a:1:x")
	writer.do(&inventory.Adjust{ProductID: "mug", Location: inventory.MainLocation, Delta: -100, Reason: "broken"})
	writer.stock("mug", inventory.Buckets{})
	writer.checkJournal(writer.head().Seq)
}
