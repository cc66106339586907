// Package kafka is a sink that produces events to a topic of Kafka.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/holdfast/holdfast/internal/relay"
)

// Sink is a [relay.Sink] in a topic. What it has accepted is with all replicas that are in sync. Events with the same
// key are in one partition, in their order, for as long as the topic has the same number of partitions.
//
// That order holds when sending fails, too. The broker takes a batch of a partition only after the one before it, since
// the producer is idempotent, and the client gives up what is queued behind a batch that failed. A client that may
// still have something on its way is replaced by another, which begins with the first event that was not acknowledged:
// whatever the broker still gets from both, each has sent it in order and without a gap.
type Sink struct {
	address *relay.Address
	topic   string
	create  bool
	options []kgo.Opt
	client  *kgo.Client // nil: not connected
}

var _ relay.Sink = (*Sink)(nil)

// connectTimeout bounds the attempts to ask the brokers for the topic.
const connectTimeout = 5 * time.Second

// topicName is what Kafka calls a legal name.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// New reads kafka://HOST,HOST/TOPIC or kafka+tls://HOST,HOST/TOPIC. It connects with the first event.
func New(address string) (*Sink, error) {
	a, err := relay.ParseAddress(address, "create", "mechanism")
	if err != nil {
		return nil, err
	}
	s := &Sink{address: a, topic: strings.TrimPrefix(a.Path, "/")}
	if s.create, err = a.Flag("create"); err != nil {
		return nil, err
	}
	if a.Host == "" || !topicName.MatchString(s.topic) {
		return nil, fmt.Errorf("the sink %s names no broker or no topic: it should be like kafka://localhost:9092/holdfast",
			a.Name())
	}
	s.options = []kgo.Opt{
		kgo.ClientID("holdfast"),
		kgo.SeedBrokers(strings.Split(a.Host, ",")...),
		kgo.DefaultProduceTopic(s.topic),
		kgo.RetryTimeout(connectTimeout), // of all requests but those that produce, which Send's context ends
		kgo.ManualFlushing(),             // nothing leaves before all is queued: see produce
		kgo.MaxBufferedRecords(math.MaxInt),
	}
	if a.Scheme == "kafka+tls" {
		s.options = append(s.options, kgo.DialTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	login, err := mechanism(a)
	if login != nil {
		s.options = append(s.options, kgo.SASL(login))
	}
	return s, err
}

// mechanism is how to log in, or nil.
func mechanism(a *relay.Address) (sasl.Mechanism, error) {
	name := a.Parameter("mechanism")
	if a.User == "" {
		if name != "" {
			return nil, fmt.Errorf("the sink %s has a mechanism for logging in, but no user", a.Name())
		}
		return nil, nil
	}
	switch name {
	case "", "plain":
		return plain.Auth{User: a.User, Pass: a.Password}.AsMechanism(), nil
	case "scram-sha-256":
		return scram.Auth{User: a.User, Pass: a.Password}.AsSha256Mechanism(), nil
	case "scram-sha-512":
		return scram.Auth{User: a.User, Pass: a.Password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("the mechanism of the sink %s must be plain, scram-sha-256 or scram-sha-512", a.Name())
}

// Name is the address without secrets.
func (s *Sink) Name() string { return s.address.Name() }

// Send implements [relay.Sink].
func (s *Sink) Send(ctx context.Context, messages []relay.Message) (accepted int, err error) {
	if err := s.connect(ctx); err != nil {
		return 0, fmt.Errorf("connecting to Kafka: %w", err)
	}
	accepted, err = relay.InParts(messages, isTooLarge, func(part []relay.Message) (int, error) {
		return s.produce(ctx, part)
	})
	var refused *relay.Refused
	if err != nil && !errors.As(err, &refused) {
		s.disconnect()
	}
	return accepted, err
}

// Close implements [relay.Sink].
func (s *Sink) Close() error {
	s.disconnect()
	return nil
}

func (s *Sink) disconnect() {
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
}

func isTooLarge(err error) bool { return errors.Is(err, kerr.MessageTooLarge) }

// errPending is the error of a message whose acknowledgement was not awaited.
var errPending = errors.New("no acknowledgement: Kafka has not acknowledged an event in time")

// produce sends messages and waits for all acknowledgements. It returns how many of the first ones are safe, and why
// the next one is not.
//
// All are queued before the first one leaves. Otherwise one could be queued after the one before it has failed, and
// would be stored in its place.
func (s *Sink) produce(ctx context.Context, messages []relay.Message) (stored int, err error) {
	results := make([]error, len(messages))
	var mu sync.Mutex // a client that is closed may still tell of results
	for i := range messages {
		results[i] = errPending
	}
	for i := range messages {
		s.client.Produce(ctx, record(&messages[i]), func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			results[i] = err
		})
	}
	flushed := s.client.Flush(ctx)
	mu.Lock()
	defer mu.Unlock()
	for i, err := range results {
		if err != nil {
			return i, errors.Join(err, flushed)
		}
	}
	return len(messages), nil
}

func record(m *relay.Message) *kgo.Record {
	return &kgo.Record{
		Key: []byte(m.Key), Value: m.Body,
		Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte(relay.ContentType)}},
	}
}
