package dbtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

var sharedPostgres = sync.OnceValues(func() (string, error) {
	if address := os.Getenv("HOLDFAST_TEST_POSTGRES"); address != "" {
		return address, nil
	}
	s, err := newPostgres()
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		return "", fmt.Errorf("no PostgreSQL: %w: install it (Debian: apt-get install postgresql), or set "+
			"HOLDFAST_TEST_POSTGRES", err)
	}
	return postgresURL(s.Port), nil
})

// Postgres returns the URL of an empty schema on the shared server.
func Postgres(t testing.TB) string {
	t.Helper()
	address, err := sharedPostgres()
	need(t, "postgres", err)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatalf("HOLDFAST_TEST_POSTGRES: %v", err)
	}
	schema := unique()
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), u.String())
		if err != nil {
			return // the test has stopped the server
		}
		defer conn.Close(context.Background())
		_, _ = conn.Exec(context.Background(), "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
	})
	return u.String()
}

// OwnPostgres starts a server for this test alone, to be killed and started again, and returns its URL.
func OwnPostgres(t testing.TB) (*Server, string) {
	t.Helper()
	s, err := newPostgres()
	if err == nil {
		err = s.Start()
	}
	need(t, "postgres", err)
	return s, postgresURL(s.Port)
}

func postgresURL(port int) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
}

// newPostgres makes a database cluster with the programs of PostgreSQL, from the folder of Debian, that of Homebrew, or
// the path.
func newPostgres() (*Server, error) {
	initdb, err := firstFound("/usr/lib/postgresql/*/bin/initdb", "/opt/homebrew/opt/postgresql*/bin/initdb", "initdb")
	if err != nil {
		return nil, fmt.Errorf("initdb was not found")
	}
	s, err := newServer("postgres")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(s.folder, "data")
	attributes, err := unprivileged(s.folder)
	if err != nil {
		return nil, err
	}
	command := func(name string, arguments ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(filepath.Dir(initdb), name), arguments...)
		c.Dir = s.folder
		if attributes != nil {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: attributes}
		}
		return c
	}
	if out, err := command("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
		"--no-sync").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	s.start = func() (*exec.Cmd, error) {
		return command("postgres", "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port), "-k", s.folder, "-c",
			"max_connections=200"), nil
	}
	s.ready = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, postgresURL(s.Port))
		if err == nil {
			err = conn.Close(ctx)
		}
		return err
	}
	return s, nil
}

// unprivileged gives a folder to the user postgres and returns the credential to run as that user, because PostgreSQL
// refuses to run as root. It returns nil if this process is not root.
func unprivileged(folder string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(folder, uid, gid)
}
