package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// recordsOf lists all records of a range, beyond its limit too, in the order of keys.
func (s *Store) recordsOf(of inventory.RecordRange) (found []*inventory.Record) {
	for key, r := range s.records {
		if key.Kind == of.Kind && key.Key > of.After && strings.HasPrefix(key.Key, of.Prefix) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *inventory.Record) int { return cmp.Compare(a.Key, b.Key) })
	return found
}

// checkRecords requires that the Before of every change is what is stored.
func (s *Store) checkRecords(changes []inventory.RecordChange) error {
	for i := range changes {
		before, stored := changes[i].Before, s.records[changes[i].RecordKey]
		if (before == nil) != (stored == nil) || (before != nil && before.Version != stored.Version) {
			return fmt.Errorf("record %s %q is not the one that was loaded", changes[i].Kind, changes[i].Key)
		}
	}
	return nil
}

func (s *Store) writeRecords(changes []inventory.RecordChange) {
	for i := range changes {
		if changes[i].After == nil {
			delete(s.records, changes[i].RecordKey)
		} else {
			s.records[changes[i].RecordKey] = changes[i].After
		}
	}
}

func (v view) Records(ctx context.Context, q store.RecordQuery) (list []*inventory.Record, next string, err error) {
	if q.Keys != nil {
		for _, key := range q.Keys {
			if r := v.s.records[key]; r != nil {
				list = append(list, r)
			}
		}
		return list, "", ctx.Err()
	}
	page := store.NewPage[inventory.Record, string](q.Limit)
	for _, r := range v.s.recordsOf(q.Range()) {
		page.Add(r, r.Key, store.RecordBytes(r))
	}
	return result(ctx, page)
}

// AllRecords implements [store.Lister].
func (v view) AllRecords(
	ctx context.Context, after inventory.RecordKey, limit int,
) ([]*inventory.Record, inventory.RecordKey, error) {
	keys := slices.SortedFunc(maps.Keys(v.s.records), compareKeys)
	page := store.NewPage[inventory.Record, inventory.RecordKey](limit)
	for _, key := range keys {
		if compareKeys(key, after) > 0 {
			page.Add(v.s.records[key], key, store.RecordBytes(v.s.records[key]))
		}
	}
	return result(ctx, page)
}

func compareKeys(a, b inventory.RecordKey) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key))
}
