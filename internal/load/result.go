package load

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/holdfast/holdfast/internal/inventory"
)

// Result is what the buyers were told.
type Result struct {
	Workload string         `json:"workload"`
	Clients  int            `json:"clients"`
	Rate     float64        `json:"offeredPerSecond,omitempty"` // visits, of an open loop
	Seconds  float64        `json:"seconds"`
	Answered int64          `json:"answered"` // requests, refusals included; of a batch each operation counts
	Good     int64          `json:"good"`     // of those that came to what was wanted
	Refusals map[string]int `json:"refusals"` // business as usual, by code
	Errors   map[string]int `json:"errors"`   // everything else
	Latency  Latency        `json:"latencyMicroseconds"`
	Service  Latency        `json:"serviceMicroseconds"` // from when a request was sent: the same in a closed loop
	Timeline []float64      `json:"answersPerSecond"`    // over time, a value each Interval
	Queue    []float64      `json:"queue"`               // commands that waited at the server's door, a value each Interval
	Server   ServerUse      `json:"server"`

	Curve        []Point          `json:"latencyByPercentile"`
	acknowledged []acknowledgment // for the audit
}

// Interval is the step of a timeline.
const Interval = 100 * time.Millisecond

// PerSecond is the answers a second, refusals included.
func (r *Result) PerSecond() float64 { return float64(r.Answered) / r.Seconds }

// GoodPerSecond is the answers a second that came to what was wanted.
func (r *Result) GoodPerSecond() float64 { return float64(r.Good) / r.Seconds }

// Label names a run for people.
func (r *Result) Label() string {
	if r.Rate > 0 {
		return fmt.Sprintf("%s at %.0f/s", r.Workload, r.Rate)
	}
	return r.Workload
}

// Failed is an error that names what went wrong in a run, or nil if there was nothing but answers and refusals.
func (r *Result) Failed() error {
	if len(r.Errors) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %v", r.Workload, r.Errors)
}

// Latency in microseconds.
type Latency struct {
	P50  int64 `json:"p50"`
	P90  int64 `json:"p90"`
	P99  int64 `json:"p99"`
	P999 int64 `json:"p999"`
	Max  int64 `json:"max"`
}

// Point of a latency curve.
type Point struct {
	Percentile   float64 `json:"percentile"`
	Microseconds int64   `json:"microseconds"`
}

// acknowledgment is a reservation as its buyer was told of it last.
type acknowledgment struct {
	id     inventory.ID
	status inventory.ReservationStatus
}

// The range of the histograms: 1 microsecond to a minute, in two significant digits.
const (
	lowestMicroseconds, highestMicroseconds = 1, 60_000_000
	significantDigits                       = 2
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(lowestMicroseconds, highestMicroseconds, significantDigits)
}

// record enters a latency, moved into the range: so there is no error to look at.
func record(h *hdrhistogram.Histogram, d time.Duration, times int64) {
	_ = h.RecordValues(min(max(d.Microseconds(), lowestMicroseconds), highestMicroseconds), times)
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	return Latency{
		P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9),
		Max: h.Max(),
	}
}

func curveOf(h *hdrhistogram.Histogram) (curve []Point) {
	for _, bracket := range h.CumulativeDistribution() {
		curve = append(curve, Point{bracket.Quantile, bracket.ValueAt})
	}
	return curve
}
