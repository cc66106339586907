package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/client"
)

// snippet is the code of a language in docs/EVENTS.md. The shell's comes first there, so each language has one.
func snippet(t *testing.T, language string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/EVENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```"+language+"\n")
	code, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatalf("docs/EVENTS.md has no %s", language)
	}
	return code
}

// TestConsumers runs the consumers of docs/EVENTS.md. Each is killed in the middle, the server too, and has to come to
// what the server says in the end.
func TestConsumers(t *testing.T) {
	folder := t.TempDir()
	store := "sqlite:" + filepath.Join(folder, "shop.db")
	s, err := startChild(t.Context(), "127.0.0.1:0", store)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.kill() }()
	makeProducts(t, s.url, 0, 3)
	programs := map[string][]string{
		"python": {"python3", writeText(t, folder, "consume.py", snippet(t, "python"))},
		"js":     {"node", writeText(t, folder, "consume.mjs", snippet(t, "js"))},
		"go":     {os.Args[0]},
	}
	for language, program := range programs {
		if _, err := exec.LookPath(program[0]); err != nil {
			t.Logf("SKIPPED: the consumer in %s: %v", language, err)
			delete(programs, language)
		}
	}
	run := func() (stop func()) {
		var list []*exec.Cmd
		for language, program := range programs {
			c := exec.Command(program[0], append(program[1:], s.url, filepath.Join(folder, language+".json"))...)
			c.Env = append(os.Environ(), consumerEnvironment+"="+language)
			c.Stderr = os.Stderr
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			list = append(list, c)
		}
		return func() {
			for _, c := range list {
				_ = c.Process.Kill()
				_ = c.Wait()
			}
		}
	}
	stop := run()
	awaitAvailable(t, folder, programs, "p0-0", 9)
	hold(t, s.url, "p0-0")
	stop()
	hold(t, s.url, "p0-0")
	stop = run()
	defer func() { stop() }()
	awaitAvailable(t, folder, programs, "p0-0", 7)
	_ = s.kill()
	if s, err = startChild(t.Context(), s.address, store); err != nil {
		t.Fatal(err)
	}
	hold(t, s.url, "p0-2")
	awaitAvailable(t, folder, programs, "p0-2", 8)
}

func writeText(t *testing.T, folder, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func hold(t *testing.T, url, product string) {
	t.Helper()
	_, err := client.New(url).Reserve(t.Context(), client.NewReservation{
		Lines: []client.NewLine{{ProductID: product, Quantity: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitAvailable waits until each consumer has noted so many available units of a product.
func awaitAvailable(t *testing.T, folder string, programs map[string][]string, product string, want int64) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for language := range programs {
		for {
			var state struct{ Available map[string]int64 }
			data, _ := os.ReadFile(filepath.Join(folder, language+".json"))
			if json.Unmarshal(data, &state) == nil && state.Available[product] == want {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the consumer in %s has noted %s", language, data)
			}
			time.Sleep(10 * time.Millisecond) // another program writes the file
		}
	}
}

// consumerEnvironment has a test binary be the consumer in Go.
const consumerEnvironment = "HOLDFAST_CONSUMER"

// consume is that of docs/EVENTS.md, as TestConsumerText requires.
func consume(ctx context.Context, c *client.Client, path string) error {
	state := struct {
		After     string
		Available map[string]int64
	}{"0", map[string]int64{}}
	if data, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(data, &state); err != nil {
			return err
		}
	}
	for event, err := range c.Follow(ctx, client.Feed{After: state.After}) {
		if err != nil {
			return err // of ctx, or one that asking again cannot mend, such as client.CursorAhead after a restore
		}
		for _, moved := range event.Data.Movements {
			if moved.Location == "main" {
				state.Available[moved.ProductID] = moved.After.Available
			}
		}
		if event.Cursor == "" {
			continue // a server that does not stream gives places with the last event of each page
		}
		state.After = event.Cursor // place and result together, so that no event counts twice
		data, err := json.Marshal(state)
		if err == nil {
			err = os.WriteFile(path+".new", data, 0o600)
		}
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestConsumerText: the page shows the code that TestConsumers runs.
func TestConsumerText(t *testing.T) {
	source, err := os.ReadFile("consumers_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(source), snippet(t, "go")) {
		t.Error("the consumer in Go on the page is not the one above")
	}
}

// beConsumer is the consumer in Go: arguments are the URL and the path.
func beConsumer(arguments []string) error {
	if err := consume(context.Background(), client.New(arguments[0]), arguments[1]); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
