package kafka

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/relay"
	"github.com/holdfast/holdfast/internal/relay/relaytest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func TestSink(t *testing.T) { relaytest.Run(t, fresh) }

func BenchmarkSink(b *testing.B) { relaytest.Measure(b, fresh) }

// fresh is a topic of its own on the one broker, which has not yet been made.
func fresh(t testing.TB) relaytest.Backend {
	broker := running(t)
	topic := newTopic()
	return relaytest.Backend{
		Open:     func(t testing.TB) relay.Sink { return open(t, "kafka://"+broker.Open+"/"+topic+"?create=true") },
		Read:     func(t testing.TB) [][]byte { return values(read(t, broker, topic)) },
		Stop:     func(testing.TB) { broker.Stop() },
		Kill:     func(testing.TB) { broker.Kill() },
		Hang:     func(testing.TB) { broker.Hang() },
		Continue: func(testing.TB) { broker.Continue() },
		Start:    func(t testing.TB) { start(t, broker) },
	}
}

// running is the broker, whatever a test before this one has left behind.
func running(t testing.TB) *dbtest.KafkaServer {
	t.Helper()
	broker := dbtest.Kafka(t)
	broker.Continue()
	if !broker.Running() {
		start(t, broker)
	}
	return broker
}

func start(t testing.TB, broker *dbtest.KafkaServer) {
	t.Helper()
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
}

func newTopic() string { return "holdfast." + rand.Text() }

func open(t testing.TB, address string) *Sink {
	t.Helper()
	s, err := New(address)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read returns all records of a topic.
func read(t testing.TB, broker *dbtest.KafkaServer, topic string) (records []*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Open), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for n := size(ctx, t, client, topic); int64(len(records)) < n; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", len(records), n, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

// size is how many records a topic has.
func size(ctx context.Context, t testing.TB, client *kgo.Client, topic string) (n int64) {
	t.Helper()
	partitions := partitionsOf(ctx, t, client, topic)
	request := kmsg.NewPtrListOffsetsRequest()
	asked := kmsg.NewListOffsetsRequestTopic()
	asked.Topic = topic
	for partition := range partitions {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = int32(partition), -1 // the end
		asked.Partitions = append(asked.Partitions, p)
	}
	request.Topics = append(request.Topics, asked)
	answer, err := request.RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range answer.Topics[0].Partitions {
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			t.Fatal(err)
		}
		n += p.Offset
	}
	return n
}

// partitionsOf is how many partitions a topic has; 0: there is no such topic.
func partitionsOf(ctx context.Context, t testing.TB, client *kgo.Client, topic string) int {
	t.Helper()
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = &topic
	request := kmsg.NewPtrMetadataRequest()
	request.AllowAutoTopicCreation, request.Topics = false, append(request.Topics, asked)
	answer, err := request.RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	return len(answer.Topics[0].Partitions)
}

func values(records []*kgo.Record) (list [][]byte) {
	for _, r := range records {
		list = append(list, r.Value)
	}
	return list
}

func message(id, key string, size int) relay.Message {
	return relay.Message{ID: id, Key: key, Body: append([]byte(id+" "), bytes.Repeat([]byte("x"), size)...)}
}

// send hands messages to a sink, all of which it must take.
func send(t testing.TB, s *Sink, messages ...relay.Message) {
	t.Helper()
	if n, err := s.Send(t.Context(), messages); n != len(messages) || err != nil {
		t.Fatalf("%d of %d: %v", n, len(messages), err)
	}
}

// TestRecord: a record has the order key, and says what it is.
func TestRecord(t *testing.T) {
	broker, topic := running(t), newTopic()
	s := open(t, "kafka://"+broker.Open+"/"+topic+"?create=true")
	defer s.Close()
	send(t, s, message("1", "some key", 0))
	got := read(t, broker, topic)
	headers := []kgo.RecordHeader{{Key: "content-type", Value: []byte(relay.ContentType)}}
	if len(got) != 1 || string(got[0].Key) != "some key" || string(got[0].Value) != "1 " ||
		fmt.Sprint(got[0].Headers) != fmt.Sprint(headers) {
		t.Errorf("%+v", got)
	}
}

// TestTopicIsNotMade: without ?create=true there must be a topic, also where the broker would make it for whoever asks.
// The error says what to do; once the topic is there, events go to it.
func TestTopicIsNotMade(t *testing.T) {
	broker, topic := running(t), newTopic()
	s := open(t, "kafka://"+broker.Open+"/"+topic)
	defer s.Close()
	for range 2 {
		n, err := s.Send(t.Context(), []relay.Message{message("1", "k", 0)})
		if n != 0 || err == nil || !strings.Contains(err.Error(), "?create=true") {
			t.Fatalf("%d %v", n, err)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Open))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if n := partitionsOf(t.Context(), t, client, topic); n != 0 {
		t.Fatalf("the topic has %d partitions", n)
	}
	other := open(t, "kafka://"+broker.Open+"/"+topic+"?create=true")
	defer other.Close()
	send(t, other, message("1", "k", 0))
	if n := partitionsOf(t.Context(), t, client, topic); n != 3 {
		t.Errorf("the topic has %d partitions: the broker says 3", n)
	}
	send(t, s, message("2", "k", 0))
}

// TestTooLarge: what the broker will never take is refused, whether the client or the broker says so, and the rest is
// taken. A batch that is too large as a whole is not refused.
func TestTooLarge(t *testing.T) {
	broker, topic := running(t), newTopic()
	limited(t, broker, topic, "10000")
	s := open(t, "kafka://"+broker.Open+"/"+topic)
	defer s.Close()
	for _, size := range []int{20_000, 2_000_000} {
		var messages []relay.Message
		for i := range 20 {
			messages = append(messages, random(fmt.Sprint(i), "same key", 2000))
		}
		messages[7] = random("large", "same key", size)
		n, err := s.Send(t.Context(), messages)
		var refused *relay.Refused
		if n != 7 || !errors.As(err, &refused) {
			t.Fatalf("%d %v", n, err)
		}
		send(t, s, messages[8:]...)
	}
	seen := map[string]bool{}
	for _, r := range read(t, broker, topic) {
		seen[strings.Fields(string(r.Value))[0]] = true
	}
	if len(seen) != 19 || seen["large"] {
		t.Errorf("%d events have arrived: %v", len(seen), seen)
	}
}

// random is a message that cannot be compressed.
func random(id, key string, size int) relay.Message {
	m := message(id, key, size)
	_, _ = rand.Read(m.Body[len(id)+1:])
	return m
}

// limited makes a topic with a limit to the size of a batch.
func limited(t testing.TB, broker *dbtest.KafkaServer, topic, maxBytes string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Open))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	config := kmsg.NewCreateTopicsRequestTopicConfig()
	config.Name, config.Value = "max.message.bytes", &maxBytes
	wanted := kmsg.NewCreateTopicsRequestTopic()
	wanted.Topic, wanted.NumPartitions, wanted.ReplicationFactor = topic, 1, 1
	wanted.Configs = append(wanted.Configs, config)
	request := kmsg.NewPtrCreateTopicsRequest()
	request.Topics = append(request.Topics, wanted)
	answer, err := request.RequestWith(t.Context(), client)
	if err == nil {
		err = kerr.ErrorForCode(answer.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLogin: with the password in the URL or in a file, by each mechanism, with TLS and without.
func TestLogin(t *testing.T) {
	broker := running(t)
	t.Setenv("SSL_CERT_FILE", broker.Certificate) // nothing in this test binary has looked for certificates before
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(dbtest.KafkaPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const failed = "SASL_AUTHENTICATION_FAILED"
	const secret = "alice:s3cr3t%2F%40%3A%3F@"
	for address, want := range map[string]string{
		"kafka://" + secret + broker.Users + "/T?create=true":                                             "",
		"kafka://" + secret + broker.Users + "/T?create=true&mechanism=scram-sha-512":                     "",
		"kafka://alice@" + broker.Users + "/T?create=true&passwordFile=" + file:                           "",
		"kafka+tls://" + secret + broker.TLS + "/T?create=true":                                           "",
		"kafka+tls://alice@" + broker.TLS + "/T?create=true&mechanism=scram-sha-512&passwordFile=" + file: "",
		"kafka://alice:wrong@" + broker.Users + "/T?create=true":                                          failed,
		"kafka://alice:wrong@" + broker.Users + "/T?create=true&mechanism=scram-sha-512":                  failed,
		"kafka://" + secret + broker.Users + "/T?create=true&mechanism=scram-sha-256":                     "SASL",
		"kafka+tls://" + secret + broker.Open + "/T?create=true":                                          "TLS",
	} {
		topic := newTopic()
		s := open(t, strings.Replace(address, "/T?", "/"+topic+"?", 1))
		n, err := s.Send(t.Context(), []relay.Message{message("1", "k", 0)})
		switch {
		case want == "" && (n != 1 || err != nil):
			t.Errorf("%s: %v", s.Name(), err)
		case want != "" && (n != 0 || err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %d %v", s.Name(), n, err)
		}
		if err != nil && (strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "wrong")) {
			t.Errorf("a secret is shown: %v", err)
		}
		s.Close()
	}
}

// TestNew: what is wrong with an address is said at once, and without its secrets.
func TestNew(t *testing.T) {
	for _, address := range []string{
		"kafka:///topic", "kafka://u:s3cr3t@host", "kafka://u:s3cr3t@host/", "kafka://u:s3cr3t@host/a/b",
		"kafka://u:s3cr3t@host/t?create=yes", "kafka://u:s3cr3t@host/t?mechanism=gssapi", "kafka://host/t?mechanism=plain",
		"kafka://u:s3cr3t@host/t?acks=1", "kafka://u:s3cr3t@host:port/t",
	} {
		if _, err := New(address); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", address, err)
		}
	}
	s := open(t, "kafka://u:s3cr3t@one:9092,two:9093/t?create=true")
	if s.Name() != "kafka://one:9092,two:9093/t" {
		t.Error(s.Name())
	}
}

// TestContextEnds: a broker that hangs holds up neither Send, when its context ends, nor Close, and leaves nothing
// running.
func TestContextEnds(t *testing.T) {
	broker := running(t)
	before := goleak.IgnoreCurrent()
	s := open(t, "kafka://"+broker.Open+"/"+newTopic()+"?create=true")
	send(t, s, message("1", "k", 0))
	broker.Hang()
	defer broker.Continue()
	for range 2 { // with a connection, and without
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		if n, err := s.Send(ctx, []relay.Message{message("2", "k", 0)}); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("%d %v", n, err)
		}
	}
	s.Close()
	goleak.VerifyNone(t, before)
}
