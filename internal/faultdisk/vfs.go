package faultdisk

import (
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	"modernc.org/sqlite/lib"
)

// shim is what stands between SQLite and its own layer. It is installed once, as the default, and passes on what does
// not concern the disk in use.
var shim struct {
	once sync.Once
	own  sqlite3.Tsqlite3_vfs // SQLite's own layer

	mu      sync.Mutex
	disk    *Disk
	paths   map[uintptr]string                      // of open files
	owned   map[uintptr]sqlite3.Tsqlite3_io_methods // by the table that stands for them
	methods map[uintptr]uintptr                     // from SQLite's own table to the one that stands for it
}

func install(d *Disk) {
	shim.once.Do(register)
	shim.mu.Lock()
	defer shim.mu.Unlock()
	shim.disk = d
}

func register() {
	tls := libc.NewTLS()
	own := sqlite3.Xsqlite3_vfs_find(tls, 0)
	shim.own = *at[sqlite3.Tsqlite3_vfs](own)
	shim.paths, shim.methods = map[uintptr]string{}, map[uintptr]uintptr{}
	shim.owned = map[uintptr]sqlite3.Tsqlite3_io_methods{}
	name, err := libc.CString("faultdisk")
	if err != nil {
		panic(err)
	}
	vfs := allocate(tls, shim.own)
	v := at[sqlite3.Tsqlite3_vfs](vfs)
	v.FzName, v.FpNext = name, 0
	v.FxOpen, v.FxDelete = pointer(xOpen), pointer(xDelete)
	if sqlite3.Xsqlite3_vfs_register(tls, vfs, 1) != sqlite3.SQLITE_OK {
		panic("the layer below SQLite cannot be registered")
	}
}

// at is what C memory holds at an address.
func at[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

// pointer is a function as C code calls it, and function is the way back. The library has its function pointers so.
func pointer[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&p)) }

func allocate[T any](tls *libc.TLS, value T) uintptr {
	p := libc.Xmalloc(tls, types.Size_t(unsafe.Sizeof(value)))
	if p == 0 {
		panic("no memory")
	}
	*at[T](p) = value
	return p
}

type (
	openFunction     = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32
	deleteFunction   = func(tls *libc.TLS, vfs, name uintptr, sync int32) int32
	writeFunction    = func(tls *libc.TLS, file, data uintptr, n int32, at int64) int32 // or read
	truncateFunction = func(tls *libc.TLS, file uintptr, length int64) int32
	closeFunction    = func(tls *libc.TLS, file uintptr) int32
)

func xOpen(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32 {
	result := function[openFunction](shim.own.FxOpen)(tls, vfs, name, file, flags, out)
	if result != sqlite3.SQLITE_OK || name == 0 {
		return result
	}
	shim.mu.Lock()
	defer shim.mu.Unlock()
	path := libc.GoString(name)
	if shim.disk == nil || !shim.disk.concerns(path) {
		return result
	}
	shim.paths[file] = path
	f := at[sqlite3.Tsqlite3_file](file)
	f.FpMethods = standIn(tls, f.FpMethods)
	return result
}

// standIn is the table of a file's methods with those that write replaced. The lock of the shim must be held.
func standIn(tls *libc.TLS, own uintptr) uintptr {
	if p, made := shim.methods[own]; made {
		return p
	}
	table := *at[sqlite3.Tsqlite3_io_methods](own)
	table.FxWrite, table.FxTruncate = pointer(xWrite), pointer(xTruncate)
	table.FxRead = pointer(xRead)
	table.FxSync, table.FxClose = pointer(xSync), pointer(xClose)
	p := allocate(tls, table)
	shim.methods[own] = p
	shim.owned[p] = *at[sqlite3.Tsqlite3_io_methods](own)
	return p
}

// opened finds the disk of a file and SQLite's own methods for it.
func opened(file uintptr) (d *Disk, path string, own sqlite3.Tsqlite3_io_methods) {
	shim.mu.Lock()
	defer shim.mu.Unlock()
	path, own = shim.paths[file], shim.owned[at[sqlite3.Tsqlite3_file](file).FpMethods]
	if shim.disk == nil || !shim.disk.concerns(path) {
		return &Disk{}, path, own // of a test that is over
	}
	return shim.disk, path, own
}

func xDelete(tls *libc.TLS, vfs, name uintptr, sync int32) int32 {
	result := function[deleteFunction](shim.own.FxDelete)(tls, vfs, name, sync)
	shim.mu.Lock()
	d, path := shim.disk, libc.GoString(name)
	shim.mu.Unlock()
	if result == sqlite3.SQLITE_OK && d != nil && d.concerns(path) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.log = append(d.log, Operation{kind: remove, path: path})
	}
	return result
}

func xWrite(tls *libc.TLS, file, data uintptr, n int32, to int64) int32 {
	d, path, own := opened(file)
	d.mu.Lock()
	defer d.mu.Unlock()
	result := int32(sqlite3.SQLITE_OK)
	switch d.next(write) {
	case IOError:
		return sqlite3.SQLITE_IOERR_WRITE
	case Full:
		return sqlite3.SQLITE_FULL
	case ShortWrite:
		n, result = n/2, sqlite3.SQLITE_FULL
	case LateError:
		result = sqlite3.SQLITE_IOERR_WRITE
	}
	bytes := slices.Clone(unsafe.Slice(at[byte](data), n))
	d.log = append(d.log, Operation{kind: write, path: path, at: to, data: bytes})
	if wrong := function[writeFunction](own.FxWrite)(tls, file, data, n, to); wrong != sqlite3.SQLITE_OK {
		return wrong
	}
	return result
}

func xRead(tls *libc.TLS, file, data uintptr, n int32, from int64) int32 {
	d, _, own := opened(file)
	d.mu.Lock()
	failed := d.next(read) != None
	d.mu.Unlock()
	if failed {
		return sqlite3.SQLITE_IOERR_READ
	}
	return function[writeFunction](own.FxRead)(tls, file, data, n, from)
}

func xTruncate(tls *libc.TLS, file uintptr, length int64) int32 {
	d, path, own := opened(file)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next(truncate) != None {
		return sqlite3.SQLITE_IOERR_TRUNCATE
	}
	d.log = append(d.log, Operation{kind: truncate, path: path, at: length})
	return function[truncateFunction](own.FxTruncate)(tls, file, length)
}

// xSync flushes in the log alone: no test needs the real disk to do it.
func xSync(_ *libc.TLS, file uintptr, _ int32) int32 {
	d, path, _ := opened(file)
	d.mu.Lock()
	defer d.mu.Unlock()
	failed := d.next(flush) != None
	d.log = append(d.log, Operation{kind: flush, path: path, failed: failed})
	if failed {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	return sqlite3.SQLITE_OK
}

func xClose(tls *libc.TLS, file uintptr) int32 {
	_, _, own := opened(file)
	shim.mu.Lock()
	delete(shim.paths, file)
	shim.mu.Unlock()
	return function[closeFunction](own.FxClose)(tls, file)
}

// sorted goes through files in the order of their paths, with their names: an image must depend on its seed alone.
func sorted(files map[string]*file) iter.Seq2[string, string] {
	return func(yield func(path, name string) bool) {
		for _, path := range slices.Sorted(maps.Keys(files)) {
			if !yield(path, filepath.Base(path)) {
				return
			}
		}
	}
}
