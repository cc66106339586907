package wire

import "github.com/holdfast/holdfast/internal/inventory"

type productBody struct {
	ID         optional[string]       `json:"id"`
	Name       optional[string]       `json:"name"`
	Price      optional[moneyBody]    `json:"price"`
	TotalStock optional[int64]        `json:"totalStock"`
	Location   optional[string]       `json:"location"`
	Metadata   optional[metadataBody] `json:"metadata"`
}

// CreateProduct turns a body of the operation of that name into its command.
func CreateProduct(body []byte, _ Target) (inventory.Command, error) {
	b, err := decode[productBody](body)
	if err != nil {
		return nil, err
	}
	var c Checker
	command := &inventory.CreateProduct{
		ID:         c.key("/id", &b.ID, canOmit),
		Name:       c.text("/name", &b.Name, required, 200),
		Price:      c.money("/price", &b.Price, required),
		TotalStock: c.integer("/totalStock", &b.TotalStock, canOmit, 0, inventory.MaxStock),
		Location:   c.location("/location", &b.Location),
		Metadata:   c.metadata(&b.Metadata),
	}
	return command, c.Err()
}

type productPatch struct {
	Name     optional[string]                        `json:"name"`
	Price    optional[moneyBody]                     `json:"price"`
	Metadata removable[map[string]removable[string]] `json:"metadata"`
	Version  optional[int64]                         `json:"version"`
}

// UpdateProduct turns a body of the operation of that name, a merge-patch, into its command.
func UpdateProduct(body []byte, t Target) (inventory.Command, error) {
	b, err := decode[productPatch](body)
	if err != nil {
		return nil, err
	}
	var c Checker
	command := &inventory.UpdateProduct{
		ID:       t.product(),
		IfMatch:  t.IfMatch,
		Name:     changed(&b.Name),
		Amount:   changed(&b.Price.value.Amount),
		Currency: changed(&b.Price.value.Currency),
		Metadata: c.metadataPatch(&b.Metadata),
		Version:  c.integer("/version", &b.Version, canOmit, 1, inventory.MaxAmount),
	}
	c.text("/name", &b.Name, canOmit, 200)
	c.amount("/price/amount", &b.Price.value.Amount, canOmit)
	c.currency("/price/currency", &b.Price.value.Currency, canOmit)
	return command, c.Err()
}

// changed is what a member of a patch sets, or nil if it was not sent.
func changed[T any](field *optional[T]) *T {
	if !field.set {
		return nil
	}
	return &field.value
}

func (c *Checker) metadataPatch(field *removable[map[string]removable[string]]) *inventory.MetadataPatch {
	if !field.set {
		return nil
	}
	patch := &inventory.MetadataPatch{Clear: field.null, Set: make(map[string]*string, len(field.value))}
	for name, value := range field.value {
		if value.null {
			patch.Set[name] = nil
			continue
		}
		c.metadataMember(name, value.value)
		patch.Set[name] = &value.value
	}
	return patch
}

// AppendProduct appends a product with its stock at every location.
func AppendProduct(b []byte, p *inventory.Product) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, p.ID)
	b = append(b, `,"name":`...)
	b = appendString(b, p.Name)
	b = append(b, `,"price":`...)
	b = appendMoney(b, p.Price)
	b = appendTotals(b, p.Totals())
	b = append(b, `,"stock":[`...)
	for i := range p.Stock {
		b = appendComma(b, i)
		b = appendStock(b, &p.Stock[i])
	}
	b = append(b, `],"metadata":`...)
	b = appendMetadata(b, p.Metadata)
	b = append(b, `,"version":`...)
	b = appendInt(b, p.Version)
	b = append(b, `,"createdAt":`...)
	b = AppendTime(b, p.CreatedAt)
	b = append(b, `,"updatedAt":`...)
	b = AppendTime(b, p.UpdatedAt)
	return append(b, '}')
}

// appendTotals appends the sums over all locations as members of the product.
func appendTotals(b []byte, totals inventory.Buckets) []byte {
	b = append(b, `,"totalStock":`...)
	b = appendInt(b, totals.Total())
	b = append(b, `,"availableStock":`...)
	b = appendInt(b, totals.Available)
	b = append(b, `,"reservedStock":`...)
	b = appendInt(b, totals.Reserved)
	b = append(b, `,"committedStock":`...)
	return appendInt(b, totals.Committed)
}
