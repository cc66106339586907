package httpapi

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

const (
	defaultLimit = 50   // items of a page
	maxLimit     = 1000 // items of a page
	maxIDs       = 100  // products that one request asks for by id
)

// query is the query string of a request, read strictly. Each method that reads a parameter notes what is wrong with
// it.
type query struct {
	values url.Values
	check  wire.Checker
}

// query parses the query string. It refuses parameters that the operation does not have, and repeated ones other than
// id.
func (c *call) query(names ...string) (*query, error) {
	values, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return nil, badParameter(wholeQuery, "cannot be read: percent-encode it")
	}
	q := &query{values: values}
	for name, list := range values {
		switch {
		case !slices.Contains(names, name):
			q.add(name, "is not a parameter of this operation")
		case len(list) > 1 && name != "id":
			q.add(name, "must be given once")
		}
	}
	return q, q.err()
}

// noQuery refuses all parameters.
func (c *call) noQuery() error {
	if c.URL.RawQuery == "" {
		return nil
	}
	_, err := c.query()
	return err
}

func (q *query) add(name, detail string) { q.check.Add(name, "%s", detail) }

// err is everything that is wrong with the query, or nil.
func (q *query) err() error {
	if wrong := q.check.Errors(); len(wrong) > 0 {
		return parameterErrors(wrong)
	}
	return nil
}

func (q *query) has(name string) bool { return q.values.Has(name) }

func (q *query) get(name string) (text string, given bool) {
	return q.values.Get(name), q.values.Has(name)
}

// integer reads a number from low to high; left out, it is the default.
func (q *query) integer(name string, byDefault, low, high int) int {
	text, given := q.get(name)
	if !given {
		return byDefault
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high || text != strconv.Itoa(n) {
		q.check.Add(name, "must be a whole number from %d to %d", low, high)
		return byDefault
	}
	return n
}

func (q *query) limit() int { return q.integer("limit", defaultLimit, 1, maxLimit) }

func (q *query) text(name string, maxLength int) string {
	text, given := q.get(name)
	switch {
	case !given:
		return ""
	case !utf8.ValidString(text):
		q.add(name, "must be UTF-8")
	default:
		if detail := wire.CheckText(text, maxLength); detail != "" {
			q.add(name, detail)
		}
	}
	return text
}

// ids reads a parameter that may be repeated up to so many times, and returns each id once.
func (q *query) ids(name string, maxCount int) (ids []string) {
	given := q.values[name]
	if len(given) > maxCount {
		q.check.Add(name, "must be given at most %d times", maxCount)
		return nil
	}
	for _, id := range given {
		if !wire.IsKey(id) {
			q.add(name, wire.KeyRule)
			return nil
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// place reads a place in the feed; left out, it is the beginning.
func (q *query) place(name string) (c inventory.Cursor) {
	if text, given := q.get(name); given {
		return q.parsePlace(name, text)
	}
	return c
}

func (q *query) parsePlace(name, text string) inventory.Cursor {
	c, err := inventory.ParseCursor(text)
	if err != nil {
		q.add(name, "must be a nextAfter, head or Holdfast-Sequence that this server gave, or 0")
	}
	return c
}

// cursorEncoding makes a cursor of the key of a page's last item. It is encoded only so that nobody is tempted to
// build one.
var cursorEncoding = base64.RawURLEncoding.Strict()

const cursorRule = "must be a nextCursor that this list gave: begin again without it"

func productCursor(id string) string { return cursorEncoding.EncodeToString([]byte(id)) }

func (q *query) productCursor() string {
	text, given := q.get("cursor")
	if !given {
		return ""
	}
	id, err := cursorEncoding.DecodeString(text)
	if err != nil || !wire.IsKey(string(id)) {
		q.add("cursor", cursorRule)
	}
	return string(id)
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
		q.add("cursor", cursorRule)
		return id
	}
	return inventory.ID(b)
}
