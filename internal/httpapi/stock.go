package httpapi

import (
	"net/http"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

var stockMutations = []mutation{
	{
		operation: "adjustStock", method: http.MethodPost, path: "/v1/products/{id}/adjustments",
		decode: wire.AdjustStock, result: resultAdjusted,
	},
}

// adjusted is an adjustment with its product as an answer. It cannot be read again, so it has neither version nor
// path.
type adjusted struct{ *inventory.Outcome }

func resultAdjusted(o *inventory.Outcome) resource { return adjusted{o} }

func (adjusted) version() int64           { return 0 }
func (adjusted) path() string             { return "" }
func (a adjusted) append(b []byte) []byte { return wire.AppendAdjusted(b, a.Adjustment, a.Product) }
