package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/holdfast/holdfast/internal/audit"
)

// readAnchors reads a file of anchors. One that does not exist yet is empty.
func readAnchors(path string) ([]audit.Anchor, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the anchors: %w", err)
	}
	list, err := audit.ReadAnchors(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s is not a file of anchors: %w: name another file, or mend that line", path, err)
	}
	return list, nil
}

// appendAnchor adds a line for what an audit has just seen. When it returns nil, the line is on the disk.
func appendAnchor(path string, a audit.Anchor) error {
	a.At = time.Now()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("adding an anchor: %w", err)
	}
	_, err = fmt.Fprintln(file, a)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("adding an anchor to %s: %w", path, err)
	}
	return nil
}
