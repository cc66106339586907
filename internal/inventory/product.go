package inventory

import "slices"

// CreateProduct adds a product, with stock at one location.
type CreateProduct struct {
	ID         string // empty: the server makes one
	Name       string
	Price      Money
	TotalStock int64 // 0 to MaxStock
	Location   string
	Metadata   Metadata
}

func (c *CreateProduct) addKeys(k *Keys) {
	if c.ID != "" {
		k.product(c.ID)
	}
}

func (c *CreateProduct) size() int { return len(c.Name) + len(c.ID) + c.Metadata.Size() }

func (c *CreateProduct) decide(b *batch, request *Request) Outcome {
	id := c.ID
	if b.Products[id] != nil {
		return refuse(RefusedProductExists)
	}
	seq := b.next()
	if id == "" {
		id = NewID(b.Now, seq, request.Salt).Text(ProductPrefix)
	}
	p := &Product{
		ID: id, Name: c.Name, Price: c.Price, Metadata: c.Metadata,
		Version: 1, CreatedAt: b.Now, UpdatedAt: b.Now, Seq: seq,
	}
	b.putProduct(nil, p)
	b.open(p, MainLocation)
	if c.Location != MainLocation {
		b.open(p, c.Location)
	}
	var movements []Movement
	if c.TotalStock > 0 {
		movements = []Movement{b.move(StockKey{id, c.Location}, Buckets{Available: c.TotalStock})}
	}
	b.emit(&Event{Type: EventProductCreated, Product: p, Movements: movements})
	return Outcome{Created: true, Product: p.Clone(), Seq: seq}
}

// UpdateProduct is a merge-patch (RFC 7396) of the catalogue part. Nil leaves a field as it is.
type UpdateProduct struct {
	ID       string
	Name     *string
	Amount   *int64
	Currency *string
	Metadata *MetadataPatch
	// IfMatch, if not nil, must contain the product's current LastSeq (its ETag), else the command is refused.
	IfMatch []int64
	// Version, if not 0, must be the catalogue part's current version.
	Version int64
}

// MetadataPatch is a merge-patch of metadata: Clear removes everything first, a nil value removes a member.
type MetadataPatch struct {
	Clear bool
	Set   map[string]*string
}

func (c *UpdateProduct) addKeys(k *Keys) { k.product(c.ID) }

func (c *UpdateProduct) about(o *Outcome) referring {
	named := *c
	named.ID = o.productID()
	return &named
}

func (c *UpdateProduct) size() int {
	n := 0
	if c.Name != nil {
		n += len(*c.Name)
	}
	if c.Metadata != nil {
		for name, value := range c.Metadata.Set {
			n += len(name) + 4
			if value != nil {
				n += len(*value)
			}
		}
	}
	return n
}

func (c *UpdateProduct) decide(b *batch, _ *Request) Outcome {
	p := b.Products[c.ID]
	if p == nil {
		return refuse(RefusedProductNotFound)
	}
	changed := p.Clone() // with stock rows of its own, or undoing would find those of p changed
	if c.Name != nil {
		changed.Name = *c.Name
	}
	if c.Amount != nil {
		changed.Price.Amount = *c.Amount
	}
	if c.Currency != nil {
		changed.Price.Currency = *c.Currency
	}
	changed.Metadata = c.Metadata.apply(p.Metadata)
	current := &Current{Version: p.Version}
	switch {
	case len(changed.Metadata) > MaxMetadata:
		return refuse(RefusedMetadataTooLarge)
	case c.IfMatch != nil && !slices.Contains(c.IfMatch, p.LastSeq()):
		return Outcome{Refusal: &Refusal{Code: RefusedPreconditionFailed, Current: current}}
	case c.Version != 0 && c.Version != p.Version:
		return Outcome{Refusal: &Refusal{Code: RefusedVersionMismatch, Current: current}}
	case changed.Name == p.Name && changed.Price == p.Price && changed.Metadata.equal(p.Metadata):
		return Outcome{Product: p.Clone(), Seq: p.LastSeq()}
	}
	changed.Version++
	changed.UpdatedAt = b.Now
	changed.Seq = b.next()
	b.putProduct(p, changed)
	b.emit(&Event{Type: EventProductUpdated, Product: changed})
	return Outcome{Product: changed.Clone(), Seq: changed.Seq}
}

// apply merges the patch into metadata as RFC 7396 says. The original stays as it is.
func (p *MetadataPatch) apply(m Metadata) Metadata {
	if p == nil {
		return m
	}
	merged := map[string]string{}
	if !p.Clear {
		for _, member := range m {
			merged[member.Name] = member.Value
		}
	}
	for name, value := range p.Set {
		if value == nil {
			delete(merged, name)
		} else {
			merged[name] = *value
		}
	}
	return NewMetadata(merged)
}
