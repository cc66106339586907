package sqlite

import (
	"errors"
	"os"
	"syscall"
)

// ofdSetLock is F_OFD_SETLK of linux/fcntl.h, which package syscall lacks.
const ofdSetLock = 37

// lockedByte lies just before the bytes of the file that SQLite locks, so that neither is in the other's way.
const lockedByte = 0x40000000 - 1

// lockInode locks the file itself, under whatever name it was opened, until it is closed. The lock belongs to the open
// file: unlike a POSIX lock it also keeps out other openings of the same process, and it does not end when one of those
// is closed.
func lockInode(file *os.File) (locked bool, err error) {
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Start: lockedByte, Len: 1}
	err = syscall.FcntlFlock(file.Fd(), ofdSetLock, &lock)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return false, nil
	}
	return err == nil, err
}
