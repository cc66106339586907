// Command bugs shows that the tests find bugs. It plants one at a time, each a patch in the folder patches, and runs
// the tests that the patch names: they must fail.
//
//	go run ./internal/bugs             all of them
//	go run ./internal/bugs -run audit  those whose name matches
//
// Its last line is "bugs: N of M caught". It ends with 1 if one was not, or if a patch is of no use: it does not apply,
// does not compile, or its tests fail without it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	expression := flag.String("run", "", "plant only the bugs whose name matches this regular expression")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok, err := start(ctx, os.Stdout, *expression)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bugs:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// start finds the repository and its bugs.
func start(ctx context.Context, out io.Writer, expression string) (ok bool, err error) {
	chosen, err := regexp.Compile(expression)
	if err != nil {
		return false, fmt.Errorf("-run: %w", err)
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return false, fmt.Errorf("finding the repository: %w", err)
	}
	s := suite{root: strings.TrimSpace(string(root)), out: out, clean: map[string]result{}}
	bugs, err := load(filepath.Join(s.root, "internal", "bugs", "patches"))
	if err != nil {
		return false, err
	}
	for _, b := range bugs {
		if !chosen.MatchString(b.name) {
			continue
		}
		if err := s.hunt(ctx, b); err != nil {
			return false, err
		}
	}
	return s.end(), nil
}

// suite is a run over several bugs.
type suite struct {
	root  string
	out   io.Writer
	clean map[string]result // of tests without a bug, by their arguments

	caught, survived, unusable, skipped int
}

// hunt plants a bug and says what became of it. The error is that of the suite, not of the bug.
func (s *suite) hunt(ctx context.Context, b *bug) error {
	start := time.Now()
	clean, err := s.withoutBug(ctx, b)
	switch {
	case err != nil:
		return err
	case !clean.ok:
		s.useless(b, "its tests fail without it", clean.output)
		return nil
	case clean.passed == 0 && clean.skipped > 0:
		s.skipped++
		s.say("NOT RUN ", b, "its tests are skipped here: "+strings.Join(b.test, " "))
		return nil
	case clean.passed == 0:
		s.useless(b, "there is no such test: "+strings.Join(b.test, " "), "")
		return nil
	}
	r, err := s.withBug(ctx, b)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		s.useless(b, err.Error(), "")
	case len(r.failed) > 0:
		s.caught++
		s.say("caught  ", b, fmt.Sprintf("by %s in %.1fs", r.failed[0], time.Since(start).Seconds()))
	case !r.ok:
		s.useless(b, "no test failed, but go test did: it must compile", r.output)
	default:
		s.survived++
		s.say("SURVIVED", b, fmt.Sprintf("%s: go test %s", b.breaks, strings.Join(b.test, " ")))
	}
	return nil
}

// withoutBug runs the tests of a bug on the tree as it is, unless that was done before.
func (s *suite) withoutBug(ctx context.Context, b *bug) (result, error) {
	key := strings.Join(b.test, " ")
	if r, known := s.clean[key]; known {
		return r, nil
	}
	r, err := goTest(ctx, s.root, "", b.test)
	s.clean[key] = r
	return r, err
}

// withBug runs the tests of a bug with it. The error says why it cannot be planted.
func (s *suite) withBug(ctx context.Context, b *bug) (result, error) {
	folder, err := os.MkdirTemp("", "holdfast-bug-")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(folder)
	replaced, err := b.plant(s.root, folder)
	if err != nil {
		return result{}, err
	}
	path, err := overlay(folder, replaced)
	if err != nil {
		return result{}, err
	}
	return goTest(ctx, s.root, path, b.test)
}

// shownBytes bounds what is shown of the output of tests: that of one which ran out of time has every goroutine.
const shownBytes = 2000

// useless says that a bug shows nothing.
func (s *suite) useless(b *bug, why, output string) {
	s.unusable++
	s.say("ERROR   ", b, why)
	if output = strings.TrimSpace(output); output != "" {
		fmt.Fprintln(s.out, output[:min(len(output), shownBytes)])
	}
}

func (s *suite) say(what string, b *bug, more string) {
	fmt.Fprintf(s.out, "%s  %-40s %s\n", what, b.name, more)
}

// end prints the counts, and reports whether every bug was caught.
func (s *suite) end() bool {
	line := fmt.Sprintf("bugs: %d of %d caught", s.caught, s.caught+s.survived+s.unusable)
	if s.skipped > 0 {
		line += fmt.Sprintf(", %d not run", s.skipped)
	}
	fmt.Fprintln(s.out, line)
	return s.survived+s.unusable == 0
}
