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
	const half = `{"specversion":"1.0","id":"evt_`
	for before, want := range map[string]string{
		"":             "{3}\n",
		"{1}\n{2}\n":   "{1}\n{2}\n{3}\n",
		"{1}\n" + half: "{1}\n{3}\n",
		"{1}\n{\"spec": "{1}\n{3}\n",
		half:           "{3}\n",
		"{1}\n" + half + strings.Repeat("x", 200_000): "{1}\n{3}\n",
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

// TestForeignFile: the end of a file that is not ours is not taken for half a line.
func TestForeignFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(path, []byte("milk, bread"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := New(path).Send(t.Context(), []relay.Message{{Body: []byte("{1}")}}); n != 0 || err == nil {
		t.Errorf("%d %v", n, err)
	}
	if got := read(t, path); got != "milk, bread" {
		t.Errorf("%q", got)
	}
}

// TestTakenOver: a sink that was away writes behind what another process has added, and not over it.
func TestTakenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.ndjson")
	mine, other := New(path), New(path)
	defer mine.Close()
	defer other.Close()
	send(t, mine, "{1}", "{2}")
	send(t, other, "{3}", "{4}")
	send(t, mine, "{5}")
	send(t, other, "{6}")
	if got := read(t, path); got != "{1}\n{2}\n{3}\n{4}\n{5}\n{6}\n" {
		t.Errorf("%q", got)
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
