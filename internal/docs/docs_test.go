package docs_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/docs"
)

const file = `
openapi: 3.1.0
info: {title: Cellar, summary: Keeps bottles., description: 'Say ` + "`please`" + ` & <thanks>.'}
tags:
  - {name: bottles, description: What lies there.}
paths:
  /v1/products/{id}:
    parameters: [{$ref: '#/components/parameters/Id'}]
    patch:
      operationId: moveBottle
      tags: [bottles]
      summary: Move a bottle
      parameters:
        - {name: dry, in: query, description: Only look., schema: {type: boolean}}
      requestBody:
        content:
          application/json: {schema: {$ref: '#/components/schemas/Bottle'}, example: {shelf: 3}}
      responses:
        '200': {description: Moved., content: {application/json: {schema: {$ref: '#/components/schemas/Bottle'}}}}
        default: {$ref: '#/components/responses/Failure'}
    get:
      operationId: readBottle
      tags: [bottles]
      summary: Read a bottle
      responses: {'200': {description: The bottle.}}
components:
  parameters:
    Id: {name: id, in: path, schema: {type: string, maxLength: 64}}
  responses:
    Failure: {description: It broke.}
  schemas:
    Bottle:
      type: object
      description: A bottle.
      required: [shelf]
      properties:
        shelf: {type: integer, minimum: 1, maximum: 9, default: 2}
        note: {type: [string, 'null'], description: What the label says.}
        colour: {type: string, enum: [red, white]}
        origin: {description: Where from., anyOf: [{$ref: '#/components/schemas/Jug'}, {type: 'null'}]}
        state: {anyOf: [{type: string, enum: [full, empty]}, {type: string}]}
        neighbours: {type: array, items: {$ref: '#/components/schemas/Bottle'}}
    Either:
      oneOf: [{$ref: '#/components/schemas/Bottle'}, {$ref: '#/components/schemas/Jug'}]
    Jug: {type: object}
`

var problems = []docs.Problem{
	{Code: "broken", Status: 410, Title: "The bottle is broken", Meaning: "It fell from `shelf` <9>.", Advice: "Sweep."},
	{Code: "empty", Status: 409, Title: "The bottle is empty", Meaning: "Nothing is left.", Advice: "Open another."},
}

func pages(t *testing.T) *docs.Pages {
	t.Helper()
	p, err := docs.New([]byte(file), problems)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// contains requires all these texts, one after the other.
func contains(t *testing.T, page []byte, texts ...string) {
	t.Helper()
	rest := string(page)
	for _, text := range texts {
		_, after, found := strings.Cut(rest, text)
		if !found {
			t.Fatalf("%q is not there, or too early, in\n%s", text, page)
		}
		rest = after
	}
}

func TestOperations(t *testing.T) {
	page := pages(t).HTML
	contains(t, page, "<h1>Cellar</h1>", "Keeps bottles.", "Say <code>please</code> &amp; &lt;thanks&gt;.")
	contains(t, page, `<h2 id="bottles">`, `<section id="moveBottle">`, "PATCH", "Move a bottle.",
		"curl -i -X PATCH http://$HOST/v1/products/mug", "{&#34;shelf&#34;:3}",
		"<code>id</code>", "path, string, at most 64 characters", "<code>dry</code>", "query, boolean", "Only look.",
		"Body", `<a href="#schema-Bottle">`, "<code>200</code>", `<a href="#schema-Bottle">`, "Moved.", "<code>default</code>", "It broke.",
		`<section id="readBottle">`, "curl -i http://$HOST/v1/products/mug<", "<code>id</code>", "The bottle.")
}

func TestSchemas(t *testing.T) {
	page := pages(t).HTML
	contains(t, page, `id="schema-Bottle"`, "object. A bottle.",
		`class="required"><code>shelf</code>`, "integer, 1 to 9, default 2",
		"<td><code>note</code>", "string or null", "What the label says.",
		"<code>colour</code>", "string, red, white",
		"<code>origin</code>", "null or", `<a href="#schema-Jug">`, "Where from.",
		"<code>state</code>", "string, full, empty or another",
		"<code>neighbours</code>", "list of", `<a href="#schema-Bottle">`,
		`id="schema-Either"`, "<code>either</code>", `<a href="#schema-Bottle">`, "<code>either</code>", `<a href="#schema-Jug">`)
}

func TestProblems(t *testing.T) {
	p := pages(t)
	contains(t, p.HTML, `<h2 id="problems">`, `<a href="/problems/broken">`, "<td>410</td>", "The bottle is broken", "/problems/empty")
	page, found := p.Problem("broken")
	if !found {
		t.Fatal("a problem of the list has no page")
	}
	contains(t, page, "<title>The bottle is broken</title>", "<code>broken</code>, status 410",
		"It fell from <code>shelf</code> &lt;9&gt;.", "Sweep.")
	if _, found := p.Problem("other"); found {
		t.Error("a problem that is not in the list has a page")
	}
}

func TestForms(t *testing.T) {
	p := pages(t)
	if string(p.YAML) != file {
		t.Error("the YAML is not the file as it was given")
	}
	var read struct {
		Info  struct{ Title string }
		Paths map[string]any
	}
	if err := json.Unmarshal(p.JSON, &read); err != nil {
		t.Fatal(err)
	}
	if read.Info.Title != "Cellar" || read.Paths["/v1/products/{id}"] == nil {
		t.Errorf("the JSON is another document: %s", p.JSON)
	}
}

// TestWrongFiles: what cannot be shown is an error at the start, not an empty page later.
func TestWrongFiles(t *testing.T) {
	for _, wrong := range []string{
		"paths: [", // no YAML
		"paths: {/a: {get: {operationId: [1, 2]}}}", // no operation
		"paths: {/a: {get: {operationId: a}}}",      // an operation without a tag
		"paths: {/a: {parameters: 3}}",              // no parameters
		"paths: {/a: {get: {tags: [x], requestBody: {content: {a: {example: {1: 2, 2.5: {3: 4}}}}}}}}", // an example that is no JSON
	} {
		if _, err := docs.New([]byte(wrong), nil); err == nil {
			t.Errorf("%s: no error", wrong)
		}
	}
}
