package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceStart counts how long this process runs by a clock that nobody sets, and that goes on while the machine sleeps.
func sinceStart() func() time.Duration {
	read := func() time.Duration {
		var t unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
			panic(err) // Linux has had it since 2.6.39
		}
		return time.Duration(t.Nano())
	}
	start := read()
	return func() time.Duration { return read() - start }
}
