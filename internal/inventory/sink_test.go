package inventory

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// TestSinkLease: processes that come and go never hold a sink together, and the position is that of the last progress of
// a holder.
func TestSinkLease(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state, now := map[RecordKey]*Record{}, Time(1000)
		var want Sink
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now += Time(rapid.IntRange(0, 30).Draw(t, "pass"))
			c := &HoldSink{
				Name: "nats", Holder: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "holder"),
				Lease: Time(rapid.IntRange(0, 50).Draw(t, "lease")), Alone: rapid.IntRange(0, 9).Draw(t, "alone") == 0,
			}
			if rapid.Bool().Draw(t, "progress") {
				c.Progress = &SinkProgress{Cursor{Seq: rapid.Int64Range(0, 100).Draw(t, "position")}, rapid.Int64Range(0, 2).Draw(t, "aside")}
			}
			held := want.Holder != "" && want.Until > now && !c.Alone
			if want.Holder == c.Holder || !held && c.Progress == nil {
				want.Holder, want.Until = c.Holder, now+c.Lease
				if c.Progress != nil {
					want.Position, want.SetAside = c.Progress.Position, want.SetAside+c.Progress.SetAside
				}
				if c.Lease == 0 {
					want.Holder = ""
				}
			}
			s := NewState(now, 0, "")
			for _, r := range state {
				s.AddRecord(r)
			}
			outcomes, changes, err := Decide(s, []*Request{{Command: c}})
			if err != nil {
				t.Fatal(err)
			}
			for _, change := range changes.Records {
				state[change.RecordKey] = change.After
			}
			if got := *outcomes[0].Sink; !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v came to %+v, expected %+v", c, got, want)
			}
		}
	})
}

// TestSinkName: sinks do not share a record.
func TestSinkName(t *testing.T) {
	a, b := KeysOf([]*Request{{Command: &HoldSink{Name: "a"}}}), KeysOf([]*Request{{Command: &HoldSink{Name: "b"}}})
	if reflect.DeepEqual(a.Records, b.Records) || len(a.Records) != 1 {
		t.Errorf("%v and %v", a.Records, b.Records)
	}
}
