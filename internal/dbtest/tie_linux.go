package dbtest

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func tie(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }

// awaitStop returns when no thread of a child runs any more after SIGSTOP.
func awaitStop(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED, nil) == unix.EINTR {
	}
}
