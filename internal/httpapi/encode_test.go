package httpapi

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast/holdfast/internal/inventory"
)

// The shapes that encoding/json writes are the oracle for the appended answers.
type moneyJSON struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

type lineJSON struct {
	Line      int        `json:"line"`
	ProductID string     `json:"productId"`
	Location  string     `json:"location"`
	Quantity  int64      `json:"quantity"`
	UnitPrice *moneyJSON `json:"unitPrice,omitempty"`
	Purchase  *moneyJSON `json:"priceAtPurchase,omitempty"`
}

type reservationJSON struct {
	ID           string            `json:"id"`
	Status       string            `json:"status"`
	Lines        []lineJSON        `json:"lines"`
	Total        moneyJSON         `json:"total"`
	CustomerID   *string           `json:"customerId"`
	Metadata     map[string]string `json:"metadata"`
	CreatedAt    string            `json:"createdAt"`
	UpdatedAt    string            `json:"updatedAt"`
	ExpiresAt    string            `json:"expiresAt"`
	EndedAt      *string           `json:"endedAt"`
	CancelReason *string           `json:"cancelReason"`
	OrderID      *string           `json:"orderId"`
	Version      int64             `json:"version"`
}

type orderJSON struct {
	ID            string            `json:"id"`
	ReservationID string            `json:"reservationId"`
	Reference     *string           `json:"reference"`
	Status        string            `json:"status"`
	Lines         []lineJSON        `json:"lines"`
	Total         moneyJSON         `json:"total"`
	CustomerID    *string           `json:"customerId"`
	Metadata      map[string]string `json:"metadata"`
	CreatedAt     string            `json:"createdAt"`
	UpdatedAt     string            `json:"updatedAt"`
	FulfilledAt   *string           `json:"fulfilledAt"`
	CancelledAt   *string           `json:"cancelledAt"`
	CancelReason  *string           `json:"cancelReason"`
	Version       int64             `json:"version"`
}

type bucketsJSON struct {
	Available int64 `json:"available"`
	Reserved  int64 `json:"reserved"`
	Committed int64 `json:"committed"`
}

type stockJSON struct {
	Location string `json:"location"`
	Total    int64  `json:"total"`
	bucketsJSON
}

type productJSON struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Price     moneyJSON         `json:"price"`
	Total     int64             `json:"totalStock"`
	Available int64             `json:"availableStock"`
	Reserved  int64             `json:"reservedStock"`
	Committed int64             `json:"committedStock"`
	Stock     []stockJSON       `json:"stock"`
	Metadata  map[string]string `json:"metadata"`
	Version   int64             `json:"version"`
	CreatedAt string            `json:"createdAt"`
	UpdatedAt string            `json:"updatedAt"`
}

func timeText(t inventory.Time) string {
	return time.UnixMilli(int64(t)).UTC().Format("2006-01-02T15:04:05.000Z")
}

func timePointer(t inventory.Time) *string {
	if t == 0 {
		return nil
	}
	s := timeText(t)
	return &s
}

func textPointer(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func metadataMap(m inventory.Metadata) map[string]string {
	values := map[string]string{}
	for _, member := range m {
		values[member.Name] = member.Value
	}
	return values
}

// FuzzAnswers holds the appended answers against encoding/json, for whatever text and numbers a resource may carry.
func FuzzAnswers(f *testing.F) {
	f.Add("mug", "main", "anna", "name", "value", int64(5), int64(1999), int64(1_750_000_000_123), int64(0))
	f.Add("a\"b\\c", "ü😀\u2028", "\x7f<>&", "\t", "", int64(1), int64(0), int64(1), int64(77))
	f.Fuzz(func(t *testing.T, product, location, customer, name, value string, quantity, amount, at, ended int64) {
		for _, s := range []string{product, location, customer, name, value} {
			if !utf8.ValidString(s) {
				t.Skip("requests are UTF-8")
			}
		}
		at, ended = abs(at)%maxTime+1, abs(ended)%maxTime
		id := inventory.NewID(inventory.Time(at), 7, 3)
		price := inventory.Money{Amount: amount, Currency: "EUR"}
		lines := []inventory.Line{{ProductID: product, Location: location, Quantity: quantity, UnitPrice: price}, {ProductID: location, Location: "x", Quantity: 1, UnitPrice: price}}
		metadata := inventory.NewMetadata(map[string]string{name: value, "other": product})
		r := &inventory.Reservation{
			ID: id, Status: inventory.ReservationExpired, Lines: lines, Total: price, CustomerID: customer, Metadata: metadata, CreatedAt: inventory.Time(at),
			UpdatedAt: inventory.Time(at + 1), ExpiresAt: inventory.Time(at + 2), EndedAt: inventory.Time(ended), CancelReason: value, Version: quantity,
		}
		money := moneyJSON{amount, "EUR"}
		reservation := reservationJSON{
			id.Text("rsv_"), "EXPIRED",
			[]lineJSON{{1, product, location, quantity, &money, nil}, {2, location, "x", 1, &money, nil}},
			money, textPointer(customer),
			metadataMap(metadata), timeText(r.CreatedAt), timeText(r.UpdatedAt), timeText(r.ExpiresAt), timePointer(r.EndedAt), textPointer(value), nil, quantity,
		}
		same(t, reservation, appendReservation(nil, r))

		o := &inventory.Order{
			ID: id, ReservationID: id, Reference: name, Status: inventory.OrderCancelled, Lines: lines, Total: price, CustomerID: customer, Metadata: metadata,
			CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, CancelledAt: r.EndedAt, CancelReason: value, Version: 2,
		}
		order := orderJSON{
			id.Text("ord_"), id.Text("rsv_"), textPointer(name), "CANCELLED",
			[]lineJSON{{1, product, location, quantity, nil, &money}, {2, location, "x", 1, nil, &money}},
			money,
			textPointer(customer), metadataMap(metadata), timeText(r.CreatedAt), timeText(r.UpdatedAt), nil, timePointer(r.EndedAt), textPointer(value), 2,
		}
		same(t, order, appendOrder(nil, o))

		units := abs(quantity) % inventory.MaxStock
		p := &inventory.Product{
			ID: product, Name: name, Price: price, Metadata: metadata, Version: 3, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
			Stock: []inventory.Stock{{Location: location, Buckets: inventory.Buckets{Available: units, Reserved: 2, Committed: 3}}},
		}
		same(t, productJSON{
			product, name, money, units + 5, units, 2, 3,
			[]stockJSON{{location, units + 5, bucketsJSON{units, 2, 3}}},
			metadataMap(metadata), 3,
			timeText(r.CreatedAt), timeText(r.UpdatedAt),
		}, appendProduct(nil, p))

		e := inventory.Event{
			Seq: 9, Type: inventory.EventReservationExpired, Time: r.CreatedAt, Reservation: r,
			Movements: []inventory.Movement{{StockKey: inventory.StockKey{ProductID: product, Location: location}, Delta: inventory.Buckets{Available: quantity}}},
		}
		var event struct {
			Sequence int64  `json:"sequence"`
			Subject  string `json:"subject"`
			Data     struct {
				Reservation reservationJSON
				Movements   []any
			} `json:"data"`
		}
		if err := json.Unmarshal(appendEvent(nil, &e, storeDigest("s")), &event); err != nil || event.Sequence != 9 || event.Subject != reservation.ID || len(event.Data.Movements) != 1 {
			t.Fatalf("%+v: %v", event, err)
		}
	})
}

// maxTime is in the year 9999, after which RFC 3339 ends.
const maxTime = 253_402_300_799_000

func abs(n int64) int64 {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

// same compares JSON texts as encoding/json writes them.
func same(t *testing.T, want any, got []byte) {
	t.Helper()
	expected, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := json.Unmarshal(expected, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(got, &b); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if string(x) != string(y) {
		t.Fatalf("got  %s\nwant %s", y, x)
	}
}

// FuzzRequests: no body makes a decoder panic, or gives a command that breaks the limits of the domain.
func FuzzRequests(f *testing.F) {
	f.Add([]byte(`{"productId":"mug","quantity":1,"ttlSeconds":5,"unitPrice":{"amount":1,"currency":"EUR"},"metadata":{"a":"b"}}`))
	f.Add([]byte(`{"lines":[{"productId":"mug","quantity":1}],"customerId":"x"}`))
	f.Add([]byte(`{"id":"x","name":"n","price":{"amount":1,"currency":"EUR"},"totalStock":5,"location":"b"}`))
	f.Add([]byte(`{"delta":-4,"reason":"r","reference":"q"}`))
	f.Add([]byte(`{"metadata":{"a":null},"price":{"amount":4},"version":3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r reservationBody
		if decode(data, &r) == nil {
			if c, p := r.command(10*time.Minute, 24*time.Hour); p == nil {
				sums := map[inventory.StockKey]int64{}
				for _, l := range c.Lines {
					sums[inventory.StockKey{ProductID: l.ProductID, Location: l.Location}] += l.Quantity
					if l.Quantity < 1 || !isKey(l.ProductID) || !isKey(l.Location) {
						t.Fatalf("%s: %+v", data, l)
					}
				}
				for _, n := range sums {
					if n > inventory.MaxQuantity {
						t.Fatalf("%s: %d units", data, n)
					}
				}
				if len(c.Lines) == 0 || c.TTL < 1000 || c.TTL > 86_400_000 || hasControl(c.CustomerID) || len(c.Metadata) > inventory.MaxMetadata {
					t.Fatalf("%s: %+v", data, c)
				}
			}
		}
		var product productBody
		if decode(data, &product) == nil {
			if c, p := product.command(); p == nil && (c.TotalStock < 0 || c.TotalStock > inventory.MaxStock || !isCurrency(c.Price.Currency) || c.Name == "") {
				t.Fatalf("%s: %+v", data, c)
			}
		}
		var adjustment adjustmentBody
		if decode(data, &adjustment) == nil {
			if c, p := adjustment.command("mug"); p == nil && (c.Delta == 0 || abs(c.Delta) > inventory.MaxStock) {
				t.Fatalf("%s: %+v", data, c)
			}
		}
		for _, body := range []any{&patchBody{}, &orderBody{}, &extendBody{}, &reasonBody{}, &emptyBody{}} {
			if p := decode(data, body); p != nil && p.Status != 400 {
				t.Fatalf("%s: %+v", data, p)
			}
		}
		if patch := new(patchBody); decode(data, patch) == nil {
			_, _ = patch.command("mug", nil)
		}
		if key, ok := parseKey(string(data)); ok && (key == "" || hasControl(key)) {
			t.Fatalf("%q: key %q", data, key)
		}
		_, _, _ = parseETags([]string{string(data)})
	})
}
