package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/inventory"
)

// RunOptions say how a workload is run.
type RunOptions struct {
	Host     string // of the server, with its port
	Workload Workload
	Prefix   string // of the ids of the run's own products
	Clients  int    // connections
	Duration time.Duration
	// Rate, if not 0, makes the loop open: so many visits a second arrive whether or not the server keeps up, and latency counts from
	// the moment a visit should have begun. Else the loop is closed: each client begins its next visit when it has its answer.
	Rate float64
	Seed uint64
	// Progress is called a few times a second.
	Progress func(answered int64, elapsed time.Duration)
}

// Result is what the buyers were told.
type Result struct {
	Workload string         `json:"workload"`
	Clients  int            `json:"clients"`
	Rate     float64        `json:"offeredPerSecond,omitempty"` // of an open loop
	Seconds  float64        `json:"seconds"`
	Answered int64          `json:"answered"` // requests, refusals included
	Good     int64          `json:"good"`     // of those that were answered with 2xx
	Refusals map[string]int `json:"refusals"` // business as usual, by code
	Errors   map[string]int `json:"errors"`   // everything else
	Latency  Latency        `json:"latencyMicroseconds"`
	Service  Latency        `json:"serviceMicroseconds"` // from when a request was sent: the same in a closed loop
	Timeline []float64      `json:"answersPerSecond"`    // over time, a value each Interval
	Queue    []float64      `json:"queue"`               // commands that waited at the server's door, over time, a value each Interval
	Server   ServerUse      `json:"server"`

	Curve        []Point          `json:"latencyByPercentile"`
	acknowledged []acknowledgment // for the audit
}

// Interval is the step of a timeline.
const Interval = 100 * time.Millisecond

// PerSecond is the answers a second, refusals included.
func (r *Result) PerSecond() float64 { return float64(r.Answered) / r.Seconds }

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

// runner is a run under way.
type runner struct {
	*RunOptions
	start    time.Time
	arrivals atomic.Int64
	answered atomic.Int64
	timeline []atomic.Int64

	mu     sync.Mutex
	result Result
	hist   *hdrhistogram.Histogram
	sent   *hdrhistogram.Histogram // from when it was sent
	failed error
}

// Prepare makes the products of a workload, unless they are there.
func Prepare(ctx context.Context, url string, w *Workload, prefix string) error {
	c := client.New(url)
	var making sync.WaitGroup
	var failed atomic.Pointer[error]
	next := atomic.Int64{}
	for range min(32, w.Products) {
		making.Go(func() {
			for i := next.Add(1) - 1; i < int64(w.Products) && failed.Load() == nil; i = next.Add(1) - 1 {
				_, err := c.CreateProduct(ctx, client.NewProduct{
					ID: fmt.Sprint(prefix, i), Name: "Product", Price: client.Money{Amount: 1999, Currency: "EUR"}, TotalStock: w.Units,
				})
				if err != nil && !errors.Is(err, client.ProductExists) {
					failed.Store(&err)
				}
			}
		})
	}
	making.Wait()
	if err := failed.Load(); err != nil {
		return fmt.Errorf("making products: %w", *err)
	}
	return nil
}

// Run runs a workload whose products are there.
func Run(ctx context.Context, o RunOptions) (*Result, error) {
	r := &runner{RunOptions: &o, hist: newHistogram(), sent: newHistogram(), timeline: make([]atomic.Int64, int(o.Duration/Interval)+1)}
	r.result = Result{Workload: o.Workload.Name, Clients: o.Clients, Rate: o.Rate, Refusals: map[string]int{}, Errors: map[string]int{}}
	before, err := readUse(ctx, o.Host)
	if err != nil {
		return nil, err
	}
	wires := make([]*wire, o.Clients)
	for i := range wires {
		if wires[i], err = dial(ctx, o.Host); err != nil {
			return nil, fmt.Errorf("connecting client %d of %d: %w: raise the limit of open files (ulimit -n), or use fewer --clients", i+1, o.Clients, err)
		}
		defer wires[i].close()
	}
	r.start = time.Now()
	var buyers sync.WaitGroup
	for i := range wires {
		buyers.Go(func() { r.client(ctx, wires[i], uint64(i)) })
	}
	stop := r.watch(ctx)
	buyers.Wait()
	stop()
	r.result.Seconds = time.Since(r.start).Seconds()
	after, err := readUse(ctx, o.Host)
	if err != nil {
		return nil, err
	}
	r.finish(before, after)
	return &r.result, r.failed
}

// watch reads the server's queue and tells the progress until it is stopped.
func (r *runner) watch(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(Interval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			if depth, err := metric(ctx, r.Host, "holdfast_queue_depth"); err == nil {
				r.result.Queue = append(r.result.Queue, depth)
			}
			if r.Progress != nil {
				r.Progress(r.answered.Load(), time.Since(r.start))
			}
		}
	})
	return func() {
		close(done)
		watching.Wait()
	}
}

// client is one connection's part.
func (r *runner) client(ctx context.Context, w *wire, number uint64) {
	b := newBuyer(&r.Workload, r.Prefix, r.Seed, number)
	t := teller{runner: r, hist: newHistogram(), sent: newHistogram(), refusals: map[string]int{}, errors: map[string]int{}}
	defer t.merge()
	for ctx.Err() == nil {
		begin, more := r.next()
		if !more {
			return
		}
		t.begin, t.sentAt = begin, time.Now()
		if err := b.act(w, t.tell); err != nil {
			t.errors[transportError(err)]++
			return // the connection is gone
		}
	}
}

func transportError(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return "connection lost"
}

// next is when the next visit begins: now, or at its turn. It waits for it.
func (r *runner) next() (begin time.Time, more bool) {
	if r.Rate == 0 {
		begin = time.Now()
		return begin, begin.Sub(r.start) < r.Duration
	}
	n := r.arrivals.Add(1) - 1
	begin = r.start.Add(time.Duration(float64(n) / r.Rate * float64(time.Second)))
	if begin.Sub(r.start) >= r.Duration {
		return begin, false
	}
	time.Sleep(time.Until(begin))
	return begin, true
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

func (t *teller) tell(s step) error {
	now := time.Now()
	record(t.hist, now.Sub(t.begin))
	record(t.sent, now.Sub(t.sentAt))
	t.begin, t.sentAt = now, now // of the next request of this visit
	t.answered.Add(1)
	if i := int(now.Sub(t.start) / Interval); i < len(t.timeline) {
		t.timeline[i].Add(1)
	}
	switch {
	case s.status < http.StatusMultipleChoices:
		t.good++
		t.acknowledge(s)
	case s.status == http.StatusConflict:
		t.refusals[s.code]++
	default:
		t.errors[s.code]++
	}
	return nil
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), lowestMicroseconds), highestMicroseconds)) // within its range, so it has no error
}

func (t *teller) acknowledge(s step) {
	id, ok := inventory.ParseID(inventory.ReservationPrefix, s.id)
	if !ok {
		t.errors["an answer without an id"]++
		return
	}
	status := [kinds]inventory.ReservationStatus{holds: inventory.ReservationActive, confirms: inventory.ReservationConfirmed, cancels: inventory.ReservationCancelled}[s.kind]
	if n := len(t.acknowledged); n > 0 && t.acknowledged[n-1].id == id {
		t.acknowledged[n-1].status = status
		return
	}
	t.acknowledged = append(t.acknowledged, acknowledgment{id, status})
}

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

func (r *runner) finish(before, after use) {
	res := &r.result
	res.Answered = r.answered.Load()
	res.Latency, res.Service = latencyOf(r.hist), latencyOf(r.sent)
	for _, bracket := range r.hist.CumulativeDistribution() {
		res.Curve = append(res.Curve, Point{bracket.Quantile, bracket.ValueAt})
	}
	for i := range r.timeline[:len(r.timeline)-1] {
		res.Timeline = append(res.Timeline, float64(r.timeline[i].Load())/Interval.Seconds())
	}
	res.Server = after.since(before, res.Seconds)
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	return Latency{P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), Max: h.Max()}
}

// ServerUse is what the server spent on a run, by its own metrics.
type ServerUse struct {
	Cores          float64 `json:"cores"`          // processors that it kept busy
	ResidentBytes  int64   `json:"residentBytes"`  // at the end
	BatchCommands  float64 `json:"batchCommands"`  // commands that shared a commit, in the mean
	CommitMicros   float64 `json:"commitMicros"`   // time of a commit, in the mean
	CommitsASecond float64 `json:"commitsASecond"` //
}

// use are the metrics of a server at one moment. A server without metrics has none.
type use struct{ cpu, resident, commands, batches, commitSeconds float64 }

func (u use) since(before use, seconds float64) ServerUse {
	s := ServerUse{Cores: (u.cpu - before.cpu) / seconds, ResidentBytes: int64(u.resident)}
	if batches := u.batches - before.batches; batches > 0 {
		s.BatchCommands = (u.commands - before.commands) / batches
		s.CommitMicros = (u.commitSeconds - before.commitSeconds) / batches * 1e6
		s.CommitsASecond = batches / seconds
	}
	return s
}

func readUse(ctx context.Context, host string) (u use, err error) {
	values := map[string]*float64{
		"process_cpu_seconds_total": &u.cpu, "process_resident_memory_bytes": &u.resident, "holdfast_batch_commands_sum": &u.commands,
		"holdfast_batch_commands_count": &u.batches, "holdfast_commit_seconds_sum": &u.commitSeconds,
	}
	return u, readMetrics(ctx, host, values)
}

// readMetrics reads those metrics of a server that are asked for.
func readMetrics(ctx context.Context, host string, values map[string]*float64) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/metrics", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("no server answers at %s: %w", host, err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if value := values[name]; value != nil {
			*value, _ = strconv.ParseFloat(text, 64)
		}
	}
	return lines.Err()
}

func metric(ctx context.Context, host, name string) (value float64, err error) {
	err = readMetrics(ctx, host, map[string]*float64{name: &value})
	return value, err
}
