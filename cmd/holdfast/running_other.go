//go:build !linux

package main

import "time"

// sinceStart counts how long this process runs by a clock that nobody sets. Whether that goes on while the machine sleeps
// is the system's choice: where it does not, a long sleep is a jump to be confirmed.
func sinceStart() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}
