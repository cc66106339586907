package load

import "io"

// Report is what a page shows.
type Report struct {
	Machine Machine
	Results []*Result
	Sweep   *Sweep
	Nothing *Result
	Audit   *Audit
}

// WriteReport writes the page.
func WriteReport(w io.Writer, r *Report) error { return nil }
