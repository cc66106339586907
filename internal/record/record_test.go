package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// inRoot has a test run in the root of the repository.
func inRoot(t *testing.T) {
	t.Helper()
	t.Chdir("../..")
}

func kindOf(t *testing.T, name string) *kind {
	t.Helper()
	for _, k := range kinds {
		if k.Name == name {
			return k
		}
	}
	t.Fatal("there is no kind ", name)
	return nil
}

// TestParse: counts are added up, those of each kind from its own lines.
func TestParse(t *testing.T) {
	for _, test := range []struct {
		kind, output  string
		count, failed int64
	}{
		{"crash", "    crash_test.go:93: counted 8 kills\nok\n    crash_test.go:93: counted 2 kills\n--- PASS", 10, 0},
		{"failures", "    x_test.go:1: counted 993 failing operations\n    x: counted 84 failing operations\n", 1077, 0},
		{"images", "    faultdisk_test.go:1: counted 993 failing operations\n", 0, 0},
		{"sim", "    sim_test.go:49: 1200 seeds a minute\n    sim_test.go:50: counted 1200 seeds\n", 1200, 0},
		{"bugs", "caught 1\nbugs: 60 of 62 caught\n", 60, 2},
		{"bugs", "bugs: 60 of 62 caught\nbugs: 62 of 62 caught\n", 62, 0},
		{"bugs", "make: no bugs\n", 0, 0},
		{"fuzz", "fuzz example/a FuzzA\n" +
			"fuzz: elapsed: 0s, gathering baseline coverage: 0/3 completed\n" +
			"fuzz: elapsed: 3s, execs: 100 (33/sec), new interesting: 0 (total: 3)\n" +
			"fuzz: elapsed: 6s, execs: 250 (50/sec), new interesting: 0 (total: 3)\n" +
			"--- FAIL: FuzzA\n    context deadline exceeded\nonce more\n" +
			"fuzz: elapsed: 3s, execs: 30 (10/sec), new interesting: 0 (total: 3)\nPASS\n" +
			"fuzz example/b FuzzB\nfuzz: elapsed: 3s, execs: 7 (2/sec), new interesting: 0 (total: 3)\n", 287, 0},
	} {
		e := kindOf(t, test.kind).parse(test.output)
		if e.Kind != test.kind || e.Count != test.count || e.Failed != test.failed {
			t.Errorf("%s: %+v of\n%s", test.kind, e, test.output)
		}
	}
}

// TestCountedLines: the tests print the lines that are read here.
func TestCountedLines(t *testing.T) {
	inRoot(t)
	text := ""
	for _, pattern := range []string{"internal/*/*_test.go", "internal/store/*/*_test.go", "cmd/holdfast/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if !strings.HasPrefix(file, "internal/record/") {
				content, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				text += string(content)
			}
		}
	}
	for _, k := range kinds {
		if k.Test != "" && !strings.Contains(text, `t.Logf("counted %d `+k.Test+`",`) {
			t.Errorf("no test counts %s", k.Test)
		}
	}
}

// TestTargets: the Makefile has what is run, apart from the seeded bugs, which come by themselves once it has them.
func TestTargets(t *testing.T) {
	inRoot(t)
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		variable := k.Number == "" || strings.Contains(string(makefile), "$("+k.Number+")")
		if k.Name != "bugs" && !hasTarget(k.Name) || !variable {
			t.Errorf("make %s, with %s", k.Name, k.Number)
		}
	}
}

// example is a book of two commits and two machines.
func example() *book {
	b := &book{}
	for _, e := range []entry{
		{Kind: "images", Count: 1000, Seconds: 10, Date: "2026-11-24", Commit: "aaa", Machine: "small"},
		{Kind: "bugs", Count: 60, Failed: 2, Seconds: 100, Date: "2026-11-24", Commit: "aaa", Machine: "small"},
		{Kind: "images", Count: 500, Seconds: 5, Date: "2026-11-25", Commit: "bbb", Machine: "large"},
		{Kind: "images", Count: 2000, Seconds: 15, Date: "2026-11-25", Commit: "aaa", Machine: "small"},
		{Kind: "images", Count: 1500, Failed: 1, Seconds: 3570, Date: "2026-11-26", Commit: "bbb", Machine: "large"},
		{Kind: "bugs", Count: 62, Seconds: 100, Date: "2026-11-26", Commit: "bbb", Machine: "small"},
	} {
		b.add(&e)
	}
	return b
}

// TestAdd: slices of one kind, commit and machine are one entry; those of different ones are added up, the newest of
// them last.
func TestAdd(t *testing.T) {
	b := example()
	if len(b.Entries) != 4 {
		t.Errorf("entries: %+v", b.Entries)
	}
	want := entry{
		Kind: "images", Count: 5000, Failed: 1, Seconds: 3600, Date: "2026-11-26", Commit: "bbb", Machine: "large",
	}
	if got := b.sum(kindOf(t, "images")); got != want {
		t.Errorf("%+v", got)
	}
	want = entry{Kind: "bugs", Count: 62, Seconds: 200, Date: "2026-11-26", Commit: "bbb", Machine: "small"}
	if got := b.sum(kindOf(t, "bugs")); got != want {
		t.Errorf("a fixed set: %+v", got)
	}
}

func TestTable(t *testing.T) {
	lines := strings.Split(example().table(), "\n")
	first := "Counted so far, in 1 h 3 min: 5,000 images of power losses, 62 seeded bugs caught; 1 failed."
	if lines[0] != first {
		t.Error(lines[0])
	}
	for _, want := range []string{
		"| images of power losses below SQLite, opened and audited | 5,000 | 1 | 250,000 | 1 h 0 min | 2026-11-26 " +
			"| bbb, and 1 before it from aaa on | 1, 2 | `make images IMAGES=20000 SEED=$(date +%s)` |",
		"| seeded bugs that the tests catch | 62 of 62 | 0 | all | 3 min | 2026-11-26 | bbb | 1 | `make bugs` |",
		"| seeds of the simulation | 0 | | 100,000 | | | | | `make sim SIMTIME=3m` |",
		"Machine 2: large.",
	} {
		if !strings.Contains(strings.Join(lines, "\n"), "\n"+want+"\n") {
			t.Errorf("no line\n%s\nin\n%s", want, strings.Join(lines, "\n"))
		}
	}
}

// TestTurn: the kind with the least time is next, those at their goal come last, and a fixed set is counted once a
// commit.
func TestTurn(t *testing.T) {
	inRoot(t)
	b, all := &book{}, func(*kind) bool { return true }
	for _, want := range []string{"crash", "images", "failures"} {
		k := turn(b, "aaa", all)
		if k.Name != want {
			t.Fatalf("%s instead of %s", k.Name, want)
		}
		b.add(&entry{Kind: k.Name, Count: 1, Seconds: 100, Commit: "aaa"})
	}
	images := func(k *kind) bool { return k.Name == "images" || k.Name == "crash" }
	b.add(&entry{Kind: "crash", Count: 1, Seconds: 100, Commit: "aaa"})
	if k := turn(b, "aaa", images); k.Name != "images" {
		t.Errorf("%s had less time than images", k.Name)
	}
	b.add(&entry{Kind: "images", Count: 250_000, Commit: "aaa"})
	if k := turn(b, "aaa", images); k.Name != "crash" {
		t.Errorf("%s is not behind its goal", k.Name)
	}
	b.add(&entry{Kind: "bugs", Count: 60, Commit: "aaa"})
	bugs := func(k *kind) bool { return k.Name == "bugs" }
	if k := turn(b, "aaa", bugs); k != nil {
		t.Error("the same bugs twice")
	}
}

// TestArguments: how many fit into a slice is learned from those before it, and each slice has a seed of its own.
func TestArguments(t *testing.T) {
	b := &book{}
	cuts, sim := kindOf(t, "cuts"), kindOf(t, "sim")
	if got := strings.Join(cuts.arguments(b, time.Minute, 1), " "); got != "cuts CUTS=200 SEED=1048576" {
		t.Error(got)
	}
	b.add(&entry{Kind: "cuts", Count: 400, Seconds: 20})
	if got := strings.Join(cuts.arguments(b, time.Minute, 2), " "); got != "cuts CUTS=600 SEED=2097152" {
		t.Error(got)
	}
	if got := strings.Join(sim.arguments(b, time.Minute, 1), " "); got != "sim SIMTIME=60s" {
		t.Error(got)
	}
}

func TestDirt(t *testing.T) {
	status := " M README.md\n M docs/record.json\n?? docs/new.md\n M internal/engine/door.go\n?? internal/new.go\n"
	if got := strings.Join(dirt(status), " "); got != "internal/engine/door.go internal/new.go" {
		t.Error(got)
	}
}

func TestBetween(t *testing.T) {
	got, err := between("a\n"+begin+"old\n"+end+"\nb\n", "new\n")
	if want := "a\n" + begin + "new\n" + end + "\nb\n"; got != want || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := between("a\n", "new"); err == nil {
		t.Error("a document without a place for it")
	}
}

// TestStopped: a command ends with everything that it started, and leaves no temporary files.
func TestStopped(t *testing.T) {
	file := filepath.Join(t.TempDir(), "folder")
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		for {
			if content, err := os.ReadFile(file); err == nil && len(content) > 0 {
				stop()
				return
			}
		}
	}()
	script := `mktemp >/dev/null; sleep 1000 & printf %s "$TMPDIR" >"$0"; wait`
	if _, err := execute(ctx, "sh", "-c", script, file); err == nil {
		t.Error("it was not stopped")
	}
	folder, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(string(folder)); !os.IsNotExist(err) {
		t.Errorf("%s: %v", folder, err)
	}
}

// TestDocuments: the table and the README say what the book says, and the README has the first line of the table.
func TestDocuments(t *testing.T) {
	inRoot(t)
	b, err := readBook(bookFile)
	if err != nil {
		t.Fatal(err)
	}
	var first [2]string
	for i, d := range []struct{ file, text string }{{tableFile, b.table()}, {lineFile, b.firstLine()}} {
		content, err := os.ReadFile(d.file)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := between(string(content), d.text); err != nil || want != string(content) {
			t.Errorf("%s does not agree with %s (make record TIME=0s writes it anew): %v", d.file, bookFile, err)
		}
		_, rest, _ := strings.Cut(string(content), begin)
		first[i], _, _ = strings.Cut(rest, "\n")
	}
	if first[0] != first[1] {
		t.Errorf("%s says\n%s\nand %s\n%s", tableFile, first[0], lineFile, first[1])
	}
}
