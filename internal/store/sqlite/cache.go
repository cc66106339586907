package sqlite

import "github.com/holdfast/holdfast/internal/inventory"

// cacheBytes is about how much memory the cache may take. When it is reached, the cache is emptied.
const cacheBytes = 32 << 20

// cache keeps products and stock rows that batches loaded or wrote, as the last commit left them. They are always
// exact: only this process writes the file, and only what was committed is entered.
type cache struct {
	products map[string]cachedProduct
	stock    map[inventory.StockKey]cachedStock
	bytes    int
}

type cachedProduct struct {
	key     int64
	product inventory.Product // without its stock
}

type cachedStock struct {
	key int64
	row inventory.Stock
}

// entryBytes is about how much memory an entry takes, in addition to the data of a product.
const entryBytes = 256

func (c *cache) grow(n int) {
	if c.bytes += n; c.products == nil || c.bytes > cacheBytes {
		*c = cache{products: map[string]cachedProduct{}, stock: map[inventory.StockKey]cachedStock{}, bytes: n}
	}
}

func (c *cache) putProduct(key int64, p *inventory.Product, dataBytes int) {
	if _, known := c.products[p.ID]; !known {
		c.grow(entryBytes + 2*dataBytes)
	}
	copied := *p
	copied.Stock = nil
	c.products[p.ID] = cachedProduct{key, copied}
}

func (c *cache) putStock(id inventory.StockKey, key int64, row inventory.Stock) {
	if _, known := c.stock[id]; !known {
		c.grow(entryBytes)
	}
	c.stock[id] = cachedStock{key, row}
}

// committed enters what a committed batch has written.
func (c *cache) committed(l *loader, changes *inventory.Changes) {
	for i := range changes.Products {
		p := changes.Products[i].After
		c.putProduct(l.products[p.ID], p, len(p.Name)+64*len(p.Metadata))
	}
	for i := range changes.Stock {
		s := &changes.Stock[i]
		c.putStock(s.StockKey, l.stock[s.StockKey], *s.After)
	}
}
