package store

import (
	"unicode/utf8"

	"github.com/holdfast/holdfast/internal/inventory"
)

// RecordQuery selects by Keys, or else the records of a kind whose keys begin with Prefix and come after After.
type RecordQuery struct {
	Keys                []inventory.RecordKey
	Kind, Prefix, After string
	Limit               int // from 1
}

// Range is what the query selects where it has no Keys.
func (q *RecordQuery) Range() inventory.RecordRange {
	return inventory.RecordRange{Kind: q.Kind, Prefix: q.Prefix, After: q.After, Limit: q.Limit}
}

// RecordBytes is how many bytes a record takes on a page.
func RecordBytes(r *inventory.Record) int { return len(r.Kind) + len(r.Key) + len(r.Data) }

// PrefixEnd is the first string, in byte order, after all those in valid UTF-8 that begin with a prefix; empty where
// there is none. It is valid UTF-8, as a database asks of a parameter: bytes of UTF-8 are in the order of the
// characters that they stand for, so the last character is raised by one.
func PrefixEnd(prefix string) string {
	for len(prefix) > 0 {
		last, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		switch {
		case last == utf8.MaxRune:
			continue // no character is above it: the one before is raised
		case last+1 == surrogates:
			return prefix + string(rune(afterSurrogates))
		default:
			return prefix + string(last+1)
		}
	}
	return ""
}

// The code points of surrogates are not characters, and UTF-8 does not have them.
const surrogates, afterSurrogates = 0xD800, 0xE000
