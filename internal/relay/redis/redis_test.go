package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/relay"
	"github.com/holdfast/holdfast/internal/relay/relaytest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func TestSink(t *testing.T) { relaytest.Run(t, backend) }

func BenchmarkSink(b *testing.B) { relaytest.Measure(b, backend) }

func backend(t testing.TB) relaytest.Backend {
	server, host := dbtest.OwnRedis(t)
	return relaytest.Backend{
		Open: func(t testing.TB) relay.Sink { return sink(t, "redis://"+host+"/events?create=true") },
		Read: func(t testing.TB) (bodies [][]byte) {
			for _, m := range read(t, connect(t, host), "events") {
				bodies = append(bodies, []byte(m.Values["event"].(string)))
			}
			return bodies
		},
		Stop: func(testing.TB) { server.Stop() },
		Kill: func(testing.TB) { server.Kill() },
		Start: func(t testing.TB) {
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
		},
		Hang:     func(testing.TB) { server.Hang() },
		Continue: func(testing.TB) { server.Continue() },
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

func connect(t testing.TB, host string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: host})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// read returns what a stream has.
func read(t testing.TB, client *redis.Client, stream string) []redis.XMessage {
	t.Helper()
	list, err := client.XRange(context.Background(), stream, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func events(messages []redis.XMessage) (list []string) {
	for _, m := range messages {
		list = append(list, m.Values["event"].(string))
	}
	return list
}

// messages makes a message of each text.
func messages(texts ...string) (list []relay.Message) {
	for _, text := range texts {
		list = append(list, relay.Message{ID: "id" + text[:1], Key: "key" + text[:1], Body: []byte(text)})
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
		"redis://localhost", "redis://localhost/", "redis:///stream", "redis://:6379/stream", "redis://localhost/a?create=1",
		"redis://localhost/a?maxlen=7",
	} {
		_, err := New(strings.Replace(address, "//", "//user:secret@", 1))
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", address, err)
		}
	}
	s := sink(t, "redis://user:secret@localhost/stream?passwordFile=/dev/null")
	if s.Name() != "redis://localhost/stream" {
		t.Error(s.Name())
	}
}

// TestFields: an entry has the event, its id to know duplicates by, and its key.
func TestFields(t *testing.T) {
	_, host := dbtest.OwnRedis(t)
	send(t, sink(t, "redis://"+host+"/a:b?create=true"), "1")
	got := read(t, connect(t, host), "a:b")
	if len(got) != 1 || len(got[0].Values) != 3 || got[0].Values["id"] != "id1" || got[0].Values["key"] != "key1" ||
		got[0].Values["event"] != "1" {
		t.Errorf("%v", got)
	}
}

// TestNoStream: a stream is made when that is asked for, and only then.
func TestNoStream(t *testing.T) {
	_, host := dbtest.OwnRedis(t)
	client, s := connect(t, host), sink(t, "redis://"+host+"/events")
	for range 2 {
		n, err := s.Send(t.Context(), messages("1"))
		if n != 0 || err == nil || !strings.Contains(err.Error(), "create=true") {
			t.Fatal(n, err)
		}
	}
	if n := client.Exists(t.Context(), "events").Val(); n != 0 {
		t.Error("the stream was made")
	}
	if err := client.XGroupCreateMkStream(t.Context(), "events", "group", "$").Err(); err != nil {
		t.Fatal(err)
	}
	send(t, s, "1")
	client.Set(t.Context(), "other", "no stream", 0)
	if n, err := sink(t, "redis://"+host+"/other?create=true").Send(t.Context(), messages("1")); n != 0 || err == nil {
		t.Error(n, err)
	}
}

// TestTooLarge: what the server never takes is refused, and what comes before and after it is taken.
func TestTooLarge(t *testing.T) {
	_, host := dbtest.OwnRedis(t, "--proto-max-bulk-len", "1mb")
	s := sink(t, "redis://"+host+"/events?create=true")
	list := messages("1", "2", strings.Repeat("3", 1<<20+1), strings.Repeat("4", 1<<20))
	n, err := s.Send(t.Context(), list)
	var refused *relay.Refused
	if n != 2 || !errors.As(err, &refused) {
		t.Fatal(n, err)
	}
	if n, err := s.Send(t.Context(), list[2:]); n != 0 || !errors.As(err, &refused) {
		t.Error(n, err)
	}
	if n, err := s.Send(t.Context(), list[3:]); n != 1 || err != nil {
		t.Error(n, err)
	}
	if got := events(read(t, connect(t, host), "events")); !slices.Equal(got, []string{"1", "2", string(list[3].Body)}) {
		t.Errorf("%.40q", got)
	}
}

// TestFull: a server that has no memory left takes nothing of a transaction, and everything later.
func TestFull(t *testing.T) {
	_, host := dbtest.OwnRedis(t, "--maxmemory", "1")
	s := sink(t, "redis://"+host+"/events?create=true")
	n, err := s.Send(t.Context(), messages("1", "2"))
	var refused *relay.Refused
	if n != 0 || err == nil || !strings.Contains(err.Error(), "memory") || errors.As(err, &refused) {
		t.Fatal(n, err)
	}
	client := connect(t, host)
	if err := client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	send(t, s, "1", "2")
	if got := events(read(t, client, "events")); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("%q", got)
	}
}

// TestPassword: of the default user, or of one that may only add to this stream; in the address or in a file.
func TestPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, host := dbtest.OwnRedis(t, "--requirepass", "s3cret", "--user", "adder", "on", ">s3cret", "~e", "+xadd", "+ping",
		"+multi", "+exec")
	for i, address := range []string{
		":s3cret@%s/e?create=true", "%s/e?passwordFile=" + file, "adder:s3cret@%s/e", "adder@%s/e?passwordFile=" + file,
	} {
		send(t, sink(t, "redis://"+fmt.Sprintf(address, host)), fmt.Sprint(i))
	}
	for _, address := range []string{
		"%s/e", ":wrong@%s/e", "adder:wrong@%s/e", "other@%s/e?passwordFile=" + file, "adder:s3cret@%s/f?create=true",
	} {
		n, err := sink(t, "redis://"+fmt.Sprintf(address, host)).Send(t.Context(), messages("5"))
		if n != 0 || err == nil || strings.Contains(err.Error(), "wrong@") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestTLS: the scheme rediss wants a certificate that it trusts, and never goes on without one.
func TestTLS(t *testing.T) {
	certificate, key, err := dbtest.Certificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", certificate) // no other test of this package may need the system's before
	_, host := dbtest.OwnRedis(t, "--tls-port", "--tls-cert-file", certificate, "--tls-key-file", key,
		"--tls-auth-clients", "no")
	send(t, sink(t, "rediss://"+host+"/e?create=true"), "1")
	_, port, _ := strings.Cut(host, ":")
	_, err = sink(t, "rediss://localhost:"+port+"/e").Send(t.Context(), messages("1"))
	if err == nil || !strings.Contains(err.Error(), "certificate") { // it is for 127.0.0.1
		t.Error(err)
	}
	_, plain := dbtest.OwnRedis(t)
	ctx, cancel := soon(t.Context()) // such a server waits for more
	defer cancel()
	_, err = sink(t, "rediss://"+plain+"/e?create=true").Send(ctx, messages("1"))
	if err == nil || connect(t, plain).Exists(t.Context(), "e").Val() != 0 {
		t.Error("it went on without TLS")
	}
}

// TestHangs: Send ends with its context and Close at once, whatever the server does, and nothing is left running.
func TestHangs(t *testing.T) {
	server, host := dbtest.OwnRedis(t)
	ignore := goleak.IgnoreCurrent()
	large := relay.Message{ID: "large", Body: bytes.Repeat([]byte("x"), 1<<19)}
	for name, list := range map[string][]relay.Message{
		"small": messages("a"), "large": slices.Repeat([]relay.Message{large}, 64),
	} {
		used, fresh := sink(t, "redis://"+host+"/e?create=true"), sink(t, "redis://"+host+"/e")
		send(t, used, "1")
		server.Hang()
		for _, s := range []*Sink{used, fresh, fresh} {
			for _, end := range []func(context.Context) (context.Context, context.CancelFunc){soon, later} {
				ctx, cancel := end(t.Context())
				if n, err := s.Send(ctx, list); n != 0 || err == nil {
					t.Errorf("%s: %d %v", name, n, err)
				}
				cancel()
			}
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

// soon ends by a deadline.
func soon(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 50*time.Millisecond)
}

// later has no deadline, and is cancelled.
func later(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	time.AfterFunc(50*time.Millisecond, cancel)
	return ctx, cancel
}
