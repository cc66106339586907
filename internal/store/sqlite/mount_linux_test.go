package sqlite

import "syscall"

func mountTmpfs(folder, options string) error {
	return syscall.Mount("none", folder, "tmpfs", 0, options)
}

func mountBind(from, to string) error { return syscall.Mount(from, to, "", syscall.MS_BIND, "") }

func mountReadOnly(from, to string) error {
	if err := mountBind(from, to); err != nil {
		return err
	}
	return syscall.Mount("", to, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
}

func unmount(folder string) error { return syscall.Unmount(folder, syscall.MNT_DETACH) }
