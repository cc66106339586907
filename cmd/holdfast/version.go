package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/holdfast/holdfast/internal/httpapi"
)

// release is set by the linker for released binaries.
var release = "dev"

// buildVersion says what this binary was built from.
func buildVersion() httpapi.Version {
	v := httpapi.Version{Version: release, Revision: "unknown", Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				v.Revision = setting.Value
			}
		}
	}
	return v
}

// versionCommand are the flags of holdfast version.
type versionCommand struct {
	JSON bool `help:"Print JSON."`
}

// Run implements holdfast version.
func (c *versionCommand) Run(_ context.Context, env *environment) error {
	v := buildVersion()
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(map[string]string{
			"version": v.Version, "revision": v.Revision, "go": v.Go,
		})
	}
	_, err := fmt.Fprintf(env.stdout, "holdfast %s (revision %s, %s)\n", v.Version, v.Revision, v.Go)
	return err
}
