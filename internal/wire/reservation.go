package wire

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/holdfast/holdfast/internal/inventory"
)

// reservationBody has either one line's members itself, or lines.
type reservationBody struct {
	ProductID  optional[string]       `json:"productId"`
	Quantity   optional[int64]        `json:"quantity"`
	Location   optional[string]       `json:"location"`
	UnitPrice  optional[moneyBody]    `json:"unitPrice"`
	Lines      optional[lineList]     `json:"lines"`
	TTLSeconds optional[int64]        `json:"ttlSeconds"`
	CustomerID optional[string]       `json:"customerId"`
	Metadata   optional[metadataBody] `json:"metadata"`
}

type lineBody struct {
	ProductID optional[string]    `json:"productId"`
	Quantity  optional[int64]     `json:"quantity"`
	Location  optional[string]    `json:"location"`
	UnitPrice optional[moneyBody] `json:"unitPrice"`
}

// CreateReservation turns a body of the operation of that name into its command.
func CreateReservation(body []byte, t Target) (inventory.Command, error) {
	b, err := decode[reservationBody](body)
	if err != nil {
		return nil, err
	}
	var c Checker
	command := &inventory.Reserve{
		Lines:      c.lines(b),
		TTL:        c.ttl(&b.TTLSeconds, canOmit, t.HoldMax),
		CustomerID: c.text("/customerId", &b.CustomerID, canOmit, 200),
		Metadata:   c.metadata(&b.Metadata),
	}
	if !b.TTLSeconds.set {
		command.TTL = t.HoldDefault.Milliseconds()
	}
	return command, c.Err()
}

type lineList struct{ bounded[lineBody] }

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (l *lineList) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return l.decode(d, inventory.MaxLines)
}

// ReservationLines says where a body of CreateReservation names the product of line i, counted from 0.
func ReservationLines(body []byte) (pointer func(i int) string) {
	b, err := decode[reservationBody](body)
	if err != nil || !b.Lines.set {
		return func(int) string { return "/productId" }
	}
	return func(i int) string { return linePointer(i) + "/productId" }
}

func linePointer(i int) string { return "/lines/" + strconv.Itoa(i) }

// ttl checks a number of seconds and returns it in milliseconds, 0 where it is not given or wrong.
func (c *Checker) ttl(field *optional[int64], p presence, holdMax time.Duration) int64 {
	limit := int64(holdMax / time.Second)
	seconds := c.integer("/ttlSeconds", field, p, 1, limit)
	if seconds < 1 || seconds > limit {
		return 0 // multiplying it could overflow
	}
	return seconds * 1000
}

func (c *Checker) lines(b *reservationBody) []inventory.ReserveLine {
	if !b.Lines.set {
		return c.singleLine(b)
	}
	if b.ProductID.set || b.Quantity.set || b.Location.set || b.UnitPrice.set {
		c.Add("/lines", "must not stand beside productId, quantity, location or unitPrice: put them into the lines")
	}
	if n := b.Lines.value.sent; n == 0 || n > inventory.MaxLines {
		c.Add("/lines", "must have 1 to %d entries, it has %d", inventory.MaxLines, n)
		return nil
	}
	lines := make([]inventory.ReserveLine, len(b.Lines.value.kept))
	for i := range lines {
		lines[i] = c.line(linePointer(i), &b.Lines.value.kept[i])
	}
	c.sums(lines)
	return lines
}

func (c *Checker) singleLine(b *reservationBody) []inventory.ReserveLine {
	if !b.ProductID.set && !b.Quantity.set {
		c.Add("", "must have either productId and quantity, or lines")
		return nil
	}
	return []inventory.ReserveLine{c.line("", &lineBody{b.ProductID, b.Quantity, b.Location, b.UnitPrice})}
}

func (c *Checker) line(pointer string, b *lineBody) inventory.ReserveLine {
	line := inventory.ReserveLine{
		ProductID: c.key(pointer+"/productId", &b.ProductID, required),
		Location:  c.location(pointer+"/location", &b.Location),
		Quantity:  c.integer(pointer+"/quantity", &b.Quantity, required, 1, inventory.MaxQuantity),
	}
	if b.UnitPrice.set {
		price := c.money(pointer+"/unitPrice", &b.UnitPrice, required)
		line.UnitPrice = &price
	}
	return line
}

// sums checks what lines of one product and location ask for together, where each line alone is within its range.
func (c *Checker) sums(lines []inventory.ReserveLine) {
	sums := make(map[inventory.StockKey]int64, len(lines))
	for i, line := range lines {
		if line.Quantity < 1 || line.Quantity > inventory.MaxQuantity {
			continue
		}
		key := inventory.StockKey{ProductID: line.ProductID, Location: line.Location}
		if sums[key] += line.Quantity; sums[key] > inventory.MaxQuantity {
			c.Add(linePointer(i)+"/quantity",
				"makes more than %d units of one product at one location", inventory.MaxQuantity)
			sums[key] = 0
		}
	}
}

// CancelReservation turns a body of the operation of that name into its command.
func CancelReservation(body []byte, t Target) (inventory.Command, error) {
	b, err := decodeAction[reasonBody](body)
	if err != nil {
		return nil, err
	}
	var c Checker
	return &inventory.Cancel{ID: t.reservation(), Reason: c.reason(b)}, c.Err()
}

type extendBody struct {
	TTLSeconds optional[int64] `json:"ttlSeconds"`
}

// ExtendReservation turns a body of the operation of that name into its command.
func ExtendReservation(body []byte, t Target) (inventory.Command, error) {
	b, err := decode[extendBody](body)
	if err != nil {
		return nil, err
	}
	var c Checker
	command := &inventory.Extend{
		ID:      t.reservation(),
		TTL:     c.ttl(&b.TTLSeconds, required, t.HoldMax),
		MaxHold: t.HoldMax.Milliseconds(),
	}
	return command, c.Err()
}

// AppendReservation appends a reservation.
func AppendReservation(b []byte, r *inventory.Reservation) []byte {
	b = append(b, `{"id":`...)
	b = AppendID(b, r.ID, inventory.ReservationPrefix)
	b = append(b, `,"status":"`...)
	b = append(b, r.Status.String()...)
	b = append(b, `","lines":`...)
	b = appendLines(b, r.Lines, `"unitPrice":`)
	b = append(b, `,"total":`...)
	b = appendMoney(b, r.Total)
	b = append(b, `,"customerId":`...)
	b = appendOptional(b, r.CustomerID)
	b = append(b, `,"metadata":`...)
	b = appendMetadata(b, r.Metadata)
	b = append(b, `,"createdAt":`...)
	b = AppendTime(b, r.CreatedAt)
	b = append(b, `,"updatedAt":`...)
	b = AppendTime(b, r.UpdatedAt)
	b = append(b, `,"expiresAt":`...)
	b = AppendTime(b, r.ExpiresAt)
	b = append(b, `,"endedAt":`...)
	b = AppendTime(b, r.EndedAt)
	b = append(b, `,"cancelReason":`...)
	b = appendOptional(b, r.CancelReason)
	b = append(b, `,"orderId":`...)
	b = AppendID(b, r.OrderID, inventory.OrderPrefix)
	b = append(b, `,"version":`...)
	b = appendInt(b, r.Version)
	return append(b, '}')
}
