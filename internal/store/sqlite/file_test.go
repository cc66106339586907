package sqlite

import (
	"errors"
	"os"
	process "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// secondName is set for a process that this test starts: the file that it must not be able to open.
const secondName = "HOLDFAST_TEST_SECOND_NAME"

// TestSecondName: a file that is being served is refused under every name, by this process and by another one, with
// its lock file removed as well.
func TestSecondName(t *testing.T) {
	if name := os.Getenv(secondName); name != "" {
		s, err := Open(name, Options{})
		if err == nil {
			s.Close()
			t.Fatal("the file was opened a second time")
		}
		t.Fatalf("refused: %v", err)
	}
	path := filepath.Join(t.TempDir(), "store.db")
	s := openFile(t, path, time.Now)
	other := filepath.Join(t.TempDir(), "other.db")
	if err := os.Link(path, other); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path + lockSuffix); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, other} {
		if _, err := Open(name, Options{}); err == nil || !strings.Contains(err.Error(), "already being served") {
			t.Errorf("opened twice, as %s: %v", name, err)
		}
		second := process.Command(os.Args[0], "-test.run=^TestSecondName$")
		second.Env = append(os.Environ(), secondName+"="+name)
		output, err := second.CombinedOutput()
		if err == nil || !strings.Contains(string(output), "already being served") {
			t.Errorf("opened by a second process, as %s: %v\n%s", name, err, output)
		}
	}
	if _, err := os.Stat(other + lockSuffix); !os.IsNotExist(err) {
		t.Errorf("a file that was refused has a lock file: %v", err)
	}
	if _, err := commit(s, product("mug")); err != nil {
		t.Errorf("the first server, after the others were refused: %v", err)
	}
}

// TestHardLink: a file with two names is refused, also while nobody serves it.
func TestHardLink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	openFile(t, path, time.Now).Close()
	other := filepath.Join(t.TempDir(), "other.db")
	if err := os.Link(path, other); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, other} {
		if _, err := Open(name, Options{}); err == nil || !strings.Contains(err.Error(), "has 2 names") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	openFile(t, path, time.Now)
}

// TestForeignBatch: a batch that somebody else has written ends the store, before anything is decided on what was in
// memory.
func TestForeignBatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openFile(t, path, time.Now)
	if _, err := commit(s, product("mug")); err != nil {
		t.Fatal(err)
	}
	foreign, err := s.connect(sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	if err := exec(foreign, "UPDATE head SET batch_no = batch_no + 1, batch_id = randomblob(16)", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := commit(s, product("cup"))
		if !errors.Is(err, store.ErrBroken) || !strings.Contains(err.Error(), "another program has written") {
			t.Errorf("a batch beside another writer: %v", err)
		}
	}
}

// TestForeignBatchBeforeClose: what waits to be entered is not entered into what somebody else has written since.
func TestForeignBatchBeforeClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openFile(t, path, time.Now)
	hold := &inventory.Reserve{TTL: 1000, Lines: []inventory.ReserveLine{
		{ProductID: "mug", Location: inventory.MainLocation, Quantity: 1},
	}}
	if _, err := commitPlain(s, product("mug"), hold); err != nil || s.waiting.count != 1 {
		t.Fatalf("%d entries wait: %v", s.waiting.count, err)
	}
	foreign, err := s.connect(sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	if err := exec(foreign, "UPDATE head SET batch_no = batch_no + 1, batch_id = randomblob(16)", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); !errors.Is(err, store.ErrBroken) {
		t.Errorf("closing: %v", err)
	}
	err = exec(foreign, "SELECT count(*) FROM holds", func(row *sqlite.Stmt) error {
		if n := row.ColumnInt(0); n != 0 {
			t.Errorf("%d entries were entered", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFileGone: a file or log that is moved, removed or replaced under the store ends it: what goes into a file that
// the next start will not find is not acknowledged.
func TestFileGone(t *testing.T) {
	for name, take := range map[string]func(path string) error{
		"moved":       func(path string) error { return os.Rename(path, path+".old") },
		"removed":     os.Remove,
		"log removed": func(path string) error { return os.Remove(path + "-wal") },
		"replaced": func(path string) error {
			if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
		"folder moved": func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".old") },
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(folder, "store.db")
			s := openFile(t, path, time.Now)
			if _, err := commit(s, product("mug")); err != nil {
				t.Fatal(err)
			}
			if err := take(path); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				_, err := commit(s, product("cup"))
				if !errors.Is(err, store.ErrBroken) || !strings.Contains(err.Error(), path) {
					t.Errorf("a batch without the file: %v", err)
				}
			}
			_, before := os.Stat(path + "-wal")
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if _, after := os.Stat(path + "-wal"); os.IsNotExist(before) != os.IsNotExist(after) {
				t.Errorf("the log at the path, before the store was closed: %v, and afterwards: %v", before, after)
			}
		})
	}
}

// TestLinkTurned: a symbolic link that leads to another file from now on is noticed as well.
func TestLinkTurned(t *testing.T) {
	folder := t.TempDir()
	link := filepath.Join(folder, "link.db")
	for _, name := range []string{"a.db", "b.db"} {
		openFile(t, filepath.Join(folder, name), time.Now).Close()
	}
	if err := os.Symlink("a.db", link); err != nil {
		t.Fatal(err)
	}
	s := openFile(t, link, time.Now)
	if err := errors.Join(os.Remove(link), os.Symlink("b.db", link)); err != nil {
		t.Fatal(err)
	}
	if _, err := commit(s, product("mug")); !errors.Is(err, store.ErrBroken) {
		t.Errorf("a batch to a file that the path does not lead to: %v", err)
	}
}
