package client

import "testing"

// TestBackoff: a client with many attempts, or one whose calls travel together, waits a while before each of them. The
// time used to double until it was too large for a number.
func TestBackoff(t *testing.T) {
	for attempt := 1; attempt < 200; attempt++ {
		if d := backoff(attempt, nil); d <= 0 || d > longestBackoff+firstBackoff {
			t.Fatalf("after attempt %d: %v", attempt, d)
		}
	}
}
