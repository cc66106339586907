// Package load plays buyers: it sends bounded load as seeded workloads, keeps account of what the buyers were told, and
// holds that against the store or the event feed.
package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// RunOptions say how a workload is run.
type RunOptions struct {
	Host     string // of the server, with its port
	Workload Workload
	Read     *Read  // if not nil, what every client reads over and over instead of acting out the workload
	Prefix   string // of the ids of the run's own products
	Clients  int    // connections
	Duration time.Duration
	// Rate, if not 0, makes the loop open: so many visits a second arrive whether or not the server keeps up, and latency
	// counts from the moment a visit should have begun. Else the loop is closed: each client begins its next visit when it
	// has its answer.
	Rate float64
	Seed uint64
	// Progress is called a few times a second.
	Progress func(answered int64, elapsed time.Duration)
}

// visitor is one client of a run. Act sends the requests of one visit and tells what each came to.
type visitor interface {
	act(c *conn, tell func(...step)) error
}

func (o *RunOptions) visitor(number uint64) visitor {
	if o.Read != nil {
		return o.Read
	}
	return newBuyer(&o.Workload, o.Prefix, o.Seed, number)
}

func (o *RunOptions) name() string {
	if o.Read != nil {
		return o.Read.Name
	}
	return o.Workload.Name
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
}

func newRunner(o *RunOptions) *runner {
	return &runner{
		RunOptions: o, hist: newHistogram(), sent: newHistogram(),
		timeline: make([]atomic.Int64, int(o.Duration/Interval)+1),
		result: Result{
			Workload: o.name(), Clients: o.Clients, Rate: o.Rate, Refusals: map[string]int{}, Errors: map[string]int{},
		},
	}
}

// Run runs a workload whose products are there.
func Run(ctx context.Context, o RunOptions) (*Result, error) {
	r := newRunner(&o)
	before, err := readUse(ctx, o.Host)
	if err != nil {
		return nil, err
	}
	conns, err := r.dialAll(ctx)
	defer func() {
		for _, c := range conns {
			c.close()
		}
	}()
	if err != nil {
		return nil, err
	}
	r.start = time.Now()
	stop := r.watch(ctx)
	r.visitAll(ctx, conns)
	stop()
	r.result.Seconds = time.Since(r.start).Seconds()
	after, err := readUse(ctx, o.Host)
	if err != nil {
		return nil, err
	}
	r.finish(before, after)
	return &r.result, nil
}

// dialAll returns the connections that it made with an error too, for the caller to close.
func (r *runner) dialAll(ctx context.Context) (conns []*conn, err error) {
	for i := range r.Clients {
		c, err := dial(ctx, r.Host)
		if err != nil {
			return conns, fmt.Errorf("connecting client %d of %d: %w: raise the limit of open files (ulimit -n), or use "+
				"fewer clients", i+1, r.Clients, err)
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func (r *runner) visitAll(ctx context.Context, conns []*conn) {
	var visiting sync.WaitGroup
	for i, c := range conns {
		visiting.Go(func() { r.visit(ctx, c, r.visitor(uint64(i))) })
	}
	visiting.Wait()
}

// visit is one connection's part.
func (r *runner) visit(ctx context.Context, c *conn, v visitor) {
	t := newTeller(r)
	defer t.merge()
	for ctx.Err() == nil {
		begin, more := r.next()
		if !more {
			return
		}
		t.begin, t.sentAt = begin, time.Now()
		if err := v.act(c, t.tell); err != nil {
			t.errors[transportError(err)]++
			return // the connection is gone
		}
	}
}

func transportError(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if errors.Is(err, errAnswer) {
		return err.Error()
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
				r.look(ctx)
			}
		}
	})
	return func() {
		close(done)
		watching.Wait()
	}
}

func (r *runner) look(ctx context.Context) {
	if depth, err := Metric(ctx, r.Host, "holdfast_queue_depth"); err == nil {
		r.result.Queue = append(r.result.Queue, depth)
	}
	if r.Progress != nil {
		r.Progress(r.answered.Load(), time.Since(r.start))
	}
}

func (r *runner) finish(before, after use) {
	res := &r.result
	res.Answered = r.answered.Load()
	res.Latency, res.Service = latencyOf(r.hist), latencyOf(r.sent)
	res.Curve = curveOf(r.hist)
	for i := range r.timeline[:len(r.timeline)-1] {
		res.Timeline = append(res.Timeline, float64(r.timeline[i].Load())/Interval.Seconds())
	}
	res.Server = after.since(before, res.Seconds)
}
