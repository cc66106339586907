package main

import (
	"errors"
	"time"

	"github.com/holdfast/holdfast/internal/relay/webhook"
)

// webhookFlags say how events are sent to webhooks. They begin with --webhook-.
type webhookFlags struct {
	Retries      []time.Duration `default:"5s,5m,30m,2h,5h,10h,14h,20h,24h" help:"Waits before the tries of a delivery after the first; up to a fifth is added."`
	DisableAfter time.Duration   `default:"72h" help:"Disable a webhook to which nothing got through for so long."`
	AllowPrivate bool            `help:"Let webhooks lead to addresses that are not public, and be http: whoever can make one can then send requests into your network."`
}

// defaultWebhooks are the flags for a server that is not configured.
func defaultWebhooks() webhookFlags {
	return webhookFlags{Retries: webhook.DefaultRetries(), DisableAfter: webhook.DefaultDisableAfter}
}

// Limits of the flags. A wait beyond the longest is as good as none.
const (
	mostRetries = 100
	longestWait = 30 * 24 * time.Hour
)

func (f *webhookFlags) check() error {
	if len(f.Retries) > mostRetries {
		return errors.New("--webhook-retries has at most 100 waits")
	}
	for _, d := range f.Retries {
		if d <= 0 || d > longestWait {
			return errors.New("--webhook-retries must be waits such as 5s,5m,1h, each above 0 and up to 720h")
		}
	}
	if f.DisableAfter <= 0 {
		return errors.New("--webhook-disable-after must be above 0")
	}
	return nil
}
