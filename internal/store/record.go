package store

import (
	"unicode/utf8"

	"github.com/holdfast/holdfast/internal/inventory"
)

// RecordQuery selects the records of Keys. If Keys is nil, it selects the records of Kind whose keys begin with Prefix
// and come after After.
type RecordQuery struct {
	Keys                []inventory.RecordKey
	Kind, Prefix, After string
	Limit               int // from 1
}

// Range is the range that a query without Keys selects.
func (q *RecordQuery) Range() inventory.RecordRange {
	return inventory.RecordRange{Kind: q.Kind, Prefix: q.Prefix, After: q.After, Limit: q.Limit}
}

// RecordBytes is the size of a record for [Page.Add]: the bytes of its kind, key and data.
func RecordBytes(r *inventory.Record) int { return len(r.Kind) + len(r.Key) + len(r.Data) }

// PrefixEnd returns the upper bound of the strings that begin with a prefix: in byte order they come before it, and all
// other strings that come after the prefix do not. It is empty if there is no bound. Prefix and strings are valid
// UTF-8, and so is the result, because PostgreSQL takes no other text. UTF-8 sorts bytes in the order of characters, so
// the bound is the prefix with its last character replaced by the next one.
func PrefixEnd(prefix string) string {
	for len(prefix) > 0 {
		last, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		switch {
		case last == utf8.MaxRune:
			continue // there is no next character: replace the one before
		case last+1 == surrogates:
			return prefix + string(rune(afterSurrogates))
		default:
			return prefix + string(last+1)
		}
	}
	return ""
}

// UTF-8 has no code points from the first surrogate up to the character after the last one.
const surrogates, afterSurrogates = 0xD800, 0xE000
