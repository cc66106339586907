// Command record runs the long forms of the tests that look for lost answers and oversold units, for as long as it is
// told, and adds what they counted to docs/record.json, from which it writes the table in docs/RELIABILITY.md and the
// line in README.md. `make record TIME=2h` runs it.
//
// It works in slices of a few minutes, each of one kind: next is always the kind that has had the least time so far and
// has not reached its goal. After each slice the files are written. So it can be stopped at any moment, which loses the
// slice that it is in, and it goes on where it was. A failure is counted and ends it.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	total := flag.Duration("time", 2*time.Hour, "how long to run")
	slice := flag.Duration("slice", 3*time.Minute, "how long each slice is, about")
	only := flag.String("only", "", "count this kind alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := &recorder{slice: *slice, end: time.Now().Add(*total), only: *only, aside: map[string]bool{}}
	if err := r.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

// recorder is one run.
type recorder struct {
	slice time.Duration
	end   time.Time
	only  string
	aside map[string]bool // kinds that cannot be counted here
}

// shortest is the time for which no slice is begun.
const shortest = 10 * time.Second

func (r *recorder) run(ctx context.Context) error {
	if err := toRoot(ctx); err != nil {
		return err
	}
	book, err := readBook(bookFile)
	if err != nil {
		return err
	}
	if err := book.write(); err != nil { // with no time at all, that is all
		return err
	}
	for left := time.Until(r.end); left >= shortest && ctx.Err() == nil; left = time.Until(r.end) {
		commit, err := cleanCommit(ctx)
		if err != nil {
			return err
		}
		k := r.next(book, commit)
		if k == nil {
			break
		}
		if err := r.count(ctx, book, k, commit, min(r.slice, left)); err != nil {
			return err
		}
	}
	fmt.Println(book.firstLine())
	return nil
}

// next is the kind whose turn it is, or nil.
func (r *recorder) next(b *book, commit string) *kind {
	return turn(b, commit, func(k *kind) bool {
		return !r.aside[k.Name] && (r.only == "" || r.only == k.Name)
	})
}

// count does one slice and writes it down.
func (r *recorder) count(ctx context.Context, b *book, k *kind, commit string, slice time.Duration) error {
	arguments := k.arguments(b, slice, uint64(time.Now().Unix()))
	fmt.Println(time.Now().Format(time.TimeOnly), "make", strings.Join(arguments, " "))
	start := time.Now()
	output, failure := execute(ctx, "make", arguments...)
	if ctx.Err() != nil {
		fmt.Println("stopped; this slice is not counted")
		return nil
	}
	if exit := new(exec.ExitError); failure != nil && !errors.As(failure, &exit) {
		return failure // it was not even begun
	}
	e := k.parse(output)
	if failure == nil && e.Count+e.Failed == 0 {
		fmt.Printf("nothing was counted; without %s from here on (is what they need there?)\n", k.Name)
		r.aside[k.Name] = true
		return nil
	}
	if failure != nil {
		e.Failed = max(e.Failed, 1)
	}
	e.Commit, e.Date, e.Machine = commit, time.Now().UTC().Format(time.DateOnly), machine()
	e.Seconds = int64(time.Since(start).Round(time.Second) / time.Second)
	b.add(&e)
	if err := b.write(); err != nil {
		return err
	}
	fmt.Printf("         %s %s in %d s\n", thousands(e.Count), k.Unit, e.Seconds)
	if e.Failed > 0 {
		fmt.Println(tail(output))
		again := "the lines above say how to see it again, after"
		if k.Seeded {
			again = "to see it again:"
		}
		return fmt.Errorf("%d of %s failed (%v); %s make %s",
			e.Failed, k.Unit, failure, again, strings.Join(arguments, " "))
	}
	return nil
}

// tail is the end of an output: what failed, most likely.
func tail(output string) string {
	const most = 8000
	return output[max(0, len(output)-most):]
}

// execute runs a command whose temporary files go with it, even when it is stopped.
func execute(ctx context.Context, name string, arguments ...string) (string, error) {
	folder, err := os.MkdirTemp("", "record-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(folder)
	if err := os.Chmod(folder, 0o755); err != nil { // database servers may run as another user
		return "", err
	}
	var output bytes.Buffer
	c := exec.CommandContext(ctx, name, arguments...)
	c.Stdout, c.Stderr = &output, &output
	c.Env = append(os.Environ(), "TMPDIR="+folder, "MAKEFLAGS=", "MAKELEVEL=") // those of make record are its own
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) } // with what it started
	c.WaitDelay = 10 * time.Second
	err = c.Run()
	return output.String(), err
}

// toRoot goes to the root of the repository, where the files are.
func toRoot(ctx context.Context) error {
	root, err := git(ctx, "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	return os.Chdir(strings.TrimSpace(root))
}

// cleanCommit is the commit that is counted. Changes of the text about it do not matter; others would make its name a
// lie.
func cleanCommit(ctx context.Context) (string, error) {
	status, err := git(ctx, "status", "--porcelain", "--untracked-files=all")
	if err != nil {
		return "", err
	}
	if dirty := dirt(status); len(dirty) > 0 {
		return "", fmt.Errorf("these are in no commit, so nobody could repeat what is counted: %s", strings.Join(dirty, ", "))
	}
	commit, err := git(ctx, "rev-parse", "--short=10", "HEAD")
	return strings.TrimSpace(commit), err
}

// dirt is the files of a git status that are no text.
func dirt(status string) (files []string) {
	for line := range strings.Lines(status) {
		file := strings.Trim(strings.TrimRight(line, "\n")[3:], `"`)
		if !strings.HasPrefix(file, "docs/") && !strings.HasSuffix(file, ".md") {
			files = append(files, file)
		}
	}
	return files
}

func git(ctx context.Context, arguments ...string) (string, error) {
	c := exec.CommandContext(ctx, "git", arguments...)
	c.Stderr = io.Discard
	out, err := c.Output()
	if err != nil {
		return "", errors.Join(fmt.Errorf("git %s", strings.Join(arguments, " ")), err)
	}
	return string(out), nil
}
