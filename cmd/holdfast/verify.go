package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// verifyCommand are the flags of holdfast verify.
type verifyCommand struct {
	Store string `default:"sqlite:holdfast.db" help:"Store URL. The store may be served at the same time."`
	JSON  bool   `help:"Print JSON."`

	Anchor string `placeholder:"FILE" help:"Require the history that earlier runs wrote to this file, and add a line for this one. Keep it away from the store."`
}

// clearLine empties a terminal's line, so that the next text takes the place of the progress that was shown there.
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
	s, _, err := openStore(ctx, c.Store, storeOptions{readOnly: true})
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
	result := verified{Report: report}
	var unread error
	result.last, unread = lastEvent(ctx, s)
	if sqlite, is := s.(interface{ UnreadLog() string }); is {
		result.unreadLog = sqlite.UnreadLog()
	}
	if err := errors.Join(c.print(env, &result), err, unread); err != nil {
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

// verified is what verify prints.
type verified struct {
	*audit.Report
	last      *inventory.Event // nil: there is none, or it cannot be read
	unreadLog string
}

// lastEvent shows how old a store is: a copy that was left behind is clean as well.
func lastEvent(ctx context.Context, s store.Store) (last *inventory.Event, err error) {
	err = s.View(ctx, func(v store.View) error {
		head, err := v.Head(ctx)
		if err != nil || head.Seq == 0 {
			return err
		}
		entries, err := v.Journal(ctx, store.JournalPosition{Seq: head.Seq}, 1, 1)
		if err != nil || len(entries) == 0 {
			return err
		}
		events, err := inventory.DecodeEvents(entries[0].First, entries[0].At, entries[0].Events)
		if err == nil && len(events) > 0 {
			last = &events[len(events)-1]
		}
		return nil // events that cannot be read are a breach, and the audit names it
	})
	return last, err
}

func eventTime(e *inventory.Event) string {
	return time.UnixMilli(int64(e.Time)).UTC().Format("2006-01-02T15:04:05.000Z")
}

func (r *verified) printLast(env *environment) {
	if r.unreadLog != "" {
		fmt.Fprintf(env.stdout, "the log %s could not be read, because its folder cannot be written: what was committed last "+
			"is missing here, and breaches may come from that; copy the file and its log to another folder and verify there\n",
			r.unreadLog)
	}
	if r.last == nil {
		fmt.Fprintln(env.stdout, "last event: none")
		return
	}
	fmt.Fprintf(env.stdout, "last event: number %d, %v of %s, at %s\n", r.last.Seq, r.last.Type, r.last.Subject(),
		eventTime(r.last))
}

// jsonLast is nil, or what the JSON says of the last event.
func (r *verified) jsonLast() any {
	if r.last == nil {
		return nil
	}
	return map[string]any{
		"sequence": r.last.Seq, "type": r.last.Type.String(), "subject": r.last.Subject(), "time": eventTime(r.last),
	}
}

func (c *verifyCommand) print(env *environment, r *verified) error {
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(map[string]any{
			"clean": r.Clean(), "batches": r.Batches, "events": r.Events,
			"products": r.Products, "stockRows": r.StockRows, "reservations": r.Reservations, "orders": r.Orders,
			"receipts": r.Receipts, "records": r.Records,
			"breaches": append([]audit.Breach{}, r.Breaches...), "moreBreaches": r.More,
			"lastEvent": r.jsonLast(), "unreadLog": r.unreadLog,
		})
	}
	for _, b := range r.Breaches {
		fmt.Fprintf(env.stdout, "BREACH %v\n", b)
	}
	if r.More > 0 {
		fmt.Fprintf(env.stdout, "and %d more\n", r.More)
	}
	r.printLast(env)
	verdict := "clean"
	if !r.Clean() {
		verdict = "NOT clean: stop serving this store, keep a copy of it, and restore a backup or repair the rows named above"
	}
	_, err := fmt.Fprintf(env.stdout, "verify: %d batches, %d events, %d products (%d stock rows), %d reservations, "+
		"%d orders, %d receipts, %d records: %s\n",
		r.Batches, r.Events, r.Products, r.StockRows, r.Reservations, r.Orders, r.Receipts, r.Records, verdict)
	return err
}
