package httpapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/holdfast/holdfast/api"
	"github.com/holdfast/holdfast/internal/inventory"
)

// enumOf is what a schema names, one way or another.
func enumOf(t *testing.T, schema string, member ...string) (names []string) {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	s := document.Components.Schemas[schema].Value
	for _, name := range member {
		s = s.Properties[name].Value
	}
	if len(s.AnyOf) > 0 {
		s = s.AnyOf[0].Value
	}
	for _, name := range s.Enum {
		names = append(names, fmt.Sprint(name))
	}
	slices.Sort(names)
	return names
}

// TestFileNamesWhatThereIs: the OpenAPI file names every event type, and every change that a batch can make.
func TestFileNamesWhatThereIs(t *testing.T) {
	var types, operations []string
	for _, eventType := range inventory.EventTypes() {
		types = append(types, eventType.String())
	}
	for _, m := range mutations {
		operations = append(operations, m.operation)
	}
	slices.Sort(types)
	slices.Sort(operations)
	if named := enumOf(t, "EventType"); !slices.Equal(named, types) {
		t.Errorf("event types in the file:\n%v, in the code:\n%v", named, types)
	}
	if named := enumOf(t, "OperationInput", "operation"); !slices.Equal(named, operations) {
		t.Errorf("operations in the file:\n%v, in the code:\n%v", named, operations)
	}
}

// TestEveryIDCanBeAReference: a change whose path has an id can be about what another operation of its batch made.
func TestEveryIDCanBeAReference(t *testing.T) {
	bodies := map[string]string{
		"updateProduct": `{"name":"n"}`, "adjustStock": `{"delta":1,"reason":"r"}`, "extendReservation": `{"ttlSeconds":1}`,
	}
	s := &Server{o: Options{}.withDefaults()}
	for _, m := range mutations {
		if !strings.Contains(m.path, "{id}") {
			continue
		}
		command, err := m.decode([]byte(bodies[m.operation]), s.o.target(""))
		if err != nil {
			t.Fatalf("%s: %v", m.operation, err)
		}
		if !inventory.CanRefer(command) {
			t.Errorf("%s cannot be about what another operation made: its command needs about", m.operation)
		}
	}
}
