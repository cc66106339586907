package mongodb

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// recordID is the id of a record. Kinds have only letters, so ids sort by kind, and then by key in byte order.
func recordID(key inventory.RecordKey) string { return key.Kind + "/" + key.Key }

func recordIDs(keys []inventory.RecordKey) []string {
	ids := make([]string, len(keys))
	for i := range keys {
		ids[i] = recordID(keys[i])
	}
	return ids
}

func recordOf(r *inventory.Record) recordDocument {
	return recordDocument{ID: recordID(r.RecordKey), Kind: r.Kind, Key: r.Key, Version: r.Version, Data: r.Data}
}

func readRecord(raw bson.Raw) (*inventory.Record, error) {
	var d recordDocument
	err := bson.Unmarshal(raw, &d)
	key := inventory.RecordKey{Kind: d.Kind, Key: d.Key}
	if err == nil && d.ID != recordID(key) {
		err = errors.New("its id is not that of its kind and key")
	}
	if err != nil {
		return nil, &store.CorruptRow{Row: "record document " + idOf(raw), Key: d.Key, Detail: err.Error()}
	}
	return &inventory.Record{RecordKey: key, Version: d.Version, Data: d.Data}, nil
}

// recordRange returns the filter and the order that read a range.
func recordRange(of inventory.RecordRange) (bson.D, *findOptions) {
	id := func(key string) string { return recordID(inventory.RecordKey{Kind: of.Kind, Key: key}) }
	return bson.D{{Key: "_id", Value: bson.D{
		{Key: "$gte", Value: id(max(of.Prefix, of.After))},
		{Key: "$ne", Value: id(of.After)},
		{Key: "$lt", Value: store.PrefixEnd(id(of.Prefix))},
	}}}, &findOptions{sort: bson.D{up("_id")}, limit: int64(of.Limit)}
}

func (l *loader) useRecord(raw bson.Raw) error {
	r, err := readRecord(raw)
	if err == nil {
		l.state.AddRecord(r)
	}
	return err
}

func (l *loader) loadRanges(ctx context.Context) error {
	for _, of := range l.keys.Ranges {
		if err := l.loadRange(ctx, l.s.db.Collection(recordsName), of); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) loadRange(ctx context.Context, c *mongo.Collection, of inventory.RecordRange) error {
	var found []*inventory.Record
	filter, o := recordRange(of)
	err := each(ctx, c, filter, o, func(raw bson.Raw) error {
		r, err := readRecord(raw)
		found = append(found, r)
		return err
	})
	if err == nil {
		l.state.AddRange(of, found)
	}
	return err
}

// records are the changed records. A record is changed and deleted only if its version is still the one that was
// loaded.
func (w *writer) records() *documents {
	d := &documents{collection: recordsName}
	for i := range w.changes.Records {
		c := &w.changes.Records[i]
		if c.Before == nil {
			d.added = append(d.added, recordOf(c.After))
			continue
		}
		filter := bson.D{{Key: "_id", Value: recordID(c.RecordKey)}, {Key: "version", Value: c.Before.Version}}
		if c.After == nil {
			d.change(filter, nil)
		} else {
			d.change(filter, recordOf(c.After))
		}
	}
	return d
}

func (v *view) Records(ctx context.Context, q store.RecordQuery) ([]*inventory.Record, string, error) {
	if q.Keys != nil {
		list, err := v.recordsByKey(ctx, q.Keys)
		return list, "", err
	}
	page := store.NewPage[inventory.Record, string](q.Limit)
	filter, o := recordRange(q.Range())
	err := v.until(ctx, recordsName, filter, o, func(raw bson.Raw) error {
		r, err := readRecord(raw)
		if err != nil {
			return page.Fail(err)
		}
		page.Add(r, r.Key, store.RecordBytes(r))
		if page.Done() {
			return errFull
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return page.Result()
}

func (v *view) recordsByKey(ctx context.Context, keys []inventory.RecordKey) (list []*inventory.Record, err error) {
	found := make(map[inventory.RecordKey]*inventory.Record, len(keys))
	err = v.each(ctx, recordsName, in("_id", recordIDs(keys)), nil, func(raw bson.Raw) error {
		r, err := readRecord(raw)
		if err == nil {
			found[r.RecordKey] = r
		}
		return err
	})
	for _, key := range keys {
		if r := found[key]; r != nil {
			list = append(list, r)
		}
	}
	return list, err
}

// AllRecords implements [store.Lister]. In the order of ids, kinds with other characters than letters may come between
// the keys of another kind.
func (v *view) AllRecords(
	ctx context.Context, after inventory.RecordKey, limit int,
) ([]*inventory.Record, inventory.RecordKey, error) {
	last := ""
	if after != (inventory.RecordKey{}) {
		last = recordID(after)
	}
	page := store.NewPage[inventory.Record, inventory.RecordKey](limit)
	filter, o := bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: last}}}}, &findOptions{sort: bson.D{up("_id")}}
	o.limit = int64(limit)
	err := v.until(ctx, recordsName, filter, o, func(raw bson.Raw) error {
		r, err := readRecord(raw)
		if err != nil {
			return page.Fail(err)
		}
		page.Add(r, r.RecordKey, store.RecordBytes(r))
		if page.Done() {
			return errFull
		}
		return nil
	})
	if err != nil {
		return nil, inventory.RecordKey{}, err
	}
	return page.Result()
}
