package sqlite

import (
	"context"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

const selectRecord = "SELECT kind, key, version, data FROM records WHERE kind = ? AND "

// eachRecord reads the records of a range in the order of their keys, until use returns false.
func eachRecord(conn *sqlite.Conn, of inventory.RecordRange, use func(*inventory.Record) (more bool)) error {
	// SQLite uses one lower bound to enter the index. With Prefix and After as two, it could read all that is before
	// After.
	where, arguments := "key >= ? AND key <> ?", []value{text(of.Kind), text(max(of.Prefix, of.After)), text(of.After)}
	if end := store.PrefixEnd(of.Prefix); end != "" {
		where += " AND key < ?"
		arguments = append(arguments, text(end))
	}
	return scan(conn, selectRecord+where+" ORDER BY key LIMIT ?", func(row *sqlite.Stmt) (more bool, err error) {
		return use(readRecord(row)), nil
	}, append(arguments, integer(int64(of.Limit)))...)
}

func readRecord(row *sqlite.Stmt) *inventory.Record {
	return &inventory.Record{
		RecordKey: inventory.RecordKey{Kind: row.ColumnText(0), Key: row.ColumnText(1)}, Version: row.ColumnInt64(2),
		Data: column(row, 3),
	}
}

// recordOf reads one record, or nil.
func recordOf(conn *sqlite.Conn, key inventory.RecordKey) (found *inventory.Record, err error) {
	err = exec(conn, selectRecord+"key = ?", func(row *sqlite.Stmt) error {
		found = readRecord(row)
		return nil
	}, text(key.Kind), text(key.Key))
	return found, err
}

func (l *loader) records(keys *inventory.Keys) error {
	for _, key := range keys.Records {
		r, err := recordOf(l.conn, key)
		if err != nil {
			return err
		}
		if r != nil {
			l.state.AddRecord(r)
		}
	}
	for _, of := range keys.Ranges {
		var found []*inventory.Record
		err := eachRecord(l.conn, of, func(r *inventory.Record) bool {
			found = append(found, r)
			return true
		})
		if err != nil {
			return err
		}
		l.state.AddRange(of, found)
	}
	return nil
}

var insertRecords = newInserter("records", 4)

// writeRecords writes the changed records. It changes and deletes a record only if its version is still the one that
// was loaded.
func (w *writer) writeRecords(changes []inventory.RecordChange) error {
	added := rows{statements: insertRecords}
	for i := range changes {
		if err := w.record(&changes[i], &added); err != nil {
			return err
		}
	}
	return added.flush(w.conn)
}

func (w *writer) record(c *inventory.RecordChange, added *rows) error {
	kind, key := text(c.Kind), text(c.Key)
	switch {
	case c.Before == nil:
		return added.add(w.conn, kind, key, integer(c.After.Version), blob(c.After.Data))
	case c.After == nil:
		return w.one("DELETE FROM records WHERE kind = ? AND key = ? AND version = ?", kind, key, integer(c.Before.Version))
	default:
		return w.one("UPDATE records SET version = ?, data = ? WHERE kind = ? AND key = ? AND version = ?",
			integer(c.After.Version), blob(c.After.Data), kind, key, integer(c.Before.Version))
	}
}

func (v *view) Records(ctx context.Context, q store.RecordQuery) (list []*inventory.Record, next string, err error) {
	defer v.during(ctx, &err)()
	if head, err := readHead(v.conn); err != nil || head.Format < store.RecordsFormat {
		return nil, "", err
	}
	if q.Keys != nil {
		list, err = v.recordsByKey(q.Keys)
		return list, "", err
	}
	page := store.NewPage[inventory.Record, string](q.Limit)
	err = eachRecord(v.conn, q.Range(), func(r *inventory.Record) bool {
		page.Add(r, r.Key, store.RecordBytes(r))
		return !page.Done()
	})
	if err != nil {
		return nil, "", err
	}
	return page.Result()
}

func (v *view) recordsByKey(keys []inventory.RecordKey) (list []*inventory.Record, err error) {
	for _, key := range keys {
		r, err := recordOf(v.conn, key)
		if err != nil {
			return nil, err
		}
		if r != nil {
			list = append(list, r)
		}
	}
	return list, nil
}

// AllRecords implements [store.Lister].
func (v *view) AllRecords(
	ctx context.Context, after inventory.RecordKey, limit int,
) (list []*inventory.Record, next inventory.RecordKey, err error) {
	defer v.during(ctx, &err)()
	if head, err := readHead(v.conn); err != nil || head.Format < store.RecordsFormat {
		return nil, next, err
	}
	page := store.NewPage[inventory.Record, inventory.RecordKey](limit)
	err = scan(v.conn, "SELECT kind, key, version, data FROM records WHERE (kind, key) > (?, ?) ORDER BY kind, key",
		func(row *sqlite.Stmt) (more bool, err error) {
			r := readRecord(row)
			page.Add(r, r.RecordKey, store.RecordBytes(r))
			return !page.Done(), nil
		}, text(after.Kind), text(after.Key))
	if err != nil {
		return nil, next, err
	}
	return page.Result()
}
