package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	core "github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/load"
	"github.com/holdfast/holdfast/internal/store"
)

// engine is Holdfast without HTTP. Nothing else in this package sends commands to one.
type engine struct{ *core.Engine }

// openEngine opens an engine on a store, which it then owns.
func openEngine(s store.Store) *engine { return &engine{core.Open(s, core.Options{})} }

// close drains the door and closes the store.
func (e *engine) close(ctx context.Context) error { return e.Close(ctx) }

func productID(n int) string { return fmt.Sprint("p", n) }

// products makes p0, p1 and so on.
func (e *engine) products(ctx context.Context, n int) error {
	for i := range n {
		_, err := e.Do(ctx, &inventory.Request{Command: &inventory.CreateProduct{
			ID: productID(i), Name: "Product", Price: inventory.Money{Amount: 1999, Currency: "EUR"},
			TotalStock: load.Plenty, Location: inventory.MainLocation,
		}})
		if err != nil {
			return fmt.Errorf("making products: %w", err)
		}
	}
	return nil
}

// hold reserves one unit of a product for an hour.
func (e *engine) hold(ctx context.Context, product int) error {
	return e.holdFor(ctx, product, time.Hour)
}

// holdFor reserves one unit of a product for so long, a second at the least.
func (e *engine) holdFor(ctx context.Context, product int, ttl time.Duration) error {
	line := inventory.ReserveLine{ProductID: productID(product), Location: inventory.MainLocation, Quantity: 1}
	o, err := e.Do(ctx, &inventory.Request{Salt: rand.Uint32(), Command: &inventory.Reserve{
		TTL: max(ttl, time.Second).Milliseconds(), Lines: []inventory.ReserveLine{line},
	}})
	if err == nil && o.Refusal != nil {
		err = fmt.Errorf("refused: %s", o.Refusal.Code)
	}
	return err
}
