package relay

import (
	"errors"
	"fmt"
	"testing"
)

// TestInParts: all that comes before the first message that is too large by itself is taken, and a batch that is too
// large as a whole goes in smaller ones.
func TestInParts(t *testing.T) {
	large, broken := errors.New("too large"), errors.New("broken")
	for _, test := range []struct {
		sizes    []int // of messages; -1: the connection breaks
		accepted int
		err      error
	}{
		{nil, 0, nil},
		{[]int{1, 1, 1}, 3, nil},
		{[]int{4, 4, 4, 4, 4}, 5, nil}, // more than 10 at once are too large
		{[]int{1, 1, 11, 1}, 2, large},
		{[]int{11}, 0, large},
		{[]int{5, 5, 5, 5, 5, 5, 11, 1}, 6, large},
		{[]int{1, 1, -1, 1}, 2, broken},
		{[]int{6, 6, -1}, 2, broken},
	} {
		var messages []Message
		for _, size := range test.sizes {
			messages = append(messages, Message{Sequence: int64(size)})
		}
		var sent []string
		tooLarge := func(err error) bool { return errors.Is(err, large) }
		accepted, err := InParts(messages, tooLarge, func(part []Message) (int, error) {
			total := int64(0)
			for i, m := range part {
				if m.Sequence < 0 {
					return i, broken
				}
				total += m.Sequence
			}
			sent = append(sent, fmt.Sprint(len(part)))
			if total > 10 {
				return 0, large
			}
			return len(part), nil
		})
		var refused *Refused
		if accepted != test.accepted || !errors.Is(err, test.err) || errors.As(err, &refused) != (test.err == large) {
			t.Errorf("%v: %d %v; sent %v", test.sizes, accepted, err, sent)
		}
	}
}
