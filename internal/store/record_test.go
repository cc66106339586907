package store

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestPrefixEnd(t *testing.T) {
	for prefix, want := range map[string]string{
		"": "", "a": "b", "az": "a{", "a\U0010FFFF": "b", "\U0010FFFF\U0010FFFF": "", "\uD7FF": "\uE000", "é": "ê",
		"~": "\x7f", "\x7f": "\u0080", "\uFFFF": "\U00010000",
	} {
		if got := PrefixEnd(prefix); got != want {
			t.Errorf("after %q comes %q, want %q", prefix, got, want)
		}
	}
}

// TestPrefixEndBounds: whatever begins with a prefix is from it to its end, and nothing else is.
func TestPrefixEndBounds(t *testing.T) {
	letters := rapid.SampledFrom([]rune{'a', 'b', '~', 'é', '\uD7FF', '\uE000', '\uFFFF', '\U00010000', '\U0010FFFF'})
	words := rapid.StringOfN(letters, 0, 4, -1)
	rapid.Check(t, func(t *rapid.T) {
		prefix, word := words.Draw(t, "prefix"), words.Draw(t, "word")
		end := PrefixEnd(prefix)
		between := word >= prefix && (end == "" || word < end)
		if between != strings.HasPrefix(word, prefix) {
			t.Fatalf("%q from %q to %q is %v", word, prefix, end, between)
		}
		if !utf8.ValidString(end) {
			t.Fatalf("%q is not valid UTF-8", end)
		}
	})
}
