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

	seen map[any]int // position in its list, by key
}

// Demand is a stock row and the units that the batch may want of it. Where they are more than are available, the store loads
// overdue holds of the row as well, oldest deadline first, at most [MaxOverdueLoaded] a batch (I8).
type Demand struct {
	StockKey
	Units int64
}

type (
	reservationKey ID
	orderKey       ID
	receiptKey     [16]byte
)

// KeysOf collects the rows that these requests need.
func KeysOf(requests []*Request) *Keys {
	k := &Keys{seen: make(map[any]int, len(requests))}
	for _, request := range requests {
		if r := request.Receipt; r != nil && k.first(receiptKey(r.Key), len(k.Receipts)) {
			k.Receipts = append(k.Receipts, r.Key)
		}
		request.Command.addKeys(k)
	}
	k.seen = nil
	return k
}

func (k *Keys) first(key any, position int) bool {
	if _, found := k.seen[key]; found {
		return false
	}
	k.seen[key] = position
	return true
}

func (k *Keys) product(id string) {
	if k.first(id, len(k.Products)) {
		k.Products = append(k.Products, id)
	}
}

func (k *Keys) demand(key StockKey, units int64) {
	if k.first(key, len(k.Stock)) {
		k.Stock = append(k.Stock, Demand{StockKey: key})
	}
	d := &k.Stock[k.seen[key]]
	d.Units = min(d.Units+units, MaxStock+1) // above every possible stock, and never past an int64
}

func (k *Keys) reservation(id ID) {
	if k.first(reservationKey(id), len(k.Reservations)) {
		k.Reservations = append(k.Reservations, id)
	}
}

func (k *Keys) order(id ID) {
	if k.first(orderKey(id), len(k.Orders)) {
		k.Orders = append(k.Orders, id)
	}
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
