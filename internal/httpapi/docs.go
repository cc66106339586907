package httpapi

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"gopkg.in/yaml.v3"
)

// spec is the OpenAPI file in the forms in which it is served.
type spec struct {
	yaml, json []byte
	page       []byte
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
	Paths yaml.Node `yaml:"paths"` // a node keeps the order
}

type documentOperation struct {
	ID          string   `yaml:"operationId"`
	Tags        []string `yaml:"tags"`
	Summary     string   `yaml:"summary"`
	RequestBody struct {
		Content map[string]struct {
			Example any `yaml:"example"`
		} `yaml:"content"`
	} `yaml:"requestBody"`
	Responses map[string]any `yaml:"responses"`
	Method    string         `yaml:"-"`
	Path      string         `yaml:"-"`
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

func renderDocs(file []byte) ([]byte, error) {
	var d document
	if err := yaml.Unmarshal(file, &d); err != nil {
		return nil, err
	}
	byTag := map[string][]*documentOperation{}
	for i := 0; i+1 < len(d.Paths.Content); i += 2 {
		methods := d.Paths.Content[i+1]
		for j := 0; j+1 < len(methods.Content); j += 2 {
			if methods.Content[j].Value == "parameters" {
				continue
			}
			operation := &documentOperation{Method: strings.ToUpper(methods.Content[j].Value), Path: d.Paths.Content[i].Value}
			if err := methods.Content[j+1].Decode(operation); err != nil {
				return nil, err
			}
			for _, tag := range operation.Tags {
				byTag[tag] = append(byTag[tag], operation)
			}
		}
	}
	var page strings.Builder
	err := pages.ExecuteTemplate(&page, "docs", map[string]any{"Document": d, "Operations": byTag, "Problems": problemTypes})
	return []byte(page.String()), err
}

// examplePath fills the path's parameters in.
func (o *documentOperation) examplePath() string {
	id := map[string]string{"/v1/products": "mug", "/v1/reservations": "$RESERVATION", "/v1/orders": "$ORDER"}
	for prefix, example := range id {
		if strings.HasPrefix(o.Path, prefix+"/") {
			return strings.ReplaceAll(o.Path, "{id}", example)
		}
	}
	return strings.ReplaceAll(o.Path, "{code}", "insufficient-stock")
}

// Curl is a line to try.
func (o *documentOperation) Curl() (string, error) {
	line := "curl -i "
	if o.Method != http.MethodGet {
		line += "-X " + o.Method + " -H 'Idempotency-Key: '$(uuidgen) "
	}
	for _, content := range o.RequestBody.Content {
		if content.Example == nil {
			continue
		}
		body, err := json.Marshal(content.Example)
		if err != nil {
			return "", err
		}
		line += "--json '" + string(body) + "' "
		break
	}
	return line + "http://$HOST" + o.examplePath(), nil
}

// Anchor is the name of the operation on the page.
func (o *documentOperation) Anchor() string { return o.ID }

var pages = template.Must(template.New("").Parse(`
{{define "style"}}<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #0a7d5a; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 56rem; margin: 0 auto; padding: 2rem 1rem 6rem; }
h1 { font-size: 2rem; margin: 0 0 .25rem; } h2 { margin: 3rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
code, pre { font: 14px/1.5 ui-monospace, monospace; } pre { background: var(--soft); padding: .6rem .8rem; border-radius: 6px; overflow-x: auto; }
section { margin: 1.5rem 0; } section h3 { margin: 0 0 .25rem; font-size: 1rem; } a { color: var(--accent); }
.method { display: inline-block; min-width: 4.2em; font-weight: 700; color: var(--accent); }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
</style>{{end}}
{{define "docs"}}<!doctype html><html lang="en"><head><title>Holdfast API</title>{{template "style"}}</head><body>
<h1>{{.Document.Info.Title}}</h1><p>{{.Document.Info.Summary}}</p><p>{{.Document.Info.Description}}</p>
<p>The contract: <a href="/openapi.yaml">openapi.yaml</a>, <a href="/openapi.json">openapi.json</a>. In the lines below, <code>$HOST</code> is this
server, <code id="host">127.0.0.1:8420</code>: <code>HOST=<span id="host2">127.0.0.1:8420</span></code></p>
<script>for (const id of ["host", "host2"]) document.getElementById(id).textContent = location.host</script>
{{$operations := .Operations}}{{range .Document.Tags}}<h2 id="{{.Name}}">{{.Name}}</h2><p>{{.Description}}</p>
{{range index $operations .Name}}<section id="{{.Anchor}}"><h3><span class="method">{{.Method}}</span> <code>{{.Path}}</code></h3>
<p>{{.Summary}}. <small>{{.ID}}; answers {{range $status, $_ := .Responses}}{{$status}} {{end}}</small></p><pre>{{.Curl}}</pre></section>
{{end}}{{end}}<h2 id="problems">problems</h2><p>Every refusal is <code>application/problem+json</code> with one of these codes.</p>
<table><tr><th>code</th><th>status</th><th>meaning</th></tr>{{range .Problems}}<tr><td><a href="/problems/{{.Code}}"><code>{{.Code}}</code></a></td><td>{{.Status}}</td><td>{{.Title}}</td></tr>{{end}}</table>
</body></html>{{end}}
{{define "problem"}}<!doctype html><html lang="en"><head><title>{{.Title}}</title>{{template "style"}}</head><body>
<p><a href="/docs#problems">problems</a></p><h1>{{.Title}}</h1><p><code>{{.Code}}</code>, status {{.Status}}</p>
<p>{{.Meaning}}</p><p>{{.Advice}}</p></body></html>{{end}}`))

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
