package dbtest

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func tie(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }

// awaitStopped returns when all threads of a child have been stopped.
func awaitStopped(pid int) { _ = unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil) }
