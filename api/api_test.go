package api_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/holdfast/holdfast/api"
)

func load(t *testing.T) *openapi3.T {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// isNullable reports whether a schema takes null.
func isNullable(ref *openapi3.SchemaRef) bool {
	if ref.Value.Type.Includes("null") {
		return true
	}
	return slices.ContainsFunc(ref.Value.AnyOf, isNullable)
}

// TestOptionalMembersTakeNull: in the bodies of requests, a member is nullable exactly where it is optional. A patch is another matter:
// there null removes, and a product's name and price cannot be removed.
func TestOptionalMembersTakeNull(t *testing.T) {
	seen := 0
	for name, s := range load(t).Components.Schemas {
		if !strings.HasSuffix(name, "Input") {
			continue
		}
		for member, m := range s.Value.Properties {
			seen++
			if isRequired := slices.Contains(s.Value.Required, member); isRequired == isNullable(m) {
				t.Errorf("%s.%s: required %v, nullable %v", name, member, isRequired, isNullable(m))
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d members were looked at", seen)
	}
}

// TestNoDefaults: a generated client sends a parameter's or member's default although nobody gave it. Then it overrides what the
// operator set (ttlSeconds), or stands beside what excludes it (limit beside id).
func TestNoDefaults(t *testing.T) {
	document := load(t)
	for name, p := range document.Components.Parameters {
		if p.Value.Schema.Value.Default != nil {
			t.Errorf("the parameter %s has a default", name)
		}
	}
	for _, item := range document.Paths.Map() {
		for _, o := range item.Operations() {
			for _, p := range o.Parameters {
				if p.Value.Schema.Value.Default != nil {
					t.Errorf("%s: the parameter %s has a default", o.OperationID, p.Value.Name)
				}
			}
		}
	}
	for name, s := range document.Components.Schemas {
		if s.Value.Default != nil {
			t.Errorf("%s has a default", name)
		}
	}
}

// TestEnumsAreOpen: beside an enum in an answer stands any other text, so that a typed client has names for what there is and takes
// what comes later.
func TestEnumsAreOpen(t *testing.T) {
	open := map[string]int{"ReservationStatus": 4, "OrderStatus": 3, "EventType": 11, "ProblemCode": 27}
	schemas := load(t).Components.Schemas
	for name, least := range open {
		s := schemas[name]
		if s == nil || len(s.Value.AnyOf) != 2 {
			t.Errorf("%s is no open enum", name)
			continue
		}
		named, other := s.Value.AnyOf[0].Value, s.Value.AnyOf[1].Value
		if len(named.Enum) < least || len(other.Enum) > 0 || !other.Type.Is("string") {
			t.Errorf("%s: %v, or %v", name, named.Enum, other.Type)
		}
	}
}

// TestLinks: generators take the body of a link only as an expression in a string.
func TestLinks(t *testing.T) {
	for _, item := range load(t).Paths.Map() {
		for _, o := range item.Operations() {
			for status, response := range o.Responses.Map() {
				for name, link := range response.Value.Links {
					if _, isText := link.Value.RequestBody.(string); link.Value.RequestBody != nil && !isText {
						t.Errorf("%s, %s: the body of the link %s is no string", o.OperationID, status, name)
					}
				}
			}
		}
	}
}
