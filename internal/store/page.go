package store

import "errors"

// The bounds of a page of a list, beside its limit.
const (
	// ScanLimit is how many rows one page looks at, at the most, where no index serves all its conditions.
	ScanLimit = 10_000
	// PageBytes is how many stored bytes fill a page, whatever its limit in rows: a cart with much metadata has 30 KB.
	PageBytes = 4 << 20
	// StockBytes is about how many bytes a stock row takes, on a page and in memory.
	StockBytes = 64
)

// Page collects the rows of one page of a list, in the order of the list. Every store fills its pages with it, so that
// they all end by the same rules. A page is full once it has as many rows as its limit, once those have [PageBytes], or
// once [ScanLimit] rows were looked at. A row that is larger than a page has a page to itself.
//
// A cursor names a place in the list; its zero value is the end.
type Page[Row, Cursor any] struct {
	limit  int
	rows   []*Row
	bytes  int
	looked int
	last   Cursor // of the row that was looked at last
	full   bool
	bad    error // a [CorruptRow]
}

// NewPage makes an empty page of at most limit rows, from 1.
func NewPage[Row, Cursor any](limit int) *Page[Row, Cursor] {
	return &Page[Row, Cursor]{limit: limit}
}

// Done reports whether the page takes nothing more: it is full, or has met a row that cannot be used.
func (p *Page[Row, Cursor]) Done() bool { return p.full || p.bad != nil }

// Add enters a row of so many stored bytes, unless the page is done.
func (p *Page[Row, Cursor]) Add(row *Row, at Cursor, bytes int) {
	if p.Done() {
		return
	}
	p.rows = append(p.rows, row)
	p.bytes += bytes
	p.look(at)
}

// Skip counts a row that was looked at and does not match, unless the page is done.
func (p *Page[Row, Cursor]) Skip(at Cursor) {
	if !p.Done() {
		p.look(at)
	}
}

func (p *Page[Row, Cursor]) look(at Cursor) {
	p.looked++
	p.last = at
	p.full = len(p.rows) >= p.limit || p.bytes >= PageBytes || p.looked >= ScanLimit
}

// Fail ends the page at a row that cannot be used. It keeps a [CorruptRow], unless the page is done, and returns every
// other error.
func (p *Page[Row, Cursor]) Fail(err error) error {
	if !IsCorrupt(err) {
		return err
	}
	if !p.Done() {
		p.bad = err
	}
	return nil
}

// Result returns the rows and, where the page is full, the cursor at which the next one goes on. The error is the
// [CorruptRow] at which the page ended.
func (p *Page[Row, Cursor]) Result() (rows []*Row, next Cursor, err error) {
	if p.full {
		next = p.last
	}
	return p.rows, next, p.bad
}

// IsCorrupt reports whether an error is about a stored row that cannot be used.
func IsCorrupt(err error) bool {
	_, corrupt := errors.AsType[*CorruptRow](err)
	return corrupt
}
