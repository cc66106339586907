package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/holdfast/holdfast/internal/inventory"
	sqlitestore "github.com/holdfast/holdfast/internal/store/sqlite"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// TestVerifyAnchor: a file of anchors grows by a line with each clean audit, and finds a store that was put back.
func TestVerifyAnchor(t *testing.T) {
	folder := t.TempDir()
	file, anchor := filepath.Join(folder, "shop.db"), filepath.Join(folder, "anchor")
	commit := func(request *inventory.Request) {
		t.Helper()
		s, err := sqlitestore.Open(file, sqlitestore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		storetest.Must(t, s, request)
	}
	verify := func(want int, named string, lines int) {
		t.Helper()
		code, stdout, stderr := execute(t.Context(), "verify", "--store=sqlite:"+file, "--anchor="+anchor)
		data, _ := os.ReadFile(anchor)
		if code != want || !strings.Contains(stdout+stderr, named) || strings.Count(string(data), "\n") != lines {
			t.Fatalf("exit %d: %s%s, and the anchors are\n%s", code, stdout, stderr, data)
		}
	}
	commit(storetest.Product("mug"))
	verify(exitOK, "clean", 1)
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	commit(storetest.Hold("mug", ""))
	verify(exitOK, "clean", 2)
	verify(exitOK, "clean", 3)
	if err := os.WriteFile(file, old, 0o600); err != nil {
		t.Fatal(err)
	}
	verify(exitFailure, "BREACH anchor: anchor of ", 3)
	if err := os.WriteFile(anchor, []byte("a shopping list\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	verify(exitFailure, "is not a file of anchors: line 1 is not one that verify --anchor writes", 1)
}

// TestVerifyDamaged: a store that cannot be read to its end is an error, and the breaches found before it are printed.
func TestVerifyDamaged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "shop.db")
	s, err := sqlitestore.Open(file, sqlitestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	storetest.Must(t, s, storetest.Product("mug"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := sqlite.OpenConn(file, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	page, size := int64(0), int64(0)
	read := func(sql string, to *int64) {
		err := sqlitex.ExecuteTransient(conn, sql, &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
			*to = row.ColumnInt64(0)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	read("SELECT rootpage FROM sqlite_schema WHERE name = 'journal'", &page)
	read("PRAGMA page_size", &size)
	conn.Close()
	damaged, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := damaged.WriteAt(make([]byte, size), (page-1)*size); err != nil {
		t.Fatal(err)
	}
	damaged.Close()
	code, stdout, stderr := execute(t.Context(), "verify", "--store=sqlite:"+file)
	if code != exitFailure || !strings.Contains(stdout, "BREACH row: bookkeeping: the file: ") ||
		!strings.Contains(stderr, "the store is broken") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}
