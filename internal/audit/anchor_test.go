package audit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/inventory"
)

// lines are a file of anchors.
func lines(list ...audit.Anchor) string {
	file := ""
	for _, a := range list {
		file += a.String() + "\n"
	}
	return file
}

func TestReadAnchors(t *testing.T) {
	a := audit.Anchor{
		At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Store: "abc", BatchNo: 7, Seq: 12, Checksum: [32]byte{1},
	}
	b := audit.Anchor{At: a.At.Add(time.Hour), Store: "abc"}
	list, err := audit.ReadAnchors(strings.NewReader(lines(a, b)))
	if err != nil || len(list) != 2 || list[0] != a || list[1] != b {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := audit.ReadAnchors(strings.NewReader("")); err != nil || list != nil {
		t.Errorf("an empty file: %+v, %v", list, err)
	}
	for name, file := range map[string]string{
		"an empty line":     "\n",
		"a last line torn":  strings.TrimSuffix(lines(a), "\n"),
		"a checksum torn":   strings.TrimSuffix(lines(a), "00\n") + "\n",
		"a word too many":   strings.TrimSuffix(lines(a), "\n") + " x\n",
		"a number":          strings.Replace(lines(a), " 7 ", " +7 ", 1),
		"a sequence":        strings.Replace(lines(a), " 12 ", " x ", 1),
		"a time":            strings.Replace(lines(a), "2026-", "2026 ", 1),
		"something else":    "SQLite format 3\x00" + strings.Repeat("\x00", 5000),
		"a line after good": lines(a) + "x\n",
	} {
		if list, err := audit.ReadAnchors(strings.NewReader(file)); err == nil {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

// TestAnchors: an anchor finds what a chain cannot show.
func TestAnchors(t *testing.T) {
	middle, last := audit.Anchor{}, audit.Anchor{}
	remember := func(f *fake) {
		e := &f.entries[4]
		middle = audit.Anchor{Store: f.head.Store, BatchNo: 5, Seq: e.First + int64(e.Count) - 1, Checksum: e.Checksum}
		last = run(t, fakeStore{view: f}, audit.Options{}).Last
	}
	for name, c := range map[string]struct {
		change func(*fake)
		want   []string
	}{
		"the same": {func(*fake) {}, nil},
		"grown": {func(f *fake) {
			f.add(inventory.Event{Type: inventory.EventProductUpdated, Product: f.product("lid")})
			f.product("lid").Seq = f.head.Seq + 1
			f.chain()
		}, nil},
		"rewritten": {
			func(f *fake) { f.entries[4].BatchID[0]++; f.link() },
			[]string{"journal entry 5 is another one now", "journal entry 22 is another one now"},
		},
		"rewritten after it": {
			func(f *fake) { f.entries[20].BatchID[0]++; f.link() }, []string{"journal entry 22 is another one now"},
		},
		"another sequence": {func(*fake) { middle.Seq++ }, []string{"journal entry 5 is another one now"}},
		"cut": {func(f *fake) {
			f.batches, f.entries = f.batches[:21], f.entries[:21]
			f.products = f.products[:0:0]
			f.chain()
		}, []string{"journal entry 22 is missing"}},
		"hole": {
			func(f *fake) { f.entries = append(f.entries[:4:4], f.entries[5:]...) },
			[]string{"journal entry 5 is missing"},
		},
		"another store": {
			func(f *fake) { f.head.Store = strings.Repeat("a", 26) }, []string{"but this one is " + strings.Repeat("a", 26)},
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			f := newFake(t)
			remember(f)
			c.change(f)
			o := audit.Options{Anchors: []audit.Anchor{last, {Store: last.Store}, middle}}
			named := []string{}
			for _, b := range run(t, fakeStore{view: f}, o).Breaches {
				if b.Invariant == "anchor" {
					named = append(named, b.Detail)
				}
			}
			if len(named) != len(c.want) {
				t.Fatalf("%q, want %q", named, c.want)
			}
			for i := range named {
				if !strings.Contains(named[i], c.want[i]) {
					t.Errorf("%q, want %q", named, c.want)
				}
			}
		})
	}
}
