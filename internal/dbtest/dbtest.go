// Package dbtest gives tests the database servers that they need: it starts them on free loopback ports with their data
// in temporary folders, each once a test binary, and stops them when the binary ends.
//
// HOLDFAST_TEST_POSTGRES and HOLDFAST_TEST_MONGODB name servers to use instead. A server that cannot be had skips its
// tests, unless HOLDFAST_TEST_REQUIRE (a list such as "postgres,mongodb") names it: then they fail.
package dbtest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Main runs the tests of a package and stops the servers that they started. Call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	stopAll()
	os.Exit(code)
}

var running struct {
	sync.Mutex
	servers []*Server
}

func stopAll() {
	running.Lock()
	defer running.Unlock()
	for _, s := range running.servers {
		s.stop()
	}
	running.servers = nil
}

// Server is a database server that a test can kill.
type Server struct {
	Port   int
	folder string
	start  func() (*exec.Cmd, error)
	ready  func() error

	process *exec.Cmd
	done    chan struct{} // the process has ended
	log     *os.File
}

const startTimeout = 60 * time.Second

// restartFor is how long a server that ends at once is started anew. PostgreSQL does not start while children of a
// killed server exist, which can take a while on a busy machine.
const restartFor = 10 * time.Second

// Start starts the server on its data, and waits up to a minute until it answers.
func (s *Server) Start() error {
	begun := time.Now()
	for {
		err := s.launch()
		if err == nil {
			err = s.await(begun.Add(startTimeout))
		}
		if !errors.Is(err, errEnded) || time.Since(begun) > restartFor {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *Server) launch() (err error) {
	if s.process, err = s.start(); err != nil {
		return err
	}
	s.process.Stdout, s.process.Stderr = s.log, s.log
	if err := startTied(s.process); err != nil {
		return err
	}
	s.done = make(chan struct{})
	go func() {
		_ = s.process.Wait()
		close(s.done)
	}()
	return nil
}

// errEnded means that the server ended before it answered.
var errEnded = errors.New("it ended")

func (s *Server) await(deadline time.Time) error {
	for ; ; time.Sleep(20 * time.Millisecond) {
		err := s.ready()
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("%s: %w: %s", s.process.Path, errEnded, s.tail())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not answer in time: %w: %s", s.process.Path, err, s.tail())
		}
	}
}

func (s *Server) tail() string {
	text, _ := os.ReadFile(s.log.Name())
	return string(text[max(0, len(text)-2000):])
}

// Kill ends the server and its children with SIGKILL. All that it had acknowledged must be there after [Server.Start].
func (s *Server) Kill() {
	_ = syscall.Kill(-s.process.Process.Pid, syscall.SIGKILL)
	<-s.done
}

func (s *Server) stop() {
	if s.process != nil {
		s.Kill()
	}
	s.log.Close()
	os.RemoveAll(s.folder)
}

// startTied starts a process in a process group of its own, which ends when this process does. The kernel ties it to
// the thread that started it, so that thread must not end.
func startTied(process *exec.Cmd) error {
	if process.SysProcAttr == nil {
		process.SysProcAttr = &syscall.SysProcAttr{}
	}
	process.SysProcAttr.Setpgid = true
	tie(process.SysProcAttr)
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		started <- process.Start()
		select {}
	}()
	return <-started
}

// newServer makes a folder and a port for a server.
func newServer(kind string) (*Server, error) {
	folder, err := os.MkdirTemp("", "holdfast-"+kind+"-")
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Server{Port: port, folder: folder, log: log}
	running.Lock()
	defer running.Unlock()
	running.servers = append(running.servers, s)
	return s, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// need skips a test whose server is not available. If the server is required, the test fails.
func need(t testing.TB, kind string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if Required(kind) {
		t.Fatalf("%s is required and cannot be had: %v", kind, err)
	}
	t.Skipf("SKIPPED: %v", err)
}

// Required reports whether HOLDFAST_TEST_REQUIRE names a kind of server.
func Required(kind string) bool {
	return slices.Contains(strings.Split(os.Getenv("HOLDFAST_TEST_REQUIRE"), ","), kind)
}

// unique makes a name for a schema or database.
func unique() string { return "t" + strings.ToLower(rand.Text()[:16]) }

func firstFound(patterns ...string) (string, error) {
	for _, pattern := range patterns {
		if path, err := exec.LookPath(pattern); err == nil {
			return path, nil
		}
		found, _ := filepath.Glob(pattern)
		if len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", errors.New("not found")
}
