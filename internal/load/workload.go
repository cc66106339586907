package load

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
)

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
	// What becomes of a hold, in percent; the rest lapses.
	Confirm, Cancel int
}

// plenty is stock that no run sells out.
const plenty = 1_000_000_000

// Workloads are those that a run can have.
var Workloads = []Workload{
	{Name: "hot", About: "everybody holds one product", Products: 1, Lines: 1, Units: plenty},
	{Name: "uniform", About: "holds, spread over 1,000 products", Products: 1000, Lines: 1, Units: plenty},
	{Name: "zipf", About: "holds over 1,000 products, a few of them wanted most", Products: 1000, Zipf: true, Lines: 1, Units: plenty},
	{Name: "sellout", About: "1,000 units for everybody: nearly all are refused", Products: 1, Lines: 1, Units: 1000},
	{Name: "carts", About: "holds of 5 products at once", Products: 1000, Lines: 5, Units: plenty},
	{Name: "life", About: "hold, then 60 % confirm, 20 % cancel, 20 % lapse", Products: 1000, Lines: 1, Units: plenty, Confirm: 60, Cancel: 20},
	{Name: "pairs", About: "hold and confirm", Products: 1, Lines: 1, Units: plenty, Confirm: 100},
	{Name: "keys", About: "everybody holds one product, with idempotency keys", Products: 1, Lines: 1, Units: plenty, Keys: true},
	{Name: "retries", About: "the same, and each request is sent twice", Products: 1, Lines: 1, Units: plenty, Keys: true, Retry: true},
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

// buyer acts out a workload on one connection.
type buyer struct {
	*Workload
	prefix string // of the products
	random *rand.Rand
	zipf   *rand.Zipf
	body   []byte
	key    []byte
	number uint64
}

func newBuyer(w *Workload, prefix string, seed, number uint64) *buyer {
	b := &buyer{Workload: w, prefix: prefix, random: rand.New(rand.NewPCG(seed, number)), number: number}
	if w.Zipf {
		b.zipf = rand.NewZipf(b.random, 1.1, 1, uint64(w.Products-1))
	}
	return b
}

func (b *buyer) product() int {
	if b.zipf != nil {
		return int(b.zipf.Uint64())
	}
	return b.random.IntN(b.Products)
}

// holdSeconds is long enough that no hold lapses in a run, except in the life workload.
func (b *buyer) holdSeconds() int64 {
	if b.Confirm+b.Cancel > 0 && b.Confirm+b.Cancel < 100 {
		return 1
	}
	return 3600
}

// hold writes the body of a request for a hold.
func (b *buyer) hold() []byte {
	body := append(b.body[:0], `{"ttlSeconds":`...)
	body = strconv.AppendInt(body, b.holdSeconds(), 10)
	if b.Lines == 1 {
		body = append(body, ',')
		body = b.line(body)
	} else {
		body = append(body, `,"lines":[`...)
		for i := range b.Lines {
			if i > 0 {
				body = append(body, ',')
			}
			body = append(body, '{')
			body = append(b.line(body), '}')
		}
		body = append(body, ']')
	}
	b.body = append(body, '}')
	return b.body
}

func (b *buyer) line(body []byte) []byte {
	body = append(body, `"productId":"`...)
	body = append(body, b.prefix...)
	body = strconv.AppendInt(body, int64(b.product()), 10)
	return append(body, `","quantity":1`...)
}

// idempotencyKey makes a fresh key, random as those of clients are.
func (b *buyer) idempotencyKey() string {
	if !b.Keys {
		return ""
	}
	b.key = append(b.key[:0], b.prefix...) // another run of the same seed has keys of its own
	b.key = strconv.AppendUint(b.key, b.random.Uint64(), 16)
	b.key = append(b.key, '-')
	b.key = strconv.AppendUint(b.key, b.random.Uint64(), 16)
	return string(b.key)
}

// step is one request of a buyer and what it was told.
type step struct {
	kind   kind
	status int
	code   string // of a refusal or an error
	id     string // of the reservation, where it was acknowledged
}

type kind int

const (
	holds kind = iota
	confirms
	cancels
	kinds
)

// act sends the requests of one visit, each when the pace allows, and tells each step.
func (b *buyer) act(w *wire, tell func(step) error) error {
	times := 1
	if b.Retry {
		times = 2
	}
	key := b.idempotencyKey()
	body := b.hold()
	var id string
	for range times {
		status, answer, err := w.post("/v1/reservations", key, body)
		if err != nil {
			return err
		}
		s := step{kind: holds, status: status}
		if status == http.StatusCreated {
			s.id = member(answer, "id")
			id = s.id
		} else {
			s.code = problemCode(status, answer)
		}
		if err := tell(s); err != nil {
			return err
		}
	}
	if id == "" || b.Confirm+b.Cancel == 0 {
		return nil
	}
	return b.end(w, id, tell)
}

func (b *buyer) end(w *wire, id string, tell func(step) error) error {
	s := step{id: id}
	path, body := "", []byte(nil)
	switch lot := b.random.IntN(100); {
	case lot < b.Confirm:
		s.kind, path, body = confirms, "/v1/orders", fmt.Appendf(b.body[:0], `{"reservationId":%q}`, id)
	case lot < b.Confirm+b.Cancel:
		s.kind, path = cancels, "/v1/reservations/"+id+"/cancel"
	default:
		return nil
	}
	status, answer, err := w.post(path, b.idempotencyKey(), body)
	if err != nil {
		return err
	}
	s.status = status
	if status >= http.StatusBadRequest {
		s.code = problemCode(status, answer)
	}
	return tell(s)
}
