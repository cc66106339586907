package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

const (
	recordColumns = "r.kind, r.key, r.version, r.data"

	loadRecords = "SELECT " + recordColumns + ` FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (kind, key, at)
JOIN records r ON r.kind = k.kind AND r.key = k.key ORDER BY k.at`
)

// recordRange returns the statement that reads a range, in the order of keys. It has one lower bound: with Prefix and
// After as two, the server could read all that is before After.
func recordRange(of inventory.RecordRange) (sql string, arguments []any) {
	sql = "SELECT " + recordColumns + " FROM records r WHERE r.kind = $1 AND r.key >= $2 AND r.key <> $3"
	arguments = []any{of.Kind, max(of.Prefix, of.After), of.After, of.Limit}
	if end := store.PrefixEnd(of.Prefix); end != "" {
		sql += " AND r.key < $5"
		arguments = append(arguments, end)
	}
	return sql + " ORDER BY r.key LIMIT $4", arguments
}

// eachRecord calls use for each record of rows, until use returns false.
func eachRecord(rows pgx.Rows, use func(*inventory.Record) (more bool)) error {
	var r inventory.Record
	var data []byte
	more := true
	_, err := pgx.ForEachRow(rows, []any{&r.Kind, &r.Key, &r.Version, &data}, func() error {
		if more {
			loaded := r
			loaded.Data = slices.Clone(data)
			more = use(&loaded)
		}
		return nil
	})
	return err
}

// columnsOf lists the kinds and the keys of n records.
func columnsOf(n int, key func(i int) inventory.RecordKey) (kinds, keys []string) {
	kinds, keys = make([]string, n), make([]string, n)
	for i := range n {
		kinds[i], keys[i] = key(i).Kind, key(i).Key
	}
	return kinds, keys
}

func (l *loader) queueRecords(b *pgx.Batch) {
	if names := l.keys.Records; len(names) > 0 {
		kinds, keys := columnsOf(len(names), func(i int) inventory.RecordKey { return names[i] })
		b.Queue(loadRecords, kinds, keys).Query(func(rows pgx.Rows) error {
			return eachRecord(rows, func(r *inventory.Record) bool {
				l.state.AddRecord(r)
				return true
			})
		})
	}
	for _, of := range l.keys.Ranges {
		sql, arguments := recordRange(of)
		b.Queue(sql, arguments...).Query(func(rows pgx.Rows) error {
			var found []*inventory.Record
			err := eachRecord(rows, func(r *inventory.Record) bool {
				found = append(found, r)
				return true
			})
			l.state.AddRange(of, found)
			return err
		})
	}
}

// writeRecords writes the changed records. It changes and deletes a record only if its version is still the one that
// was loaded.
func (w *writer) writeRecords() {
	var added, changed, deleted struct {
		kinds, keys      []string
		versions, before []int64
		data             [][]byte
	}
	for i := range w.changes.Records {
		c := &w.changes.Records[i]
		list := &changed
		switch {
		case c.Before == nil:
			list = &added
		case c.After == nil:
			list = &deleted
		}
		list.kinds, list.keys = append(list.kinds, c.Kind), append(list.keys, c.Key)
		if c.Before != nil {
			list.before = append(list.before, c.Before.Version)
		}
		if c.After != nil {
			list.versions = append(list.versions, c.After.Version)
			list.data = append(list.data, notNull(c.After.Data))
		}
	}
	w.insert(len(added.keys), "INSERT INTO records (kind, key, version, data) SELECT * FROM unnest($1::text[], "+
		"$2::text[], $3::bigint[], $4::bytea[])",
		added.kinds, added.keys, added.versions, added.data)
	w.change(len(changed.keys), `UPDATE records r SET version = u.version, data = u.data
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::bigint[]) AS u (kind, key, version, data, before)
WHERE r.kind = u.kind AND r.key = u.key
	AND r.version = u.before`, changed.kinds, changed.keys, changed.versions, changed.data, changed.before)
	w.change(len(deleted.keys), `DELETE FROM records r USING unnest($1::text[], $2::text[], $3::bigint[])
		AS u (kind, key, before)
WHERE r.kind = u.kind AND r.key = u.key AND r.version = u.before`, deleted.kinds, deleted.keys, deleted.before)
}

// notNull returns an empty slice for nil, which a column would take for null.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (v *view) Records(ctx context.Context, q store.RecordQuery) ([]*inventory.Record, string, error) {
	if v.readOnly { // then the store may have a format without records
		if head, err := v.Head(ctx); err != nil || head.Format < store.RecordsFormat {
			return nil, "", err
		}
	}
	if q.Keys != nil {
		list, err := v.recordsByKey(ctx, q.Keys)
		return list, "", err
	}
	page := store.NewPage[inventory.Record, string](q.Limit)
	sql, arguments := recordRange(q.Range())
	err := v.query(ctx, func(rows pgx.Rows) error {
		return eachRecord(rows, func(r *inventory.Record) bool {
			page.Add(r, r.Key, store.RecordBytes(r))
			return !page.Done()
		})
	}, sql, arguments...)
	if err != nil {
		return nil, "", err
	}
	return page.Result()
}

func (v *view) recordsByKey(ctx context.Context, names []inventory.RecordKey) (list []*inventory.Record, err error) {
	kinds, keys := columnsOf(len(names), func(i int) inventory.RecordKey { return names[i] })
	err = v.query(ctx, func(rows pgx.Rows) error {
		return eachRecord(rows, func(r *inventory.Record) bool {
			list = append(list, r)
			return true
		})
	}, loadRecords, kinds, keys)
	return list, err
}

// AllRecords implements [store.Lister].
func (v *view) AllRecords(
	ctx context.Context, after inventory.RecordKey, limit int,
) ([]*inventory.Record, inventory.RecordKey, error) {
	if head, err := v.Head(ctx); err != nil || head.Format < store.RecordsFormat {
		return nil, inventory.RecordKey{}, err
	}
	page := store.NewPage[inventory.Record, inventory.RecordKey](limit)
	err := v.query(ctx, func(rows pgx.Rows) error {
		return eachRecord(rows, func(r *inventory.Record) bool {
			page.Add(r, r.RecordKey, store.RecordBytes(r))
			return !page.Done()
		})
	}, "SELECT "+recordColumns+" FROM records r WHERE (r.kind, r.key) > ($1, $2) ORDER BY r.kind, r.key LIMIT $3",
		after.Kind, after.Key, limit)
	if err != nil {
		return nil, inventory.RecordKey{}, err
	}
	return page.Result()
}
