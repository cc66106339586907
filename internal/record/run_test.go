package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repository makes one whose Makefile counts as it is told here, and goes there.
func repository(t *testing.T) {
	t.Helper()
	for _, needed := range []string{"git", "make"} {
		if _, err := exec.LookPath(needed); err != nil {
			t.Skip(err)
		}
	}
	t.Chdir(t.TempDir())
	for file, content := range map[string]string{
		"Makefile": "images:\n\t@echo 'x_test.go:1: counted 5 images'; echo 'seed 7 is wrong'; exit 1\n" +
			"cuts:\n\t@echo SKIP\n" +
			"bugs:\n\t@echo 'bugs: 62 of 62 caught'\n",
		tableFile: begin + end + "\n",
		lineFile:  begin + end + "\n",
	} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, arguments := range []string{
		"init -q", "add -A", "-c user.name=test -c user.email=test@example.com commit -qm first",
	} {
		if out, err := exec.Command("git", strings.Fields(arguments)...).CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v: %s", arguments, err, out)
		}
	}
}

func record(t *testing.T, only string) error {
	t.Helper()
	r := &recorder{slice: time.Minute, end: time.Now().Add(time.Hour), only: only, aside: map[string]bool{}}
	return r.run(t.Context())
}

// TestRun: a fixed set is counted once for a commit, what cannot be counted is left out, and a failure is counted, ends
// the run and says how to see it again.
func TestRun(t *testing.T) {
	repository(t)
	for _, only := range []string{"bugs", "bugs", "cuts"} {
		if err := record(t, only); err != nil {
			t.Fatalf("%s: %v", only, err)
		}
	}
	err := record(t, "images")
	if err == nil || !strings.Contains(err.Error(), "make images IMAGES=2000 SEED=") {
		t.Errorf("a failure: %v", err)
	}
	b, err := readBook(bookFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Entries) != 2 || b.Entries[0].Count != 62 || b.Entries[1].Count != 5 || b.Entries[1].Failed != 1 {
		t.Errorf("%+v", b.Entries)
	}
	for _, file := range []string{tableFile, lineFile} {
		content, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(content), "5 images of power losses, 62 seeded bugs caught; 1 failed.\n") {
			t.Errorf("%s: %s %v", file, content, err)
		}
	}
}

// TestRefusesDirt: what was counted could not be repeated if the program was changed and not committed.
func TestRefusesDirt(t *testing.T) {
	repository(t)
	if err := os.WriteFile("door.go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := record(t, "bugs"); err == nil || !strings.Contains(err.Error(), "door.go") {
		t.Error(err)
	}
}
