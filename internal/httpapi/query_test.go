package httpapi

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/wire"
)

// queryOf parses a query string for an operation that has these parameters.
func queryOf(t *testing.T, raw string, names ...string) (*query, error) {
	t.Helper()
	c := &call{Request: httptest.NewRequest("GET", "/", nil)}
	c.URL.RawQuery = raw
	return c.query(names...)
}

// TestTooManyIDs: ids are counted before they are looked at: finding those given twice takes the square of their
// number.
func TestTooManyIDs(t *testing.T) {
	q, err := queryOf(t, strings.Repeat("id=-&", 9_000), "id")
	if err != nil {
		t.Fatal(err)
	}
	ids := q.ids("id", 100)
	problem := explainRequest(q.err())
	if ids != nil || problem == nil || len(problem.Errors) != 1 ||
		problem.Errors[0].Detail != "must be given at most 100 times" {
		t.Errorf("%d ids, %+v", len(ids), problem)
	}
}

// TestParameterErrors: an answer names no more than a hundred parameters, and the last error is about the others.
func TestParameterErrors(t *testing.T) {
	var raw strings.Builder
	for i := range 250 {
		raw.WriteString("unknown" + strconv.Itoa(i) + "=&")
	}
	_, err := queryOf(t, raw.String())
	problem := explainRequest(err)
	if problem == nil || len(problem.Errors) != wire.MaxErrors {
		t.Fatalf("%+v", problem)
	}
	if last := problem.Errors[wire.MaxErrors-1]; last.Parameter != "query" || last.Detail != "has 151 more errors" {
		t.Errorf("%+v", last)
	}
	_, err = queryOf(t, "=1")
	if problem := explainRequest(err); problem == nil || problem.Errors[0].Parameter != "query" {
		t.Errorf("a parameter without name: %+v", problem)
	}
}
