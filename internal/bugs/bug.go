package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// bug is a change that makes the program wrong in one place, with tests that must notice it. Its file begins with
//
//	Breaks: what is wrong with it
//	Test: the arguments of go test
//
// and goes on with a unified diff.
type bug struct {
	name   string // that of the file, without .patch
	breaks string
	test   []string
	files  []change
}

// change is what a bug changes in one file.
type change struct {
	path  string // from the root of the repository, with slashes
	hunks []hunk
}

// hunk replaces some lines by others. Both have the context.
type hunk struct{ before, after string }

const patchSuffix = ".patch"

// load reads the bugs of a folder in the order of their names.
func load(folder string) (list []*bug, err error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*"+patchSuffix))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		b, err := parse(strings.TrimSuffix(filepath.Base(path), patchSuffix), string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, b)
	}
	return list, nil
}

func parse(name, text string) (*bug, error) {
	b := &bug{name: name}
	for line := range strings.Lines(text) {
		if err := b.parseLine(line); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	switch {
	case b.breaks == "" || len(b.test) == 0:
		return nil, errors.New("it must begin with a line for Breaks and one for Test")
	case len(b.files) == 0 || !b.changes():
		return nil, errors.New("it changes nothing")
	}
	return b, nil
}

func (b *bug) parseLine(line string) error {
	key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	switch {
	case len(b.files) == 0 && key == "Breaks:":
		b.breaks = value
	case len(b.files) == 0 && key == "Test:":
		b.test = strings.Fields(value)
	case key == "---" || key == "diff":
		// the line +++ names the file as well
	case key == "+++":
		path, cut := strings.CutPrefix(value, "b/")
		if !cut {
			return errors.New("a path begins with b/, and no file is removed")
		}
		b.files = append(b.files, change{path: path})
	case len(b.files) == 0:
		return errors.New("this stands before the first file, and is no header")
	default:
		return b.files[len(b.files)-1].parseLine(line)
	}
	return nil
}

func (c *change) parseLine(line string) error {
	if strings.HasPrefix(line, "@@") {
		c.hunks = append(c.hunks, hunk{})
		return nil
	}
	if len(c.hunks) == 0 {
		return errors.New("this stands before the first hunk")
	}
	h := &c.hunks[len(c.hunks)-1]
	switch text := line[1:]; line[0] {
	case ' ':
		h.before += text
		h.after += text
	case '-':
		h.before += text
	case '+':
		h.after += text
	default:
		return errors.New("a line of a hunk begins with a space, - or +")
	}
	return nil
}

// changes reports whether each hunk changes something.
func (b *bug) changes() bool {
	for _, c := range b.files {
		if len(c.hunks) == 0 || slices.ContainsFunc(c.hunks, func(h hunk) bool { return h.before == h.after }) {
			return false
		}
	}
	return true
}

// apply returns the text of a file with the bug. Line numbers are not looked at, so that a patch outlives changes
// elsewhere in the file. Instead, the lines that a hunk replaces, with their context, must be there exactly once: a bug
// that lands in another place than it was made for would prove nothing.
func (c *change) apply(text string) (string, error) {
	text = "\n" + text
	for i, h := range c.hunks {
		before := "\n" + h.before
		at := strings.Index(text, before)
		switch {
		case at < 0:
			return "", fmt.Errorf("%s does not have the lines of hunk %d: make the patch anew", c.path, i+1)
		case strings.Contains(text[at+1:], before):
			return "", fmt.Errorf("%s has the lines of hunk %d more than once: give the patch more context", c.path, i+1)
		}
		text = text[:at] + "\n" + h.after + text[at+len(before):]
	}
	return text[1:], nil
}

// plant writes the changed files into a folder, and returns which files of the repository they stand for.
func (b *bug) plant(root, folder string) (map[string]string, error) {
	replaced := map[string]string{}
	for i := range b.files {
		c := &b.files[i]
		original := filepath.Join(root, filepath.FromSlash(c.path))
		text, err := os.ReadFile(original)
		if err != nil {
			return nil, err
		}
		changed, err := c.apply(string(text))
		if err != nil {
			return nil, err
		}
		path := filepath.Join(folder, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			return nil, err
		}
		replaced[original] = path
	}
	return replaced, nil
}
