// Package file is a sink that appends events to a file, one JSON text a line, or to standard output.
package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/holdfast/holdfast/internal/relay"
)

// Sink is a [relay.Sink] in a file. What it has accepted is on the disk.
type Sink struct {
	path string

	mu   sync.Mutex
	file *os.File // nil: not open
	size int64    // as this sink has left it
}

var _ relay.Sink = (*Sink)(nil)

// New makes a sink of a file, which is made if it does not exist. It is opened with the first event.
func New(path string) *Sink { return &Sink{path: path} }

// Send implements [relay.Sink].
func (s *Sink) Send(_ context.Context, messages []relay.Message) (accepted int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.atItsEnd(); err != nil {
		return 0, err
	}
	text := lines(messages)
	if _, err = s.file.Write(text); err == nil {
		err = s.file.Sync()
	}
	if err != nil { // the end of the file is not known any more: look at it when it is opened again
		return 0, errors.Join(fmt.Errorf("writing events to a file: %w", err), s.close())
	}
	s.size += int64(len(text))
	return len(messages), nil
}

// Reopen begins a new file with the next event if the old one was moved away, as programs that rotate logs do.
func (s *Sink) Reopen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.close()
}

// Close implements [relay.Sink].
func (s *Sink) Close() error { return s.Reopen() }

func (s *Sink) close() error {
	if s.file == nil {
		return nil
	}
	file := s.file
	s.file = nil
	return file.Close()
}

// atItsEnd makes sure that the file is open and ends as this sink has left it. Where another process has written it in
// between, its end is looked at again.
func (s *Sink) atItsEnd() error {
	if s.file == nil {
		return s.open()
	}
	info, err := s.file.Stat()
	if err == nil && info.Size() == s.size {
		return nil
	}
	return errors.Join(err, s.close(), s.open())
}

// open opens the file for appending: a process that was away for long, and has lost the sink to another one meanwhile,
// must not write over what that has added.
func (s *Sink) open() error {
	file, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if s.size, err = cutHalfALine(file); err != nil {
		return errors.Join(fmt.Errorf("opening %s: %w", s.path, err), file.Close())
	}
	if folder, err := os.Open(filepath.Dir(s.path)); err == nil {
		_ = folder.Sync() // a new name has to be on the disk as well; not every system can
		_ = folder.Close()
	}
	s.file = file
	return nil
}

// lineBegins is how each line begins.
const lineBegins = `{"specversion":"1.0",`

// cutHalfALine takes away half of a line, which a crash may have left at the end, and returns the size of the rest. What
// is no half of an event is left alone: the file is another program's.
func cutHalfALine(file *os.File) (size int64, err error) {
	end, err := wholeLines(file)
	if err != nil {
		return 0, err
	}
	begins := make([]byte, len(lineBegins))
	n, err := file.ReadAt(begins, end)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if string(begins[:n]) != lineBegins[:n] {
		return 0, errors.New("its last line is not one of events: name another file")
	}
	return end, file.Truncate(end)
}

// wholeLines returns where the last whole line ends. A crash may have left half of one behind it, whose event is sent
// again.
func wholeLines(file *os.File) (end int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	block := make([]byte, 64<<10)
	for end = info.Size(); end > 0; {
		start := max(0, end-int64(len(block)))
		part := block[:end-start]
		if _, err := file.ReadAt(part, start); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}

func lines(messages []relay.Message) (b []byte) {
	for i := range messages {
		b = append(append(b, messages[i].Body...), '\n')
	}
	return b
}

// Writer is a [relay.Sink] that prints to standard output, say. What it has accepted is written, and no more.
type Writer struct{ To io.Writer }

// Send implements [relay.Sink].
func (w Writer) Send(_ context.Context, messages []relay.Message) (accepted int, err error) {
	if _, err := w.To.Write(lines(messages)); err != nil {
		return 0, fmt.Errorf("printing events: %w", err)
	}
	return len(messages), nil
}

// Close implements [relay.Sink].
func (Writer) Close() error { return nil }
