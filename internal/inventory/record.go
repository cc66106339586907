package inventory

import "fmt"

// Everything durable that is neither stock nor a reservation nor an order is a record: an API key, a webhook, the
// position of a sink, a place in a waiting list. Records are loaded with a batch, decided by pure code and written with
// it, as rows are, but a store knows nothing of what is in them. What must be replayable says so in an event.

// Limits of a record.
const (
	MaxRecordKeyBytes = 512     // of a kind and a key together
	MaxRecordBytes    = 1 << 20 // of its data
)

// RecordKey names a record. A kind is made of small letters; a key is valid UTF-8 without control characters.
type RecordKey struct{ Kind, Key string }

// Record is one of them. A value is never changed in place.
type Record struct {
	RecordKey
	Version int64 // counts its changes, from 1; of a record that was deleted and made again, from 1 again
	Data    []byte
}

// RecordRange selects the first records of a kind, in the byte order of their keys: those that begin with Prefix and
// come after After, at most Limit of them.
type RecordRange struct {
	Kind, Prefix, After string
	Limit               int
}

// RecordChange is a record before and after a batch. Before is nil for a new one, After for one that is deleted.
type RecordChange struct {
	RecordKey
	Change[Record]
}

// AddRecord enters a record that a store has loaded.
func (s *State) AddRecord(r *Record) {
	if s.Records == nil {
		s.Records = map[RecordKey]*Record{}
	}
	s.Records[r.RecordKey] = r
}

// AddRange enters the records of a range, in the order of their keys.
func (s *State) AddRange(of RecordRange, page []*Record) {
	if s.Ranges == nil {
		s.Ranges = map[RecordRange][]RecordKey{}
	}
	keys := make([]RecordKey, len(page))
	for i, r := range page {
		s.AddRecord(r)
		keys[i] = r.RecordKey
	}
	s.Ranges[of] = keys
}

// putRecord makes a record, or gives it other data. A record that is too large is a bug, not a refusal: whoever calls
// has checked.
func (b *batch) putRecord(key RecordKey, data []byte) {
	if len(key.Kind)+len(key.Key) > MaxRecordKeyBytes || len(data) > MaxRecordBytes {
		panic(fmt.Sprintf("record %s %q of %d bytes is too large", key.Kind, key.Key, len(data)))
	}
	before := b.Records[key]
	touch(b, &b.records, key, before)
	// A record that this batch has deleted is still stored: it is changed, not made.
	last := max(versionOf(before), versionOf(b.records.before[key]))
	if b.Records == nil {
		b.Records = map[RecordKey]*Record{}
	}
	put(b, b.Records, key, &Record{RecordKey: key, Version: last + 1, Data: data})
	b.recordBytes += len(key.Kind) + len(key.Key) + len(data)
}

func versionOf(r *Record) int64 {
	if r == nil {
		return 0
	}
	return r.Version
}

// deleteRecord takes a record away, if it is there.
func (b *batch) deleteRecord(key RecordKey) {
	if before := b.Records[key]; before != nil {
		touch(b, &b.records, key, before)
		put(b, b.Records, key, nil)
	}
}

// recordChanges leaves out records that were made and deleted again.
func (b *batch) recordChanges() (list []RecordChange) {
	for _, key := range b.records.keys {
		before, after := b.records.before[key], b.Records[key]
		if before != nil || after != nil {
			list = append(list, RecordChange{key, Change[Record]{before, after}})
		}
	}
	return list
}
