package docs

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// document is as much of an OpenAPI file as the page for people shows.
type document struct {
	Info struct {
		Title       string `yaml:"title"`
		Summary     string `yaml:"summary"`
		Description string `yaml:"description"`
	} `yaml:"info"`
	Tags []struct {
		Name        string `yaml:"name"`
		Description string `yaml:"description"`
	} `yaml:"tags"`
	Paths      ordered[ordered[yaml.Node]] `yaml:"paths"`
	Components struct {
		Parameters map[string]parameter `yaml:"parameters"`
		Responses  map[string]response  `yaml:"responses"`
		Schemas    ordered[schema]      `yaml:"schemas"`
	} `yaml:"components"`
}

// ordered is a mapping in the order of the file.
type ordered[T any] []struct {
	Name  string
	Value T
}

// UnmarshalYAML implements the decoder's interface.
func (o *ordered[T]) UnmarshalYAML(node *yaml.Node) error {
	for i := 0; i+1 < len(node.Content); i += 2 {
		*o = append(*o, struct {
			Name  string
			Value T
		}{Name: node.Content[i].Value})
		if err := node.Content[i+1].Decode(&(*o)[len(*o)-1].Value); err != nil {
			return err
		}
	}
	return nil
}

type operation struct {
	ID          string      `yaml:"operationId"`
	Tags        []string    `yaml:"tags"`
	Summary     string      `yaml:"summary"`
	Parameters  []parameter `yaml:"parameters"`
	RequestBody struct {
		Content ordered[media] `yaml:"content"`
	} `yaml:"requestBody"`
	Responses ordered[response] `yaml:"responses"`
	Method    string            `yaml:"-"`
	Path      string            `yaml:"-"`
}

type parameter struct {
	Ref         string `yaml:"$ref"`
	Name        string `yaml:"name"`
	In          string `yaml:"in"`
	Description string `yaml:"description"`
	Schema      schema `yaml:"schema"`
}

type response struct {
	Ref         string         `yaml:"$ref"`
	Description string         `yaml:"description"`
	Content     ordered[media] `yaml:"content"`
}

type media struct {
	Schema  schema `yaml:"schema"`
	Example any    `yaml:"example"`
}

type schema struct {
	Ref         string          `yaml:"$ref"`
	Type        any             `yaml:"type"` // a name or a list of names
	Description string          `yaml:"description"`
	Required    []string        `yaml:"required"`
	Properties  ordered[schema] `yaml:"properties"`
	Items       *schema         `yaml:"items"`
	OneOf       []schema        `yaml:"oneOf"`
	AnyOf       []schema        `yaml:"anyOf"`
	Enum        []string        `yaml:"enum"`
	Minimum     *int64          `yaml:"minimum"`
	Maximum     *int64          `yaml:"maximum"`
	MaxLength   *int64          `yaml:"maxLength"`
	MaxItems    *int64          `yaml:"maxItems"`
	Default     any             `yaml:"default"`
}

// lastOf is the name of what a reference points at.
func lastOf(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// orNull reports whether the schema is written as another one or null, and returns that other one.
func (s *schema) orNull() (other *schema, is bool) {
	if len(s.AnyOf) == 2 && s.AnyOf[1].Type == "null" {
		return &s.AnyOf[0], true
	}
	return s, false
}

// isOpenEnum reports whether the schema is a list of texts to which later versions may add: an enum or any other text.
func (s *schema) isOpenEnum() bool {
	return len(s.AnyOf) == 2 && s.AnyOf[0].Enum != nil && s.AnyOf[1].Enum == nil && s.AnyOf[1].Type == "string"
}

// eachOperation calls do for every operation, in the order of the file, with the parameters of its path put before its own.
func (d *document) eachOperation(do func(*operation) error) error {
	for _, path := range d.Paths {
		var shared []parameter
		for _, item := range path.Value {
			if item.Name == "parameters" {
				if err := item.Value.Decode(&shared); err != nil {
					return err
				}
				continue
			}
			o := operation{Method: strings.ToUpper(item.Name), Path: path.Name}
			if err := item.Value.Decode(&o); err != nil {
				return err
			}
			o.Parameters = append(slices.Clone(shared), o.Parameters...)
			if err := do(&o); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *document) parameter(p *parameter) parameter {
	if p.Ref != "" {
		return d.Components.Parameters[lastOf(p.Ref)]
	}
	return *p
}

func (d *document) response(r *response) response {
	if r.Ref != "" {
		return d.Components.Responses[lastOf(r.Ref)]
	}
	return *r
}
