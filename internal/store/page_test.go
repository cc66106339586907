package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestPage fills pages with rows, one a word: a number is the bytes of a row, "-" a row that does not match, "bad" one
// that is corrupt.
func TestPage(t *testing.T) {
	half := fmt.Sprint(PageBytes / 2)
	for _, c := range []struct {
		name, rows string
		limit      int
		want       string
	}{
		{"nothing", "", 3, "[] next 0"},
		{"fewer than the limit", "1 1", 3, "[1 2] next 0"},
		{"as many as the limit", "1 1 1", 3, "[1 2 3] next 3"},
		{"more than the limit", "1 1 1 1", 3, "[1 2 3] next 3"},
		{"as many bytes as fill it", half + " " + half + " 1", 9, "[1 2] next 2"},
		{"a byte less", half + " " + fmt.Sprint(PageBytes/2-1) + " 1", 9, "[1 2 3] next 3"},
		{"a row larger than a page", fmt.Sprint(PageBytes+1) + " 1", 9, "[1] next 1"},
		{"some do not match", "- 1 - 1 -", 2, "[2 4] next 4"},
		{"the last do not match", "1 - -", 2, "[1] next 0"},
		{"looked at enough", "1" + strings.Repeat(" -", ScanLimit) + " 1", 2, fmt.Sprintf("[1] next %d", ScanLimit)},
		{"looked at one less", "1" + strings.Repeat(" -", ScanLimit-2), 2, "[1] next 0"},
		{"a bad row", "1 bad 1", 3, "[1] next 0: row 2"},
		{"a bad row at the beginning", "bad 1", 3, "[] next 0: row 1"},
		{"two bad rows", "1 bad bad", 3, "[1] next 0: row 2"},
		{"a bad row that comes with the next page", "1 bad", 1, "[1] next 1"},
	} {
		page := NewPage[int, int](c.limit)
		for i, word := range strings.Fields(c.rows) {
			fill(t, page, i+1, word)
		}
		if got := describe(page); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func fill(t *testing.T, page *Page[int, int], at int, word string) {
	switch word {
	case "-":
		page.Skip(at)
	case "bad":
		if err := page.Fail(fmt.Errorf("reading: %w", &CorruptRow{Row: fmt.Sprint("row ", at)})); err != nil {
			t.Errorf("a bad row was not kept: %v", err)
		}
	default:
		bytes := 0
		if _, err := fmt.Sscan(word, &bytes); err != nil {
			t.Fatal(err)
		}
		page.Add(&at, at, bytes)
	}
}

func describe(page *Page[int, int]) string {
	rows, next, err := page.Result()
	var list []int
	for _, row := range rows {
		list = append(list, *row)
	}
	text := fmt.Sprintf("%v next %d", list, next)
	if bad, ok := errors.AsType[*CorruptRow](err); ok {
		text += ": " + bad.Row
	}
	return text
}

// TestPageDone: whoever reads rows learns when to stop.
func TestPageDone(t *testing.T) {
	full, failed := NewPage[int, int](2), NewPage[int, int](2)
	row := 1
	full.Add(&row, 1, 1)
	if full.Done() {
		t.Error("a page with room is done")
	}
	full.Add(&row, 2, 1)
	if !full.Done() {
		t.Error("a full page is not done")
	}
	if err := failed.Fail(&CorruptRow{}); err != nil || !failed.Done() {
		t.Errorf("a page that met a bad row is not done: %v", err)
	}
}

// TestPageFail: an error that is not about a row is the caller's to return.
func TestPageFail(t *testing.T) {
	page := NewPage[int, int](2)
	if err := page.Fail(ErrUnavailable); !errors.Is(err, ErrUnavailable) || page.Done() {
		t.Errorf("another error: %v", err)
	}
	if err := page.Fail(nil); err != nil || page.Done() {
		t.Errorf("no error: %v", err)
	}
}
