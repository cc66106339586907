package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRestore: a copy of a store is put in place of what came after it. Who followed the feed beyond the copy is told,
// who did not goes on, and no event has the id of one that is lost.
func TestRestore(t *testing.T) {
	folder := t.TempDir()
	file, copied, lost := filepath.Join(folder, "shop.db"), filepath.Join(folder, "copy.db"), filepath.Join(folder, "lost.db")
	s := openShop(t, file, time.Now())
	sell(s, 2)
	restore(t, exitOK, "is in place", copied, file) // from a store that is being served
	sell(s, 2)
	before := s.events("0")
	s.close()
	if err := os.Rename(file, lost); err != nil {
		t.Fatal(err)
	}
	restore(t, exitFailure, "shows that there was a store", file, copied)
	if err := os.Remove(file + ".lock"); err != nil {
		t.Fatal(err)
	}
	restore(t, exitOK, "A new epoch of the feed begins after event 4.", file, copied)
	verifyClean(t, file)

	s = openShop(t, file, time.Now())
	defer s.close()
	s.expectAhead("6", `go on from after=4`)
	s.expectAhead("8", `go on from after=4`)
	sequence := sell(s, 3)
	for _, cursor := range []string{"5", "8"} { // sequences that there are again
		s.expectAhead(cursor, "go on from after=4")
	}
	after := s.events("0")
	if len(after) != 10 || len(before) != 8 {
		t.Fatalf("%d events before and %d after", len(before), len(after))
	}
	for i := range before {
		if same := before[i]["id"] == after[i]["id"]; same != (i < 4) {
			t.Errorf("event %d has the id %v, and had %v", i+1, after[i]["id"], before[i]["id"])
		}
	}
	for _, cursor := range []string{"4", sequence} {
		if events := s.events(cursor); len(events) != map[string]int{"4": 6, sequence: 0}[cursor] {
			t.Errorf("after %s: %v", cursor, events)
		}
	}
	if epoch, seq, _ := strings.Cut(sequence, "."); len(epoch) != 8 || seq != "10" {
		t.Errorf("the place after the last event is %q", sequence)
	}
}

// TestRestoreInPlace: a store that was brought back by other means is told so.
func TestRestoreInPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "shop.db")
	s := openShop(t, file, time.Now())
	sell(s, 1)
	s.close()
	restore(t, exitOK, "A new epoch of the feed begins after event 2.", file)
	restore(t, exitOK, "A new epoch of the feed begins after event 2.", file) // again: nothing has happened in between
	s = openShop(t, file, time.Now())
	defer s.close()
	if sequence := sell(s, 1); !strings.HasSuffix(sequence, ".4") {
		t.Errorf("the place after the last event is %q", sequence)
	}
	s.expectAhead("3", "go on from after=2")
	restore(t, exitFailure, "is already being served", file)
}

func TestRestoreRefusals(t *testing.T) {
	folder := t.TempDir()
	file, copied := filepath.Join(folder, "shop.db"), filepath.Join(folder, "copy.db")
	s := openShop(t, file, time.Now())
	sell(s, 1)
	s.close()
	restore(t, exitFailure, "restore replaces nothing", file, file)
	restore(t, exitFailure, "does not exist or is empty", filepath.Join(folder, "none.db"))
	restore(t, exitFailure, "name an existing store file", copied, filepath.Join(folder, "none.db"))
	for address, want := range map[string]string{
		"memory:": "can be put at --store sqlite:PATH only", "postgres://u:secret@127.0.0.1:1/d": "restore the database with the tools",
	} {
		code, _, stderr := execute(t.Context(), "restore", "--store="+address, file)
		if code != exitUsage || !strings.Contains(stderr, want) || strings.Contains(stderr, "secret") {
			t.Errorf("%s: exit %d: %s", address, code, stderr)
		}
	}
	if code, _, stderr := execute(t.Context(), "restore", "--store=memory:"); code != exitUsage {
		t.Errorf("memory: exit %d: %s", code, stderr)
	}
	changeStock(t, file)
	restore(t, exitFailure, "the copy is damaged, for example I9", copied, file)
	if left, _ := filepath.Glob(copied + "*"); len(left) > 0 {
		t.Errorf("a restore that failed leaves %v", left)
	}
}

// restore runs holdfast restore, and requires an exit code and a text.
func restore(t *testing.T, want int, text, file string, copies ...string) {
	t.Helper()
	code, stdout, stderr := execute(t.Context(), append([]string{"restore", "--store=sqlite:" + file}, copies...)...)
	if code != want || !strings.Contains(stdout+stderr, text) {
		t.Fatalf("restore %v: exit %d: %s%s", copies, code, stdout, stderr)
	}
}

// sell makes products with an adjustment each, which are two events. It returns the place after them.
func sell(s *shop, n int) (sequence string) {
	s.Helper()
	for range n {
		s.advance(time.Second)
		id := fmt.Sprintf("p%d", s.now().UnixNano())
		s.mustAsk("POST", "/v1/products", fmt.Sprintf(`{"id":%q,"name":"P","price":{"amount":1,"currency":"EUR"}}`, id))
		e := s.mustAsk("POST", "/v1/products/"+id+"/adjustments", `{"delta":5,"reason":"delivery"}`)
		sequence = e.Headers["Holdfast-Sequence"]
	}
	return sequence
}

func (s *shop) mustAsk(method, path, body string) exchange {
	s.Helper()
	e := s.ask(method, path, "", body)
	if e.Status >= 300 {
		s.Fatalf("%s %s: %v", method, path, e.Answer)
	}
	return e
}

func (s *shop) events(after string) (list []map[string]any) {
	s.Helper()
	e := s.mustAsk("GET", "/v1/events?limit=1000&after="+after, "")
	for _, event := range e.Answer.(map[string]any)["data"].([]any) {
		list = append(list, event.(map[string]any))
	}
	return list
}

// expectAhead requires that nobody can go on from a cursor, and that a text says what to do.
func (s *shop) expectAhead(cursor, want string) {
	s.Helper()
	for _, wait := range []string{"", "&wait=30"} {
		e := s.ask("GET", "/v1/events?after="+cursor+wait, "", "")
		problem := e.Answer.(map[string]any)
		if e.Status != http.StatusConflict || problem["code"] != "cursor-ahead" ||
			!strings.Contains(problem["detail"].(string), want) {
			s.Errorf("after %s: %d %v", cursor, e.Status, e.Answer)
		}
	}
}
