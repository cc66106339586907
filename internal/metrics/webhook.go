package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast/holdfast/internal/relay/webhook"
)

// webhooks are the collectors of what is sent to webhooks.
type webhooks struct {
	webhookTries     *prometheus.CounterVec
	webhooksDisabled prometheus.Counter
}

func newWebhooks() webhooks {
	w := webhooks{
		prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_webhook_tries_total",
			Help: "Tries to deliver an event to a webhook: delivered, failed (another follows), dead (the last one failed).",
		}, []string{"result"}),
		prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_webhooks_disabled_total",
			Help: "Webhooks that were disabled: by an answer 410, or because nothing got through for too long.",
		}),
	}
	for _, result := range webhook.Results() {
		if result != webhook.Disabled {
			w.webhookTries.WithLabelValues(string(result))
		}
	}
	return w
}

// Webhook counts what a sender to webhooks reports.
func (m *Metrics) Webhook(r webhook.Result) {
	if r == webhook.Disabled {
		m.webhooksDisabled.Inc()
		return
	}
	m.webhookTries.WithLabelValues(string(r)).Inc()
}
