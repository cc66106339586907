package mongodb

import (
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

func TestReceiptsOutliveJumps(t *testing.T) {
	address := dbtest.MongoDB(t)
	storetest.ReceiptsOutliveJumps(t, func(now func() time.Time, clock *store.Clock) store.Store {
		return open(t, address, Options{Now: now, Clock: clock})
	})
}
