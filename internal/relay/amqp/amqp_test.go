package amqp

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

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/relay"
	"github.com/holdfast/holdfast/internal/relay/relaytest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func TestSink(t *testing.T) { relaytest.Run(t, fresh) }

func BenchmarkSink(b *testing.B) { relaytest.Measure(b, fresh) }

const login = "alice:s3cr3t%2F%40%3A%3F@"

// fresh is an exchange of its own on the one broker, with a queue of the same name.
func fresh(t testing.TB) relaytest.Backend {
	broker := running(t)
	name := rand.Text()
	bind(t, broker, name)
	address := "amqp://" + login + broker.Open + "/?create=true&exchange=" + name
	return relaytest.Backend{
		Open: func(t testing.TB) relay.Sink { return open(t, address) },
		Read: func(t testing.TB) (bodies [][]byte) {
			for _, m := range read(t, broker, name) {
				bodies = append(bodies, m.Body)
			}
			return bodies
		},
		Stop:     func(testing.TB) { broker.Stop() },
		Kill:     func(testing.TB) { broker.Kill() },
		Hang:     func(testing.TB) { broker.Hang() },
		Continue: func(testing.TB) { broker.Continue() },
		Start:    func(t testing.TB) { start(t, broker) },
	}
}

// running is the broker, whatever a test before this one has left behind.
func running(t testing.TB) *dbtest.RabbitMQServer {
	t.Helper()
	broker := dbtest.RabbitMQ(t)
	broker.Continue()
	if !broker.Running() {
		start(t, broker)
	}
	return broker
}

func start(t testing.TB, broker *dbtest.RabbitMQServer) {
	t.Helper()
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, address string) *Sink {
	t.Helper()
	s, err := New(address)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// channel is on a connection that ends with the test.
func channel(t testing.TB, broker *dbtest.RabbitMQServer) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial("amqp://" + login + broker.Open)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() }) // the test may have ended the broker
	c, err := conn.Channel()
	must(t, err)
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bind makes an exchange with a queue of the same name that gets all.
func bind(t testing.TB, broker *dbtest.RabbitMQServer, name string) {
	t.Helper()
	c := channel(t, broker)
	must(t, c.ExchangeDeclare(name, amqp.ExchangeTopic, true, false, false, false, nil))
	_, err := c.QueueDeclare(name, true, false, false, false, nil)
	must(t, err)
	must(t, c.QueueBind(name, "#", name, false, nil))
}

// read takes all messages out of a queue.
func read(t testing.TB, broker *dbtest.RabbitMQServer, queue string) (messages []amqp.Delivery) {
	t.Helper()
	c := channel(t, broker)
	q, err := c.QueueDeclarePassive(queue, true, false, false, false, nil)
	must(t, err)
	deliveries, err := c.Consume(queue, "", true, false, false, false, nil)
	must(t, err)
	for range q.Messages {
		select {
		case m, open := <-deliveries:
			if !open {
				t.Fatalf("the broker gave %d of %d messages", len(messages), q.Messages)
			}
			messages = append(messages, m)
		case <-time.After(time.Minute):
			t.Fatalf("%d of %d messages came", len(messages), q.Messages)
		}
	}
	return messages
}

func message(id string, size int) relay.Message {
	return relay.Message{ID: id, Type: "test.event", Body: append([]byte(id+" "), bytes.Repeat([]byte("x"), size)...)}
}

// send hands messages to a sink, all of which it must take.
func send(t testing.TB, s *Sink, messages ...relay.Message) {
	t.Helper()
	if n, err := s.Send(t.Context(), messages); n != len(messages) || err != nil {
		t.Fatalf("%d of %d: %v", n, len(messages), err)
	}
}

// TestMessage: a message outlives the broker, says what it is, and has the id of its event.
func TestMessage(t *testing.T) {
	broker, name := running(t), rand.Text()
	bind(t, broker, name)
	s := open(t, "amqp://"+login+broker.Open+"/?exchange="+name)
	defer s.Close()
	send(t, s, message("evt_1", 0))
	got := read(t, broker, name)
	if len(got) != 1 || got[0].MessageId != "evt_1" || got[0].RoutingKey != "test.event" || got[0].Type != "test.event" ||
		got[0].DeliveryMode != amqp.Persistent || got[0].ContentType != relay.ContentType || string(got[0].Body) != "evt_1 " {
		t.Errorf("%+v", got)
	}
}

// TestExchangeIsNotMade: without create=true there must be an exchange. The error says what to do; once the exchange is
// there, of whatever type, events go to it.
func TestExchangeIsNotMade(t *testing.T) {
	broker, name := running(t), rand.Text()
	s := open(t, "amqp://"+login+broker.Open+"/?exchange="+name)
	defer s.Close()
	for range 2 {
		n, err := s.Send(t.Context(), []relay.Message{message("1", 0)})
		if n != 0 || err == nil || !strings.Contains(err.Error(), "&create=true") {
			t.Fatalf("%d %v", n, err)
		}
	}
	c := channel(t, broker)
	must(t, c.ExchangeDeclare(name, amqp.ExchangeFanout, false, false, false, false, nil))
	send(t, s, message("1", 0))
	must(t, c.ExchangeDelete(name, false, false))
	if n, err := s.Send(t.Context(), []relay.Message{message("2", 0)}); n != 0 || err == nil {
		t.Errorf("to an exchange that is gone: %d %v", n, err)
	}
	other := open(t, "amqp://"+login+broker.Open+"/?create=true&exchange="+name)
	defer other.Close()
	send(t, other, message("2", 0))
	send(t, s, message("3", 0))
}

// TestTooLarge: what the broker will never take is refused, and the rest is taken.
func TestTooLarge(t *testing.T) {
	broker, name := running(t), rand.Text()
	bind(t, broker, name)
	s := open(t, "amqp://"+login+broker.Open+"/?exchange="+name)
	defer s.Close()
	var messages []relay.Message
	for i := range 20 {
		messages = append(messages, message(fmt.Sprint(i), 10_000))
	}
	messages[7] = message("large", 100_000)
	n, err := s.Send(t.Context(), messages)
	var refused *relay.Refused
	if n != 7 || !errors.As(err, &refused) {
		t.Fatalf("%d %v", n, err)
	}
	send(t, s, messages[8:]...)
	seen := map[string]bool{}
	for _, m := range read(t, broker, name) {
		seen[m.MessageId] = true
	}
	if len(seen) != 19 || seen["large"] {
		t.Errorf("%d events have arrived: %v", len(seen), seen)
	}
}

// TestFull: what a full queue does not take is sent again when it has room. What came before it counts.
func TestFull(t *testing.T) {
	broker, name := running(t), rand.Text()
	c := channel(t, broker)
	short := amqp.Table{"x-max-length": 3, "x-overflow": "reject-publish"}
	_, err := c.QueueDeclare(name, true, false, false, false, short)
	must(t, err)
	must(t, c.ExchangeDeclare(name, amqp.ExchangeTopic, true, false, false, false, nil))
	must(t, c.QueueBind(name, "#", name, false, nil))
	s := open(t, "amqp://"+login+broker.Open+"/?exchange="+name)
	defer s.Close()
	send(t, s, message("1", 0), message("2", 0), message("3", 0))
	var refused *relay.Refused
	if n, err := s.Send(t.Context(), []relay.Message{message("4", 0)}); n != 0 || err == nil || errors.As(err, &refused) {
		t.Fatalf("%d %v", n, err)
	}
	read(t, broker, name)
	send(t, s, message("4", 0))
}

// TestLogin: with the password in the URL or in a file, with TLS and without.
func TestLogin(t *testing.T) {
	broker, name := running(t), rand.Text()
	bind(t, broker, name)
	t.Setenv("SSL_CERT_FILE", broker.Certificate) // nothing in this test binary has looked for certificates before
	file := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(file, []byte(dbtest.RabbitMQPassword+"\n"), 0o600))
	for address, want := range map[string]string{
		"amqp://" + login + broker.Open + "/?exchange=":                                               "",
		"amqp://" + login + broker.Open + "/%2F?exchange=":                                            "",
		"amqp://alice@" + broker.Open + "?passwordFile=" + file + "&exchange=":                        "",
		"amqps://" + login + broker.TLS + "/?exchange=":                                               "",
		"amqps://alice@" + broker.TLS + "/?passwordFile=" + file + "&exchange=":                       "",
		"amqp://alice:wrong@" + broker.Open + "/?exchange=":                                           "403",
		"amqp://" + broker.Open + "/?exchange=":                                                       "403", // no guest
		"amqp://" + login + broker.Open + "/other?exchange=":                                          "vhost",
		"amqps://" + login + broker.Open + "/?exchange=":                                              "tls",
		"amqps://" + login + strings.Replace(broker.TLS, "127.0.0.1", "localhost", 1) + "/?exchange=": "certificate",
	} {
		s := open(t, address+name)
		n, err := s.Send(t.Context(), []relay.Message{message("1", 0)})
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
		"amqp:///?exchange=e", "amqp://u:s3cr3t@host/", "amqp://u:s3cr3t@host/?exchange=e&create=yes",
		"amqp://u:s3cr3t@host/?exchange=e&queue=q", "amqp://u:s3cr3t@host:port/?exchange=e",
	} {
		if _, err := New(address); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", address, err)
		}
	}
	s := open(t, "amqps://u:s3cr3t@host/shop?exchange=e")
	if s.Name() != "amqps://host/shop?exchange=e" {
		t.Error(s.Name())
	}
}

// TestContextEnds: a broker that hangs holds up neither Send, when its context ends, nor Close for long, and leaves
// nothing running.
func TestContextEnds(t *testing.T) {
	broker, name := running(t), rand.Text()
	before := goleak.IgnoreCurrent()
	s := open(t, "amqp://"+login+broker.Open+"/?create=true&exchange="+name)
	send(t, s, message("1", 0))
	broker.Hang()
	defer broker.Continue()
	for range 2 { // with a connection, and without
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		if n, err := s.Send(ctx, []relay.Message{message("2", 0)}); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("%d %v", n, err)
		}
	}
	s.Close()
	goleak.VerifyNone(t, before)
}
