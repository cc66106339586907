package httpapi_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/holdfast/holdfast/api"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// TestCodesAreTheContract: the problem codes in the OpenAPI file are those that the server has pages for.
func TestCodesAreTheContract(t *testing.T) {
	document, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	var inFile []string
	for _, code := range document.Components.Schemas["ProblemCode"].Value.AnyOf[0].Value.Enum {
		inFile = append(inFile, code.(string))
	}
	clock := storetest.NewClock()
	h := newMemoryHarness(t, clock)
	var served []string
	for _, part := range strings.Split(string(h.request("GET", "/docs", "", 200).body), `<td><a href="/problems/`)[1:] {
		code, _, _ := strings.Cut(part, `"`)
		served = append(served, code)
	}
	slices.Sort(inFile)
	slices.Sort(served)
	if !slices.Equal(inFile, served) {
		t.Errorf("in the file:\n%v\nserved:\n%v", inFile, served)
	}
}
