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

// cluster is a PostgreSQL server with the data and programs that it needs.
type cluster struct {
	*Server
	programs   string // a folder
	data       string // a folder
	attributes *syscall.Credential
}

// newPostgres makes a database cluster.
func newPostgres() (*Server, error) {
	c, err := newCluster()
	if err == nil {
		err = c.initialize()
	}
	if err != nil {
		return nil, err
	}
	return c.Server, nil
}

// newCluster makes a cluster without data, with the programs of PostgreSQL from the folder of Debian, that of Homebrew,
// or the path.
func newCluster() (*cluster, error) {
	initdb, err := firstFound("/usr/lib/postgresql/*/bin/initdb", "/opt/homebrew/opt/postgresql*/bin/initdb", "initdb")
	if err != nil {
		return nil, fmt.Errorf("initdb was not found")
	}
	s, err := newServer("postgres")
	if err != nil {
		return nil, err
	}
	c := &cluster{Server: s, programs: filepath.Dir(initdb), data: filepath.Join(s.folder, "data")}
	if c.attributes, err = unprivileged(s.folder); err != nil {
		return nil, err
	}
	s.start = func() (*exec.Cmd, error) {
		return c.command("postgres", "-D", c.data, "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port), "-k", s.folder, "-c",
			"max_connections=200", "-c", "cluster_name="+standbyName), nil
	}
	s.ready = func() error { return answers(s.Port) }
	return c, nil
}

// answers fails if the server at a port cannot be asked.
func answers(port int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, postgresURL(port))
	if err == nil {
		err = conn.Close(ctx)
	}
	return err
}

func (c *cluster) initialize() error {
	return c.run("initdb", "-D", c.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
}

func (c *cluster) command(name string, arguments ...string) *exec.Cmd {
	process := exec.Command(filepath.Join(c.programs, name), arguments...)
	process.Dir = c.folder
	if c.attributes != nil {
		process.SysProcAttr = &syscall.SysProcAttr{Credential: c.attributes}
	}
	return process
}

func (c *cluster) run(name string, arguments ...string) error {
	if out, err := c.command(name, arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
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
