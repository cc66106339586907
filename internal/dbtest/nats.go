package dbtest

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// OwnNATS starts a NATS server with JetStream for this test alone, with more arguments if it is to have some.
func OwnNATS(t testing.TB, arguments ...string) (s *Server, hostPort string) {
	t.Helper()
	s = own(t, "nats", func() (*Server, error) { return newNATS(arguments) })
	return s, s.address()
}

func newNATS(arguments []string) (*Server, error) {
	binary, err := firstFound("nats-server", "/usr/sbin/nats-server") // Debian's is not on every user's path
	if err != nil {
		return nil, errors.New("no NATS: nats-server was not found: install it (Debian: apt-get install nats-server)")
	}
	s, err := newServer("nats")
	if err != nil {
		return nil, err
	}
	s.start = func() (*exec.Cmd, error) {
		return exec.Command(binary, append([]string{
			"--addr", "127.0.0.1", "--port", strconv.Itoa(s.Port), "--jetstream",
			"--store_dir", filepath.Join(s.folder, "data"),
		}, arguments...)...), nil
	}
	s.ready = func() error {
		hello, err := s.greeting("")
		if err == nil && !strings.HasPrefix(hello, "INFO") {
			err = fmt.Errorf("it says %q", hello)
		}
		return err
	}
	return s, nil
}
