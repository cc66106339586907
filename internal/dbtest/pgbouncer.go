package dbtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// PgBouncer starts a pooler before the server at a port, with its own defaults but for these lines of its
// configuration, and returns the URL that goes through it.
func PgBouncer(t testing.TB, server *Server, lines ...string) (address string) {
	t.Helper()
	s, err := newPgBouncer(server.Port, lines)
	if err == nil {
		err = s.Start()
	}
	need(t, "pgbouncer", err)
	return postgresURL(s.Port)
}

func newPgBouncer(port int, lines []string) (*Server, error) {
	program, err := firstFound("pgbouncer", "/usr/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer")
	if err != nil {
		return nil, fmt.Errorf("no PgBouncer: install it (Debian: apt-get install pgbouncer)")
	}
	s, err := newServer("pgbouncer")
	if err != nil {
		return nil, err
	}
	attributes, err := unprivileged(s.folder)
	if err != nil {
		return nil, err
	}
	settings, users := filepath.Join(s.folder, "pgbouncer.ini"), filepath.Join(s.folder, "users.txt")
	text := fmt.Sprintf("[databases]\n* = host=127.0.0.1 port=%d\n"+
		"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\n"+
		"unix_socket_dir =\nauth_type = trust\nauth_file = %s\n%s\n", port, s.Port, users, strings.Join(lines, "\n"))
	for name, content := range map[string]string{settings: text, users: `"postgres" ""` + "\n"} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	s.start = func() (*exec.Cmd, error) {
		c := exec.Command(program, settings)
		if c.Dir = s.folder; attributes != nil {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: attributes}
		}
		return c, nil
	}
	s.ready = func() error { return answers(s.Port) }
	return s, nil
}
