package sim

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	oneSeed  = flag.Uint64("seed", 0, "run this seed alone, and tell its history")
	seeds    = flag.Uint64("seeds", 1000, "how many seeds to run")
	simTime  = flag.Duration("simtime", 0, "run new seeds for so long instead")
	seedFile = "testdata/seeds.txt"
)

// TestSeeds runs the seeds that once found something, and then others.
func TestSeeds(t *testing.T) {
	if *oneSeed > 0 {
		run(t, *oneSeed, t.Logf)
		return
	}
	for _, seed := range found(t) {
		run(t, seed, nil)
	}
	if *simTime > 0 {
		explore(t)
		return
	}
	for seed := range *seeds {
		run(t, seed+1, nil)
	}
}

// explore runs seeds that nobody has run before, until the time is over.
func explore(t *testing.T) {
	start := time.Now()
	first, n := uint64(start.UnixNano()), 0
	defer func() { t.Logf("counted %d seeds", n) }() // those that were clean, if another is not
	for ; time.Since(start) < *simTime; n++ {
		run(t, first+uint64(n), nil)
	}
	t.Logf("%.0f seeds a minute", float64(n)/time.Since(start).Minutes())
}

func run(t *testing.T, seed uint64, trace func(string, ...any)) {
	t.Helper()
	wrong := ""
	synctest.Test(t, func(*testing.T) { wrong = Run(seed, trace) })
	if wrong != "" {
		t.Fatalf("seed %d: %s\nto see its history: go test ./internal/sim -v -seed %d", seed, wrong, seed)
	}
}

// found reads the seeds of the file: one a line, and what it found behind it.
func found(t *testing.T) (list []uint64) {
	t.Helper()
	file, err := os.Open(seedFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		number, _, _ := strings.Cut(lines.Text(), " ")
		if number == "" || number == "#" {
			continue
		}
		seed, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", seedFile, err)
		}
		list = append(list, seed)
	}
	return list
}

// TestReplay: a seed always gives the same history.
func TestReplay(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		first, again := history(t, seed), history(t, seed)
		if first != again {
			t.Fatalf("seed %d gave two histories:\n%s\n\n%s", seed, first, again)
		}
	}
}

func history(t *testing.T, seed uint64) string {
	var b strings.Builder
	run(t, seed, func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) })
	return b.String()
}
