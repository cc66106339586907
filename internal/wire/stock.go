package wire

import "github.com/holdfast/holdfast/internal/inventory"

type adjustmentBody struct {
	Delta     optional[int64]  `json:"delta"`
	Reason    optional[string] `json:"reason"`
	Reference optional[string] `json:"reference"`
	Location  optional[string] `json:"location"`
}

// AdjustStock turns a body of the operation of that name into its command.
func AdjustStock(body []byte, t Target) (inventory.Command, error) {
	b, err := decode[adjustmentBody](body)
	if err != nil {
		return nil, err
	}
	var c Checker
	command := &inventory.Adjust{
		ProductID: t.product(),
		Delta:     c.integer("/delta", &b.Delta, required, -inventory.MaxStock, inventory.MaxStock),
		Reason:    c.text("/reason", &b.Reason, required, 100),
		Reference: c.text("/reference", &b.Reference, canOmit, 200),
		Location:  c.location("/location", &b.Location),
	}
	if b.Delta.set && command.Delta == 0 {
		c.Add("/delta", "must not be 0")
	}
	return command, c.Err()
}

// AppendAdjustment appends an adjustment alone.
func AppendAdjustment(b []byte, a *inventory.Adjustment) []byte {
	b = append(b, `{"id":`...)
	b = AppendID(b, a.ID, inventory.AdjustmentPrefix)
	b = append(b, `,"productId":`...)
	b = appendString(b, a.ProductID)
	b = append(b, `,"location":`...)
	b = appendString(b, a.Location)
	b = append(b, `,"delta":`...)
	b = appendInt(b, a.Delta)
	b = append(b, `,"reason":`...)
	b = appendString(b, a.Reason)
	b = append(b, `,"reference":`...)
	b = appendOptional(b, a.Reference)
	b = append(b, `,"createdAt":`...)
	b = AppendTime(b, a.CreatedAt)
	return append(b, '}')
}

// AppendAdjusted appends the answer to an adjustment: what it was, and the product as it is after it.
func AppendAdjusted(b []byte, a *inventory.Adjustment, p *inventory.Product) []byte {
	b = append(b, '{')
	b = appendAdjusted(b, a, p)
	return append(b, '}')
}

// appendAdjusted appends the members of an adjustment's answer, which its event has among others.
func appendAdjusted(b []byte, a *inventory.Adjustment, p *inventory.Product) []byte {
	b = append(b, `"adjustment":`...)
	b = AppendAdjustment(b, a)
	b = append(b, `,"product":`...)
	return AppendProduct(b, p)
}

func appendStock(b []byte, s *inventory.Stock) []byte {
	b = append(b, `{"location":`...)
	b = appendString(b, s.Location)
	b = append(b, `,"total":`...)
	b = appendInt(b, s.Total())
	b = append(b, ',')
	b = appendBuckets(b, s.Buckets)
	return append(b, '}')
}
