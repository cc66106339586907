package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const header = "Breaks: adding\nTest: . -run ^TestAdd$\n"

// TestPatches: each patch of the repository still applies to it.
func TestPatches(t *testing.T) {
	const root = "../.."
	bugs, err := load("patches")
	if err != nil {
		t.Fatal(err)
	}
	const least = 60
	if len(bugs) < least {
		t.Errorf("%d bugs, want at least %d", len(bugs), least)
	}
	for _, b := range bugs {
		if _, err := b.plant(root, t.TempDir()); err != nil {
			t.Errorf("%s: %v", b.name, err)
		}
	}
}

func TestApply(t *testing.T) {
	const diff = "--- a/x.go\n+++ b/x.go\n@@ -1,2 +1,2 @@ func f() {\n one\n-two\n+2\n@@ -9 +9,2 @@\n nine\n+ten\n"
	for name, c := range map[string]struct{ before, after, err string }{
		"moved":     {before: "zero\n\none\ntwo\nthree\nnine\n", after: "zero\n\none\n2\nthree\nnine\nten\n"},
		"gone":      {before: "one\nthree\nnine\n", err: "does not have the lines of hunk 1"},
		"ambiguous": {before: "one\ntwo\none\ntwo\nnine\n", err: "hunk 1 more than once"},
		"in a line": {before: "someone\ntwo\nnine\n", err: "does not have the lines of hunk 1"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := parse("name", header+diff)
			if err != nil {
				t.Fatal(err)
			}
			after, err := b.files[0].apply(c.before)
			if c.err == "" && (err != nil || after != c.after) {
				t.Fatalf("%q, %v", after, err)
			}
			if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), "x.go")) {
				t.Fatal(err)
			}
		})
	}
}

func TestBadPatches(t *testing.T) {
	const file = "--- a/x.go\n+++ b/x.go\n"
	for name, text := range map[string]string{
		"no headers":       file + "@@ -1 +1 @@\n-a\n+b\n",
		"no test":          "Breaks: adding\n" + file + "@@ -1 +1 @@\n-a\n+b\n",
		"no change":        header,
		"nothing changed":  header + file + "@@ -1 +1 @@\n a\n",
		"no hunk":          header + file,
		"line of no hunk":  header + file + "-a\n",
		"neither nor":      header + file + "@@ -1 +1 @@\n-a\n+b\n\\ No newline\n",
		"removed":          header + "--- a/x.go\n+++ /dev/null\n@@ -1 +1 @@\n-a\n",
		"an unknown thing": header + "Why: because\n" + file + "@@ -1 +1 @@\n-a\n+b\n",
	} {
		if _, err := parse("name", text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestHunt plants bugs in a small program.
func TestHunt(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module small\n\ngo 1.26\n")
	write("add.go", "package small\n\nfunc add(a, b int) int {\n\treturn a + b\n}\n")
	write("add_test.go", `package small

import "testing"

func TestAdd(t *testing.T)    { t.Run("two", func(t *testing.T) { if add(1, 1) != 2 { t.Fatal() } }) }
func TestZero(t *testing.T)   { if add(0, 0) != 0 { t.Fatal() } }
func TestServer(t *testing.T) { t.Skip("no server") }
func TestWrong(t *testing.T)  { t.Fatal("always") }
`)
	bugOf := func(name, test, with string) *bug {
		b, err := parse(name, "Breaks: adding\nTest: . -run ^"+test+"$\n--- a/add.go\n+++ b/add.go\n@@ -4 +4 @@\n"+
			"-\treturn a + b\n+\treturn "+with+"\n")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var out strings.Builder
	s := suite{root: root, out: &out, clean: map[string]result{}}
	for _, b := range []*bug{
		bugOf("found", "TestAdd", "a - b"), bugOf("missed", "TestZero", "a - b"), bugOf("skipped", "TestServer", "a - b"),
		bugOf("failing", "TestWrong", "a - b"), bugOf("unknown", "TestNone", "a - b"), bugOf("compile", "TestAdd", "a - c"),
		bugOf("crash", "TestAdd", "func() int { go panic(a); select {} }()"),
		{name: "stale", test: []string{".", "-run", "^TestAdd$"}, files: []change{{"add.go", []hunk{{"return 0\n", ""}}}}},
	} {
		if err := s.hunt(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if s.end() {
		t.Error("a suite with a survivor is well")
	}
	for _, want := range []string{
		"caught    found                                    by TestAdd/two in", "SURVIVED  missed", "NOT RUN   skipped",
		"ERROR     failing                                  its tests fail without it",
		"ERROR     unknown                                  there is no such test",
		"ERROR     compile                                  no test failed, but go test did", "undefined: c",
		"ERROR     stale                                    add.go does not have the lines of hunk 1",
		"caught    crash                                    by TestAdd/two in",
		"\nbugs: 2 of 7 caught, 1 not run\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not said: %s", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}
