package dbtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// installed returns a folder under the user's cache in which something was installed, once for all test binaries.
func installed(name string, install func(folder string) error) (folder string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder = filepath.Join(cache, "holdfast", name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	lock := flock.New(filepath.Join(folder, "lock"))
	if err := lock.Lock(); err != nil {
		return "", err
	}
	defer func() { _ = lock.Unlock() }()
	done := filepath.Join(folder, "done")
	if _, err := os.Stat(done); err == nil {
		return folder, nil
	}
	if err := install(folder); err != nil {
		return "", err
	}
	return folder, os.WriteFile(done, nil, 0o644)
}

// run runs commands, one after the other.
func run(commands ...[]string) error {
	for _, command := range commands {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, out)
		}
	}
	return nil
}
