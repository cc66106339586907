package load

import (
	"net/http"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/holdfast/holdfast/internal/inventory"
)

// step is one request of a buyer, or one operation of a batch, and what it was told.
type step struct {
	kind   kind
	status int
	code   string // of a refusal or an error
	id     string // of the reservation, where it was acknowledged
}

type kind int

const (
	holds kind = iota
	confirms
	cancels
	reads
)

// statusAfter is what a reservation is once a step was answered well.
var statusAfter = map[kind]inventory.ReservationStatus{
	holds:    inventory.ReservationActive,
	confirms: inventory.ReservationConfirmed,
	cancels:  inventory.ReservationCancelled,
}

// teller keeps one client's account.
type teller struct {
	*runner
	begin, sentAt    time.Time
	hist, sent       *hdrhistogram.Histogram
	refusals, errors map[string]int
	good             int64
	acknowledged     []acknowledgment
}

func newTeller(r *runner) *teller {
	return &teller{
		runner: r, hist: newHistogram(), sent: newHistogram(), refusals: map[string]int{}, errors: map[string]int{},
	}
}

// tell enters what one answer said: one step, or all of a batch.
func (t *teller) tell(steps ...step) {
	now, count := time.Now(), int64(len(steps))
	record(t.hist, now.Sub(t.begin), count)
	record(t.sent, now.Sub(t.sentAt), count)
	t.begin, t.sentAt = now, now // of the next request of this visit
	t.answered.Add(count)
	if i := int(now.Sub(t.start) / Interval); i < len(t.timeline) {
		t.timeline[i].Add(count)
	}
	for _, s := range steps {
		t.enter(s)
	}
}

func (t *teller) enter(s step) {
	switch {
	case s.code == "":
		t.good++
		if s.kind != reads {
			t.acknowledge(s)
		}
	case s.status == http.StatusConflict:
		t.refusals[s.code]++
	default:
		t.errors[s.code]++
	}
}

func (t *teller) acknowledge(s step) {
	id, ok := inventory.ParseID(inventory.ReservationPrefix, s.id)
	if !ok {
		t.errors["an answer without an id"]++
		return
	}
	status := statusAfter[s.kind]
	if n := len(t.acknowledged); n > 0 && t.acknowledged[n-1].id == id {
		t.acknowledged[n-1].status = status
		return
	}
	t.acknowledged = append(t.acknowledged, acknowledgment{id, status})
}

// merge adds the account to that of the run.
func (t *teller) merge() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runner.hist.Merge(t.hist)
	t.runner.sent.Merge(t.sent)
	t.result.Good += t.good
	t.result.acknowledged = append(t.result.acknowledged, t.acknowledged...)
	for code, n := range t.refusals {
		t.result.Refusals[code] += n
	}
	for code, n := range t.errors {
		t.result.Errors[code] += n
	}
}
