package inventory

// Keys names the rows that a batch works on, each once, in the order of the commands. A store loads them into a [State].
//
// Loading a reservation loads its order and, for every line of it, the product and the stock row; loading an order loads the
// same for its lines.
type Keys struct {
	Receipts     [][16]byte
	Products     []string // with every stock row
	Stock        []Demand // one stock row, and its product without the others
	Reservations []ID
	Orders       []ID

	stock        map[StockKey]int // position in Stock
	products     map[string]bool
	reservations map[ID]bool
	orders       map[ID]bool
	receipts     map[[16]byte]bool
}

// Demand is a stock row and the units that the batch may want of it. Where they are more than are available, the store loads
// overdue holds of the row as well, oldest deadline first, at most [MaxOverdueLoaded] a batch (I8).
type Demand struct {
	StockKey
	Units int64
}

// KeysOf collects the rows that these requests need.
func KeysOf(requests []*Request) *Keys {
	k := &Keys{}
	for _, request := range requests {
		if r := request.Receipt; r != nil {
			addOnce(&k.receipts, &k.Receipts, r.Key)
		}
		request.Command.addKeys(k)
	}
	return k
}

func addOnce[K comparable](seen *map[K]bool, list *[]K, key K) {
	if (*seen)[key] {
		return
	}
	if *seen == nil {
		*seen = map[K]bool{}
	}
	(*seen)[key] = true
	*list = append(*list, key)
}

func (k *Keys) product(id string) { addOnce(&k.products, &k.Products, id) }
func (k *Keys) reservation(id ID) { addOnce(&k.reservations, &k.Reservations, id) }
func (k *Keys) order(id ID)       { addOnce(&k.orders, &k.Orders, id) }

func (k *Keys) demand(key StockKey, units int64) {
	i, found := k.stock[key]
	if !found {
		if k.stock == nil {
			k.stock = map[StockKey]int{}
		}
		i = len(k.Stock)
		k.stock[key] = i
		k.Stock = append(k.Stock, Demand{StockKey: key})
	}
	d := &k.Stock[i]
	d.Units = min(d.Units+units, MaxStock+1) // above every possible stock, and never past an int64
}

func (c *CreateProduct) addKeys(k *Keys) {
	if c.ID != "" {
		k.product(c.ID)
	}
}
func (c *UpdateProduct) addKeys(k *Keys) { k.product(c.ID) }
func (c *Adjust) addKeys(k *Keys) {
	k.product(c.ProductID)
	if c.Delta < 0 {
		k.demand(StockKey{c.ProductID, c.Location}, -c.Delta)
	}
}

func (c *Reserve) addKeys(k *Keys) {
	for i := range c.Lines {
		k.demand(StockKey{c.Lines[i].ProductID, c.Lines[i].Location}, c.Lines[i].Quantity)
	}
}
func (c *Cancel) addKeys(k *Keys)      { k.reservation(c.ID) }
func (c *Extend) addKeys(k *Keys)      { k.reservation(c.ID) }
func (c *Confirm) addKeys(k *Keys)     { k.reservation(c.ReservationID) }
func (c *Fulfill) addKeys(k *Keys)     { k.order(c.ID) }
func (c *CancelOrder) addKeys(k *Keys) { k.order(c.ID) }
func (c *Expire) addKeys(k *Keys) {
	for _, id := range c.IDs {
		k.reservation(id)
	}
}

// Size is about how many bytes the request holds while it waits, and how many it writes.
func (r *Request) Size() int { return 256 + r.Command.size() }

func (m Metadata) size() int {
	n := 0
	for i := range m {
		n += len(m[i].Name) + len(m[i].Value) + 4
	}
	return n
}

func (c *CreateProduct) size() int { return len(c.Name) + len(c.ID) + c.Metadata.size() }
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
func (c *Adjust) size() int { return len(c.Reason) + len(c.Reference) }
func (c *Reserve) size() int {
	n := len(c.CustomerID) + c.Metadata.size()
	for i := range c.Lines {
		n += 2*len(c.Lines[i].ProductID) + 2*len(c.Lines[i].Location) + 64 // the line and its movement
	}
	return n
}
func (c *Cancel) size() int      { return len(c.Reason) }
func (c *Extend) size() int      { return 0 }
func (c *Confirm) size() int     { return len(c.Reference) + c.Metadata.size() }
func (c *Fulfill) size() int     { return 0 }
func (c *CancelOrder) size() int { return len(c.Reason) }
func (c *Expire) size() int      { return 256 * len(c.IDs) }
