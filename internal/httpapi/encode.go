package httpapi

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/holdfast/holdfast/internal/inventory"
)

// The answers are appended by hand: they are the hot path, and their members never change by accident. A fuzz test holds every
// one of them against encoding/json.

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			b, _ = jsontext.AppendQuote(b, s) // its error is about invalid UTF-8, which requests cannot bring in
			return b
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendOptional writes null where there is nothing.
func appendOptional(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendString(b, s)
}

func appendInt(b []byte, v int64) []byte { return strconv.AppendInt(b, v, 10) }

// appendTime writes RFC 3339 UTC with milliseconds, or null for "not yet".
func appendTime(b []byte, t inventory.Time) []byte {
	if t == 0 {
		return append(b, "null"...)
	}
	at := time.UnixMilli(int64(t)).UTC()
	year, month, day := at.Date()
	hour, minute, second := at.Clock()
	b = append(b, '"')
	b = appendDigits(b, year, 4)
	b = appendDigits(append(b, '-'), int(month), 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), hour, 2)
	b = appendDigits(append(b, ':'), minute, 2)
	b = appendDigits(append(b, ':'), second, 2)
	b = appendDigits(append(b, '.'), int(t%1000), 3)
	return append(b, 'Z', '"')
}

// appendDigits writes a number of at most width digits with leading zeros.
func appendDigits(b []byte, n, width int) []byte {
	b = append(b, "0000"[:width]...)
	for i := len(b) - 1; n > 0 && width > 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
		width--
	}
	return b
}

func appendID(b []byte, id inventory.ID, prefix string) []byte {
	if id.IsZero() {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = id.Append(b, prefix)
	return append(b, '"')
}

func appendMoney(b []byte, m inventory.Money) []byte {
	b = append(b, `{"amount":`...)
	b = appendInt(b, m.Amount)
	b = append(b, `,"currency":`...)
	b = appendString(b, m.Currency)
	return append(b, '}')
}

func appendMetadata(b []byte, m inventory.Metadata) []byte {
	b = append(b, '{')
	for i := range m {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, m[i].Name)
		b = append(b, ':')
		b = appendString(b, m[i].Value)
	}
	return append(b, '}')
}

func appendBuckets(b []byte, v inventory.Buckets) []byte {
	b = append(b, `"available":`...)
	b = appendInt(b, v.Available)
	b = append(b, `,"reserved":`...)
	b = appendInt(b, v.Reserved)
	b = append(b, `,"committed":`...)
	return appendInt(b, v.Committed)
}

func appendProduct(b []byte, p *inventory.Product) []byte {
	totals := p.Totals()
	b = append(b, `{"id":`...)
	b = appendString(b, p.ID)
	b = append(b, `,"name":`...)
	b = appendString(b, p.Name)
	b = append(b, `,"price":`...)
	b = appendMoney(b, p.Price)
	b = append(b, `,"totalStock":`...)
	b = appendInt(b, totals.Total())
	b = append(b, `,"availableStock":`...)
	b = appendInt(b, totals.Available)
	b = append(b, `,"reservedStock":`...)
	b = appendInt(b, totals.Reserved)
	b = append(b, `,"committedStock":`...)
	b = appendInt(b, totals.Committed)
	b = append(b, `,"stock":[`...)
	for i := range p.Stock {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"location":`...)
		b = appendString(b, p.Stock[i].Location)
		b = append(b, `,"total":`...)
		b = appendInt(b, p.Stock[i].Total())
		b = append(b, ',')
		b = appendBuckets(b, p.Stock[i].Buckets)
		b = append(b, '}')
	}
	b = append(b, `],"metadata":`...)
	b = appendMetadata(b, p.Metadata)
	b = append(b, `,"version":`...)
	b = appendInt(b, p.Version)
	b = append(b, `,"createdAt":`...)
	b = appendTime(b, p.CreatedAt)
	b = append(b, `,"updatedAt":`...)
	b = appendTime(b, p.UpdatedAt)
	return append(b, '}')
}

// appendLines names the price as its resource does.
func appendLines(b []byte, lines []inventory.Line, price string) []byte {
	b = append(b, '[')
	for i := range lines {
		l := &lines[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"line":`...)
		b = appendInt(b, int64(i+1))
		b = append(b, `,"productId":`...)
		b = appendString(b, l.ProductID)
		b = append(b, `,"location":`...)
		b = appendString(b, l.Location)
		b = append(b, `,"quantity":`...)
		b = appendInt(b, l.Quantity)
		b = append(b, ',')
		b = append(b, price...)
		b = appendMoney(b, l.UnitPrice)
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendReservation(b []byte, r *inventory.Reservation) []byte {
	b = append(b, `{"id":`...)
	b = appendID(b, r.ID, inventory.ReservationPrefix)
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
	b = appendTime(b, r.CreatedAt)
	b = append(b, `,"updatedAt":`...)
	b = appendTime(b, r.UpdatedAt)
	b = append(b, `,"expiresAt":`...)
	b = appendTime(b, r.ExpiresAt)
	b = append(b, `,"endedAt":`...)
	b = appendTime(b, r.EndedAt)
	b = append(b, `,"cancelReason":`...)
	b = appendOptional(b, r.CancelReason)
	b = append(b, `,"orderId":`...)
	b = appendID(b, r.OrderID, inventory.OrderPrefix)
	b = append(b, `,"version":`...)
	b = appendInt(b, r.Version)
	return append(b, '}')
}

func appendOrder(b []byte, o *inventory.Order) []byte {
	b = append(b, `{"id":`...)
	b = appendID(b, o.ID, inventory.OrderPrefix)
	b = append(b, `,"reservationId":`...)
	b = appendID(b, o.ReservationID, inventory.ReservationPrefix)
	b = append(b, `,"reference":`...)
	b = appendOptional(b, o.Reference)
	b = append(b, `,"status":"`...)
	b = append(b, o.Status.String()...)
	b = append(b, `","lines":`...)
	b = appendLines(b, o.Lines, `"priceAtPurchase":`)
	b = append(b, `,"total":`...)
	b = appendMoney(b, o.Total)
	b = append(b, `,"customerId":`...)
	b = appendOptional(b, o.CustomerID)
	b = append(b, `,"metadata":`...)
	b = appendMetadata(b, o.Metadata)
	b = append(b, `,"createdAt":`...)
	b = appendTime(b, o.CreatedAt)
	b = append(b, `,"updatedAt":`...)
	b = appendTime(b, o.UpdatedAt)
	b = append(b, `,"fulfilledAt":`...)
	b = appendTime(b, o.FulfilledAt)
	b = append(b, `,"cancelledAt":`...)
	b = appendTime(b, o.CancelledAt)
	b = append(b, `,"cancelReason":`...)
	b = appendOptional(b, o.CancelReason)
	b = append(b, `,"version":`...)
	b = appendInt(b, o.Version)
	return append(b, '}')
}

func appendAdjustment(b []byte, a *inventory.Adjustment) []byte {
	b = append(b, `{"id":`...)
	b = appendID(b, a.ID, inventory.AdjustmentPrefix)
	b = append(b, `,"productId":`...)
	b = appendString(b, a.ProductID)
	b = append(b, `,"location":`...)
	b = appendString(b, a.Location)
	b = append(b, `,"delta":`...)
	b = appendInt(b, a.Delta)
	b = append(b, `,"reason":`...)
	b = appendString(b, a.Reason)
	b = append(b, `,"reference":`...)
	b = appendOptional(b, a.Reference)
	b = append(b, `,"createdAt":`...)
	b = appendTime(b, a.CreatedAt)
	return append(b, '}')
}

// storeDigest is the part of event ids that says which store they are of.
func storeDigest(name string) [8]byte {
	sum := sha256.Sum256([]byte(name))
	return [8]byte(sum[:8])
}

func appendEvent(b []byte, e *inventory.Event, digest [8]byte) []byte {
	var id inventory.ID
	copy(id[:8], digest[:])
	binary.BigEndian.PutUint64(id[8:], uint64(e.Seq))
	b = append(b, `{"sequence":`...)
	b = appendInt(b, e.Seq)
	b = append(b, `,"id":`...)
	b = appendID(b, id, "evt_")
	b = append(b, `,"type":"`...)
	b = append(b, e.Type.String()...)
	b = append(b, `","time":`...)
	b = appendTime(b, e.Time)
	b = append(b, `,"subject":`...)
	b = appendString(b, e.Subject())
	b = append(b, `,"data":{`...)
	if e.Adjustment != nil {
		b = append(b, `"adjustment":`...)
		b = appendAdjustment(b, e.Adjustment)
		b = append(b, ',')
	}
	switch {
	case e.Product != nil:
		b = append(b, `"product":`...)
		b = appendProduct(b, e.Product)
	case e.Reservation != nil:
		b = append(b, `"reservation":`...)
		b = appendReservation(b, e.Reservation)
	case e.Order != nil:
		b = append(b, `"order":`...)
		b = appendOrder(b, e.Order)
	}
	b = append(b, `,"movements":[`...)
	for i := range e.Movements {
		m := &e.Movements[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"productId":`...)
		b = appendString(b, m.ProductID)
		b = append(b, `,"location":`...)
		b = appendString(b, m.Location)
		b = append(b, `,"delta":{`...)
		b = appendBuckets(b, m.Delta)
		b = append(b, `},"after":{`...)
		b = appendBuckets(b, m.After)
		b = append(b, `}}`...)
	}
	return append(b, `]}}`...)
}

// appendPage writes a list with its cursor.
func appendPage[T any](b []byte, page []T, next string, appendItem func([]byte, T) []byte) []byte {
	b = append(b, `{"data":[`...)
	for i := range page {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendItem(b, page[i])
	}
	b = append(b, `],"nextCursor":`...)
	b = appendOptional(b, next)
	return append(b, '}')
}
