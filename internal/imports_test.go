// Package internal_test holds the house rules that no single package can check.
package internal_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/holdfast/holdfast/"

// TestImports: imports point one way. What a package may import of ours is listed here, with the reason for what it may not.
func TestImports(t *testing.T) {
	allowed := map[string][]string{
		"internal/inventory":       {},                     // pure: no I/O, and nothing of ours
		"internal/store":           {"internal/inventory"}, // a contract, not an implementation
		"internal/store/memory":    {"internal/inventory", "internal/store"},
		"internal/store/sqlite":    {"internal/inventory", "internal/store"}, // stores do not know each other, nor what uses them
		"internal/store/mongodb":   {"internal/inventory", "internal/store"},
		"internal/store/postgres":  {"internal/inventory", "internal/store"},
		"internal/dbtest":          {}, // servers for tests, whatever is tested
		"internal/store/storetest": {"internal/inventory", "internal/store", "internal/audit"},
		"internal/engine":          {"internal/inventory", "internal/store"}, // any store; whoever uses it touches none
		"internal/audit":           {"internal/inventory", "internal/store"}, // any store, running or not
		"internal/expiry":          {"internal/inventory", "internal/engine"},
		"internal/relay":           {"internal/inventory", "internal/engine", "internal/wire"},
		"internal/relay/relaytest": {"internal/inventory", "internal/engine", "internal/relay", "internal/store/memory"},
		"internal/relay/remote":    {"client", "internal/inventory", "internal/engine", "internal/wire", "internal/relay"},
		"internal/relay/file":      {"internal/relay"}, // a sink knows what it is handed, and nothing else of ours
		"internal/relay/nats":      {"internal/relay"},
		"internal/relay/kafka":     {"internal/relay"},
		"internal/relay/amqp":      {"internal/relay"},
		"internal/relay/redis":     {"internal/relay"},
		"internal/relay/webhook":   {"internal/inventory", "internal/engine", "internal/wire"}, // no sink: it has a worker for each webhook
		"internal/docs":            {},                                                         // pages of any OpenAPI file: it is handed the file and the problems
		"internal/wire":            {"internal/inventory"},                                     // JSON alone: it knows neither HTTP nor a store
		"internal/httpapi":         {"internal/inventory", "internal/engine", "internal/wire", "internal/docs"},
		"internal/metrics":         {"internal/inventory", "internal/store", "internal/engine", "internal/httpapi", "internal/expiry", "internal/relay", "internal/relay/webhook"},
		// The load sees a server as everybody does. It knows no door, so that a server is measured through HTTP or not at all,
		// and no peer: whatever is loaded, the buyers are the same.
		"internal/load": {"client", "internal/inventory", "internal/store", "internal/audit"},
		// Measurements load servers, and the engine without HTTP. They know no kind of store: what is compared gets its store
		// from outside, and peers have tables of their own.
		"internal/bench": {"client", "internal/inventory", "internal/engine", "internal/store", "internal/load"},
		// The simulation is the core alone: it knows the store that says in the fewest lines what a store does.
		"internal/sim":       {"internal/inventory", "internal/store", "internal/store/memory", "internal/engine", "internal/audit"},
		"internal/history":   {"client"}, // buyers, as outside as the load's
		"internal/bugs":      {},         // it runs tests, and knows nothing of what they test
		"internal/record":    {},         // runs commands and counts what they print
		"internal/faultdisk": {},         // below SQLite: whatever is stored
		"client":             {},         // a user's program must not pull the server in
		"api":                {},
		"cmd/holdfast":       nil, // wires everything
	}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		list, known := allowed[name]
		if !known {
			if len(p.GoFiles) > 0 {
				t.Errorf("%s is in no rule: say here what it may import", name)
			}
			continue
		}
		for _, imported := range p.Imports {
			if ours, is := strings.CutPrefix(imported, module); is && list != nil && !slices.Contains(list, ours) {
				t.Errorf("%s imports %s", name, ours)
			}
		}
	}
}

// TestPure: the domain does no I/O, reads no clock and draws no random numbers, and neither do the packages it uses.
func TestPure(t *testing.T) {
	forbidden := []string{"os", "net", "net/http", "time", "math/rand", "math/rand/v2", "crypto/rand", "database/sql", "io/fs", "log", "log/slog", "sync", "context"}
	for _, p := range packages(t) {
		if p.ImportPath != module+"internal/inventory" {
			continue
		}
		for _, imported := range p.Imports {
			if slices.Contains(forbidden, imported) {
				t.Errorf("inventory imports %s", imported)
			}
		}
		return
	}
	t.Error("inventory was not found")
}

type goPackage struct {
	ImportPath       string
	GoFiles, Imports []string
}

func packages(t *testing.T) (list []goPackage) {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,GoFiles,Imports", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p goPackage
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}
