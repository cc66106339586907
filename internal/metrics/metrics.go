// Package metrics shows what the other packages report, in Prometheus form.
package metrics

import (
	"errors"
	"net/http"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/expiry"
	"github.com/holdfast/holdfast/internal/httpapi"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Metrics are the collectors of one process.
type Metrics struct {
	registry *prometheus.Registry
	known    sync.Map // requestCollectors by requestKey

	requests       *prometheus.CounterVec
	requestSeconds *prometheus.HistogramVec
	refusals       *prometheus.CounterVec
	batchCommands  prometheus.Histogram
	commitSeconds  prometheus.Histogram
	storeErrors    *prometheus.CounterVec
	holds          *prometheus.CounterVec
	expiryLag      prometheus.Gauge
	aside          prometheus.Gauge

	relayed, relayedAside, relayFailures *prometheus.CounterVec
	webhooks
	behind, oldest *prometheus.GaugeVec
}

// New makes the collectors of a process of this version, in a registry of its own.
func New(version httpapi.Version) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_requests_total", Help: "Requests by operation and status.",
		}, []string{"operation", "status"}),
		requestSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "holdfast_request_seconds", Help: "Time from request to answer, by operation.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"operation"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_refusals_total", Help: "Error answers by problem code.",
		}, []string{"code"}),
		batchCommands: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "holdfast_batch_commands", Help: "Commands that shared a commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "holdfast_commit_seconds", Help: "Time to load, decide and durably write a batch.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 15),
		}),
		storeErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_store_errors_total", Help: "Batches that could not be committed, by kind of failure.",
		}, []string{"kind"}),
		holds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_holds_total",
			Help: "Reservations that reached a state: created, extended, confirmed, cancelled, expired.",
		}, []string{"outcome"}),
		expiryLag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_expiry_lag_seconds", Help: "Age of the oldest deadline that the last sweep found due.",
		}),
		aside: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_holds_set_aside", Help: "Due holds that could not be ended and wait for another try.",
		}),
	}
	m.relays()
	m.webhooks = newWebhooks()
	m.registry.MustRegister(m.webhookTries, m.webhooksDisabled)
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "holdfast_build_info", Help: "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{
			"version": version.Version, "revision": version.Revision, "go": version.Go, "store": version.Store,
		},
	})
	build.Set(1)
	m.registry.MustRegister(
		m.requests, m.requestSeconds, m.refusals, m.batchCommands, m.commitSeconds, m.storeErrors, m.holds,
		m.expiryLag, m.aside, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, outcome := range holdOutcomes {
		m.holds.WithLabelValues(outcome)
	}
	return m
}

// Handler serves the metrics in Prometheus's text form.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// QueueDepth registers the depth of a queue, in commands. It is read whenever the metrics are. Call this once.
func (m *Metrics) QueueDepth(depth func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "holdfast_queue_depth", Help: "Commands that wait for the next batch.",
	}, func() float64 { return float64(depth()) }))
}

// DamagedRows has the number of rows that lists left out read whenever the metrics are.
func (m *Metrics) DamagedRows(rows func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "holdfast_damaged_rows", Help: "Stored rows that lists have left out because they cannot be read.",
	}, func() float64 { return float64(rows()) }))
}

// requestKey is what a request is counted under.
type requestKey struct {
	operation string
	status    int
}

type requestCollectors struct {
	count   prometheus.Counter
	seconds prometheus.Observer
}

// collectors finds the collectors of a kind of request without making its labels each time. There are at most as many
// kinds as operations times statuses.
func (m *Metrics) collectors(operation string, status int) requestCollectors {
	key := requestKey{operation, status}
	if c, known := m.known.Load(key); known {
		return c.(requestCollectors)
	}
	c := requestCollectors{
		m.requests.WithLabelValues(operation, strconv.Itoa(status)), m.requestSeconds.WithLabelValues(operation),
	}
	m.known.Store(key, c)
	return c
}

// Request counts an answered request.
func (m *Metrics) Request(o httpapi.Observation) {
	c := m.collectors(o.Operation, o.Status)
	c.count.Inc()
	c.seconds.Observe(o.Took.Seconds())
	if o.Code != "" {
		m.refusals.WithLabelValues(o.Code).Inc()
	}
}

var holdOutcomes = map[inventory.EventType]string{
	inventory.EventReservationCreated:   "created",
	inventory.EventReservationExtended:  "extended",
	inventory.EventReservationConfirmed: "confirmed",
	inventory.EventReservationCancelled: "cancelled",
	inventory.EventReservationExpired:   "expired",
}

// Batch counts a batch, written or not.
func (m *Metrics) Batch(r engine.Report) {
	m.batchCommands.Observe(float64(r.Commands))
	m.commitSeconds.Observe(r.Took.Seconds())
	for eventType, outcome := range holdOutcomes {
		if n := r.Events[eventType]; n > 0 {
			m.holds.WithLabelValues(outcome).Add(float64(n))
		}
	}
	if r.Err != nil {
		m.storeErrors.WithLabelValues(kind(r.Err)).Inc()
	}
}

func kind(err error) string {
	switch {
	case errors.Is(err, store.ErrBroken):
		return "broken"
	case errors.Is(err, store.ErrOutcomeUnknown):
		return "outcome-unknown"
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrClosed):
		return "unavailable"
	case errors.Is(err, store.ErrClockBehind):
		return "clock-behind"
	case errors.Is(err, store.ErrClockJumped):
		return "clock-jumped"
	default:
		return "refused"
	}
}

// Sweep shows how an expiry pass went.
func (m *Metrics) Sweep(r expiry.Report) {
	m.expiryLag.Set(r.Lag.Seconds())
	m.aside.Set(float64(r.Aside))
}
