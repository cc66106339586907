package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/bench"
)

// TestBench: the measurements run, and end with a clean audit.
func TestBench(t *testing.T) {
	report := filepath.Join(t.TempDir(), "report.html")
	code, stdout, stderr := execute(t.Context(), "bench", "--duration=200ms", "--clients=4", "--report="+report)
	if code != exitOK || !strings.Contains(stdout, "audit: clean") || !strings.Contains(stdout, "retries") {
		t.Errorf("bench: exit %d: %s%s", code, stdout, stderr)
	}
	page, err := os.ReadFile(report)
	text := string(page)
	if err != nil || !strings.Contains(text, "<svg") || strings.Contains(text, "http://") || strings.Contains(text, "https://") {
		t.Errorf("the report needs charts and no network: %d bytes, %v", len(page), err)
	}
	s := serve(t, "--store=memory:")
	code, stdout, stderr = execute(t.Context(), "bench", "--url="+s.url, "--duration=200ms", "--clients=4",
		"--workload=life", "--rate=200", "--json")
	var out struct {
		Results []struct{ Good int }
		Audit   struct{ Acknowledged, Lost int }
	}
	err = json.Unmarshal([]byte(stdout), &out)
	if code != exitOK || err != nil || len(out.Results) != 1 || out.Results[0].Good == 0 || out.Audit.Acknowledged == 0 {
		t.Errorf("bench --url: exit %d: %v %s%s", code, err, stdout, stderr)
	}
	code, stdout, stderr = execute(t.Context(), "bench", "--sweep", "--duration=100ms", "--clients=4", "--workload=hot")
	if code != exitOK || !strings.Contains(stdout, "The server keeps up with") {
		t.Errorf("bench --sweep: exit %d: %s%s", code, stdout, stderr)
	}
	onSharedStores(t, func(t *testing.T, address string) {
		code, stdout, stderr := execute(t.Context(), "bench", "compare", "--duration=100ms", "--clients=2", "--products=2",
			"--share=2", "--store="+address)
		if code != exitOK || !strings.Contains(stdout, "2 servers on one database") {
			t.Errorf("bench compare: exit %d: %s%s", code, stdout, stderr)
		}
		if isPostgres(address) && !strings.Contains(stdout, "  B  PostgreSQL, guarded UPDATE") {
			t.Errorf("bench compare did not measure what else PostgreSQL is used for: %s", stdout)
		}
	})
}

// TestBenchPeers: a comparison measures every peer that is there, and names those that are not: in the table, in the JSON
// and on stderr.
func TestBenchPeers(t *testing.T) {
	arguments := []string{"bench", "compare", "--duration=100ms", "--clients=2", "--products=2"}
	code, stdout, stderr := execute(t.Context(), arguments...)
	if code != exitOK {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	const lacking = "SKIPPED PostgreSQL, SELECT … FOR UPDATE: no PostgreSQL was named"
	if !strings.Contains(stdout, lacking) || !strings.Contains(stderr, lacking) {
		t.Errorf("a peer that is missing must be named: %s%s", stdout, stderr)
	}
	const first = "  A  Redis, Lua script, appendfsync always"
	if _, err := exec.LookPath("redis-server"); err == nil && !strings.Contains(stdout, first) {
		t.Errorf("Redis is there and was not measured: %s", stdout)
	}
	t.Setenv("PATH", t.TempDir())
	code, stdout, stderr = execute(t.Context(), append(arguments, "--json")...)
	var out struct {
		Rows    []bench.Comparison
		Skipped []skippedPeer
	}
	err := json.Unmarshal([]byte(stdout), &out)
	if code != exitOK || err != nil || len(out.Rows) != 1 || len(out.Skipped) != 4 {
		t.Errorf("without any peer: exit %d: %v: %s%s", code, err, stdout, stderr)
	}
}

// TestBenchSheet: every new part gives its rows, or says what it lacks and goes on.
func TestBenchSheet(t *testing.T) {
	code, stdout, stderr := execute(t.Context(), "bench", "sheet", "--parts=reads,batch,redis,engine,sustained", "--json",
		"--duration=100ms", "--rounds=1", "--sustained=1000")
	if code != exitOK {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	rows := map[string]bench.SheetRow{}
	for line := range strings.Lines(stdout) {
		var r bench.SheetRow
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Skipped == "" && (r.Value <= 0 || r.Goal <= 0 || r.Aim < r.Goal) {
			t.Errorf("%+v", r)
		}
		rows[r.What] = r
	}
	for _, what := range []string{
		"GET one product / a bare handler, 64 connections",
		"GET one product, not modified (304) / a bare handler, 64 connections",
		"engine, hot, 1,024 callers, sustained over 1000 holds",
	} {
		if rows[what].Value == 0 {
			t.Errorf("no %s in %s", what, stdout)
		}
	}
	if len(rows) != 16 {
		t.Errorf("%d rows: %s", len(rows), stdout)
	}
}
