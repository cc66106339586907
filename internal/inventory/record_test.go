package inventory

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// note is a command on records alone: it writes text under a key, or deletes what is there, and counts its kind.
type note struct {
	key, text string
	remove    bool
}

var allNotes = RecordRange{Kind: "note", Limit: 10}

func (c *note) addKeys(k *Keys) {
	k.record(RecordKey{"note", c.key})
	k.recordRange(allNotes)
}
func (c *note) size() int { return len(c.text) }
func (c *note) decide(b *batch, _ *Request) Outcome {
	key := RecordKey{"note", c.key}
	if c.remove {
		b.deleteRecord(key)
	} else {
		b.putRecord(key, []byte(c.text))
	}
	return Outcome{Seq: b.seq}
}

// TestRecords: whatever a batch does to records, its changes turn what was loaded into what a map would hold.
func TestRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stored, model := map[RecordKey]*Record{}, map[string]string{}
		for range rapid.IntRange(1, 6).Draw(t, "batches") {
			var requests []*Request
			for range rapid.IntRange(1, 8).Draw(t, "commands") {
				c := &note{key: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")}
				c.remove = rapid.Bool().Draw(t, "remove")
				c.text = fmt.Sprint(len(model), c.key, rapid.IntRange(0, 9).Draw(t, "text"))
				if requests = append(requests, &Request{Command: c}); c.remove {
					delete(model, c.key)
				} else {
					model[c.key] = c.text
				}
			}
			apply(t, stored, requests)
		}
		if len(stored) != len(model) {
			t.Fatalf("stored %d records, expected %d", len(stored), len(model))
		}
		for key, text := range model {
			if r := stored[RecordKey{"note", key}]; r == nil || !bytes.Equal(r.Data, []byte(text)) {
				t.Fatalf("record %s is %+v, expected %q", key, r, text)
			}
		}
	})
}

// apply decides a batch on stored records and holds each change against what is stored, as a store does.
func apply(t *rapid.T, stored map[RecordKey]*Record, requests []*Request) {
	state, keys := NewState(0, 0, ""), KeysOf(requests)
	for _, key := range keys.Records {
		if r := stored[key]; r != nil {
			state.AddRecord(r)
		}
	}
	if len(keys.Ranges) != 1 || keys.Ranges[0] != allNotes {
		t.Fatalf("ranges %v, expected one", keys.Ranges)
	}
	_, changes, err := Decide(state, requests)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes.Records {
		if stored[c.RecordKey] != c.Before {
			t.Fatalf("the change of %v begins with %+v, stored is %+v", c.RecordKey, c.Before, stored[c.RecordKey])
		}
		if delete(stored, c.RecordKey); c.After == nil {
			continue
		}
		if want := int64(1); c.Before != nil {
			want += c.Before.Version
			if c.After.Version < want {
				t.Fatalf("version %d after %d", c.After.Version, c.Before.Version)
			}
		}
		stored[c.RecordKey] = c.After
	}
	if empty := changes.Empty(); empty != (len(changes.Records) == 0) {
		t.Fatalf("empty is %v with %d changes", empty, len(changes.Records))
	}
}

// TestRange: a store enters a range as it read it.
func TestRange(t *testing.T) {
	state := NewState(0, 0, "")
	state.AddRange(allNotes,
		[]*Record{{RecordKey: RecordKey{"note", "a"}, Version: 1}, {RecordKey: RecordKey{"note", "b"}, Version: 4}})
	if got := fmt.Sprint(state.Ranges[allNotes]); got != "[{note a} {note b}]" ||
		state.Records[RecordKey{"note", "b"}].Version != 4 {
		t.Errorf("range %s, records %v", got, state.Records)
	}
}

// TestLargeRecord: a record beyond the limits poisons its command.
func TestLargeRecord(t *testing.T) {
	for _, c := range []*note{
		{key: string(make([]byte, MaxRecordKeyBytes))},
		{key: "a", text: string(make([]byte, MaxRecordBytes+1))},
	} {
		if _, _, err := Decide(NewState(0, 0, ""), []*Request{{Command: c}}); err == nil {
			t.Errorf("a record with a key of %d bytes and %d bytes of data was taken", len(c.key), len(c.text))
		}
	}
}
