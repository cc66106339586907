package docs

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// shownOperation is an operation as the page shows it.
type shownOperation struct {
	ID, Method, Path, Summary, Curl string
	Parameters, Body                []member
	Answers                         []answer
}

type answer struct {
	Status, Description string
	Link                string // name of the schema that it carries
}

type shownSchema struct {
	Name, Description string
	Note              string
	Members           []member
}

// member is a row of a table: a member of a schema or a parameter.
type member struct {
	Name, Note, Description string
	Required                bool
	Link                    string // name of the schema that it is
}

// operations lists the operations of each tag.
func (d *document) operations() (map[string][]shownOperation, error) {
	byTag := map[string][]shownOperation{}
	err := d.eachOperation(func(o *operation) error {
		if len(o.Tags) == 0 {
			return fmt.Errorf("%s %s has no tag", o.Method, o.Path)
		}
		line, err := o.curl()
		if err != nil {
			return fmt.Errorf("the example of %s: %w", o.ID, err)
		}
		byTag[o.Tags[0]] = append(byTag[o.Tags[0]], shownOperation{
			ID: o.ID, Method: o.Method, Path: o.Path, Summary: o.Summary, Curl: line,
			Parameters: d.parametersOf(o), Body: o.body(), Answers: d.answersOf(o),
		})
		return nil
	})
	return byTag, err
}

func (d *document) parametersOf(o *operation) (list []member) {
	for i := range o.Parameters {
		p := d.parameter(&o.Parameters[i])
		m := p.Schema.member(p.Name)
		m.Note = strings.TrimSpace(p.In + ", " + m.Note)
		m.Description = p.Description
		list = append(list, m)
	}
	return list
}

// body lists the members of the body, or links to its schema. Where an operation takes several media types, the first speaks for all.
func (o *operation) body() []member {
	if len(o.RequestBody.Content) == 0 {
		return nil
	}
	body := &o.RequestBody.Content[0].Value.Schema
	if body.Ref != "" {
		return []member{{Name: "JSON", Link: lastOf(body.Ref)}}
	}
	return body.members()
}

func (d *document) answersOf(o *operation) (list []answer) {
	for i := range o.Responses {
		r := d.response(&o.Responses[i].Value)
		a := answer{Status: o.Responses[i].Name, Description: r.Description}
		for _, content := range r.Content {
			if ref := content.Value.Schema.Ref; ref != "" {
				a.Link = lastOf(ref)
			}
		}
		list = append(list, a)
	}
	return list
}

func (d *document) schemas() (list []shownSchema) {
	for i := range d.Components.Schemas {
		s := &d.Components.Schemas[i].Value
		list = append(list, shownSchema{d.Components.Schemas[i].Name, s.Description, s.note(), append(s.choices(), s.members()...)})
	}
	return list
}

// choices lists the schemas to choose from where there is a choice.
func (s *schema) choices() (list []member) {
	for i := range s.OneOf {
		list = append(list, member{Name: "either", Link: lastOf(s.OneOf[i].Ref)})
	}
	return list
}

// members lists an object's members.
func (s *schema) members() (list []member) {
	for i := range s.Properties {
		p := &s.Properties[i]
		m := p.Value.member(p.Name)
		m.Required = slices.Contains(s.Required, p.Name)
		list = append(list, m)
	}
	return list
}

func (s *schema) member(name string) member {
	m := member{Name: name, Description: s.Description}
	var note []string
	inner, isNullable := s.orNull()
	if isNullable {
		note = append(note, "null or")
	}
	if inner.Items != nil {
		inner = inner.Items
		note = append(note, "list of")
	}
	if inner.Ref != "" {
		m.Link = lastOf(inner.Ref)
	}
	m.Note = strings.TrimSpace(strings.Join(append(note, inner.note()), " "))
	return m
}

// note says type and bounds in a few words.
func (s *schema) note() string {
	if s.isOpenEnum() {
		return s.AnyOf[0].note() + " or another"
	}
	var parts []string
	if name := s.typeName(); name != "" {
		parts = append(parts, name)
	}
	if s.Enum != nil {
		parts = append(parts, strings.Join(s.Enum, ", "))
	}
	if s.Minimum != nil && s.Maximum != nil {
		parts = append(parts, fmt.Sprintf("%d to %d", *s.Minimum, *s.Maximum))
	}
	if s.MaxLength != nil {
		parts = append(parts, fmt.Sprintf("at most %d characters", *s.MaxLength))
	}
	if s.MaxItems != nil {
		parts = append(parts, fmt.Sprintf("at most %d", *s.MaxItems))
	}
	if s.Default != nil {
		parts = append(parts, fmt.Sprintf("default %v", s.Default))
	}
	return strings.Join(parts, ", ")
}

// typeName is the type, or the types with "or" between them.
func (s *schema) typeName() string {
	switch t := s.Type.(type) {
	case string:
		return t
	case []any:
		names := make([]string, len(t))
		for i, one := range t {
			names[i] = fmt.Sprint(one)
		}
		return strings.Join(names, " or ")
	}
	return ""
}

// curl is a line to try. The page puts its own host in the place of $HOST.
func (o *operation) curl() (string, error) {
	line := "curl -i http://$HOST" + o.examplePath()
	if o.Method != http.MethodGet {
		line = strings.Replace(line, "-i", "-i -X "+o.Method, 1)
	}
	for _, content := range o.RequestBody.Content {
		if content.Value.Example == nil {
			continue
		}
		body, err := json.Marshal(content.Value.Example)
		if err != nil {
			return "", err
		}
		return line + " -H 'Content-Type: application/json' -d '" + string(body) + "'", nil
	}
	return line, nil
}

// examplePath fills the path's parameters in.
func (o *operation) examplePath() string {
	for prefix, example := range map[string]string{
		"/v1/products/": "mug", "/v1/reservations/": "$RESERVATION", "/v1/orders/": "$ORDER",
	} {
		if strings.HasPrefix(o.Path, prefix) {
			return strings.ReplaceAll(o.Path, "{id}", example)
		}
	}
	return strings.ReplaceAll(o.Path, "{code}", "insufficient-stock")
}
