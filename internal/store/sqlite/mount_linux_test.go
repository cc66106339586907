package sqlite

import "syscall"

func mountTmpfs(folder, options string) error {
	return syscall.Mount("none", folder, "tmpfs", 0, options)
}

func unmount(folder string) error { return syscall.Unmount(folder, syscall.MNT_DETACH) }
