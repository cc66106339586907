package bench

import (
	"context"
	"fmt"

	"github.com/holdfast/holdfast/internal/load"
)

// Sweep is a workload at rising rates, to where the server no longer keeps up, and beyond.
type Sweep struct {
	Peak     *load.Result   `json:"peak"` // of a closed loop
	Steps    []*load.Result `json:"steps"`
	Knee     float64        `json:"knee"` // the highest rate that the server kept up with, visits a second
	Overload *load.Result   `json:"overload"`
}

// sweepShares of the closed loop's peak are the steps.
var sweepShares = []float64{0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1}

const (
	// keptUp is the share of the offered visits that must have been answered well in time.
	keptUp = 0.98
	// overloadFactor is how many times the knee is offered at last.
	overloadFactor = 3
	// openClients are the connections of an open loop: with fewer the load would wait where it should arrive.
	openClients = 1024
)

// RunSweep runs a closed loop for the peak, open loops up to the knee, and one at three times the knee.
func RunSweep(ctx context.Context, o load.RunOptions) (s *Sweep, err error) {
	s = &Sweep{}
	o.Rate = 0
	if s.Peak, err = load.Run(ctx, o); err != nil {
		return nil, err
	}
	o.Clients = max(o.Clients, openClients)
	peak := s.Peak.GoodPerSecond()
	for _, share := range sweepShares {
		o.Rate = share * peak
		step, err := load.Run(ctx, o)
		if err != nil {
			return nil, err
		}
		s.Steps = append(s.Steps, step)
		// The steps go on where one falls short: a moment's trouble of the machine is not the knee.
		if float64(step.Good) >= keptUp*o.Rate*o.Duration.Seconds() && step.Seconds <= o.Duration.Seconds()*1.05+0.1 {
			s.Knee = o.Rate
		}
	}
	o.Rate = overloadFactor * max(s.Knee, sweepShares[0]*peak)
	s.Overload, err = load.Run(ctx, o)
	return s, err
}

// Results are all runs of the sweep.
func (s *Sweep) Results() []*load.Result {
	return append(append([]*load.Result{s.Peak}, s.Steps...), s.Overload)
}

// Sentence says what was found.
func (s *Sweep) Sentence() string {
	peak, good := s.Peak.GoodPerSecond(), s.Overload.GoodPerSecond()
	return fmt.Sprintf("The server keeps up with %.0f visits a second. Offered %d times as many it answers %.0f a second "+
		"well, %.2f of its peak.", s.Knee, overloadFactor, good, good/peak)
}
