// Package docs makes the pages that people read from the OpenAPI file: the page of the operations, and one for each problem code.
package docs

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"strings"

	"gopkg.in/yaml.v3"
)

// Problem is a problem code with what its page says.
type Problem struct {
	Code    string
	Status  int
	Title   string
	Meaning string // what happened
	Advice  string // what the caller does next
}

// Pages are the OpenAPI file in the forms in which it is served, and the pages of the problems.
type Pages struct {
	YAML     []byte // the file as it was given
	JSON     []byte // the same, as JSON
	HTML     []byte // the same, for people
	problems map[string][]byte
}

// New makes the pages of an OpenAPI file (YAML) and a list of problems, which the page shows in the order of the list.
func New(openAPI []byte, problems []Problem) (*Pages, error) {
	asJSON, err := toJSON(openAPI)
	if err != nil {
		return nil, fmt.Errorf("the OpenAPI file as JSON: %w", err)
	}
	asHTML, err := toHTML(openAPI, problems)
	if err != nil {
		return nil, fmt.Errorf("the page of the OpenAPI file: %w", err)
	}
	p := &Pages{YAML: openAPI, JSON: asJSON, HTML: asHTML, problems: make(map[string][]byte, len(problems))}
	for _, problem := range problems {
		if p.problems[problem.Code], err = render("problem", problem); err != nil {
			return nil, fmt.Errorf("the page of the problem %s: %w", problem.Code, err)
		}
	}
	return p, nil
}

// Problem returns the page of a problem code, HTML, or false where the list has no such code.
func (p *Pages) Problem(code string) (page []byte, found bool) {
	page, found = p.problems[code]
	return page, found
}

func toJSON(openAPI []byte) ([]byte, error) {
	var everything any
	if err := yaml.Unmarshal(openAPI, &everything); err != nil {
		return nil, err
	}
	return json.MarshalIndent(everything, "", "  ")
}

func toHTML(openAPI []byte, problems []Problem) ([]byte, error) {
	var d document
	if err := yaml.Unmarshal(openAPI, &d); err != nil {
		return nil, err
	}
	operations, err := d.operations()
	if err != nil {
		return nil, err
	}
	return render("docs", map[string]any{
		"Document": d, "Operations": operations, "Schemas": d.schemas(), "Problems": problems,
	})
}

//go:embed pages.html
var source string

var templates = template.Must(template.New("").Funcs(template.FuncMap{"marked": marked}).Parse(source))

func render(name string, data any) ([]byte, error) {
	var page bytes.Buffer
	err := templates.ExecuteTemplate(&page, name, data)
	return page.Bytes(), err
}

// marked renders the one mark that descriptions use: text between backquotes is code.
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
