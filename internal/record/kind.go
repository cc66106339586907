package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// kind is something that is counted, by a target of the Makefile.
type kind struct {
	Name   string  // of its target, and in the data file
	Unit   string  // of the count, as the table's first line says it
	What   string  // for the table
	Goal   int64   // of a full release run
	Test   string  // what it prints behind the number of a line "counted N …"
	Number string  // the variable of the Makefile that says how much; empty: the target has a length of its own
	First  int64   // that variable in the first slice, when nobody knows yet how long it takes
	Yield  float64 // what is counted for one of it
	Timed  int     // the variable is a time, of each of so many parts of a slice
	Seeded bool    // SEED draws what happens
	Set    bool    // the count is of a fixed set: counted once a commit, not added up
}

var kinds = []*kind{
	{
		Name: "crash", Unit: "kills", What: "SIGKILL under load, of the server or of its database, on each store",
		Goal: 5_000, Test: "kills", Number: "CRASHES", First: 20, Yield: 2.25, Seeded: true,
	},
	{
		Name: "images", Unit: "images of power losses", What: "images of power losses below SQLite, opened and audited",
		Goal: 250_000, Test: "images", Number: "IMAGES", First: 2_000, Yield: 1, Seeded: true,
	},
	{
		Name: "failures", Unit: "failing operations",
		What: "operations below SQLite that fail (EIO, ENOSPC, short writes, flushes), each with a power loss after it",
		Goal: 25_000, Test: "failing operations", Seeded: true,
	},
	{
		Name: "cuts", Unit: "cut commits", What: "connections cut at a commit, on PostgreSQL and MongoDB",
		Goal: 20_000, Test: "cuts", Number: "CUTS", First: 200, Yield: 2, Seeded: true,
	},
	{
		Name: "histories", Unit: "linearizable histories",
		What: "histories of 150 operations through HTTP under kills and cuts, on each store, found linearizable",
		Goal: 5_000, Test: "histories", Number: "HISTORIES", First: 10, Yield: 2.25, Seeded: true,
	},
	{
		Name: "sim", Unit: "seeds of the simulation", What: "seeds of the simulation",
		Goal: 100_000, Test: "seeds", Number: "SIMTIME", Timed: 1,
	},
	{
		Name: "fuzz", Unit: "fuzz executions", What: "executions of the fuzz targets",
		Goal: 20_000_000, Number: "FUZZTIME", Timed: 6, // targets
	},
	{Name: "bugs", Unit: "seeded bugs caught", What: "seeded bugs that the tests catch", Set: true},
}

// arguments are those of make for a slice of about this length.
func (k *kind) arguments(b *book, slice time.Duration, seed uint64) []string {
	list := []string{k.Name}
	if k.Timed > 0 {
		each := max(slice/time.Duration(k.Timed), time.Second)
		list = append(list, fmt.Sprintf("%s=%.0fs", k.Number, each.Seconds()))
	} else if k.Number != "" {
		list = append(list, fmt.Sprintf("%s=%d", k.Number, k.howMany(b, slice)))
	}
	if k.Seeded {
		list = append(list, fmt.Sprintf("SEED=%d", seed<<20)) // a run may go on to the seeds after its own
	}
	return list
}

// howMany is how many of its number take so long, as far as the book tells.
func (k *kind) howMany(b *book, slice time.Duration) int64 {
	sum := b.sum(k)
	if sum.Count == 0 || sum.Seconds == 0 {
		return k.First
	}
	return max(1, int64(float64(sum.Count)/float64(sum.Seconds)*slice.Seconds()/k.Yield))
}

var (
	countedLine = regexp.MustCompile(`(?m)counted (\d+) ([a-z ]+)$`)
	bugsLine    = regexp.MustCompile(`(?m)^bugs: (\d+) of (\d+) caught`)
	execsOrNext = regexp.MustCompile(`(?m)^(?:fuzz \S+ Fuzz|once more|fuzz: .*execs: (\d+))`)
)

// parse reads what a target printed.
func (k *kind) parse(output string) entry {
	e := entry{Kind: k.Name}
	switch k.Name {
	case "fuzz":
		e.Count = executions(output)
	case "bugs":
		if found := bugsLine.FindAllStringSubmatch(output, -1); len(found) > 0 {
			last := found[len(found)-1]
			e.Count = number(last[1])
			e.Failed = number(last[2]) - e.Count
		}
	default:
		for _, found := range countedLine.FindAllStringSubmatch(output, -1) {
			if found[2] == k.Test {
				e.Count += number(found[1])
			}
		}
	}
	return e
}

// executions adds up the last count of each fuzz target: they grow until the next target begins.
func executions(output string) (sum int64) {
	last := int64(0)
	for _, found := range execsOrNext.FindAllStringSubmatch(output, -1) {
		if found[1] != "" {
			last = number(found[1])
			continue
		}
		sum, last = sum+last, 0
	}
	return sum + last
}

// number is that of digits which a pattern has matched.
func number(digits string) int64 {
	n, _ := strconv.ParseInt(digits, 10, 64)
	return n
}

// turn is the kind that is counted next: the one with the least time of those that are not at their goal, or else of
// all. A fixed set is counted once a commit.
func turn(b *book, commit string, may func(*kind) bool) (next *kind) {
	var least entry
	leastDone := false
	for _, k := range kinds {
		if !may(k) || !hasTarget(k.Name) || k.Set && b.has(k, commit) {
			continue
		}
		sum := b.sum(k)
		done := k.Goal > 0 && sum.Count >= k.Goal
		if next == nil || leastDone && !done || leastDone == done && sum.Seconds < least.Seconds {
			next, least, leastDone = k, sum, done
		}
	}
	return next
}

// hasTarget reports whether the Makefile can do it.
func hasTarget(name string) bool {
	makefile, err := os.ReadFile("Makefile")
	return err == nil && strings.Contains("\n"+string(makefile), "\n"+name+":")
}
