package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/holdfast/holdfast/client"
)

// makers make products side by side.
const makers = 32

// Prepare makes the products of a workload, unless they are there.
func Prepare(ctx context.Context, url string, w *Workload, prefix string) error {
	c := client.New(url)
	var making sync.WaitGroup
	var failed atomic.Pointer[error]
	var next atomic.Int64
	for range min(makers, w.Products) {
		making.Go(func() {
			for i := next.Add(1) - 1; i < int64(w.Products) && failed.Load() == nil; i = next.Add(1) - 1 {
				if err := makeProduct(ctx, c, fmt.Sprint(prefix, i), w.Units); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	making.Wait()
	if err := failed.Load(); err != nil {
		return fmt.Errorf("making products: %w", *err)
	}
	return nil
}

func makeProduct(ctx context.Context, c *client.Client, id string, units int64) error {
	price := client.Money{Amount: 1999, Currency: "EUR"}
	_, err := c.CreateProduct(ctx, client.NewProduct{ID: id, Name: "Product", Price: price, TotalStock: units})
	if errors.Is(err, client.ProductExists) {
		return nil
	}
	return err
}
