package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/store/memory"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// TestOldHead: a store whose last batch is old is one line in the log, and others are none.
func TestOldHead(t *testing.T) {
	clock := storetest.NewClock()
	s := memory.Open(memory.Options{Now: clock.Now})
	told := func() string {
		var b bytes.Buffer
		tellAge(t.Context(), slog.New(slog.NewTextHandler(&b, nil)), s)
		return b.String()
	}
	clock.Advance(100 * time.Hour)
	if log := told(); log != "" {
		t.Errorf("of an empty store: %s", log)
	}
	storetest.Must(t, s, storetest.Product("mug"))
	clock.Advance(59 * time.Minute)
	if log := told(); log != "" {
		t.Errorf("of a young store: %s", log)
	}
	clock.Advance(25 * time.Hour)
	if log := told(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "level=INFO") || !strings.Contains(log, "age=25h59m0s") {
		t.Errorf("of an old store: %s", log)
	}
}
