package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

const bookFile = "docs/record.json"

// book is what has been counted: an entry for each kind, commit and machine, in the order in which they began.
type book struct {
	Entries []entry `json:"entries"`
}

type entry struct {
	Kind    string `json:"kind"`
	Count   int64  `json:"count"`
	Failed  int64  `json:"failed"`
	Seconds int64  `json:"seconds"`
	Date    string `json:"date"` // of the last slice
	Commit  string `json:"commit"`
	Machine string `json:"machine"`
}

// readBook reads a book, or begins one.
func readBook(file string) (*book, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return &book{Entries: []entry{}}, nil
	}
	if err != nil {
		return nil, err
	}
	b := &book{}
	if err := json.Unmarshal(content, b); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return b, nil
}

// add adds what a slice has counted.
func (b *book) add(e *entry) {
	i := slices.IndexFunc(b.Entries, func(o entry) bool {
		return o.Kind == e.Kind && o.Commit == e.Commit && o.Machine == e.Machine
	})
	if i < 0 {
		b.Entries = append(b.Entries, *e)
		return
	}
	sum := b.Entries[i]
	sum.Count, sum.Failed, sum.Seconds = sum.Count+e.Count, sum.Failed+e.Failed, sum.Seconds+e.Seconds
	sum.Date = e.Date
	b.Entries = append(slices.Delete(b.Entries, i, i+1), sum) // the newest is last
}

// of is the entries of a kind.
func (b *book) of(k *kind) (list []entry) {
	for _, e := range b.Entries {
		if e.Kind == k.Name {
			list = append(list, e)
		}
	}
	return list
}

func (b *book) has(k *kind, commit string) bool {
	return slices.ContainsFunc(b.of(k), func(e entry) bool { return e.Commit == commit })
}

// sum adds up a kind. Date and machine are the newest. Of a fixed set only the time is added up: the rest is the
// newest.
func (b *book) sum(k *kind) (sum entry) {
	for _, e := range b.of(k) {
		if k.Set {
			sum.Count, sum.Failed = 0, 0
		}
		sum = entry{
			Kind: e.Kind, Count: sum.Count + e.Count, Failed: sum.Failed + e.Failed, Seconds: sum.Seconds + e.Seconds,
			Date: e.Date, Commit: e.Commit, Machine: e.Machine,
		}
	}
	return sum
}

// write writes the book, and what the documents say of it.
func (b *book) write() error {
	content, err := json.MarshalIndent(b, "", "\t")
	if err != nil {
		return err
	}
	if err := replace(bookFile, string(content)+"\n"); err != nil {
		return err
	}
	for file, text := range map[string]string{tableFile: b.table(), lineFile: b.firstLine()} {
		old, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		changed, err := between(string(old), text)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := replace(file, changed); err != nil {
			return err
		}
	}
	return nil
}

// replace writes a file as a whole or not at all.
func replace(file, content string) error {
	next := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".new")
	if err := os.WriteFile(next, []byte(content), 0o644); err != nil {
		return err
	}
	return os.Rename(next, file)
}

// machine says what counts: enough to judge the figures, nothing that names it.
func machine() string {
	return fmt.Sprintf("%d cores, %s, %s, %s", runtime.NumCPU(), processor(), runtime.Version(), system())
}

func processor() string {
	content, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(content)) {
		if name, is := strings.CutPrefix(line, "model name"); is {
			return strings.Join(strings.Fields(strings.TrimLeft(name, "\t :")), " ")
		}
	}
	return runtime.GOARCH
}

// system is the kernel with its version, without what its builder has added.
func system() string {
	content, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	version, _, _ := strings.Cut(strings.TrimSpace(string(content)), "-")
	return "Linux " + version
}
