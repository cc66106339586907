package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	tableFile = "docs/RELIABILITY.md"
	lineFile  = "README.md"
	begin     = "<!-- The record begins: written by make record. -->\n"
	end       = "<!-- The record ends. -->"
)

// firstLine says everything in one line.
func (b *book) firstLine() string {
	seconds, failed := int64(0), int64(0)
	var counts []string
	for _, k := range kinds {
		sum := b.sum(k)
		seconds, failed = seconds+sum.Seconds, failed+sum.Failed
		if sum.Count > 0 {
			counts = append(counts, thousands(sum.Count)+" "+k.Unit)
		}
	}
	if len(b.Entries) == 0 {
		return "Counted so far: nothing."
	}
	return fmt.Sprintf("Counted so far, in %s: %s; %s failed.",
		duration(seconds), strings.Join(counts, ", "), thousands(failed))
}

// table is the first line, a row for each kind, and the machines.
func (b *book) table() string {
	var machines []string
	for _, e := range b.Entries {
		if !slices.Contains(machines, e.Machine) {
			machines = append(machines, e.Machine)
		}
	}
	var text strings.Builder
	text.WriteString(b.firstLine() + "\n\n")
	text.WriteString("| what | counted | failed | goal of a release | time | last on | commit | machine | command |\n")
	text.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	for _, k := range kinds {
		text.WriteString(b.row(k, machines))
	}
	for i, m := range machines {
		fmt.Fprintf(&text, "\nMachine %d: %s.\n", i+1, m)
	}
	return text.String()
}

func (b *book) row(k *kind, machines []string) string {
	sum := b.sum(k)
	goal, counted := "all", thousands(sum.Count)
	if k.Goal > 0 {
		goal = thousands(k.Goal)
	} else if sum.Count > 0 {
		counted = fmt.Sprintf("%s of %s", counted, thousands(sum.Count+sum.Failed))
	}
	if sum.Commit == "" {
		return fmt.Sprintf("| %s | 0 | | %s | | | | | `%s` |\n", k.What, goal, k.command())
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s | `%s` |\n", k.What, counted, thousands(sum.Failed), goal,
		duration(sum.Seconds), sum.Date, b.commits(k), b.machinesOf(k, machines), k.command())
}

// command is what anybody can run to do the same.
func (k *kind) command() string {
	command := "make " + k.Name
	switch {
	case k.Timed > 0:
		command += " " + k.Number + "=3m"
	case k.Number != "":
		command += fmt.Sprintf(" %s=%d", k.Number, k.First*10)
	}
	if k.Seeded {
		command += " SEED=$(date +%s)"
	}
	return command
}

// commits is the newest commit, and the span if there are several.
func (b *book) commits(k *kind) string {
	var list []string
	for _, e := range b.of(k) {
		if i := slices.Index(list, e.Commit); i >= 0 {
			list = slices.Delete(list, i, i+1)
		}
		list = append(list, e.Commit)
	}
	newest := list[len(list)-1]
	if len(list) == 1 || k.Set {
		return newest
	}
	return fmt.Sprintf("%s, and %d before it from %s on", newest, len(list)-1, list[0])
}

func (b *book) machinesOf(k *kind, machines []string) string {
	var numbers []string
	for i, m := range machines {
		if slices.ContainsFunc(b.of(k), func(e entry) bool { return e.Machine == m }) {
			numbers = append(numbers, fmt.Sprint(i+1))
		}
	}
	return strings.Join(numbers, ", ")
}

// between puts a text between the two comments of a document.
func between(document, text string) (string, error) {
	before, rest, found := strings.Cut(document, begin)
	_, after, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		return "", errors.New("the comments between which the record stands are not there")
	}
	return before + begin + strings.TrimRight(text, "\n") + "\n" + end + after, nil
}

// thousands is 1,234,567.
func thousands(n int64) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func duration(seconds int64) string {
	minutes := (seconds + 30) / 60
	switch {
	case seconds < 60:
		return fmt.Sprintf("%d s", seconds)
	case minutes < 60:
		return fmt.Sprintf("%d min", minutes)
	}
	return fmt.Sprintf("%d h %d min", minutes/60, minutes%60)
}
