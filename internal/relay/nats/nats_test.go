package nats

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/relay"
	"github.com/holdfast/holdfast/internal/relay/relaytest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func TestSink(t *testing.T) {
	relaytest.Run(t, backend)
}

func BenchmarkSink(b *testing.B) { relaytest.Measure(b, backend) }

func backend(t testing.TB) relaytest.Backend {
	server, host := dbtest.OwnNATS(t)
	return relaytest.Backend{
		Open:     func(t testing.TB) relay.Sink { return sink(t, "nats://"+host+"/holdfast.events?create=true") },
		Read:     func(t testing.TB) [][]byte { return bodies(read(t, host, "holdfast_events")) },
		Stop:     func(testing.TB) { server.Stop() },
		Kill:     func(testing.TB) { server.Kill() },
		Start:    func(t testing.TB) { start(t, server) },
		Hang:     func(testing.TB) { server.Hang() },
		Continue: func(testing.TB) { server.Continue() },
	}
}

func start(t testing.TB, server *dbtest.Server) {
	t.Helper()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
}

// sink makes a sink that is closed at the end of the test.
func sink(t testing.TB, address string) *Sink {
	t.Helper()
	s, err := New(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func connect(t testing.TB, host string, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect("nats://"+host, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// stream makes a stream as an operator would.
func stream(t testing.TB, js jetstream.JetStream, config jetstream.StreamConfig) {
	t.Helper()
	if _, err := js.CreateOrUpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

// read returns what a stream has.
func read(t testing.TB, host, stream string, options ...nats.Option) (list []jetstream.Msg) {
	t.Helper()
	s, err := connect(t, host, options...).Stream(context.Background(), stream)
	if err != nil {
		t.Fatal(err)
	}
	messages := s.CachedInfo().State.Msgs
	consumer, err := s.OrderedConsumer(context.Background(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for uint64(len(list)) < messages {
		batch, err := consumer.Fetch(int(min(messages-uint64(len(list)), 1000)), jetstream.FetchMaxWait(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		before := len(list)
		for m := range batch.Messages() {
			list = append(list, m)
		}
		if len(list) == before {
			t.Fatalf("%d of %d messages could be read: %v", before, messages, batch.Error())
		}
	}
	return list
}

func bodies(messages []jetstream.Msg) (list [][]byte) {
	for _, m := range messages {
		list = append(list, m.Data())
	}
	return list
}

func texts(messages []jetstream.Msg) (list []string) {
	for _, m := range messages {
		list = append(list, string(m.Data()))
	}
	return list
}

// messages makes a message of each text. Their ids are the texts' beginnings.
func messages(texts ...string) (list []relay.Message) {
	for _, text := range texts {
		list = append(list, relay.Message{ID: text[:1], Key: "key", Body: []byte(text)})
	}
	return list
}

func send(t testing.TB, s *Sink, texts ...string) {
	t.Helper()
	if n, err := s.Send(t.Context(), messages(texts...)); n != len(texts) || err != nil {
		t.Fatalf("%d of %d: %v", n, len(texts), err)
	}
}

func TestAddress(t *testing.T) {
	for _, address := range []string{
		"nats://localhost", "nats://localhost/", "nats:///subject", "nats://localhost/a.*", "nats://localhost/a..b",
		"nats://localhost/>",
		"nats://localhost/a%20b", "nats://localhost/a?create=1", "nats://localhost/a?stream=b",
	} {
		_, err := New(strings.Replace(address, "//", "//user:secret@", 1))
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", address, err)
		}
	}
	s := sink(t, "nats://user:secret@localhost,other:4222/a.b?passwordFile=/dev/null")
	if s.Name() != "nats://localhost,other:4222/a.b" {
		t.Error(s.Name())
	}
}

// TestDuplicates: an event that is sent twice, by another connection too, is there once.
func TestDuplicates(t *testing.T) {
	_, host := dbtest.OwnNATS(t)
	address := "nats://" + host + "/events?create=true"
	send(t, sink(t, address), "a", "b")
	send(t, sink(t, address), "a", "b", "c")
	got := read(t, host, "events")
	if !slices.Equal(texts(got), []string{"a", "b", "c"}) {
		t.Errorf("%q", texts(got))
	}
	if h := got[0].Headers(); h.Get("Nats-Msg-Id") != "a" || h.Get("Content-Type") != relay.ContentType {
		t.Errorf("%v", h)
	}
}

// TestNoStream: a stream is made when that is asked for, and only then.
func TestNoStream(t *testing.T) {
	_, host := dbtest.OwnNATS(t)
	s := sink(t, "nats://"+host+"/a.b")
	for range 2 {
		n, err := s.Send(t.Context(), messages("1"))
		if n != 0 || err == nil || !strings.Contains(err.Error(), "create=true") {
			t.Fatal(n, err)
		}
	}
	js := connect(t, host)
	stream(t, js, jetstream.StreamConfig{Name: "made", Subjects: []string{"a.>"}})
	send(t, s, "1")
	send(t, sink(t, "nats://"+host+"/a.c?create=true"), "2") // the subject has a stream: no other is made
	if got := texts(read(t, host, "made")); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("%q", got)
	}
}

// TestTooLarge: what the server or the stream never takes is refused, and what comes before and after it is taken.
func TestTooLarge(t *testing.T) {
	_, host := dbtest.OwnNATS(t)
	js := connect(t, host)
	stream(t, js, jetstream.StreamConfig{Name: "all", Subjects: []string{"all"}})
	stream(t, js, jetstream.StreamConfig{Name: "small", Subjects: []string{"small"}, MaxMsgSize: 1000})
	for name, size := range map[string]int{"all": 2 << 20, "small": 2000} {
		s, list := sink(t, "nats://"+host+"/"+name), messages("1", "2", "3"+strings.Repeat("x", size), "4")
		n, err := s.Send(t.Context(), list)
		var refused *relay.Refused
		if n != 2 || !errors.As(err, &refused) {
			t.Fatalf("%s: %d %v", name, n, err)
		}
		if n, err := s.Send(t.Context(), list[2:]); n != 0 || !errors.As(err, &refused) {
			t.Errorf("%s: %d %v", name, n, err)
		}
		send(t, s, "4")
		if got := texts(read(t, host, name)); !slices.Equal(got, []string{"1", "2", "4"}) {
			t.Errorf("%s: %.40q", name, got)
		}
	}
}

// TestFull: where an event does not fit, a smaller one behind it must wait too.
func TestFull(t *testing.T) {
	_, host := dbtest.OwnNATS(t)
	js := connect(t, host)
	config := jetstream.StreamConfig{
		Name: "full", Subjects: []string{"full"}, Discard: jetstream.DiscardNew, MaxBytes: 1000,
	}
	stream(t, js, config)
	s, large := sink(t, "nats://"+host+"/full"), "2"+strings.Repeat("x", 900)
	n, err := s.Send(t.Context(), messages("1", large, "3", "4"))
	var refused *relay.Refused
	if n != 1 || err == nil || errors.As(err, &refused) {
		t.Fatal(n, err)
	}
	config.MaxBytes = 10_000
	stream(t, js, config)
	send(t, s, large, "3", "4")
	if got := texts(read(t, host, "full")); !slices.Equal(got, []string{"1", large, "3", "4"}) {
		t.Errorf("%.40q", got)
	}
}

// TestSharedStream: others write to the same stream meanwhile.
func TestSharedStream(t *testing.T) {
	_, host := dbtest.OwnNATS(t)
	js := connect(t, host)
	stream(t, js, jetstream.StreamConfig{Name: "shared", Subjects: []string{"ours", "theirs"}})
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	begun := make(chan struct{})
	others.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := js.Publish(ctx, "theirs", []byte("theirs")); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			if i == 0 {
				close(begun)
			}
		}
	})
	<-begun
	var list []relay.Message
	for i := range 5000 {
		text := fmt.Sprint(i)
		list = append(list, relay.Message{ID: text, Body: []byte(text)})
	}
	n, err := sink(t, "nats://"+host+"/ours").Send(ctx, list)
	stop()
	others.Wait()
	if n != len(list) || err != nil {
		t.Fatal(n, err)
	}
	next := 0
	for _, m := range read(t, host, "shared") {
		if m.Subject() == "ours" {
			if string(m.Data()) != fmt.Sprint(next) {
				t.Fatalf("message %d is %s", next, m.Data())
			}
			next++
		}
	}
	if next != len(list) {
		t.Errorf("%d of ours are there", next)
	}
}

// TestPassword: user and password, a token, each in the address or its secret in a file.
func TestPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for kind, c := range map[string]struct {
		server []string
		good   []string
		bad    []string
		reader nats.Option
	}{
		"user": {
			[]string{"--user", "holdfast", "--pass", "s3cret"},
			[]string{"holdfast:s3cret@%s/e?create=true", "holdfast@%s/e?passwordFile=" + file},
			[]string{"%s/e", "holdfast:wrong@%s/e", "other@%s/e?passwordFile=" + file},
			nats.UserInfo("holdfast", "s3cret"),
		},
		"token": {
			[]string{"--auth", "s3cret"},
			[]string{"s3cret@%s/e?create=true", "%s/e?passwordFile=" + file},
			[]string{"%s/e", "wrong@%s/e"},
			nats.Token("s3cret"),
		},
	} {
		t.Run(kind, func(t *testing.T) {
			_, host := dbtest.OwnNATS(t, c.server...)
			for i, address := range c.good {
				send(t, sink(t, "nats://"+fmt.Sprintf(address, host)), fmt.Sprint(i))
			}
			for _, address := range c.bad {
				_, err := sink(t, "nats://"+fmt.Sprintf(address, host)).Send(t.Context(), messages("3"))
				if err == nil || strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("%s: %v", address, err)
				}
			}
			if got := read(t, host, "e", c.reader); len(got) != 2 {
				t.Errorf("%q", texts(got))
			}
		})
	}
}

// TestTLS: the scheme tls wants a certificate that it trusts, and never goes on without one.
func TestTLS(t *testing.T) {
	certificate, key, err := dbtest.Certificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", certificate) // no other test of this package may need the system's before
	_, host := dbtest.OwnNATS(t, "--tls", "--tlscert", certificate, "--tlskey", key)
	send(t, sink(t, "tls://"+host+"/e?create=true"), "1")
	if got := read(t, host, "e", nats.Secure(&tls.Config{InsecureSkipVerify: true})); len(got) != 1 {
		t.Errorf("%q", texts(got))
	}
	_, port, _ := strings.Cut(host, ":")
	_, err = sink(t, "tls://localhost:"+port+"/e").Send(t.Context(), messages("1"))
	if err == nil || !strings.Contains(err.Error(), "certificate") { // it is for 127.0.0.1
		t.Error(err)
	}
	_, plain := dbtest.OwnNATS(t)
	_, err = sink(t, "tls://"+plain+"/e?create=true").Send(t.Context(), messages("1"))
	if !errors.Is(err, nats.ErrSecureConnWanted) {
		t.Error(err)
	}
}

// TestNotAllowed: a server that does not let the user publish says so at once.
func TestNotAllowed(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config")
	text := `authorization { users: [{ user: u, password: p, permissions: { publish: "other" } }] }`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, host := dbtest.OwnNATS(t, "--config", config)
	n, err := sink(t, "nats://u:p@"+host+"/e").Send(t.Context(), messages("1"))
	if n != 0 || !errors.Is(err, nats.ErrPermissionViolation) {
		t.Error(n, err)
	}
}

// TestHangs: Send ends with its context and Close at once, whatever the server does, and nothing is left running.
func TestHangs(t *testing.T) {
	server, host := dbtest.OwnNATS(t)
	ignore := goleak.IgnoreCurrent()
	large := relay.Message{ID: "large", Body: bytes.Repeat([]byte("x"), 1<<19)}
	for name, list := range map[string][]relay.Message{
		"small": messages("a"), "large": slices.Repeat([]relay.Message{large}, 64),
	} {
		used, fresh := sink(t, "nats://"+host+"/e?create=true"), sink(t, "nats://"+host+"/e")
		send(t, used, "1")
		server.Hang()
		for _, s := range []*Sink{used, fresh, fresh} {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			if n, err := s.Send(ctx, list); n != 0 || err == nil {
				t.Errorf("%s: %d %v", name, n, err)
			}
			cancel()
		}
		server.Continue()
		send(t, used, "2")
		server.Hang()
		if err := errors.Join(used.Close(), fresh.Close()); err != nil {
			t.Error(err)
		}
		server.Continue()
	}
	goleak.VerifyNone(t, ignore)
}
