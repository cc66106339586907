package httpapi

import (
	"testing"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

// FuzzHeaders: no header makes a parser panic, or gives an idempotency key or entity tag that is none.
func FuzzHeaders(f *testing.F) {
	f.Add(`"a \" and a \\"`)
	f.Add(`bare`)
	f.Add(`W/"1", "2" ,"3"`)
	f.Add(`*`)
	f.Fuzz(func(t *testing.T, header string) {
		if key, ok := parseIdempotencyKey(header); ok && (key == "" || wire.HasControl(key)) {
			t.Fatalf("%q: key %q", header, key)
		}
		tags, _, ok := parseETags([]string{header})
		for _, tag := range tags {
			if !ok || etagLength(tag) != len(tag) {
				t.Fatalf("%q: tag %q", header, tag)
			}
		}
	})
}

// TestETags: a list is read tag by tag; what is not one is refused.
func TestETags(t *testing.T) {
	tags, any, ok := parseETags([]string{`W/"1", "2"`, `"a,b" ,`})
	if any || !ok || len(tags) != 3 || tags[0] != `W/"1"` || tags[1] != `"2"` || tags[2] != `"a,b"` {
		t.Errorf("%q %v %v", tags, any, ok)
	}
	if _, any, ok := parseETags([]string{" * "}); !any || !ok {
		t.Error("* is any")
	}
	for _, list := range []string{``, ` , `, `1`, `"1`, `W/1`, `"1""2"`, `"1" *`, `w/"1"`} {
		if _, _, ok := parseETags([]string{list}); ok {
			t.Errorf("%s is no list of tags", list)
		}
	}
}

// TestFingerprint: a key is for one request: one method, path and body.
func TestFingerprint(t *testing.T) {
	first := receiptOf("key", "POST", "/v1/orders", []byte("body"))
	for what, other := range map[string]*inventory.ReceiptID{
		"method": receiptOf("key", "PATCH", "/v1/orders", []byte("body")),
		"path":   receiptOf("key", "POST", "/v1/order", []byte("body")),
		"body":   receiptOf("key", "POST", "/v1/orders", []byte("bod")),
		"bounds": receiptOf("key", "POST", "/v1/orders\n", []byte("body")),
	} {
		if other.Key != first.Key || other.Fingerprint == first.Fingerprint {
			t.Errorf("another %s: %x and %x", what, first, other)
		}
	}
	if other := receiptOf("other", "POST", "/v1/orders", []byte("body")); other.Key == first.Key {
		t.Error("two keys are one")
	}
}
