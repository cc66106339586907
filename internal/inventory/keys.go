package inventory

// Keys names the rows that a batch works on, each once, in the order of the commands. A store loads them into a
// [State].
//
// With a reservation, a store loads its order and, for every line of it, the product and the stock row. With an order
// it loads the same for the lines of the order.
type Keys struct {
	Receipts     [][16]byte
	Products     []string // with every stock row
	Stock        []Demand // one stock row, and its product without the others
	Reservations []ID
	Orders       []ID
	Records      []RecordKey
	Ranges       []RecordRange

	stock        map[StockKey]int // position in Stock
	products     map[string]bool
	reservations map[ID]bool
	orders       map[ID]bool
	receipts     map[[16]byte]bool
	records      map[RecordKey]bool
	ranges       map[RecordRange]bool
}

// Demand is a stock row and the units that the batch may want of it. If they are more than are available, the store
// loads overdue holds of the row as well, oldest deadline first, at most [MaxOverdueLoaded] a batch (I8).
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

func (k *Keys) order(id ID) { addOnce(&k.orders, &k.Orders, id) }

func (k *Keys) record(key RecordKey)       { addOnce(&k.records, &k.Records, key) }
func (k *Keys) recordRange(of RecordRange) { addOnce(&k.ranges, &k.Ranges, of) }

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
