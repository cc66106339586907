package history

import (
	"fmt"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast/holdfast/client"
)

// inTurn makes a history of operations that follow each other.
func inTurn(steps ...func() (input, output)) (history []porcupine.Operation) {
	for i, step := range steps {
		in, out := step()
		history = append(history, porcupine.Operation{Input: in, Call: int64(2 * i), Output: out, Return: int64(2*i + 1)})
	}
	return history
}

func does(in input, out output) func() (input, output) {
	return func() (input, output) { return in, out }
}

// TestCatches: the checker passes what is right, and notices a unit that was sold twice, a read that shows what was
// before an answer, and a hold that ended twice.
func TestCatches(t *testing.T) {
	hold := does(input{kind: "reserve"}, output{id: "a"})
	var oversold []func() (input, output)
	for i := range Units + 1 {
		oversold = append(oversold, does(input{kind: "reserve"}, output{id: fmt.Sprint(i)}))
	}
	for _, test := range []struct {
		name  string
		right bool
		steps []func() (input, output)
	}{
		{"sold", true, oversold[:Units]},
		{"oversold", false, oversold},
		{"read", true, []func() (input, output){hold, does(input{kind: "read"}, output{available: Units - 1})}},
		{"stale read", false, []func() (input, output){hold, does(input{kind: "read"}, output{available: Units})}},
		{"stale look", false, []func() (input, output){
			hold, does(input{"cancel", "a"}, output{}), does(input{"look", "a"}, output{status: client.Active}),
		}},
		{"ended twice", false, []func() (input, output){
			hold, does(input{"cancel", "a"}, output{}), does(input{"confirm", "a"}, output{}),
		}},
		{"refused", true, []func() (input, output){
			hold, does(input{"cancel", "a"}, output{}),
			does(input{"confirm", "a"}, output{code: client.ReservationCancelled}),
		}},
	} {
		if porcupine.CheckOperations(model, inTurn(test.steps...)) != test.right {
			t.Errorf("%s: not %v", test.name, test.right)
		}
	}
}
