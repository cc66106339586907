package main

import (
	"encoding/json"
	"fmt"

	"github.com/holdfast/holdfast/internal/audit"
)

type verifyCommand struct {
	Store string `default:"sqlite:holdfast.db" help:"Store URL. The store may be served at the same time."`
	JSON  bool   `help:"Print JSON."`
	Quiet bool   `help:"Print no progress."`
}

// Run implements holdfast verify.
func (c *verifyCommand) Run(env *environment) error {
	s, _, err := openStore(c.Store, storeOptions{readOnly: true, acceptClock: true})
	if err != nil {
		return err
	}
	defer s.Close()
	options := audit.Options{}
	if !c.Quiet && !c.JSON {
		options.Progress = func(line string) { fmt.Fprintf(env.stderr, "\r\033[K%s", line) }
		defer fmt.Fprint(env.stderr, "\r\033[K")
	}
	report, err := audit.Run(env, s, options)
	if err != nil {
		return err
	}
	if err := c.print(env, report); err != nil {
		return err
	}
	if !report.Clean() {
		return errReported
	}
	return nil
}

func (c *verifyCommand) print(env *environment, r *audit.Report) error {
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(map[string]any{
			"clean": r.Clean(), "batches": r.Batches, "events": r.Events, "products": r.Products, "stockRows": r.StockRows,
			"reservations": r.Reservations, "orders": r.Orders, "breaches": append([]audit.Breach{}, r.Breaches...), "moreBreaches": r.More,
		})
	}
	if !c.Quiet {
		fmt.Fprint(env.stderr, "\r\033[K")
	}
	for _, b := range r.Breaches {
		fmt.Fprintf(env.stdout, "BREACH %v\n", b)
	}
	if r.More > 0 {
		fmt.Fprintf(env.stdout, "and %d more\n", r.More)
	}
	verdict := "clean"
	if !r.Clean() {
		verdict = "NOT clean: stop serving this store, keep a copy of it, and restore a backup or repair the rows named above"
	}
	_, err := fmt.Fprintf(env.stdout, "verify: %d batches, %d events, %d products (%d stock rows), %d reservations, %d orders: %s\n",
		r.Batches, r.Events, r.Products, r.StockRows, r.Reservations, r.Orders, verdict)
	return err
}
