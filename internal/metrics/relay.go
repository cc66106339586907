package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast/holdfast/internal/relay"
)

func (m *Metrics) relays() {
	sink := []string{"sink"}
	m.relayed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_relay_events_total", Help: "Events that a sink has accepted, those that were sent again included.",
	}, sink)
	m.relayedAside = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_relay_set_aside_total", Help: "Events that a sink has refused for good; the log names them.",
	}, sink)
	m.relayFailures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_relay_failures_total", Help: "Attempts to send events to a sink that failed.",
	}, sink)
	m.behind = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "holdfast_relay_behind", Help: "Events that a sink has not got yet, as of the last attempt of this process.",
	}, sink)
	m.oldest = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "holdfast_relay_oldest_seconds", Help: "Age of the oldest event that a sink has not got yet; 0: it has all.",
	}, sink)
	m.registry.MustRegister(m.relayed, m.relayedAside, m.relayFailures, m.behind, m.oldest)
}

// Sink makes the metrics of a sink, so that they are there before it has done anything.
func (m *Metrics) Sink(name string) {
	for _, counter := range []*prometheus.CounterVec{m.relayed, m.relayedAside, m.relayFailures} {
		counter.WithLabelValues(name)
	}
	m.behind.WithLabelValues(name)
	m.oldest.WithLabelValues(name)
}

// Relay counts what a relay reports.
func (m *Metrics) Relay(r relay.Report) {
	m.relayed.WithLabelValues(r.Sink).Add(float64(r.Accepted))
	m.relayedAside.WithLabelValues(r.Sink).Add(float64(r.SetAside))
	if r.Failed {
		m.relayFailures.WithLabelValues(r.Sink).Inc()
	}
	m.behind.WithLabelValues(r.Sink).Set(float64(r.Behind))
	m.oldest.WithLabelValues(r.Sink).Set(r.Oldest.Seconds())
}
