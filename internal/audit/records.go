package audit

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// records is the pass over the records. The journal does not have them, so a record can only be checked for itself.
func (a *auditor) records(ctx context.Context) error {
	for after, more := (inventory.RecordKey{}), true; more; more = after != (inventory.RecordKey{}) {
		err := a.store.View(ctx, func(v store.View) error {
			lister, can := v.(store.Lister)
			if !can {
				after = inventory.RecordKey{}
				return nil
			}
			page, next, err := lister.AllRecords(ctx, after, rowsPerPage)
			bad, err := corruptRow(err)
			if err != nil {
				return err
			}
			for _, r := range page {
				a.record(r)
			}
			if bad != nil {
				a.breach("row", bad.Row, "%s (records after it were not read)", bad.Detail)
			}
			after = next
			return nil
		})
		if err != nil {
			return err
		}
		a.options.Progress(fmt.Sprintf("records: %d", a.report.Records))
	}
	return nil
}

func (a *auditor) record(r *inventory.Record) {
	a.report.Records++
	name := fmt.Sprintf("record %s %q", r.Kind, r.Key)
	if r.Kind == "" || strings.Trim(r.Kind, "abcdefghijklmnopqrstuvwxyz") != "" {
		a.breach("row", name, "its kind is not made of small letters")
	}
	if !utf8.ValidString(r.Key) || strings.ContainsFunc(r.Key, unicode.IsControl) {
		a.breach("row", name, "its key has control characters or is not UTF-8")
	}
	if n := len(r.Kind) + len(r.Key); n > inventory.MaxRecordKeyBytes {
		a.breach("row", name, "its kind and key have %d bytes, more than %d", n, inventory.MaxRecordKeyBytes)
	}
	if len(r.Data) > inventory.MaxRecordBytes {
		a.breach("row", name, "its data has %d bytes, more than %d", len(r.Data), inventory.MaxRecordBytes)
	}
	if r.Version < 1 {
		a.breach("row", name, "its version is %d", r.Version)
	}
}
