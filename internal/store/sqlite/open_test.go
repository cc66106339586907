package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// refused opens a file and requires a sentence, that nothing is called broken, and no new lock file.
func refused(t *testing.T, path, sentence string, o Options) {
	t.Helper()
	_, before := os.Stat(path + lockSuffix)
	s, err := Open(path, o)
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), sentence) || errors.Is(err, store.ErrBroken) {
		t.Errorf("%s with %+v: %v, want %q", path, o, err, sentence)
	}
	if _, after := os.Stat(path + lockSuffix); (before == nil) != (after == nil) {
		t.Errorf("the lock file of %s, before: %v, and afterwards: %v", path, before, after)
	}
	if _, err := os.Stat(path); o.Create == CreateNever && !os.IsNotExist(err) {
		t.Errorf("%s was made: %v", path, err)
	}
}

// TestModeAndMark: a new file can be read by its owner only, as can the files beside it, and has Holdfast's mark. A
// store that is older than the mark is given it when it is opened.
func TestModeAndMark(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openFile(t, path, time.Now)
	for _, suffix := range []string{"", "-wal", "-shm", lockSuffix} {
		info, err := os.Stat(path + suffix)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", path+suffix, info.Mode(), err)
		}
	}
	storetest.Must(t, s, storetest.Product("mug"))
	if err := exec(s.writer, "PRAGMA application_id = 0", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.Close()
		s = openFile(t, path, time.Now)
		if id, err := pragma(s.writer, "application_id"); id != applicationID || err != nil {
			t.Errorf("the mark is %#x: %v", id, err)
		}
		requireProducts(t, s, 1)
	}
}

// TestForeignFiles: what is no store is refused with a sentence, is left as it was, and gets no lock file.
func TestForeignFiles(t *testing.T) {
	folder := t.TempDir()
	foreign := func(name string, statements ...string) string {
		path := filepath.Join(folder, name)
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, statement := range statements {
			if err := exec(conn, statement, nil); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	write := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	dangling := filepath.Join(folder, "dangling.db")
	if err := os.Symlink(filepath.Join(folder, "nowhere.db"), dangling); err != nil {
		t.Fatal(err)
	}
	for path, sentence := range map[string]string{
		dangling:                    "leads nowhere",
		os.DevNull:                  "is not an ordinary file",
		folder:                      "is a folder",
		write("short.txt", "hello"): "is not a SQLite database",
		write("long.txt", strings.Repeat("a line of text\n", 500)):                  "is not a SQLite database",
		foreign("notes.db", "CREATE TABLE notes (a)"):                               "another program",
		foreign("versioned.db", "CREATE TABLE head (a)", "PRAGMA user_version = 2"): "another program",
		foreign("marked.db", "PRAGMA application_id = 7"):                           "another program",
		foreign("wal.db", "PRAGMA journal_mode = wal", "CREATE TABLE journal (a)"):  "another program",
		foreign("empty.db", "PRAGMA user_version = 3"):                              "another program",
	} {
		before, _ := os.ReadFile(path)
		for _, readOnly := range []bool{false, true} {
			refused(t, path, sentence, Options{ReadOnly: readOnly, Create: CreateAlways})
		}
		if after, _ := os.ReadFile(path); string(after) != string(before) {
			t.Errorf("%s was changed", path)
		}
	}
}

// TestCreate: a missing or empty file is made where that is allowed, and where nothing shows that it was there before.
func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	refused(t, path, "--create never", Options{Create: CreateNever})
	openFile(t, path, time.Now).Close()
	if s, err := Open(path, Options{Create: CreateNever}); err != nil {
		t.Errorf("a store that is there: %v", err)
	} else {
		s.Close()
	}
	for _, empty := range []bool{false, true} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if empty {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, path, lockSuffix+" shows that there was a store", Options{})
		refused(t, path, lockSuffix+" shows that there was a store", Options{Create: CreateAuto})
		s, err := Open(path, Options{Create: CreateAlways})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
}

// TestUnwritable: a file, or the folder of one, that cannot be written is refused at the start.
func TestUnwritable(t *testing.T) {
	folder, readOnly := t.TempDir(), t.TempDir()
	path := filepath.Join(folder, "store.db")
	openFile(t, path, time.Now).Close()
	bindReadOnly(t, folder, readOnly)
	seen := filepath.Join(readOnly, "store.db")
	const sentence = "let the user that runs holdfast write"
	refused(t, seen, sentence, Options{})
	refused(t, filepath.Join(readOnly, "new.db"), sentence, Options{})
	bind(t, path, seen) // the file can be written, its folder cannot
	refused(t, seen, sentence, Options{})
	if err := os.Remove(path + lockSuffix); err != nil {
		t.Fatal(err)
	}
	refused(t, seen, sentence, Options{})
}

// bindReadOnly shows a folder at a second place, for reading only, or skips the test, loudly.
func bindReadOnly(t *testing.T, from, to string) {
	t.Helper()
	if err := mountReadOnly(from, to); err != nil {
		t.Skipf("SKIPPED: no folder can be mounted for reading only (%v): run this test as root on Linux", err)
	}
	unmountLater(t, to)
}

func bind(t *testing.T, from, to string) {
	t.Helper()
	if err := mountBind(from, to); err != nil {
		t.Fatal(err)
	}
	unmountLater(t, to)
}

func unmountLater(t *testing.T, folder string) {
	t.Cleanup(func() {
		if err := unmount(folder); err != nil {
			t.Error(err)
		}
	})
}

// TestReadOnlyFolder: a store is read in a folder that cannot be written. A log that has its index beside it is read
// too, and one that has not is named.
func TestReadOnlyFolder(t *testing.T) {
	original := filepath.Join(t.TempDir(), "store.db")
	s := openFile(t, original, time.Now)
	storetest.Must(t, s, storetest.Product("mug"))
	if _, _, err := s.walCheckpoint("PRAGMA wal_checkpoint(RESTART)"); err != nil {
		t.Fatal(err)
	}
	storetest.Must(t, s, storetest.Product("cup"))
	for name, test := range map[string]struct {
		files    []string
		products int
		unread   bool
	}{
		"log and index": {[]string{"", "-wal", "-shm"}, 2, false},
		"log":           {[]string{"", "-wal"}, 1, true},
		"file alone":    {[]string{""}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			folder, readOnly := t.TempDir(), t.TempDir()
			for _, suffix := range test.files {
				data, err := os.ReadFile(original + suffix)
				if err == nil {
					err = os.WriteFile(filepath.Join(folder, "store ?#.db"+suffix), data, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			bindReadOnly(t, folder, readOnly)
			reader, err := Open(filepath.Join(readOnly, "store ?#.db"), Options{ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			requireProducts(t, reader, test.products)
			if unread := reader.UnreadLog(); (unread != "") != test.unread {
				t.Errorf("the unread log: %q", unread)
			}
		})
	}
}
