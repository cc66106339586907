// Package faultdisk is a disk below SQLite that notes what is written and flushed, and fails where it is told to. Of
// what it noted it makes images: what a power loss at some moment may leave behind.
//
// It stands between SQLite and its own layer for the operating system (a VFS), of which it replaces what writes. Files
// can be read as usual, as from the cache of an operating system that has not lost its power.
package faultdisk

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// sectorBytes is the least that a disk writes as a whole.
const sectorBytes = 512

// Operation is what was done to a file, or a note of whoever uses the disk.
type Operation struct {
	kind   kind
	path   string
	at     int64 // where data goes, or the length that is left
	data   []byte
	failed bool // of a flush
	note   any
}

type kind int

const (
	write kind = iota
	truncate
	flush
	remove
	note
	read
)

// Fault is what happens to one operation.
type Fault int

// The faults. Each happens once; the operation after it is well again.
const (
	None          Fault = iota
	IOError             // EIO
	Full                // ENOSPC
	ShortWrite          // a part is written, then ENOSPC
	LateError           // EIO of a write that was done all the same
	ReadError           // EIO of a read
	TruncateError       // EIO of a truncation
	FlushError          // EIO of a flush: what it had to flush may be lost, and the next flush does not say so
)

func (f Fault) String() string {
	return [...]string{
		"nothing", "EIO", "ENOSPC", "short write", "EIO of a write that was done", "EIO of a read",
		"EIO of a truncation",
		"failed flush",
	}[f]
}

// Disk is a folder below which everything is noted. At most one is in use at a time.
type Disk struct {
	folder string

	mu    sync.Mutex
	log   []Operation
	done  [FlushError + 1]int // the operations so far that each fault can happen to
	fail  int                 // the number of the one that fails, from 1; 0: none
	fault Fault
	met   bool
}

// New begins to note what is done below a folder. Of the operations that the fault can happen to, the one with the
// number fail (from 1) meets it.
func New(folder string, fail int, fault Fault) *Disk {
	d := &Disk{folder: folder, fail: fail, fault: fault}
	install(d)
	return d
}

// Note enters a note between the operations.
func (d *Disk) Note(what any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, Operation{kind: note, note: what})
}

// Operations is how many operations there were so far that a fault can happen to.
func (d *Disk) Operations(f Fault) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done[f]
}

// Fault is the fault that the disk has.
func (d *Disk) Fault() Fault { return d.fault }

// Met reports whether the fault has happened.
func (d *Disk) Met() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.met
}

// Log is everything that was done.
func (d *Disk) Log() []Operation {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clip(d.log)
}

// concerns reports whether a file is on the disk. The index of a write-ahead log is not: it is memory.
func (d *Disk) concerns(path string) bool {
	return filepath.Dir(path) == d.folder && !strings.HasSuffix(path, "-shm")
}

var possible = map[kind][]Fault{
	write: {IOError, Full, ShortWrite, LateError}, truncate: {TruncateError}, flush: {FlushError},
	read: {ReadError},
}

// next counts an operation and returns its fault.
func (d *Disk) next(k kind) Fault {
	for _, f := range possible[k] {
		d.done[f]++
		if f == d.fault && d.done[f] == d.fail {
			d.met = true
			return f
		}
	}
	return None
}

// Image is the content of files by name.
type Image map[string][]byte

// Draw makes the image of a power loss after the operations of a log. Of what was not flushed, each sector may have
// been written or not, or be as an earlier write has left it. The last note is returned with it.
func Draw(log []Operation, r *rand.Rand) (image Image, last any) {
	files := map[string]*file{}
	for i := range log {
		op := &log[i]
		f := files[op.path]
		if f == nil {
			f = &file{}
			files[op.path] = f
		}
		switch op.kind {
		case write, truncate:
			f.pending = append(f.pending, op)
		case flush:
			f.flush(op.failed, r)
		case remove:
			delete(files, op.path)
		case note:
			last = op.note
		}
	}
	delete(files, "") // of the notes
	image = Image{}
	for path, name := range sorted(files) {
		f := files[path]
		f.lose(r)
		image[name] = f.content
	}
	return image, last
}

// file is what is safe of a file, and what is not yet.
type file struct {
	content []byte
	pending []*Operation
}

// flush makes all safe. One that fails loses some of it, for good: the cache takes it for written.
func (f *file) flush(failed bool, r *rand.Rand) {
	if failed {
		f.lose(r)
		return
	}
	for _, op := range f.pending {
		f.apply(op, func() bool { return true })
	}
	f.pending = nil
}

// lose keeps a part of what is not safe: mostly any sectors, now and then none or all.
func (f *file) lose(r *rand.Rand) {
	keep := func() bool { return r.IntN(2) == 0 }
	if n := r.IntN(8); n < 2 {
		keep = func() bool { return n == 0 }
	}
	for _, op := range f.pending {
		f.apply(op, keep)
	}
	f.pending = nil
}

func (f *file) apply(op *Operation, keep func() bool) {
	if op.kind == truncate {
		if keep() {
			f.content = resized(f.content, op.at)
		}
		return
	}
	for from := int64(0); from < int64(len(op.data)); {
		to := min(int64(len(op.data)), (op.at+from)/sectorBytes*sectorBytes+sectorBytes-op.at)
		if keep() {
			if end := op.at + to; end > int64(len(f.content)) {
				f.content = resized(f.content, end)
			}
			copy(f.content[op.at+from:], op.data[from:to])
		}
		from = to
	}
}

func resized(content []byte, length int64) []byte {
	if length <= int64(len(content)) {
		return content[:length:length]
	}
	return append(content, make([]byte, length-int64(len(content)))...)
}
