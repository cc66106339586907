package httpapi

import (
	"crypto/sha256"
	"encoding/base64"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/holdfast/holdfast/internal/inventory"
)

const (
	defaultLimit = 50
	maxLimit     = 1000
)

// query is the query string of a request, read strictly.
type query struct {
	values url.Values
	checker
}

// query parses the query string and refuses parameters that the operation does not take, and repeated ones other than id.
func (c *call) query(names ...string) (*query, *problem) {
	q := &query{}
	values, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return nil, invalid(atParameter("query", "cannot be read: percent-encode it"))
	}
	q.values = values
	for name, list := range values {
		switch {
		case !slices.Contains(names, name):
			q.add(name, "is not a parameter of this operation")
		case len(list) > 1 && name != "id":
			q.add(name, "must be given once")
		}
	}
	if p := q.problem(); p != nil {
		return nil, p
	}
	return q, nil
}

func (q *query) add(name, format string, a ...any) {
	q.errors = append(q.errors, atParameter(name, format, a...))
}

func (q *query) has(name string) bool { return q.values.Has(name) }

func (q *query) get(name string) (string, bool) {
	if !q.values.Has(name) {
		return "", false
	}
	return q.values.Get(name), true
}

func (q *query) integer(name string, other, low, high int) int {
	text, given := q.get(name)
	if !given {
		return other
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high || text != strconv.Itoa(n) {
		q.add(name, "must be a whole number from %d to %d", low, high)
		return other
	}
	return n
}

func (q *query) limit() int { return q.integer("limit", defaultLimit, 1, maxLimit) }

func (q *query) text(name string, maxLength int) string {
	text, given := q.get(name)
	if !given {
		return ""
	}
	if !utf8.ValidString(text) {
		q.add(name, "must be UTF-8")
	} else if detail := checkText(text, maxLength); detail != "" {
		q.add(name, "%s", detail)
	}
	return text
}

// ids reads a repeated parameter, each value once.
func (q *query) ids(name string, limit int) []string {
	var ids []string
	for _, id := range q.values[name] {
		if !isKey(id) {
			q.add(name, keyRule)
			return nil
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(q.values[name]) > limit {
		q.add(name, "must be given at most %d times", limit)
	}
	return ids
}

// Cursors are opaque to callers: the key of the last item, encoded so that nobody is tempted to build one.
var cursorEncoding = base64.RawURLEncoding.Strict()

func productCursor(id string) string { return cursorEncoding.EncodeToString([]byte(id)) }

func (q *query) productCursor() string {
	text, given := q.get("cursor")
	if !given {
		return ""
	}
	id, err := cursorEncoding.DecodeString(text)
	if err != nil || !isKey(string(id)) {
		q.badCursor()
	}
	return string(id)
}

func (q *query) badCursor() {
	q.add("cursor", "must be a nextCursor that this list gave: begin again without it")
}

func cursor(id inventory.ID) string {
	if id.IsZero() {
		return ""
	}
	return cursorEncoding.EncodeToString(id[:])
}

func (q *query) cursor() (id inventory.ID) {
	text, given := q.get("cursor")
	if !given {
		return id
	}
	b, err := cursorEncoding.DecodeString(text)
	if err != nil || len(b) != len(id) || inventory.ID(b).Sequence() == 0 {
		q.badCursor()
		return id
	}
	return inventory.ID(b)
}

// readKey reads the Idempotency-Key header.
func (c *call) readKey() *problem {
	given := c.Header["Idempotency-Key"]
	if len(given) == 0 {
		return nil
	}
	key, ok := parseKey(given[0])
	if !ok || len(given) > 1 {
		return invalid(atParameter("Idempotency-Key", "must be given once, with 1 to 255 characters and no control characters, quoted or bare"))
	}
	c.receipt = c.receiptOf(key)
	return nil
}

func (c *call) receiptOf(key string) *inventory.ReceiptID {
	id := &inventory.ReceiptID{}
	sum := sha256.Sum256([]byte(key))
	copy(id.Key[:], sum[:])
	hash := make([]byte, 0, 256+len(c.body))
	hash = append(hash, c.Method...)
	hash = append(hash, ' ')
	hash = append(hash, c.URL.EscapedPath()...)
	hash = append(hash, '\n')
	hash = append(hash, c.body...)
	sum = sha256.Sum256(hash)
	copy(id.Fingerprint[:], sum[:])
	return id
}

// parseKey reads an idempotency key: a structured-field string (RFC 9651), or its characters alone.
func parseKey(header string) (string, bool) {
	key := strings.Trim(header, " \t")
	if strings.HasPrefix(key, `"`) {
		if len(key) < 2 || !strings.HasSuffix(key, `"`) {
			return "", false
		}
		var ok bool
		if key, ok = unescape(key[1 : len(key)-1]); !ok {
			return "", false
		}
	}
	length := utf8.RuneCountInString(key)
	return key, length >= 1 && length <= 255 && utf8.ValidString(key) && !hasControl(key)
}

func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, strings.IndexByte(s, '"') < 0
	}
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

// ifMatch reads the header as the sequences that a product's ETag may have: nil where anything goes. A weak tag never matches.
func (c *call) ifMatch() ([]int64, *problem) {
	given := c.Header.Values("If-Match")
	if len(given) == 0 {
		return nil, nil
	}
	tags, any, ok := parseETags(given)
	if !ok {
		return nil, invalid(atParameter("If-Match", `must be * or a list of quoted entity tags`))
	}
	if any {
		return nil, nil
	}
	versions := make([]int64, 0, len(tags))
	for _, tag := range tags {
		if n, err := strconv.ParseInt(strings.Trim(tag, `"`), 10, 64); err == nil && etag(n) == tag && n < math.MaxInt64 {
			versions = append(versions, n)
		}
	}
	return versions, nil
}

// parseETags reads a list of entity tags, or *.
func parseETags(headers []string) (tags []string, any, ok bool) {
	list := strings.Join(headers, ",")
	if strings.Trim(list, " \t") == "*" {
		return nil, true, true
	}
	for rest := strings.Trim(list, " \t,"); rest != ""; rest = strings.TrimLeft(rest, " \t,") {
		start := 0
		if strings.HasPrefix(rest, "W/") {
			start = 2
		}
		if len(rest) <= start || rest[start] != '"' {
			return nil, false, false
		}
		end := strings.IndexByte(rest[start+1:], '"')
		if end < 0 {
			return nil, false, false
		}
		end += start + 2
		tags = append(tags, rest[:end])
		rest = rest[end:]
		if rest != "" && rest[0] != ',' && rest[0] != ' ' && rest[0] != '\t' {
			return nil, false, false
		}
	}
	return tags, false, len(tags) > 0
}

var _ http.Handler = (*Server)(nil)
