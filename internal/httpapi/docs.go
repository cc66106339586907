package httpapi

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// spec is the OpenAPI file in the forms in which it is served.
type spec struct {
	yaml, json []byte
	page       []byte
}

func parseSpec(file []byte) (*spec, error) {
	var everything any
	if err := yaml.Unmarshal(file, &everything); err != nil {
		return nil, fmt.Errorf("the OpenAPI file: %w", err)
	}
	asJSON, err := json.MarshalIndent(everything, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("the OpenAPI file as JSON: %w", err)
	}
	page, err := renderDocs(file)
	if err != nil {
		return nil, fmt.Errorf("the page of the OpenAPI file: %w", err)
	}
	return &spec{yaml: file, json: asJSON, page: page}, nil
}

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
		Parameters map[string]parameterDoc `yaml:"parameters"`
		Responses  map[string]responseDoc  `yaml:"responses"`
		Schemas    ordered[schemaDoc]      `yaml:"schemas"`
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

type operationDoc struct {
	ID          string         `yaml:"operationId"`
	Tags        []string       `yaml:"tags"`
	Summary     string         `yaml:"summary"`
	Parameters  []parameterDoc `yaml:"parameters"`
	RequestBody struct {
		Content ordered[mediaDoc] `yaml:"content"`
	} `yaml:"requestBody"`
	Responses ordered[responseDoc] `yaml:"responses"`
	Method    string               `yaml:"-"`
	Path      string               `yaml:"-"`
}

type parameterDoc struct {
	Ref         string    `yaml:"$ref"`
	Name        string    `yaml:"name"`
	In          string    `yaml:"in"`
	Description string    `yaml:"description"`
	Schema      schemaDoc `yaml:"schema"`
}

type responseDoc struct {
	Ref         string            `yaml:"$ref"`
	Description string            `yaml:"description"`
	Content     ordered[mediaDoc] `yaml:"content"`
}

type mediaDoc struct {
	Schema  schemaDoc `yaml:"schema"`
	Example any       `yaml:"example"`
}

type schemaDoc struct {
	Ref         string             `yaml:"$ref"`
	Type        any                `yaml:"type"`
	Description string             `yaml:"description"`
	Required    []string           `yaml:"required"`
	Properties  ordered[schemaDoc] `yaml:"properties"`
	Items       *schemaDoc         `yaml:"items"`
	OneOf       []schemaDoc        `yaml:"oneOf"`
	Enum        []string           `yaml:"enum"`
	Minimum     *int64             `yaml:"minimum"`
	Maximum     *int64             `yaml:"maximum"`
	MaxLength   *int64             `yaml:"maxLength"`
	MaxItems    *int64             `yaml:"maxItems"`
	Default     any                `yaml:"default"`
}

// member is a row of a table: a member of a schema or a parameter.
type member struct {
	Name, Note, Description string
	Required                bool
	Link                    string // name of the schema that it is
}

func lastOf(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// members lists an object's members.
func (s *schemaDoc) members() (list []member) {
	for i := range s.Properties {
		p := &s.Properties[i]
		m := p.Value.member(p.Name)
		m.Required = slices.Contains(s.Required, p.Name)
		list = append(list, m)
	}
	return list
}

func (s *schemaDoc) member(name string) member {
	m := member{Name: name, Description: s.Description}
	inner := s
	if s.Items != nil {
		inner = s.Items
		m.Note = "list of"
	}
	if inner.Ref != "" {
		m.Link = lastOf(inner.Ref)
	}
	m.Note = strings.TrimSpace(m.Note + " " + inner.note())
	return m
}

// note says type and bounds in a few words.
func (s *schemaDoc) note() string {
	var parts []string
	switch t := s.Type.(type) {
	case string:
		parts = append(parts, t)
	case []any:
		for _, one := range t {
			parts = append(parts, fmt.Sprint(one))
		}
		parts = []string{strings.Join(parts, " or ")}
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

// pageOperation is an operation as the page shows it.
type pageOperation struct {
	ID, Method, Path, Summary, Curl string
	Parameters, Body                []member
	Answers                         []answerDoc
}

type answerDoc struct {
	Status, Description, Link string
}

type pageSchema struct {
	Name, Description string
	Note              string
	Members           []member
}

func renderDocs(file []byte) ([]byte, error) {
	var d document
	if err := yaml.Unmarshal(file, &d); err != nil {
		return nil, err
	}
	byTag := map[string][]pageOperation{}
	for _, path := range d.Paths {
		var shared []parameterDoc
		for _, method := range path.Value {
			if method.Name == "parameters" {
				if err := method.Value.Decode(&shared); err != nil {
					return nil, err
				}
				continue
			}
			o := operationDoc{Method: strings.ToUpper(method.Name), Path: path.Name}
			if err := method.Value.Decode(&o); err != nil {
				return nil, err
			}
			o.Parameters = append(slices.Clone(shared), o.Parameters...)
			shown, err := d.operation(&o)
			if err != nil {
				return nil, err
			}
			byTag[o.Tags[0]] = append(byTag[o.Tags[0]], shown)
		}
	}
	var schemas []pageSchema
	for i := range d.Components.Schemas {
		s := &d.Components.Schemas[i]
		schemas = append(schemas, pageSchema{s.Name, s.Value.Description, s.Value.note(), s.Value.membersOrChoices()})
	}
	var page strings.Builder
	err := pages.ExecuteTemplate(&page, "docs", map[string]any{"Document": d, "Operations": byTag, "Schemas": schemas, "Problems": problemTypes})
	return []byte(page.String()), err
}

// membersOrChoices lists the schemas to choose from where there is a choice.
func (s *schemaDoc) membersOrChoices() (list []member) {
	for i := range s.OneOf {
		list = append(list, member{Name: "either", Link: lastOf(s.OneOf[i].Ref)})
	}
	return append(list, s.members()...)
}

func (d *document) operation(o *operationDoc) (shown pageOperation, err error) {
	shown = pageOperation{ID: o.ID, Method: o.Method, Path: o.Path, Summary: o.Summary}
	for _, p := range o.Parameters {
		if p.Ref != "" {
			p = d.Components.Parameters[lastOf(p.Ref)]
		}
		m := p.Schema.member(p.Name)
		m.Note = strings.TrimSpace(p.In + ", " + m.Note)
		m.Description = p.Description
		shown.Parameters = append(shown.Parameters, m)
	}
	for i := range o.RequestBody.Content[:min(1, len(o.RequestBody.Content))] {
		schema := &o.RequestBody.Content[i].Value.Schema
		if schema.Ref != "" {
			shown.Body = []member{{Name: "JSON", Link: lastOf(schema.Ref)}}
		} else {
			shown.Body = schema.members()
		}
	}
	for _, r := range o.Responses {
		response := r.Value
		if response.Ref != "" {
			response = d.Components.Responses[lastOf(response.Ref)]
		}
		a := answerDoc{Status: r.Name, Description: response.Description}
		for _, content := range response.Content {
			if ref := content.Value.Schema.Ref; ref != "" {
				a.Link = lastOf(ref)
			}
		}
		shown.Answers = append(shown.Answers, a)
	}
	shown.Curl, err = o.curl()
	return shown, err
}

// examplePath fills the path's parameters in.
func (o *operationDoc) examplePath() string {
	for prefix, example := range map[string]string{"/v1/products/": "mug", "/v1/reservations/": "$RESERVATION", "/v1/orders/": "$ORDER"} {
		if strings.HasPrefix(o.Path, prefix) {
			return strings.ReplaceAll(o.Path, "{id}", example)
		}
	}
	return strings.ReplaceAll(o.Path, "{code}", "insufficient-stock")
}

// curl is a line to try. The page puts its own host in the place of $HOST.
func (o *operationDoc) curl() (string, error) {
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

// marked renders the little Markdown that descriptions use: `code`.
func marked(text string) template.HTML {
	var b strings.Builder
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			b.WriteString("<code>" + template.HTMLEscapeString(part) + "</code>")
		} else {
			b.WriteString(template.HTMLEscapeString(part))
		}
	}
	return template.HTML(b.String())
}

var pages = template.Must(template.New("").Funcs(template.FuncMap{"marked": marked}).Parse(`
{{define "style"}}<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #0a7d5a; }
@media (prefers-color-scheme: dark) { :root { --accent: #4fc79b; } }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 58rem; margin: 0 auto; padding: 2rem 1rem 6rem; }
h1 { font-size: 2rem; margin: 0 0 .25rem; } h2 { margin: 3rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { margin: 2rem 0 .25rem; font-size: 1rem; } code, pre { font: 14px/1.5 ui-monospace, monospace; } a { color: var(--accent); }
pre { background: var(--soft); padding: .6rem .8rem; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; margin: .5rem 0; }
.method { display: inline-block; min-width: 4.2em; font-weight: 700; color: var(--accent); } summary { cursor: pointer; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; } td, th { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:first-child { white-space: nowrap; } nav a { margin-right: 1rem; } .required::after { content: " *"; color: var(--accent); }
</style>{{end}}
{{define "members"}}<table>{{range .}}<tr><td{{if .Required}} class="required"{{end}}><code>{{.Name}}</code></td>
<td>{{.Note}} {{with .Link}}<a href="#schema-{{.}}">{{.}}</a>{{end}}</td><td>{{marked .Description}}</td></tr>{{end}}</table>{{end}}
{{define "docs"}}<!doctype html><html lang="en"><head><title>Holdfast API</title>{{template "style"}}</head><body>
<h1>{{.Document.Info.Title}}</h1><p>{{.Document.Info.Summary}}</p><p>{{marked .Document.Info.Description}}</p>
<nav>{{range .Document.Tags}}<a href="#{{.Name}}">{{.Name}}</a>{{end}}<a href="#schemas">schemas</a><a href="#problems">problems</a>
<a href="/openapi.yaml">openapi.yaml</a><a href="/openapi.json">openapi.json</a></nav>
{{$operations := .Operations}}{{range .Document.Tags}}<h2 id="{{.Name}}">{{.Name}}</h2><p>{{.Description}}</p>
{{range index $operations .Name}}<section id="{{.ID}}"><h3><span class="method">{{.Method}}</span> <code>{{.Path}}</code></h3>
<p>{{marked .Summary}}.</p><pre>{{.Curl}}</pre>
<details><summary>{{.ID}}: what it takes and answers</summary>{{if .Parameters}}{{template "members" .Parameters}}{{end}}
{{if .Body}}<p>Body</p>{{template "members" .Body}}{{end}}<p>Answers</p><table>{{range .Answers}}<tr><td><code>{{.Status}}</code></td>
<td>{{with .Link}}<a href="#schema-{{.}}">{{.}}</a>{{end}}</td><td>{{marked .Description}}</td></tr>{{end}}</table></details></section>
{{end}}{{end}}<h2 id="schemas">schemas</h2><p>Members marked * are required in requests and always present in answers.</p>
{{range .Schemas}}<section id="schema-{{.Name}}"><h3>{{.Name}}</h3><p>{{with .Note}}{{.}}. {{end}}{{marked .Description}}</p>{{if .Members}}{{template "members" .Members}}{{end}}</section>{{end}}
<h2 id="problems">problems</h2><p>Every refusal is <code>application/problem+json</code> with one of these codes.</p>
<table><tr><th>code</th><th>status</th><th>meaning</th></tr>{{range .Problems}}<tr><td><a href="/problems/{{.Code}}"><code>{{.Code}}</code></a></td><td>{{.Status}}</td><td>{{.Title}}</td></tr>{{end}}</table>
<script>for (const e of document.querySelectorAll("pre")) e.textContent = e.textContent.replace("$HOST", location.host)</script>
</body></html>{{end}}
{{define "problem"}}<!doctype html><html lang="en"><head><title>{{.Title}}</title>{{template "style"}}</head><body>
<p><a href="/docs#problems">problems</a></p><h1>{{.Title}}</h1><p><code>{{.Code}}</code>, status {{.Status}}</p>
<p>{{marked .Meaning}}</p><p>{{marked .Advice}}</p></body></html>{{end}}`))

func (s *Server) openapiYAML(c *call) *problem { return c.file("application/yaml", s.spec.yaml) }
func (s *Server) openapiJSON(c *call) *problem { return c.file("application/json", s.spec.json) }
func (s *Server) docs(c *call) *problem        { return c.file("text/html; charset=utf-8", s.spec.page) }

func (s *Server) problemPage(c *call) *problem {
	t := problemByCode[c.PathValue("code")]
	if t == nil {
		return fail("not-found")
	}
	var page strings.Builder
	if err := pages.ExecuteTemplate(&page, "problem", t); err != nil {
		return c.failed(err)
	}
	return c.file("text/html; charset=utf-8", []byte(page.String()))
}

func (c *call) file(mediaType string, body []byte) *problem {
	c.w.Header().Set("Content-Type", mediaType)
	_, _ = c.w.Write(body) // the caller has gone: nobody is left to tell
	return nil
}
