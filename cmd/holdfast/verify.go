package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/holdfast/holdfast/internal/audit"
)

type verifyCommand struct {
	Store string `default:"sqlite:holdfast.db" help:"Store URL. The store may be served at the same time."`
	JSON  bool   `help:"Print JSON."`

	Anchor string `placeholder:"FILE" help:"Require the history that earlier runs wrote to this file, and add a line for this one. Keep it away from the store."`
}

// clearLine lets a terminal's progress line be written over.
const clearLine = "\r\033[K"

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Run implements holdfast verify.
func (c *verifyCommand) Run(ctx context.Context, env *environment) error {
	s, _, err := openStore(ctx, c.Store, storeOptions{readOnly: true, acceptClock: true})
	if err != nil {
		return err
	}
	defer s.Close()
	options := audit.Options{}
	if c.Anchor != "" {
		if options.Anchors, err = readAnchors(c.Anchor); err != nil {
			return err
		}
	}
	if isTerminal(env.stderr) {
		options.Progress = func(line string) { fmt.Fprint(env.stderr, clearLine, line) }
	}
	report, err := audit.Run(ctx, s, options)
	if isTerminal(env.stderr) {
		fmt.Fprint(env.stderr, clearLine)
	}
	if err != nil && report.Clean() {
		return err
	}
	if err := errors.Join(c.print(env, report), err); err != nil {
		return err
	}
	if !report.Clean() {
		return errReported
	}
	if c.Anchor != "" {
		return appendAnchor(c.Anchor, report.Last)
	}
	return nil
}

func (c *verifyCommand) print(env *environment, r *audit.Report) error {
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(map[string]any{
			"clean": r.Clean(), "batches": r.Batches, "events": r.Events, "products": r.Products, "stockRows": r.StockRows,
			"reservations": r.Reservations, "orders": r.Orders, "receipts": r.Receipts, "records": r.Records, "breaches": append([]audit.Breach{}, r.Breaches...), "moreBreaches": r.More,
		})
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
	_, err := fmt.Fprintf(env.stdout, "verify: %d batches, %d events, %d products (%d stock rows), %d reservations, %d orders, "+
		"%d receipts, %d records: %s\n",
		r.Batches, r.Events, r.Products, r.StockRows, r.Reservations, r.Orders, r.Receipts, r.Records, verdict)
	return err
}
