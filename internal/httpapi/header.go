package httpapi

import (
	"crypto/sha256"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

// maxIdempotencyKey is how many characters (code points) an Idempotency-Key has at most.
const maxIdempotencyKey = 255

const keyRule = "must have 1 to 255 characters and no control characters, quoted or bare"

// receipt is what the request's Idempotency-Key makes repeatable, or nil without that header.
func (c *call) receipt(body []byte) (*inventory.ReceiptID, error) {
	given := c.Header["Idempotency-Key"]
	if len(given) == 0 {
		return nil, nil
	}
	key, ok := parseIdempotencyKey(given[0])
	if !ok || len(given) > 1 {
		return nil, badParameter("Idempotency-Key", "must be given once; it "+keyRule)
	}
	return receiptOf(key, c.Method, c.URL.EscapedPath(), body), nil
}

// receiptOf makes the receipt of a key and of the request that it is used for.
func receiptOf(key, method, path string, body []byte) *inventory.ReceiptID {
	request := make([]byte, 0, len(method)+len(path)+len(body)+2)
	request = append(request, method...)
	request = append(request, ' ')
	request = append(request, path...)
	request = append(request, '\n')
	request = append(request, body...)
	keySum, requestSum := sha256.Sum256([]byte(key)), sha256.Sum256(request)
	id := &inventory.ReceiptID{}
	copy(id.Key[:], keySum[:])
	copy(id.Fingerprint[:], requestSum[:])
	return id
}

// parseIdempotencyKey reads a structured-field string (RFC 9651), or the same characters without quotes.
func parseIdempotencyKey(header string) (key string, ok bool) {
	key = strings.Trim(header, " \t")
	if strings.HasPrefix(key, `"`) {
		if len(key) < 2 || !strings.HasSuffix(key, `"`) {
			return "", false
		}
		if key, ok = unescape(key[1 : len(key)-1]); !ok {
			return "", false
		}
	}
	length := utf8.RuneCountInString(key)
	return key, length >= 1 && length <= maxIdempotencyKey && utf8.ValidString(key) && !wire.HasControl(key)
}

// unescape reads what stands between the quotes of a structured-field string: \" and \\ are the only escapes.
func unescape(s string) (text string, ok bool) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '"' {
			return "", false
		}
		if s[i] == '\\' {
			i++
			if i == len(s) || (s[i] != '"' && s[i] != '\\') {
				return "", false
			}
		}
		b = append(b, s[i])
	}
	return string(b), true
}

const etagRule = "must be * or a list of quoted entity tags"

// ifMatch reads If-Match as the sequences that the product's ETag may have; nil: it may have any. A weak tag matches
// nothing.
func (c *call) ifMatch() ([]int64, error) {
	given := c.Header.Values("If-Match")
	if len(given) == 0 {
		return nil, nil
	}
	tags, any, ok := parseETags(given)
	switch {
	case !ok:
		return nil, badParameter("If-Match", etagRule)
	case any:
		return nil, nil
	}
	versions := make([]int64, 0, len(tags))
	for _, tag := range tags {
		n, err := strconv.ParseInt(strings.Trim(tag, `"`), 10, 64)
		if err == nil && n < math.MaxInt64 && etag(n) == tag {
			versions = append(versions, n)
		}
	}
	return versions, nil
}

// parseETags reads a list of entity tags, each with its quotes, and with W/ if it is weak. The list may also be *: any
// tag.
func parseETags(headers []string) (tags []string, any, ok bool) {
	list := strings.Trim(strings.Join(headers, ","), " \t")
	if list == "*" {
		return nil, true, true
	}
	for list = strings.Trim(list, " \t,"); list != ""; {
		length := etagLength(list)
		if length == 0 {
			return nil, false, false
		}
		tags = append(tags, list[:length])
		rest := list[length:]
		if rest != "" && strings.IndexByte(", \t", rest[0]) < 0 {
			return nil, false, false
		}
		list = strings.TrimLeft(rest, " \t,")
	}
	return tags, false, len(tags) > 0
}

// etagLength is the length of the entity tag that s begins with, or 0.
func etagLength(s string) int {
	opaque := strings.TrimPrefix(s, "W/")
	if !strings.HasPrefix(opaque, `"`) {
		return 0
	}
	end := strings.IndexByte(opaque[1:], '"')
	if end < 0 {
		return 0
	}
	return len(s) - len(opaque) + end + 2
}
