package storetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// lister hands a [store.Lister] to read.
func (f *fixture) lister(read func(store.Lister) error) {
	f.Helper()
	f.view(func(v store.View) error { return read(v.(store.Lister)) })
}

// listReceipts: every receipt is listed once, with what it is, also those of the day before.
func listReceipts(f *fixture) {
	f.do(newProduct("mug", 100))
	var want []string
	for i := range 7 {
		key := fmt.Sprint("key", i)
		o := f.requests(keyed(key, reserve("mug", 1, time.Minute)))[0]
		want = append(want, fmt.Sprintf("%s f%s %x", key, key, inventory.AppendOutcome(nil, &o)))
		if i == 3 {
			f.Advance(25 * time.Hour)
		}
	}
	for limit := 1; limit <= 8; limit++ {
		var got []string
		for after, more := (store.ReceiptCursor{}), true; more; more = after != (store.ReceiptCursor{}) {
			f.lister(func(l store.Lister) error {
				page, next, err := l.Receipts(f.Context(), after, limit)
				if len(page) > limit {
					f.Fatalf("a page of %d with limit %d", len(page), limit)
				}
				for _, r := range page {
					got = append(got, fmt.Sprintf("%s %s %x", strings.TrimRight(string(r.Key[:]), "\x00"),
						strings.TrimRight(string(r.Fingerprint[:]), "\x00"), r.Answer))
				}
				after = next
				return err
			})
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			f.Errorf("limit %d:\n got  %q\n want %q", limit, got, want)
		}
	}
}

// listRecords: the records of all kinds are listed, in the order of kinds and keys.
func listRecords(f *fixture) {
	want := []string{"a/z:1:x", "note/:1:", "note/a:1:x", "note/b:1:y", "notes/A:1:z"}
	var changes []inventory.RecordChange
	for _, text := range want {
		kind, rest, _ := strings.Cut(text, "/")
		parts := strings.Split(rest, ":")
		r := record(parts[0], 1, parts[2])
		r.Kind = kind
		changes = append(changes, put(r))
	}
	f.records(changes...)
	for limit := 1; limit <= 6; limit++ {
		var got []string
		for after, more := (inventory.RecordKey{}), true; more; more = after != (inventory.RecordKey{}) {
			f.lister(func(l store.Lister) error {
				page, next, err := l.AllRecords(f.Context(), after, limit)
				if len(page) > limit {
					f.Fatalf("a page of %d with limit %d", len(page), limit)
				}
				for _, r := range page {
					got = append(got, r.Kind+"/"+describeRecords([]*inventory.Record{r}))
				}
				after = next
				return err
			})
		}
		if !slices.Equal(got, want) {
			f.Errorf("limit %d: %q, want %q", limit, got, want)
		}
	}
}
