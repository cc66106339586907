package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"

	"github.com/holdfast/holdfast/internal/store"
)

// A file is kept from a second server in three ways. The file itself is locked, so another name for it does not help.
// The lock file PATH.lock keeps out older programs, which know no other lock. And every batch compares the head with
// the one that the last batch left.

// lockSuffix makes the name of the lock file.
const lockSuffix = ".lock"

// serving are the files that this process has open for writing. Such a file must not even be opened a second time:
// closing it would drop the POSIX locks by which SQLite keeps other programs from removing its log.
var serving struct {
	sync.Mutex
	files []*claim
}

// Create says what Open does where there is no file.
type Create string

// The ways to open a file that does not exist or is empty. The zero value means CreateAuto.
const (
	CreateAuto   Create = "auto"   // make it, unless something beside it shows that there was one
	CreateAlways Create = "always" // make it
	CreateNever  Create = "never"  // fail
)

// claim is the right to be the only one who writes a file.
type claim struct {
	path string
	file *os.File
	info os.FileInfo
	lock *flock.Flock // PATH.lock; nil until it is needed
	made bool         // there was no file
}

// claimFile opens a file, or makes it if create allows that, and locks it. Close the claim after every connection to
// the file.
func claimFile(path string, create Create) (c *claim, err error) {
	serving.Lock()
	defer serving.Unlock()
	c = &claim{path: path}
	info, err := os.Stat(path)
	switch {
	case err == nil && isServing(info):
		return nil, alreadyServed(path)
	case err == nil && (info.Size() > 0 || !info.Mode().IsRegular()):
		err = requireFile(path, info)
	case err == nil, errors.Is(err, os.ErrNotExist):
		c.made = err != nil
		err = mayCreate(path, create)
	}
	if err != nil {
		return nil, err
	}
	if c.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, unwritable(path, err)
	}
	if err := c.take(); err != nil {
		return nil, errors.Join(err, c.file.Close())
	}
	serving.files = append(serving.files, c)
	return c, nil
}

// requireFile refuses a folder and the like.
func requireFile(path string, info os.FileInfo) error {
	switch {
	case info.IsDir():
		return fmt.Errorf("%s is a folder: name a file in it, for example %s", path, filepath.Join(path, "holdfast.db"))
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not an ordinary file: name one", path)
	}
	return nil
}

// mayCreate decides what to do where a file is missing or empty.
func mayCreate(path string, create Create) error {
	if create == CreateAlways {
		return nil
	}
	if create == CreateNever {
		return fmt.Errorf("%s does not exist or is empty, and --create never forbids making a store: restore the file, "+
			"name the right one, or make a new store with --create auto", path)
	}
	// A -journal tells nothing: SQLite has one only until a new file has its log, so a crash then may leave it behind.
	for _, suffix := range []string{"-wal", "-shm", lockSuffix} {
		if _, err := os.Lstat(path + suffix); err == nil {
			return fmt.Errorf("%s does not exist or is empty, but %s shows that there was a store: restore the file, or, "+
				"for a new and empty store, start with --create always, which does away with what is left of the old one",
				path, path+suffix)
		}
	}
	return nil
}

// unwritable says what to do about a file that cannot be opened for writing.
func unwritable(path string, err error) error {
	return fmt.Errorf("%s cannot be written: %w: let the user that runs holdfast write the file, the files with the same "+
		"beginning beside it, and the folder", path, err)
}

func isServing(info os.FileInfo) bool {
	for _, c := range serving.files {
		if os.SameFile(c.info, info) {
			return true
		}
	}
	return false
}

func alreadyServed(path string) error {
	return fmt.Errorf("%s is already being served by another process: stop that one first, or choose another file with "+
		"--store", path)
}

// take locks the open file, and refuses one with several names.
func (c *claim) take() (err error) {
	if c.info, err = c.file.Stat(); err != nil {
		return fmt.Errorf("looking at %s: %w", c.path, err)
	}
	locked, err := lockInode(c.file)
	switch {
	case err != nil:
		return fmt.Errorf("locking %s: %w", c.path, err)
	case !locked:
		return alreadyServed(c.path)
	case links(c.info) > 1:
		return fmt.Errorf("%s has %d names (hard links), and what is not yet in the file itself lies in a log beside one of "+
			"them: find the others with find -samefile, keep the one that was served, and remove the rest", c.path,
			links(c.info))
	}
	return nil
}

// takeLockFile locks PATH.lock as well.
func (c *claim) takeLockFile() error {
	lock := flock.New(c.path + lockSuffix)
	locked, err := lock.TryLock()
	switch {
	case err != nil:
		return unwritable(c.path, err)
	case !locked:
		return alreadyServed(c.path)
	}
	c.lock = lock
	return nil
}

// abandon removes what was made for a store that did not come about. Call it before close.
func (c *claim) abandon() {
	if c.made {
		_ = os.Remove(c.path)
	}
	if c.made && c.lock != nil {
		_ = os.Remove(c.path + lockSuffix)
	}
}

func (c *claim) close() (err error) {
	serving.Lock()
	defer serving.Unlock()
	for i, other := range serving.files {
		if other == c {
			serving.files = append(serving.files[:i], serving.files[i+1:]...)
			break
		}
	}
	if c.lock != nil {
		err = c.lock.Unlock()
	}
	return errors.Join(err, c.file.Close())
}

// witness is a file that must stay where it was when the store was opened.
type witness struct {
	path string
	info os.FileInfo
}

// missing fails if the path does not lead to the file any more. It costs a few microseconds.
func (w *witness) missing() error {
	now, err := os.Stat(w.path)
	switch {
	case err != nil:
		return fmt.Errorf("%s was moved or removed while it was being served: %w", w.path, err)
	case links(now) == 0:
		return fmt.Errorf("%s was removed while it was being served", w.path)
	case !os.SameFile(now, w.info):
		return fmt.Errorf("%s was replaced by another file while it was being served", w.path)
	}
	return nil
}

// watchFiles remembers where the file and its log are: the file by the name that it was given, so that a symbolic link
// that is turned elsewhere is noticed too. Without either, what is written now would not be found by the next start.
func (s *Store) watchFiles() error {
	log, err := os.Stat(s.path + "-wal")
	if err != nil {
		return fmt.Errorf("looking at the log: %w", err)
	}
	s.witnesses = []witness{{s.given, s.claim.info}, {s.path + "-wal", log}}
	return s.inPlace()
}

// inPlace fails with [store.ErrBroken] if a file was moved, removed or replaced.
func (s *Store) inPlace() error {
	for i := range s.witnesses {
		if err := s.witnesses[i].missing(); err != nil {
			return fmt.Errorf("%w: %w: put it back together with its -wal file, both as they are, before the next start",
				store.ErrBroken, err)
		}
	}
	return nil
}

// resolve returns the path of a file without symbolic links: the log and the lock file lie beside the file
// itself.
func resolve(absolute string) (string, error) {
	if real, err := filepath.EvalSymlinks(absolute); err == nil {
		return real, nil
	}
	if _, err := os.Lstat(absolute); err == nil {
		return "", fmt.Errorf("%s is a symbolic link that leads nowhere, perhaps to a disk that is not mounted: mount it, "+
			"or name the file itself", absolute)
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(absolute))
	if err != nil {
		return "", fmt.Errorf("the folder of the store file does not exist: %w: make it first", err)
	}
	return filepath.Join(folder, filepath.Base(absolute)), nil
}
