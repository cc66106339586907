package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast/holdfast/internal/inventory"
)

// The structs below, as encoding/json writes them, are what the appended resources are compared with.

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

type adjustmentJSON struct {
	ID        string  `json:"id"`
	ProductID string  `json:"productId"`
	Location  string  `json:"location"`
	Delta     int64   `json:"delta"`
	Reason    string  `json:"reason"`
	Reference *string `json:"reference"`
	CreatedAt string  `json:"createdAt"`
}

type movementJSON struct {
	ProductID string      `json:"productId"`
	Location  string      `json:"location"`
	Delta     bucketsJSON `json:"delta"`
	After     bucketsJSON `json:"after"`
}

type eventDataJSON struct {
	Product     *productJSON     `json:"product,omitempty"`
	Adjustment  *adjustmentJSON  `json:"adjustment,omitempty"`
	Reservation *reservationJSON `json:"reservation,omitempty"`
	Order       *orderJSON       `json:"order,omitempty"`
	Movements   []movementJSON   `json:"movements"`
}

type eventJSON struct {
	Sequence int64         `json:"sequence"`
	ID       string        `json:"id"`
	Type     string        `json:"type"`
	Time     string        `json:"time"`
	Subject  string        `json:"subject"`
	Actor    *struct{}     `json:"actor"`
	Data     eventDataJSON `json:"data"`
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

// sample is text and numbers from which resources are made.
type sample struct {
	product, location, customer, name, value string
	quantity, amount, at, ended              int64
}

func (s *sample) money() inventory.Money { return inventory.Money{Amount: s.amount, Currency: "EUR"} }
func (s *sample) moneyJSON() moneyJSON   { return moneyJSON{s.amount, "EUR"} }
func (s *sample) id() inventory.ID       { return inventory.NewID(inventory.Time(s.at), 7, 3) }

func (s *sample) metadata() inventory.Metadata {
	return inventory.NewMetadata(map[string]string{s.name: s.value, "other": s.product})
}

func (s *sample) lines() []inventory.Line {
	return []inventory.Line{
		{ProductID: s.product, Location: s.location, Quantity: s.quantity, UnitPrice: s.money()},
		{ProductID: s.location, Location: "x", Quantity: 1, UnitPrice: s.money()},
	}
}

func (s *sample) reservation() (*inventory.Reservation, reservationJSON) {
	r := &inventory.Reservation{
		ID: s.id(), Status: inventory.ReservationExpired, Lines: s.lines(), Total: s.money(), CustomerID: s.customer,
		Metadata: s.metadata(), CreatedAt: inventory.Time(s.at), UpdatedAt: inventory.Time(s.at + 1),
		ExpiresAt: inventory.Time(s.at + 2), EndedAt: inventory.Time(s.ended), CancelReason: s.value, Version: s.quantity,
	}
	money := s.moneyJSON()
	return r, reservationJSON{
		ID: s.id().Text("rsv_"), Status: "EXPIRED",
		Lines: []lineJSON{{1, s.product, s.location, s.quantity, &money, nil}, {2, s.location, "x", 1, &money, nil}},
		Total: money, CustomerID: textPointer(s.customer), Metadata: metadataMap(r.Metadata),
		CreatedAt: timeText(r.CreatedAt), UpdatedAt: timeText(r.UpdatedAt), ExpiresAt: timeText(r.ExpiresAt),
		EndedAt: timePointer(r.EndedAt), CancelReason: textPointer(s.value), Version: s.quantity,
	}
}

func (s *sample) order() (*inventory.Order, orderJSON) {
	o := &inventory.Order{
		ID: s.id(), ReservationID: s.id(), Reference: s.name, Status: inventory.OrderCancelled, Lines: s.lines(),
		Total: s.money(), CustomerID: s.customer, Metadata: s.metadata(), CreatedAt: inventory.Time(s.at),
		UpdatedAt: inventory.Time(s.at + 1), CancelledAt: inventory.Time(s.ended), CancelReason: s.value, Version: 2,
	}
	money := s.moneyJSON()
	return o, orderJSON{
		ID: s.id().Text("ord_"), ReservationID: s.id().Text("rsv_"), Reference: textPointer(s.name), Status: "CANCELLED",
		Lines: []lineJSON{{1, s.product, s.location, s.quantity, nil, &money}, {2, s.location, "x", 1, nil, &money}},
		Total: money, CustomerID: textPointer(s.customer), Metadata: metadataMap(o.Metadata),
		CreatedAt: timeText(o.CreatedAt), UpdatedAt: timeText(o.UpdatedAt), CancelledAt: timePointer(o.CancelledAt),
		CancelReason: textPointer(s.value), Version: 2,
	}
}

func (s *sample) catalogued() (*inventory.Product, productJSON) {
	units := magnitude(s.quantity) % inventory.MaxStock
	p := &inventory.Product{
		ID: s.product, Name: s.name, Price: s.money(), Metadata: s.metadata(), Version: 3,
		CreatedAt: inventory.Time(s.at), UpdatedAt: inventory.Time(s.at + 1),
		Stock: []inventory.Stock{
			{Location: s.location, Buckets: inventory.Buckets{Available: units, Reserved: 2, Committed: 3}},
			{Location: "x", Buckets: inventory.Buckets{Available: 1}},
		},
	}
	return p, productJSON{
		ID: s.product, Name: s.name, Price: s.moneyJSON(), Total: units + 6, Available: units + 1, Reserved: 2, Committed: 3,
		Stock:    []stockJSON{{s.location, units + 5, bucketsJSON{units, 2, 3}}, {"x", 1, bucketsJSON{1, 0, 0}}},
		Metadata: metadataMap(p.Metadata), Version: 3, CreatedAt: timeText(p.CreatedAt), UpdatedAt: timeText(p.UpdatedAt),
	}
}

func (s *sample) adjustment() (*inventory.Adjustment, adjustmentJSON) {
	a := &inventory.Adjustment{
		ID: s.id(), ProductID: s.product, Location: s.location, Delta: s.quantity, Reason: s.name, Reference: s.value,
		CreatedAt: inventory.Time(s.at),
	}
	return a, adjustmentJSON{
		ID: s.id().Text("adj_"), ProductID: s.product, Location: s.location, Delta: s.quantity, Reason: s.name,
		Reference: textPointer(s.value), CreatedAt: timeText(a.CreatedAt),
	}
}

// event is an event of this type with two movements, and no resource yet.
func (s *sample) event(kind inventory.EventType) (inventory.Event, eventJSON) {
	e := inventory.Event{
		Seq: 9, Type: kind, Time: inventory.Time(s.at),
		Movements: []inventory.Movement{
			{
				StockKey: inventory.StockKey{ProductID: s.product, Location: s.location},
				Delta:    inventory.Buckets{Available: s.quantity},
				After:    inventory.Buckets{Available: 1, Reserved: 2, Committed: 3},
			},
			{StockKey: inventory.StockKey{ProductID: "x", Location: "y"}},
		},
	}
	id := (&EventIDs{Store: "s"}).of(9)
	return e, eventJSON{
		Sequence: 9, ID: id.Text("evt_"), Type: kind.String(), Time: timeText(e.Time),
		Data: eventDataJSON{Movements: []movementJSON{
			{s.product, s.location, bucketsJSON{Available: s.quantity}, bucketsJSON{1, 2, 3}},
			{ProductID: "x", Location: "y"},
		}},
	}
}

// FuzzResources compares the appended resources and events with encoding/json, whatever text and numbers they carry.
func FuzzResources(f *testing.F) {
	f.Add("mug", "main", "anna", "name", "value", int64(5), int64(1999), int64(1_750_000_000_123), int64(0))
	f.Add("a\"b\\c", "ü😀\u2028", "\x7f<>&", "\t", "", int64(1), int64(0), int64(1), int64(77))
	f.Fuzz(func(t *testing.T, product, location, customer, name, value string, quantity, amount, at, ended int64) {
		for _, s := range []string{product, location, customer, name, value} {
			if !utf8.ValidString(s) {
				t.Skip("requests are UTF-8")
			}
		}
		at, ended = magnitude(at)%maxTime+1, magnitude(ended)%maxTime
		s := &sample{product, location, customer, name, value, quantity, amount, at, ended}
		s.compare(t)
		s.compareEvents(t)
	})
}

func (s *sample) compare(t *testing.T) {
	reservation, reservationWant := s.reservation()
	same(t, reservationWant, AppendReservation(nil, reservation))
	order, orderWant := s.order()
	same(t, orderWant, AppendOrder(nil, order))
	product, productWant := s.catalogued()
	same(t, productWant, AppendProduct(nil, product))
	adjustment, adjustmentWant := s.adjustment()
	same(t, map[string]any{"adjustment": adjustmentWant, "product": productWant},
		AppendAdjusted(nil, adjustment, product))
	products := []*inventory.Product{product, product}
	same(t, map[string]any{"data": []any{productWant, productWant}, "nextCursor": textPointer(s.value)},
		AppendPage(nil, products, s.value, AppendProduct))
}

func (s *sample) compareEvents(t *testing.T) {
	expired, expiredWant := s.event(inventory.EventReservationExpired)
	reservation, reservationWant := s.reservation()
	expired.Reservation, expiredWant.Data.Reservation = reservation, &reservationWant
	expiredWant.Subject = reservationWant.ID

	cancelled, cancelledWant := s.event(inventory.EventOrderCancelled)
	order, orderWant := s.order()
	cancelled.Order, cancelledWant.Data.Order = order, &orderWant
	cancelledWant.Subject = orderWant.ID

	updated, updatedWant := s.event(inventory.EventProductUpdated)
	product, productWant := s.catalogued()
	updated.Product, updatedWant.Data.Product = product, &productWant
	updatedWant.Subject = productWant.ID

	adjusted, adjustedWant := s.event(inventory.EventStockAdjusted)
	adjustment, adjustmentWant := s.adjustment()
	adjusted.Product, adjustedWant.Data.Product = product, &productWant
	adjusted.Adjustment, adjustedWant.Data.Adjustment = adjustment, &adjustmentWant
	adjustedWant.Subject = adjustmentWant.ID

	want := map[string]any{
		"data":      []any{expiredWant, cancelledWant, updatedWant, adjustedWant},
		"nextAfter": "9", "head": "12", "store": "s",
	}
	events := []inventory.Event{expired, cancelled, updated, adjusted}
	same(t, want, AppendEventPage(nil, &EventPage{Events: events, Next: inventory.Cursor{Seq: 9}, Head: 12, Store: "s"}))
}

// maxTime is in the year 9999, after which RFC 3339 ends.
const maxTime = 253_402_300_799_000

// magnitude is n without its sign; of a negative number it is one less, so that it never overflows.
func magnitude(n int64) int64 {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

// same compares the meaning of two JSON texts: what encoding/json writes of want, and got.
func same(t *testing.T, want any, got []byte) {
	t.Helper()
	expected, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if x, y := canonical(t, expected), canonical(t, got); x != y {
		t.Fatalf("got  %s\nwant %s", y, x)
	}
}

// canonical writes a JSON text anew, with sorted members; integers keep all their digits.
func canonical(t *testing.T, text []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	again, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(again)
}

// TestActor: the actor stands right after the subject.
func TestActor(t *testing.T) {
	e := inventory.Event{Seq: 1, Type: inventory.EventProductCreated, Product: &inventory.Product{ID: "mug"}}
	for want, actor := range map[string]*inventory.Actor{
		`null`:              nil,
		`{"type":"system"}`: {Type: inventory.ActorSystem},
		`{"type":"key","id":"key_1","name":"the \"till\""}`: {Type: inventory.ActorKey, ID: "key_1", Name: `the "till"`},
	} {
		e.Actor = actor
		got := string(AppendEvent(nil, &e, &EventIDs{Store: "s"}))
		if !strings.Contains(got, `"subject":"mug","actor":`+want+`,"data":{`) || !json.Valid([]byte(got)) {
			t.Errorf("%s, expected %s", got, want)
		}
	}
}
