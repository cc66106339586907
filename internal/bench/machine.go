package bench

import "time"

// Machine is where and by what a measurement was made.
type Machine struct {
	Cores   int       `json:"cores"`
	System  string    `json:"system"`
	Go      string    `json:"go"`
	Version string    `json:"version"`
	Command string    `json:"command"`
	At      time.Time `json:"at"`
}
