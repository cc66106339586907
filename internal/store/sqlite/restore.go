package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"
)

// restoringSuffix makes the name of a file that is on its way to its place.
const restoringSuffix = ".restoring"

// Restore puts a copy of a store file, with what is in its log, in a place where there is no store. Before that it calls
// prepare with the path of the copy. Nobody can begin to serve the file before prepare has succeeded and everything is
// on the disk.
func Restore(ctx context.Context, from, to string, prepare func(path string) error) (err error) {
	given, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	if to, err = resolve(given); err != nil {
		return err
	}
	if info, err := os.Stat(to); err == nil && info.Size() > 0 {
		return fmt.Errorf("%s exists, and a restore replaces nothing: move it away together with its -wal, -shm and .lock "+
			"files, or name another place", to)
	}
	if err := mayCreate(to, CreateAuto); err != nil {
		return err
	}
	restoring := to + restoringSuffix
	removeAll(restoring) // of an attempt that was cut off
	defer removeAll(restoring)
	if err := copyFile(ctx, from, restoring); err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	if err := prepare(restoring); err != nil {
		return err
	}
	if info, err := os.Stat(restoring + "-wal"); err == nil && info.Size() > 0 {
		return fmt.Errorf("%s is still open somewhere: its log has not become part of it", restoring)
	}
	return moveFile(restoring, to)
}

func removeAll(path string) {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal", lockSuffix} {
		_ = os.Remove(path + suffix)
	}
}

// copyFile copies a store file as one snapshot, page by page: its tables refer to each other by row ids, which making
// them anew could change.
func copyFile(ctx context.Context, from, to string) (err error) {
	source, err := Open(from, Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if log := source.UnreadLog(); log != "" {
		return fmt.Errorf("%s cannot be read in its folder: let it be written, or copy both files to another one", log)
	}
	conn := <-source.reading
	defer func() { source.reading <- conn }()
	target, err := sqlite.OpenConn(to, sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		return unwritable(to, err)
	}
	backup, err := sqlite.NewBackup(target, "main", conn, "main")
	if err != nil {
		return errors.Join(err, target.Close())
	}
	conn.SetInterrupt(ctx.Done())
	defer conn.SetInterrupt(nil)
	_, err = backup.Step(-1)
	return errors.Join(err, backup.Close(), target.Close())
}

// moveFile gives a file its name once its bytes are on the disk, and makes sure that the name is there too.
func moveFile(from, to string) error {
	file, err := os.OpenFile(from, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Chmod(0o600), file.Close()); err != nil {
		return fmt.Errorf("flushing %s: %w", from, err)
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	_ = folder.Sync() // not every system can
	return folder.Close()
}
