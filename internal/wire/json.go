package wire

import (
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/holdfast/holdfast/internal/inventory"
)

// Resources are appended member by member instead of being marshalled: most of the answering time would go there, and
// no member can change by accident. A fuzz test compares every one of them with what encoding/json writes.

// AppendPage appends a list and the cursor of its next page; an empty cursor becomes null: this is the last page.
func AppendPage[T any](b []byte, page []T, nextCursor string, appendItem func([]byte, T) []byte) []byte {
	b = append(b, `{"data":[`...)
	for i := range page {
		b = appendComma(b, i)
		b = appendItem(b, page[i])
	}
	b = append(b, `],"nextCursor":`...)
	b = appendOptional(b, nextCursor)
	return append(b, '}')
}

// AppendTime appends a time in RFC 3339, UTC, with milliseconds; the zero time becomes null.
func AppendTime(b []byte, t inventory.Time) []byte {
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

// appendDigits appends the last digits of n, as many as width says (at most 4), with leading zeros.
func appendDigits(b []byte, n, width int) []byte {
	b = append(b, "0000"[:width]...)
	for i := len(b) - 1; n > 0 && width > 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
		width--
	}
	return b
}

// AppendID appends the text form of an id with its prefix; the zero id becomes null.
func AppendID(b []byte, id inventory.ID, prefix string) []byte {
	if id.IsZero() {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = id.Append(b, prefix)
	return append(b, '"')
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			b, _ = jsontext.AppendQuote(b, s) // fails on invalid UTF-8 alone, which no request brings in
			return b
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendOptional appends null instead of an empty string.
func appendOptional(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendString(b, s)
}

func appendInt(b []byte, v int64) []byte { return strconv.AppendInt(b, v, 10) }

// appendComma separates item i of an array from the one before.
func appendComma(b []byte, i int) []byte {
	if i == 0 {
		return b
	}
	return append(b, ',')
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
		b = appendComma(b, i)
		b = appendString(b, m[i].Name)
		b = append(b, ':')
		b = appendString(b, m[i].Value)
	}
	return append(b, '}')
}

// appendBuckets appends the three buckets as members, without braces: a stock row has more members beside them.
func appendBuckets(b []byte, v inventory.Buckets) []byte {
	b = append(b, `"available":`...)
	b = appendInt(b, v.Available)
	b = append(b, `,"reserved":`...)
	b = appendInt(b, v.Reserved)
	b = append(b, `,"committed":`...)
	return appendInt(b, v.Committed)
}

// appendLines appends the lines of a reservation or order. The price has a name of its own in each; price is that
// name, quoted and with its colon.
func appendLines(b []byte, lines []inventory.Line, price string) []byte {
	b = append(b, '[')
	for i := range lines {
		l := &lines[i]
		b = appendComma(b, i)
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
