package wire

import (
	"runtime"
	"strings"
	"testing"
)

// TestBatchMemory: a body of 8 MiB does not make the server take many times as much.
func TestBatchMemory(t *testing.T) {
	for name, body := range map[string]string{
		"operations": `{"operations":[` + strings.Repeat(`{},`, 8<<20/3-16) + `{}]}`,
		"lines of one operation": `{"operations":[{"operation":"createReservation","body":{"lines":[` +
			strings.Repeat(`{},`, 8<<20/3-64) + `{}]}}]}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		batch, err := DecodeBatch([]byte(body))
		if err == nil {
			_, err = CreateReservation(batch.Operations[0].Body, to(""))
		}
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 64 {
			t.Errorf("%s: %d MiB are taken for a body of %d MiB", name, took, len(body)>>20)
		}
	}
}
