package engine

import (
	"context"
	"errors"
	"testing"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// TestPastViews: a view of a shared store that has less than readers were shown before, as one of a server does that
// was replaced and still runs, is shown to nobody, unless a look says that the store itself is older now.
func TestPastViews(t *testing.T) {
	const now, past = false, true
	older := memory.Open(memory.Options{})
	do(t, open(t, &shelf{Store: older}, Options{}), create("mug", 1))
	for name, c := range map[string]struct {
		views []bool // that of the reader, that of the look, and that of the reader again
		units int64  // that he is shown
	}{
		"one view":           {[]bool{past, now, now}, 7},
		"every view":         {[]bool{past, now, past}, 0},
		"the store is older": {[]bool{past, past, past}, 1},
	} {
		s := &shelf{Store: memory.Open(memory.Options{}), shared: true, older: older}
		e := open(t, s, Options{})
		do(t, e, create("mug", 7))
		do(t, e, create("cup", 1))
		for list, read := range map[string]func(context.Context) ([]*inventory.Product, error){
			"in a list": func(ctx context.Context) ([]*inventory.Product, error) {
				page, _, err := e.Products(ctx, "b", 10)
				return page[max(0, len(page)-1):], err
			},
			"by its id": func(ctx context.Context) ([]*inventory.Product, error) {
				list, err := e.loadProducts(ctx, []string{"mug"})
				if err != nil {
					return nil, err
				}
				return []*inventory.Product{list[0].Product}, nil
			},
		} {
			s.past = nil
			if err := e.check(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.past = c.views
			page, err := read(t.Context())
			if c.units == 0 {
				if !errors.Is(err, ErrNotReady) {
					t.Errorf("%s is past, a product %s: %v", name, list, err)
				}
			} else if err != nil || len(page) != 1 || page[0].Totals().Available != c.units {
				t.Errorf("%s is past, a product %s: %+v %v", name, list, page, err)
			}
		}
	}
}
