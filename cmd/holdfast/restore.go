package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/sqlite"
)

// restoreCommand are the flags of holdfast restore.
type restoreCommand struct {
	Copy  string `arg:"" optional:"" placeholder:"COPY" help:"A copy of a SQLite store file, which is put where --store says. Without one, the store itself is a copy that was put in place by other means."`
	Store string `default:"sqlite:holdfast.db" help:"Store URL. Stop its servers first."`
}

// Help is what holdfast restore --help adds.
func (*restoreCommand) Help() string {
	return "A store that is brought back to an older state gives sequences again that consumers of its feed have seen with " +
		"other events. Restoring begins a new epoch: cursors and event ids from the lost end are told apart from new ones, and " +
		"whoever comes back with one is answered 409 cursor-ahead."
}

// Run implements holdfast restore.
func (c *restoreCommand) Run(ctx context.Context, env *environment) error {
	if c.Copy == "" {
		return c.begin(ctx, env, c.Store)
	}
	kind, path, _ := strings.Cut(c.Store, ":")
	if kind != "sqlite" || path == "" {
		return fmt.Errorf("%w: a copy of a file can be put at --store sqlite:PATH only: for %s, restore the database with the "+
			"tools of its server, and then run holdfast restore without COPY", errUsage, redact(c.Store))
	}
	err := sqlite.Restore(ctx, strings.TrimPrefix(c.Copy, "sqlite:"), path, func(restoring string) error {
		if err := auditCopy(ctx, "sqlite:"+restoring); err != nil {
			return err
		}
		return c.begin(ctx, env, "sqlite:"+restoring)
	})
	if err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	_, err = fmt.Fprintf(env.stdout, "%s is in place. Start its server.\n", path)
	return err
}

// auditCopy makes sure that the copy is worth restoring.
func auditCopy(ctx context.Context, address string) error {
	s, _, err := openStore(ctx, address, storeOptions{readOnly: true})
	if err != nil {
		return err
	}
	defer s.Close()
	report, err := audit.Run(ctx, s, audit.Options{})
	if err == nil && !report.Clean() {
		err = fmt.Errorf("the copy is damaged, for example %s: restore another one, or see all with holdfast verify",
			report.Breaches[0])
	}
	return err
}

// begin begins an epoch of the feed of a store.
func (c *restoreCommand) begin(ctx context.Context, env *environment, address string) error {
	s, kind, err := openStore(ctx, address, storeOptions{create: string(sqlite.CreateNever), clock: store.NewClock(true, 0, nil)})
	if err != nil {
		return err
	}
	defer s.Close()
	if kind == "memory" {
		return fmt.Errorf("%w: the store memory: ends with its server, so there is nothing to restore", errUsage)
	}
	var epoch inventory.Epoch
	rand.Read(epoch[:])
	if err := store.BeginEpoch(ctx, s, epoch); err != nil {
		return err
	}
	var head store.Head
	err = s.View(ctx, func(v store.View) (err error) {
		head, err = v.Head(ctx)
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.stdout, "A new epoch of the feed begins after event %d.\n", head.Seq)
	return err
}
