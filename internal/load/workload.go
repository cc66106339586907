package load

// Workload is what buyers do. With the same seed they do the same.
type Workload struct {
	Name     string
	About    string // for people
	Products int
	Zipf     bool  // a few products are wanted most; else all are wanted alike
	Lines    int   // of a cart
	Units    int64 // in stock of each product
	Keys     bool  // an idempotency key with each request
	Retry    bool  // every request is sent twice with its key
	Batch    int   // holds that share a request, by POST /v1/batch; 0: each has its own
	// What becomes of a hold, in percent; the rest lapses.
	Confirm, Cancel int
}

// Plenty is stock that no run sells out.
const Plenty = 1_000_000_000

// Workloads are those that a run can have.
var Workloads = []Workload{
	{Name: "hot", About: "everybody holds one product", Products: 1, Lines: 1, Units: Plenty},
	{Name: "uniform", About: "holds, spread over 1,000 products", Products: 1000, Lines: 1, Units: Plenty},
	{
		Name: "zipf", About: "holds over 1,000 products, a few of them wanted most",
		Products: 1000, Zipf: true, Lines: 1, Units: Plenty,
	},
	{
		Name: "sellout", About: "1,000 units for everybody: nearly all are refused",
		Products: 1, Lines: 1, Units: 1000,
	},
	{Name: "carts", About: "holds of 5 products at once", Products: 1000, Lines: 5, Units: Plenty},
	{
		Name: "life", About: "hold, then 60 % confirm, 20 % cancel, 20 % lapse",
		Products: 1000, Lines: 1, Units: Plenty, Confirm: 60, Cancel: 20,
	},
	{Name: "pairs", About: "hold and confirm", Products: 1, Lines: 1, Units: Plenty, Confirm: 100},
	{
		Name: "keys", About: "everybody holds one product, with idempotency keys",
		Products: 1, Lines: 1, Units: Plenty, Keys: true,
	},
	{
		Name: "retries", About: "the same, and each request is sent twice",
		Products: 1, Lines: 1, Units: Plenty, Keys: true, Retry: true,
	},
}

// FindWorkload finds one by name.
func FindWorkload(name string) (Workload, bool) {
	for _, w := range Workloads {
		if w.Name == name {
			return w, true
		}
	}
	return Workload{}, false
}
