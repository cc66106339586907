package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// testTimeout is how long one run of tests may take. Tests that a bug makes wait for ever fail by it.
const testTimeout = "2m"

// result is what a run of go test came to.
type result struct {
	ok      bool
	failed  []string // tests, the innermost first; those that were running where the whole process ended
	passed  int
	skipped int
	output  string
}

// overlay writes the file that has the go command read other files instead of those of the repository, and returns its
// path. So nothing of the repository is copied or changed, and what a bug does not touch is not compiled again.
func overlay(folder string, replaced map[string]string) (string, error) {
	text, err := json.Marshal(struct{ Replace map[string]string }{replaced})
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}

// goTest runs tests in a folder. With an overlay, they see the files that it names.
func goTest(ctx context.Context, folder, overlay string, arguments []string) (result, error) {
	command := exec.CommandContext(ctx, "go",
		append([]string{"test", "-json", "-count=1", "-timeout=" + testTimeout, "-vet=off", "-ldflags=-w"}, arguments...)...)
	command.Dir = folder
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	// Random tests draw the same each time, and leave nothing behind: that a bug is found is no accident.
	command.Env = append(os.Environ(), "RAPID_SEED=1", "RAPID_NOFAILFILE=1", "RAPID_SHRINKTIME=1s")
	if overlay != "" { // in the environment, so that tests that build the program build the one with the bug
		command.Env = append(command.Env, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	err := command.Run()
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return result{}, err
	}
	r, readErr := read(&out)
	r.ok = err == nil
	r.output += problems.String()
	return r, readErr
}

// read reads what go test -json prints.
func read(out io.Reader) (r result, err error) {
	var text strings.Builder
	var running []string
	for d := json.NewDecoder(out); ; {
		var event struct{ Action, Test, Output string }
		if err := d.Decode(&event); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return r, fmt.Errorf("reading the output of go test: %w", err)
		}
		text.WriteString(event.Output)
		if event.Test == "" { // it is about a package
			continue
		}
		switch event.Action {
		case "run":
			running = append(running, event.Test)
		case "fail":
			r.failed = append(r.failed, event.Test)
		case "pass":
			r.passed++
		case "skip":
			r.skipped++
		}
		if event.Action == "fail" || event.Action == "pass" || event.Action == "skip" {
			running = slices.DeleteFunc(running, func(test string) bool { return test == event.Test })
		}
	}
	slices.Reverse(running)
	r.failed = append(r.failed, running...)
	r.output = text.String()
	return r, nil
}
