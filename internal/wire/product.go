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

// productPatch is a merge-patch: null removes, and what cannot be removed cannot be null. The version is no member of
// the catalogue but a condition, which null leaves out.
type productPatch struct {
	Name     notNull[string]                         `json:"name"`
	Price    notNull[pricePatch]                     `json:"price"`
	Metadata removable[map[string]removable[string]] `json:"metadata"`
	Version  optional[int64]                         `json:"version"`
}

type pricePatch struct {
	Amount   notNull[int64]  `json:"amount"`
	Currency notNull[string] `json:"currency"`
}

// UpdateProduct turns a body of the operation of that name, a merge-patch, into its command.
func UpdateProduct(body []byte, t Target) (inventory.Command, error) {
	b, err := decode[productPatch](body)
	if err != nil {
		return nil, err
	}
	var c Checker
	name, amount, currency := &b.Name.optional, &b.Price.value.Amount.optional, &b.Price.value.Currency.optional
	c.text("/name", name, canOmit, 200)
	c.amount("/price/amount", amount, canOmit)
	c.currency("/price/currency", currency, canOmit)
	command := &inventory.UpdateProduct{
		ID:       t.product(),
		IfMatch:  t.IfMatch,
		Name:     changed(name),
		Amount:   changed(amount),
		Currency: changed(currency),
		Metadata: c.metadataPatch(&b.Metadata),
		Version:  c.integer("/version", &b.Version, canOmit, 1, inventory.MaxAmount),
	}
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
	if !field.set && !field.null {
		return nil
	}
	patch := &inventory.MetadataPatch{Clear: field.null, Set: make(map[string]*string, len(field.value))}
	for name, value := range field.value {
		if value.set {
			c.metadataMember(name, value.value)
		}
		patch.Set[name] = changed(&value.optional)
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
