package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
	"github.com/holdfast/holdfast/internal/store/mongodb"
	"github.com/holdfast/holdfast/internal/store/postgres"
	"github.com/holdfast/holdfast/internal/store/sqlite"
)

// storeOptions are what every kind of store is opened with.
type storeOptions struct {
	clock         *store.Clock // which readings are gone by; nil: all that are not behind the store
	acceptNoFsync bool
	readOnly      bool
	create        string           // auto, always or never: what to do where there is no SQLite file; default auto
	now           func() time.Time // the clock that decides; default: the store's own
	log           *slog.Logger
}

// storeHelp is what --store can be.
const storeHelp = "memory:, sqlite:PATH, postgres://USER:PASSWORD@HOST/DATABASE or mongodb://HOST/DATABASE"

// openStore opens the store that a URL names, and says of which kind it is. This is the one place that knows every
// kind.
func openStore(ctx context.Context, address string, o storeOptions) (s store.Store, kind string, err error) {
	kind, rest, _ := strings.Cut(address, ":")
	switch kind {
	case "memory":
		if rest != "" {
			return nil, kind, fmt.Errorf("%w: the store memory: takes nothing after the colon", errUsage)
		}
		if o.readOnly {
			return nil, kind, fmt.Errorf(
				"%w: the store memory: ends with its server, so there is nothing to read", errUsage)
		}
		return memory.Open(memory.Options{Now: o.now, Clock: o.clock}), kind, nil
	case "sqlite":
		if rest == "" {
			return nil, kind, fmt.Errorf("%w: the store sqlite: needs a file, for example sqlite:holdfast.db", errUsage)
		}
		s, err := sqlite.Open(rest, sqlite.Options{
			Now: o.now, Clock: o.clock, Log: o.log, Create: sqlite.Create(o.create), ReadOnly: o.readOnly,
		})
		if err != nil {
			return nil, kind, err
		}
		return s, kind, nil
	case "postgres", "postgresql":
		s, err := postgres.Open(ctx, address, postgres.Options{
			Now: o.now, Clock: o.clock, AcceptNoFsync: o.acceptNoFsync, ReadOnly: o.readOnly, Log: o.log,
		})
		if err != nil {
			return nil, "postgres", err
		}
		return s, "postgres", nil
	case "mongodb", "mongodb+srv":
		s, err := mongodb.Open(ctx, address, mongodb.Options{
			Now: o.now, Clock: o.clock, ReadOnly: o.readOnly, Log: o.log,
		})
		if err != nil {
			return nil, "mongodb", err
		}
		return s, "mongodb", nil
	default:
		return nil, "", fmt.Errorf("%w: no store is called %q: use %s", errUsage, redact(address), storeHelp)
	}
}

// redact is the URL of a store without its passwords, those among the parameters included.
func redact(address string) string {
	if kind, _, _ := strings.Cut(address, ":"); kind == "memory" || kind == "sqlite" {
		return address
	}
	u, err := url.Parse(address)
	if err != nil { // Go takes an address with several hosts for no URL
		scheme, _, _ := strings.Cut(address, ":")
		return scheme + ":…"
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.Redacted()
}
