package store

import "errors"

// The bounds of a page of a list, beside its limit.
const (
	// ScanLimit is the most rows that one page looks at when no index serves all its conditions.
	ScanLimit = 10_000
	// PageBytes is how many stored bytes fill a page, even if its limit in rows is not reached. A cart with much
	// metadata has 30 KB.
	PageBytes = 4 << 20
	// StockBytes is about how many bytes a stock row takes, on a page and in memory.
	StockBytes = 64
)

// Page collects the rows of one page of a list, in the order of the list. All stores fill their pages with it, so their
// pages end by the same rules: a page is full once it has as many rows as its limit, or once those rows have
// [PageBytes], or once [ScanLimit] rows were looked at. A row larger than PageBytes has a page to itself.
//
// A cursor names a place in the list. Its zero value stands for the end of the list.
type Page[Row, Cursor any] struct {
	limit  int
	rows   []*Row
	bytes  int
	looked int
	last   Cursor // of the row that was looked at last
	full   bool
	bad    error // a [CorruptRow]
}

// NewPage makes an empty page. The limit is in rows, from 1.
func NewPage[Row, Cursor any](limit int) *Page[Row, Cursor] {
	return &Page[Row, Cursor]{limit: limit}
}

// Done reports whether the page takes no more rows: it is full, or has met a row that cannot be used.
func (p *Page[Row, Cursor]) Done() bool { return p.full || p.bad != nil }

// Add enters a row that matches and its size in stored bytes. A page that is done ignores it.
func (p *Page[Row, Cursor]) Add(row *Row, at Cursor, bytes int) {
	if p.Done() {
		return
	}
	p.rows = append(p.rows, row)
	p.bytes += bytes
	p.look(at)
}

// Skip counts a row that was looked at and does not match. A page that is done ignores it.
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

// End ends the page at a row, because [ScanLimit] rows up to that were looked at and are not all on the page. A page
// that is done ignores it.
func (p *Page[Row, Cursor]) End(at Cursor) {
	if !p.Done() {
		p.last, p.full = at, true
	}
}

// Fail ends the page at a row that cannot be used: it keeps a [CorruptRow] for [Page.Result] and returns nil. A page
// that is done drops it, since the next page will meet the same row. Any other error is returned as it is.
func (p *Page[Row, Cursor]) Fail(err error) error {
	if !IsCorrupt(err) {
		return err
	}
	if !p.Done() {
		p.bad = err
	}
	return nil
}

// Result returns the rows. If the page is full, next is the cursor of the row that was looked at last, and the next
// page begins after it. The error is the [CorruptRow] that ended the page.
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
