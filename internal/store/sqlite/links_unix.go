//go:build unix

package sqlite

import (
	"os"
	"syscall"
)

// links is how many names a file has. One that was removed has none.
func links(info os.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Nlink)
	}
	return 1
}
