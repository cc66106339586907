package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/relay/webhook"
	"github.com/holdfast/holdfast/internal/wire"
)

// listenCommand are the flags of holdfast listen.
type listenCommand struct {
	apiFlags
	feedFlags
	ForwardTo string `required:"" placeholder:"URL" help:"Where to send the events, as a webhook would: your own address."`
	Count     int    `placeholder:"N" help:"End after so many events. Default: never."`
}

// forwardTimeout bounds one request to the developer's address.
const forwardTimeout = 15 * time.Second

// Run implements holdfast listen: for whoever writes what receives webhooks, on a machine that no webhook reaches. An
// event that is not taken is not sent again: whoever looks sees what came back.
func (c *listenCommand) Run(ctx context.Context, env *environment) error {
	if u, err := url.Parse(c.ForwardTo); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%w: --forward-to must be a URL such as http://127.0.0.1:3000/webhooks", errUsage)
	}
	hf := c.client()
	feed, err := c.feed(ctx, hf)
	if err != nil {
		return err
	}
	secret := make([]byte, 24)
	rand.Read(secret)
	fmt.Fprintf(env.stderr, "Events of %s go to %s. They are signed with the secret %s\n", redact(c.URL), redact(c.ForwardTo),
		wire.SecretText(string(secret)))
	n := 0
	for event, err := range hf.Follow(ctx, feed) {
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(env.stdout, "%8d  %-22s %-31s %s\n", event.Sequence, event.Type, event.Subject, c.forward(ctx, event, secret))
		if n++; n == c.Count {
			return nil
		}
	}
	return nil
}

// forward sends one event and says what came back.
func (c *listenCommand) forward(ctx context.Context, e *client.Event, secret []byte) string {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.ForwardTo, bytes.NewReader(e.Raw))
	if err != nil {
		return err.Error()
	}
	webhook.Sign(request.Header, e.ID, time.Now(), e.Raw, string(secret))
	start := time.Now()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "not taken: " + err.Error()
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 64<<10)
	return fmt.Sprintf("%s in %v", response.Status, time.Since(start).Round(time.Millisecond))
}
