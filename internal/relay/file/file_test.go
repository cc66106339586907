package file

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/relay"
	"github.com/holdfast/holdfast/internal/relay/relaytest"
)

func TestSink(t *testing.T) {
	relaytest.Run(t, func(t testing.TB) relaytest.Backend {
		path := filepath.Join(t.TempDir(), "events.ndjson")
		return relaytest.Backend{
			Open: func(testing.TB) relay.Sink { return New(path) },
			Read: func(t testing.TB) [][]byte { return bytes.Split(bytes.TrimSpace([]byte(read(t, path))), []byte("\n")) },
		}
	})
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func send(t *testing.T, s relay.Sink, bodies ...string) {
	t.Helper()
	var messages []relay.Message
	for _, body := range bodies {
		messages = append(messages, relay.Message{Body: []byte(body)})
	}
	if n, err := s.Send(context.Background(), messages); n != len(bodies) || err != nil {
		t.Fatal(n, err)
	}
}

// TestHalfALine: half a line, which a crash has left, is cut off: its event comes again.
func TestHalfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.ndjson")
	for before, want := range map[string]string{
		"":                                     "{3}\n",
		"{1}\n{2}\n":                           "{1}\n{2}\n{3}\n",
		"{1}\n{2":                              "{1}\n{3}\n",
		"{1":                                   "{3}\n",
		"{1}\n" + strings.Repeat("x", 200_000): "{1}\n{3}\n",
	} {
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		s := New(path)
		send(t, s, "{3}")
		s.Close()
		if got := read(t, path); got != want {
			t.Errorf("after %.20q: %.40q", before, got)
		}
	}
}

// TestReopen: after the file was moved away, the next event begins another.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.ndjson")
	s := New(path)
	defer s.Close()
	send(t, s, "{1}")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	send(t, s, "{2}")
	if err := s.Reopen(); err != nil {
		t.Fatal(err)
	}
	send(t, s, "{3}")
	if old, now := read(t, path+".1"), read(t, path); old != "{1}\n{2}\n" || now != "{3}\n" {
		t.Errorf("%q and %q", old, now)
	}
}

// TestNoPlace: a file that cannot be made is an error each time, and no crash.
func TestNoPlace(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "none", "events.ndjson"))
	for range 2 {
		if n, err := s.Send(t.Context(), []relay.Message{{}}); n != 0 || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%d %v", n, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestWriter(t *testing.T) {
	var b bytes.Buffer
	send(t, Writer{&b}, "{1}", "{2}")
	if b.String() != "{1}\n{2}\n" {
		t.Errorf("%q", b.String())
	}
}
