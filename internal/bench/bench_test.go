package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/load"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// TestTimes: everything is done once, and a failure ends it.
func TestTimes(t *testing.T) {
	done := make([]int, 1000)
	err := times(t.Context(), 7, len(done), func(_ context.Context, i int) error {
		done[i]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range done {
		if n != 1 {
			t.Errorf("%d was done %d times", i, n)
		}
	}
	failure := errors.New("it failed")
	err = times(t.Context(), 7, len(done), func(_ context.Context, i int) error {
		if i == 20 {
			return failure
		}
		return nil
	})
	if !errors.Is(err, failure) {
		t.Errorf("ended with %v", err)
	}
}

// TestCompare: a row has every candidate, and the medians of its rounds.
func TestCompare(t *testing.T) {
	nothing := httptest.NewServer(Nothing(nil))
	defer nothing.Close()
	host := strings.TrimPrefix(nothing.URL, "http://")
	rows, err := Compare(t.Context(), CompareOptions{
		Open:    func(context.Context) (store.Store, error) { return memory.Open(memory.Options{}), nil },
		Obvious: "sqlite:" + filepath.Join(t.TempDir(), "obvious.db"),
		Clients: []int{2}, Products: []int{1, 3}, Rounds: 2, Duration: load.Interval / 4,
		HTTP: host, Nothing: host, Peers: []Server{{"a", host}, {"b", host}}, Progress: func(string) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 {
		t.Fatalf("%+v", rows)
	}
	for _, r := range rows {
		if r.Engine <= 0 || r.Obvious <= 0 || r.HTTP <= 0 || r.Nothing <= 0 || len(r.Peers) != 2 || r.Peers[1].PerSecond <= 0 {
			t.Errorf("%+v", r)
		}
	}
	if median([]float64{9, 1, 5}) != 5 || median([]float64{4, 1, 2, 9}) != 3 {
		t.Error("median")
	}
}

// TestRawLoop: the loop that decides nothing writes what it says.
func TestRawLoop(t *testing.T) {
	rate, err := rawLoop(filepath.Join(t.TempDir(), "raw.db"), 50*time.Millisecond)
	if err != nil || rate <= 0 {
		t.Error(rate, err)
	}
}

// TestBareAnswersAlike: the bare handler's answer has the headers and the body of the one that was recorded.
func TestBareAnswersAlike(t *testing.T) {
	real := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"7"`)
		if r.Header.Get("If-None-Match") == `"7"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, `{"id":"p0"}`)
	}))
	defer real.Close()
	for _, read := range []load.Read{
		{Path: "/p0", Status: http.StatusOK}, {Path: "/p0", IfNoneMatch: `"7"`, Status: http.StatusNotModified},
	} {
		first, err := record(t.Context(), strings.TrimPrefix(real.URL, "http://"), &read)
		if err != nil {
			t.Fatal(err)
		}
		bare := httptest.NewServer(Bare(first))
		again, err := record(t.Context(), strings.TrimPrefix(bare.URL, "http://"), &read)
		bare.Close()
		if err != nil || fmt.Sprint(first) != fmt.Sprint(again) || again.Header.Get("ETag") != `"7"` {
			t.Errorf("%v instead of %v: %v", again, first, err)
		}
	}
	unmodified := &load.Read{Path: "/p0", Status: http.StatusNotModified}
	if _, err := record(t.Context(), strings.TrimPrefix(real.URL, "http://"), unmodified); err == nil {
		t.Error("another status than the wanted one is no answer to compare with")
	}
}

// TestSheetGoesOn: a row that cannot be measured says why, and the next one is measured.
func TestSheetGoesOn(t *testing.T) {
	var rows []SheetRow
	s := &sheet{
		SheetOptions: SheetOptions{Rounds: 3, Progress: func(string) {}},
		row:          func(r SheetRow) { rows = append(rows, r) },
	}
	values := []float64{1, 9, 2}
	next := func(context.Context) (float64, error) {
		v := values[0]
		values = append(values[1:], v)
		return v, nil
	}
	missing := func(context.Context) (float64, error) { return 0, fmt.Errorf("it needs: %w", errNoBatch) }
	one := func(context.Context) (float64, error) { return 1, nil }
	broken := errors.New("broken")
	err := errors.Join(
		s.rate(t.Context(), SheetRow{What: "lacking"}, missing),
		s.rate(t.Context(), SheetRow{What: "rate", Goal: 2}, next),
		s.ratio(t.Context(), SheetRow{What: "ratio", Goal: 1.9, AtMost: true}, next, one),
	)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 3 || rows[0].Verdict() != "SKIPPED" || rows[0].Skipped != string(errNoBatch) {
		t.Fatalf("%+v", rows)
	}
	if rows[1].Value != 2 || rows[1].Verdict() != "reached" || rows[2].Value != 2 || rows[2].Verdict() != "MISSED" {
		t.Errorf("%+v", rows)
	}
	err = s.rate(t.Context(), SheetRow{}, func(context.Context) (float64, error) { return 0, broken })
	if !errors.Is(err, broken) || len(rows) != 3 {
		t.Errorf("a failure is a row: %v", err)
	}
}
