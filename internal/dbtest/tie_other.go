//go:build !linux

package dbtest

import "syscall"

func tie(*syscall.SysProcAttr) {}

func awaitStop(int) {}
