package dbtest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// OwnRedis starts a Redis server for this test alone, with more arguments if it is to have some. What it confirms is
// on the disk. With "--tls-port" it listens for TLS alone.
func OwnRedis(t testing.TB, arguments ...string) (s *Server, hostPort string) {
	t.Helper()
	s = own(t, "redis", func() (*Server, error) { return newRedis(arguments) })
	return s, s.address()
}

func newRedis(arguments []string) (*Server, error) {
	binary, err := firstFound("redis-server")
	if err != nil {
		return nil, errors.New("no Redis: redis-server was not found: install it (Debian: apt-get install redis-server)")
	}
	s, err := newServer("redis")
	if err != nil {
		return nil, err
	}
	port := strconv.Itoa(s.Port)
	secured := slices.Index(arguments, "--tls-port")
	if secured >= 0 {
		arguments = slices.Insert(slices.Clone(arguments), secured+1, port)
		port = "0"
	}
	s.start = func() (*exec.Cmd, error) {
		return exec.Command(binary, append([]string{
			"--bind", "127.0.0.1", "--port", port, "--dir", s.folder, "--save", "", "--appendonly", "yes",
			"--appendfsync", "always",
		}, arguments...)...), nil
	}
	s.ready = func() error {
		if secured >= 0 {
			conn, err := tls.Dial("tcp", s.address(), &tls.Config{InsecureSkipVerify: true})
			if err == nil {
				err = conn.Close()
			}
			return err
		}
		answer, err := s.greeting("PING\r\n")
		if err == nil && !strings.HasPrefix(answer, "+PONG") && !strings.HasPrefix(answer, "-NOAUTH") {
			err = fmt.Errorf("it says %q", answer)
		}
		return err
	}
	return s, nil
}
