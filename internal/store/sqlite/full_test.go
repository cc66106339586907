package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// fill commits products with their keys until the store has no space, and returns how many it took.
func fill(t *testing.T, s *Store) (stored int) {
	t.Helper()
	for ; ; stored++ {
		p := product(fmt.Sprint("p", stored))
		p.Metadata = inventory.Metadata{{Name: "filler", Value: strings.Repeat("f", 500)}}
		_, err := commit(s, p)
		switch {
		case err == nil:
		case !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrBroken) ||
			!strings.Contains(err.Error(), "no space") || stored == 0:
			t.Fatalf("after %d products: %v", stored, err)
		default:
			return stored
		}
	}
}

func requireProducts(t *testing.T, s *Store, want int) {
	t.Helper()
	err := s.View(context.Background(), func(v store.View) error {
		page, _, err := v.Products(context.Background(), store.ProductQuery{Limit: 100_000})
		if len(page) != want {
			t.Errorf("%d products stored, %d acknowledged", len(page), want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFullFile: a batch for which SQLite finds no space while it writes has no effect, and the next one is stored once
// there is space.
func TestFullFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openFile(t, path, time.Now)
	if err := exec(s.writer, "PRAGMA max_page_count = 60", nil); err != nil {
		t.Fatal(err)
	}
	stored := fill(t, s)
	requireProducts(t, s, stored)
	if err := exec(s.writer, "PRAGMA max_page_count = 600", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := commit(s, product("another")); err != nil {
		t.Fatalf("with space: %v", err)
	}
	s.Close()
	requireProducts(t, openFile(t, path, time.Now), stored+1)
}

// smallDisk mounts a file system of 1 MiB, or skips the test, loudly.
func smallDisk(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := mountTmpfs(folder, "size=1m"); err != nil {
		t.Skipf("SKIPPED: a small disk cannot be mounted (%v): run this test as root on Linux", err)
	}
	unmountLater(t, folder)
	return folder
}

// TestFullDisk: on a disk without space batches have no effect and reads go on. What was acknowledged is there, once
// there is space the store goes on by itself, and a copy of the files as they were has neither more nor less.
func TestFullDisk(t *testing.T) {
	folder := smallDisk(t)
	path := filepath.Join(folder, "store.db")
	ballast := filepath.Join(folder, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 300<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s, err := Open(path, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	stored := fill(t, s)
	for range 20 {
		if _, err := commit(s, product("another")); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("still no space: %v", err)
		}
	}
	requireProducts(t, s, stored)
	copied := filepath.Join(t.TempDir(), "store.db")
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + suffix)
		if err == nil {
			err = os.WriteFile(copied+suffix, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	requireProducts(t, openFile(t, copied, time.Now), stored)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if _, err := commit(s, product("another")); err != nil {
		t.Fatalf("with space: %v", err)
	}
	if lines := log.String(); strings.Count(lines, "ERROR") != 1 || strings.Count(lines, "store file again") != 1 {
		t.Errorf("the log: %s", lines)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	if _, err := Open(path, Options{}); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrBroken) {
		t.Errorf("opened on a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	requireProducts(t, openFile(t, path, time.Now), stored+1)
}
