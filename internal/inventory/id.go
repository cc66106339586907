package inventory

import "encoding/binary"

// ID names a reservation, an order, an adjustment, or a product for which the caller chose no id. It is a UUIDv7 (RFC
// 9562) whose random bits carry the sequence of the event that created the resource, so that a store finds the row by
// an ascending integer:
//
//	48 bits  Unix time in milliseconds        4 bits   version (7)
//	12 bits  sequence, high part              2 bits   variant (2)
//	32 bits  sequence, low part              20 bits   salt: an id is not found by counting
//	10 bits  partition (0 today)
//
// Ids of one store sort in commit order.
type ID [16]byte

// The prefixes tell people and [ParseID] what kind of resource an id names.
const (
	ReservationPrefix = "rsv_"
	OrderPrefix       = "ord_"
	AdjustmentPrefix  = "adj_"
	ProductPrefix     = "prd_"
)

const (
	maxSequence = 1<<44 - 1
	saltMask    = 1<<20 - 1
)

// NewID makes the id of a resource that is created at a time by the event with this sequence (1 to 2^44-1). Only the
// low 20 bits of the salt are used.
func NewID(at Time, sequence int64, salt uint32) ID {
	var id ID
	binary.BigEndian.PutUint64(id[:8], uint64(at)<<16|7<<12|uint64(sequence)>>32&0xfff)
	binary.BigEndian.PutUint64(id[8:], 2<<62|uint64(sequence)&0xffffffff<<30|uint64(salt&saltMask)<<10)
	return id
}

// Sequence is the sequence of the event that created the resource.
func (id ID) Sequence() int64 {
	high, low := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	return int64(high&0xfff<<32 | low>>30&0xffffffff)
}

// Time is when the resource was created.
func (id ID) Time() Time { return Time(binary.BigEndian.Uint64(id[:8]) >> 16) }

// IsZero reports whether the id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// idAlphabet is Crockford's base 32 in lower case: it keeps the byte order, so text ids sort like the ids.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

const idTextLength = 26

var idValues = func() (values [256]byte) {
	for i := range values {
		values[i] = 0xff
	}
	for i, c := range []byte(idAlphabet) {
		values[c] = byte(i)
	}
	return values
}()

// Append appends the text form: the prefix and 26 base 32 characters.
func (id ID) Append(b []byte, prefix string) []byte {
	b = append(b, prefix...)
	high, low := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	var text [idTextLength]byte
	for i := idTextLength - 1; i >= 0; i-- {
		text[i] = idAlphabet[low&31]
		low = low>>5 | high<<59
		high >>= 5
	}
	return append(b, text[:]...)
}

// Text is the text form as a string.
func (id ID) Text(prefix string) string {
	return string(id.Append(make([]byte, 0, len(prefix)+idTextLength), prefix))
}

// ParseID reads the text form of an id with this prefix. It accepts only what [ID.Append] writes: lower case, and
// nothing after it.
func ParseID(prefix, text string) (ID, bool) {
	if len(text) != len(prefix)+idTextLength || text[:len(prefix)] != prefix {
		return ID{}, false
	}
	text = text[len(prefix):]
	if idValues[text[0]] > 7 { // 26 characters hold 130 bits; the first two must be zero
		return ID{}, false
	}
	var high, low uint64
	for i := range idTextLength {
		value := idValues[text[i]]
		if value == 0xff {
			return ID{}, false
		}
		high = high<<5 | low>>59
		low = low<<5 | uint64(value)
	}
	var id ID
	binary.BigEndian.PutUint64(id[:8], high)
	binary.BigEndian.PutUint64(id[8:], low)
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		return ID{}, false
	}
	return id, true
}
