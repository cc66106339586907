package httpapi

import "github.com/holdfast/holdfast/internal/docs"

// documented are the problem types as their pages show them.
func documented() []docs.Problem {
	list := make([]docs.Problem, len(problemTypes))
	for i, t := range problemTypes {
		list[i] = docs.Problem{Code: string(t.Code), Status: t.Status, Title: t.Title, Meaning: t.Meaning, Advice: t.Advice}
	}
	return list
}

func (s *Server) routePages() {
	s.handle("GET /openapi.yaml", "openapiYAML", s.openapiYAML)
	s.handle("GET /openapi.json", "openapiJSON", s.openapiJSON)
	s.handle("GET /docs", "docs", s.docs)
	s.handle("GET /problems/{code}", "problem", s.problemPage)
}

func (s *Server) openapiYAML(c *call) error { return c.file("application/yaml", s.pages.YAML) }
func (s *Server) openapiJSON(c *call) error { return c.file("application/json", s.pages.JSON) }
func (s *Server) docs(c *call) error        { return c.file("text/html; charset=utf-8", s.pages.HTML) }

func (s *Server) problemPage(c *call) error {
	page, found := s.pages.Problem(c.PathValue("code"))
	if !found {
		return fail(CodeNotFound)
	}
	return c.file("text/html; charset=utf-8", page)
}

func (c *call) file(mediaType string, body []byte) error {
	c.w.Header().Set("Content-Type", mediaType)
	_, _ = c.w.Write(body) // fails if the caller has gone, and then there is nobody to tell
	return nil
}
