package storetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

func recordKey(key string) inventory.RecordKey { return inventory.RecordKey{Kind: "note", Key: key} }

func record(key string, version int64, data string) *inventory.Record {
	return &inventory.Record{RecordKey: recordKey(key), Version: version, Data: []byte(data)}
}

// put, change and drop are the changes of a record.
func put(after *inventory.Record) inventory.RecordChange {
	return inventory.RecordChange{RecordKey: after.RecordKey, Change: inventory.Change[inventory.Record]{After: after}}
}

func change(before, after *inventory.Record) inventory.RecordChange {
	return inventory.RecordChange{
		RecordKey: after.RecordKey,
		Change:    inventory.Change[inventory.Record]{Before: before, After: after},
	}
}

func drop(before *inventory.Record) inventory.RecordChange {
	return inventory.RecordChange{RecordKey: before.RecordKey, Change: inventory.Change[inventory.Record]{Before: before}}
}

// tryRecords commits a batch that changes records alone.
func (f *fixture) tryRecords(changes ...inventory.RecordChange) error {
	return f.Commit(context.Background(), &inventory.Keys{}, func(*inventory.State) (*inventory.Changes, error) {
		return &inventory.Changes{Records: changes}, nil
	})
}

func (f *fixture) records(changes ...inventory.RecordChange) {
	f.Helper()
	if err := f.tryRecords(changes...); err != nil {
		f.Fatalf("Commit: %v", err)
	}
}

// loadRecords returns the state that a batch is given for these keys.
func (f *fixture) loadRecords(keys *inventory.Keys) (state *inventory.State) {
	f.Helper()
	err := f.Commit(context.Background(), keys, func(loaded *inventory.State) (*inventory.Changes, error) {
		state = loaded
		return &inventory.Changes{}, nil
	})
	if err != nil {
		f.Fatalf("Commit: %v", err)
	}
	return state
}

// listRecords reads all pages of a query. No page may be above the limit.
func (f *fixture) listRecords(q store.RecordQuery) (list []*inventory.Record, pages int) {
	f.Helper()
	for {
		var page []*inventory.Record
		f.view(func(v store.View) (err error) {
			page, q.After, err = v.Records(f.Context(), q)
			return err
		})
		if q.Keys == nil && len(page) > q.Limit {
			f.Fatalf("a page of %d with limit %d", len(page), q.Limit)
		}
		list = append(list, page...)
		if pages++; q.After == "" {
			return list, pages
		}
	}
}

func describeRecords(list []*inventory.Record) string {
	var words []string
	for _, r := range list {
		words = append(words, fmt.Sprintf("%s:%d:%s", r.Key, r.Version, r.Data))
	}
	return strings.Join(words, " ")
}

// expectRecords requires that the records of the kind "note" are these.
func (f *fixture) expectRecords(want string) {
	f.Helper()
	list, _ := f.listRecords(store.RecordQuery{Kind: "note", Limit: 100})
	if got := describeRecords(list); got != want {
		f.Fatalf("records are %q, want %q", got, want)
	}
}

func recordLife(f *fixture) {
	a, b := record("a", 1, "x"), record("b", 1, "")
	f.records(put(a), put(b))
	f.expectRecords("a:1:x b:1:")
	a2 := record("a", 2, "y")
	f.records(change(a, a2), drop(b), put(record("c", 1, "z")))
	f.expectRecords("a:2:y c:1:z")
	f.records(put(record("b", 1, "anew")))
	f.expectRecords("a:2:y b:1:anew c:1:z")
	if f.backend.Reopen != nil {
		f.Store = f.backend.Reopen(f, f.Store, f.Now)
		f.expectRecords("a:2:y b:1:anew c:1:z")
	}
}

// recordsAreLoaded: a batch loads records by key and by range.
func recordsAreLoaded(f *fixture) {
	f.records(put(record("a", 1, "x")), put(record("b/1", 1, "y")), put(record("b/2", 3, "z")), put(record("c", 1, "")))
	other := &inventory.Record{
		RecordKey: inventory.RecordKey{Kind: "notes", Key: "b/3"}, Version: 1,
		Data: []byte("of another kind"),
	}
	f.records(put(other))
	of := inventory.RecordRange{Kind: "note", Prefix: "b/", Limit: 9}
	none := inventory.RecordRange{Kind: "none", Limit: 9}
	state := f.loadRecords(&inventory.Keys{
		Records: []inventory.RecordKey{recordKey("a"), recordKey("none"), other.RecordKey},
		Ranges:  []inventory.RecordRange{of, none},
	})
	var loaded []*inventory.Record
	for _, key := range slices.SortedFunc(maps.Keys(state.Records),
		func(a, b inventory.RecordKey) int { return cmp.Compare(a.Key, b.Key) }) {
		loaded = append(loaded, state.Records[key])
	}
	if got := describeRecords(loaded); got != "a:1:x b/1:1:y b/2:3:z b/3:1:of another kind" {
		f.Errorf("loaded %s", got)
	}
	if got := fmt.Sprint(state.Ranges[of]); got != "[{note b/1} {note b/2}]" {
		f.Errorf("the range has %s", got)
	}
	if keys, asked := state.Ranges[none]; !asked || len(keys) != 0 {
		f.Errorf("an empty range has %v", keys)
	}
	if state := f.loadRecords(&inventory.Keys{}); state.Records != nil || state.Ranges != nil {
		f.Errorf("records were loaded that nobody asked for: %v", state.Records)
	}
}

// recordOrder: ranges are in byte order, whatever the language of the database, and a prefix ends where it should.
func recordOrder(f *fixture) {
	keys := []string{
		"A", "B", "a", "a ", "a-", "a/", "a/1", "a/10", "a/2", "aa", "b", "z", "~", "é", "\uD7FFx", "\uE000",
		"\U0010FFFF", "\U0010FFFFx",
	}
	var changes []inventory.RecordChange
	for i := range keys {
		changes = append(changes, put(record(keys[len(keys)-1-i], 1, "")))
	}
	f.records(changes...)
	f.records(put(&inventory.Record{RecordKey: inventory.RecordKey{Kind: "notf", Key: "a"}, Version: 1}))
	for _, prefix := range []string{"", "a", "a/", "a/1", "~", "é", "\uD7FF", "\U0010FFFF", "none"} {
		for _, after := range append([]string{"", "a/0", "a/1"}, keys...) {
			var want []string
			for _, key := range keys {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			f.expectRange(inventory.RecordRange{Kind: "note", Prefix: prefix, After: after, Limit: 3}, want)
		}
	}
}

// expectRange requires that the pages of a range have these keys, and that a batch is given the first of them.
func (f *fixture) expectRange(of inventory.RecordRange, want []string) {
	f.Helper()
	keysOf := func(list []*inventory.Record) (keys []string) {
		for _, r := range list {
			keys = append(keys, r.Key)
		}
		return keys
	}
	list, _ := f.listRecords(store.RecordQuery{Kind: of.Kind, Prefix: of.Prefix, After: of.After, Limit: of.Limit})
	if got := keysOf(list); !slices.Equal(got, want) {
		f.Fatalf("with prefix %q, after %q: %q, want %q", of.Prefix, of.After, got, want)
	}
	var loaded []string
	for _, key := range f.loadRecords(&inventory.Keys{Ranges: []inventory.RecordRange{of}}).Ranges[of] {
		loaded = append(loaded, key.Key)
	}
	if first := want[:min(of.Limit, len(want))]; !slices.Equal(loaded, first) {
		f.Fatalf("a batch loads %q of prefix %q after %q, want %q", loaded, of.Prefix, of.After, first)
	}
}

func recordPages(f *fixture) {
	large := strings.Repeat("x", inventory.MaxRecordBytes)
	for i := range 6 {
		f.records(put(record(fmt.Sprint(i), 1, large)))
	}
	list, pages := f.listRecords(store.RecordQuery{Kind: "note", Limit: 100})
	if len(list) != 6 || pages != 2 || len(list[5].Data) != len(large) {
		f.Errorf("%d records on %d pages", len(list), pages)
	}
	some, _ := f.listRecords(store.RecordQuery{Keys: []inventory.RecordKey{
		recordKey("4"), recordKey("none"),
		recordKey("1"),
	}})
	if len(some) != 2 || some[0].Key != "4" || some[1].Key != "1" {
		f.Errorf("by key: %d records", len(some))
	}
	if none, _ := f.listRecords(store.RecordQuery{Keys: []inventory.RecordKey{}}); len(none) != 0 {
		f.Errorf("of no keys: %d records", len(none))
	}
}

// recordGuards: if one change does not begin with what is stored, the whole batch has no effect.
func recordGuards(f *fixture) {
	stored, missing := record("a", 2, "x"), record("none", 1, "")
	f.records(put(stored))
	before := f.head()
	for name, wrong := range map[string]inventory.RecordChange{
		"a change of another version": change(record("a", 1, "x"), record("a", 3, "y")),
		"a deletion of another":       drop(record("a", 1, "x")),
		"a new one that is there":     put(record("a", 1, "y")),
		"a change of none":            change(missing, record("none", 2, "y")),
		"a deletion of none":          drop(missing),
	} {
		err := f.tryRecords(put(record("b", 1, "")), wrong)
		if err == nil || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrBroken) {
			f.Errorf("%s: %v", name, err)
		}
	}
	if f.head() != before {
		f.Error("a refused batch wrote")
	}
	f.expectRecords("a:2:x")
	f.records(change(stored, record("a", 3, "y")))
	f.expectRecords("a:3:y")
}

// recordsWithoutEvents: a batch that writes only records has a journal entry.
func recordsWithoutEvents(f *fixture) {
	f.do(newProduct("mug", 1))
	before := f.head()
	f.records(put(record("a", 1, "x")))
	if head := f.head(); head.BatchNo != before.BatchNo+1 || head.Seq != before.Seq || head.Chain == before.Chain {
		f.Errorf("head %+v after %+v", head, before)
	}
	f.hold("mug", 1, 1000)
	f.checkJournal(2)
	f.expectRecords("a:1:x")
}

// recordsRollBack: records are written with their batch, or not at all.
func recordsRollBack(f *fixture) {
	f.do(newProduct("mug", 1))
	requests := []*inventory.Request{{Command: reserve("mug", 1, 60_000)}}
	keys := inventory.KeysOf(requests)
	keys.Records = []inventory.RecordKey{recordKey("a")}
	wrong := errors.New("no")
	commit := func(spoil func(*inventory.Changes) error) error {
		return f.Commit(context.Background(), keys, func(state *inventory.State) (*inventory.Changes, error) {
			if state.Records[recordKey("a")] != nil {
				f.Error("a record of a batch that had no effect was loaded")
			}
			_, changes, err := inventory.Decide(state, requests)
			changes.Records = []inventory.RecordChange{put(record("a", 1, "x"))}
			return changes, errors.Join(err, spoil(changes))
		})
	}
	if err := commit(func(*inventory.Changes) error { return wrong }); !errors.Is(err, wrong) {
		f.Errorf("a decision that failed: %v", err)
	}
	f.expectRecords("")
	if f.backend.Enforces {
		err := commit(func(c *inventory.Changes) error {
			c.Stock[0].After.Available = -1
			return nil
		})
		if err == nil {
			f.Error("a negative bucket was written")
		}
		f.expectRecords("")
	}
	if err := commit(func(*inventory.Changes) error { return nil }); err != nil {
		f.Errorf("the batch without its fault: %v", err)
	}
	f.expectRecords("a:1:x")
	f.stock("mug", inventory.Buckets{Reserved: 1})
}

// recordsLikeAMap: after any batches, the store has the records that a map has.
func recordsLikeAMap(f *fixture) {
	words := rapid.StringOfN(rapid.SampledFrom([]rune("ab/é~")), 1, 3, -1)
	n := 0
	rapid.Check(f.TB.(*testing.T), func(t *rapid.T) {
		n++
		m := recordMachine{
			fixture: f, kind: "map" + strings.Repeat("x", n), model: map[string]*inventory.Record{},
			words: words,
		}
		for range rapid.IntRange(1, 5).Draw(t, "batches") {
			m.batch(t)
		}
		m.check(t)
	})
}

// recordMachine makes the same changes to a store and to a map.
type recordMachine struct {
	*fixture
	kind  string
	model map[string]*inventory.Record
	words *rapid.Generator[string]
}

// batch commits some changes, and compares what was loaded for them with the map. Some batches are given up.
func (m *recordMachine) batch(t *rapid.T) {
	keys := &inventory.Keys{}
	next := maps.Clone(m.model)
	var changes []inventory.RecordChange
	for _, key := range rapid.SliceOfNDistinct(m.words, 1, 20, rapid.ID[string]).Draw(t, "keys") {
		c := m.draw(t, inventory.RecordKey{Kind: m.kind, Key: key})
		keys.Records = append(keys.Records, c.RecordKey)
		if c.Before != nil || c.After != nil {
			changes = append(changes, c)
		}
		if delete(next, key); c.After != nil {
			next[key] = c.After
		}
	}
	var failure error
	if rapid.IntRange(0, 4).Draw(t, "give up") == 0 {
		failure, next = errors.New("given up"), m.model
	}
	var loaded map[inventory.RecordKey]*inventory.Record
	err := m.Commit(context.Background(), keys, func(state *inventory.State) (*inventory.Changes, error) {
		loaded = state.Records
		return &inventory.Changes{Records: changes}, failure
	})
	if !errors.Is(err, failure) {
		t.Fatalf("Commit: %v", err)
	}
	for _, key := range keys.Records {
		if !sameRecord(loaded[key], m.model[key.Key]) {
			t.Fatalf("%q is loaded as %+v, expected %+v", key.Key, loaded[key], m.model[key.Key])
		}
	}
	m.model = next
}

// draw makes a change of a record that may exist: it is made, changed, deleted or left alone.
func (m *recordMachine) draw(t *rapid.T, key inventory.RecordKey) inventory.RecordChange {
	c := inventory.RecordChange{RecordKey: key}
	c.Before = m.model[key.Key]
	if rapid.IntRange(0, 2).Draw(t, "delete") == 0 {
		return c
	}
	c.After = &inventory.Record{RecordKey: key, Version: 1, Data: rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "data")}
	if c.Before != nil {
		c.After.Version = c.Before.Version + 1
	}
	return c
}

// check compares the pages of a range with the map.
func (m *recordMachine) check(t *rapid.T) {
	prefix := rapid.OneOf(rapid.Just(""), m.words).Draw(t, "prefix")
	limit := rapid.IntRange(1, 5).Draw(t, "limit")
	var want []*inventory.Record
	for _, key := range slices.Sorted(maps.Keys(m.model)) {
		if strings.HasPrefix(key, prefix) {
			want = append(want, m.model[key])
		}
	}
	got, _ := m.listRecords(store.RecordQuery{Kind: m.kind, Prefix: prefix, Limit: limit})
	if !slices.EqualFunc(got, want, sameRecord) {
		t.Fatalf("with prefix %q: %s, want %s", prefix, describeRecords(got), describeRecords(want))
	}
}

func sameRecord(a, b *inventory.Record) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.RecordKey == b.RecordKey && a.Version == b.Version && bytes.Equal(a.Data, b.Data)
}
