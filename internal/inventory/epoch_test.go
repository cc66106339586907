package inventory

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestEpochs: a store writes events, is copied, and is restored from copies. A cursor that was given at any time is good
// exactly if the store has the same event there. Where it is not, and it is known what both share, that is right.
func TestEpochs(t *testing.T) {
	type state struct {
		epochs Epochs
		events []int // each is another number
	}
	rapid.Check(t, func(t *rapid.T) {
		var live state
		var copies []state
		given := map[Cursor][]int{} // the events up to each cursor
		for event := range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				copies = append(copies, state{live.epochs, slices.Clone(live.events)})
			case 1:
				if len(copies) > 0 {
					old := rapid.SampledFrom(copies).Draw(t, "copy")
					live.epochs = old.epochs.Begin(Epoch{4: byte(event + 1)}, int64(len(old.events)))
					live.events = slices.Clone(old.events)
				}
			default:
				live.events = append(live.events, event)
				given[live.epochs.At(int64(len(live.events)))] = slices.Clone(live.events)
			}
		}
		if err := live.epochs.Check(int64(len(live.events))); err != nil {
			t.Fatal(err)
		}
		for c, events := range given {
			same := 0
			for same < min(len(events), len(live.events)) && events[same] == live.events[same] {
				same++
			}
			good := c.Seq <= int64(len(live.events)) && live.epochs.At(c.Seq) == c
			if good != (same == len(events)) {
				t.Fatalf("%v is good: %v, but %d of its %d events are here", c, good, same, len(events))
			}
			if shared, known := live.epochs.Shared(c); known && min(shared.Seq, int64(len(live.events))) != int64(same) {
				t.Fatalf("%v shares the events up to %v, but there are %d", c, shared, same)
			}
		}
	})
}

func TestEpochOfLostEvents(t *testing.T) {
	first, second, lost := Epoch{1}, Epoch{2}, Epoch{3}
	feed := Epochs("").Begin(first, 5).Begin(second, 9)
	for text, want := range map[Cursor]struct {
		cursor Cursor
		known  bool
	}{
		{Epoch{}, 4}:  {Cursor{Epoch{}, 4}, true},
		{Epoch{}, 8}:  {Cursor{Epoch{}, 5}, true},
		{first, 7}:    {Cursor{first, 7}, true},
		{first, 12}:   {Cursor{first, 9}, true},
		{second, 12}:  {Cursor{second, 12}, true},
		{second, 7}:   {Cursor{first, 7}, true}, // which it never was
		{lost, 7}:     {Cursor{lost, 7}, false},
		{Epoch{}, 20}: {Cursor{Epoch{}, 5}, true},
	} {
		if got, known := feed.Shared(text); got != want.cursor || known != want.known {
			t.Errorf("%v: %v %v, expected %v %v", text, got, known, want.cursor, want.known)
		}
	}
	if again := feed.Begin(lost, 9); again != Epochs("").Begin(first, 5).Begin(lost, 9) {
		t.Errorf("an epoch without events is kept: %x", again)
	}
}

func TestCursorText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Cursor{Seq: rapid.Int64Min(0).Draw(t, "sequence")}
		copy(c.Epoch[:], rapid.SliceOfN(rapid.Byte(), 5, 5).Draw(t, "epoch"))
		if got, err := ParseCursor(c.String()); err != nil || got != c {
			t.Fatalf("%v is read as %v: %v", c, got, err)
		}
	})
	if got := (Cursor{Seq: 12}).String(); got != "12" {
		t.Errorf("in the zero epoch: %q", got)
	}
	if got := (Cursor{Epoch{1}, 12}).String(); got != "aeaaaaaa.12" {
		t.Errorf("in another: %q", got)
	}
	for _, text := range []string{
		"", "-1", "01", "+1", "1.", ".1", "a.1", "aeaaaaa.1", "aeaaaaaaa.1", "aaaaaaaa.1", "AEAAAAAA.1", "aeaaaaaa.-1",
		"aeaaaaaa.01", "aeaaaaaa.1.1", "aeaaaaaa", strings.Repeat("a", 16) + ".1", "9223372036854775808", "aeaaaa\naa.1",
	} {
		if c, err := ParseCursor(text); err == nil {
			t.Errorf("%q is read as %v", text, c)
		}
	}
}
