package httpapi

import "github.com/holdfast/holdfast/internal/docs"

func (s *Server) routePages() {
	s.handle("GET /openapi.yaml", "openapiYAML", page("application/yaml", s.pages.YAML))
	s.handle("GET /openapi.json", "openapiJSON", page("application/json", s.pages.JSON))
	s.handle("GET /docs", "docs", page(htmlType, s.pages.HTML))
	s.handle("GET /problems/{code}", "problem", s.problemPage)
}

const htmlType = "text/html; charset=utf-8"

// documented are the problem types as their pages show them.
func documented() []docs.Problem {
	list := make([]docs.Problem, len(problemTypes))
	for i, t := range problemTypes {
		list[i] = docs.Problem{Code: string(t.Code), Status: t.Status, Title: t.Title, Meaning: t.Meaning, Advice: t.Advice}
	}
	return list
}

// page makes an operation of a page that is always the same.
func page(mediaType string, body []byte) func(*call) error {
	return func(c *call) error {
		c.w.Header().Set("Content-Type", mediaType)
		_, _ = c.w.Write(body) // the caller has gone: nobody is left to tell
		return nil
	}
}

func (s *Server) problemPage(c *call) error {
	body, found := s.pages.Problem(c.PathValue("code"))
	if !found {
		return fail(CodeNotFound)
	}
	return page(htmlType, body)(c)
}
