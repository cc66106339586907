package httpapi

import "github.com/holdfast/holdfast/internal/docs"

// documented are the problem types as their pages show them.
func documented() []docs.Problem {
	list := make([]docs.Problem, len(problemTypes))
	for i, t := range problemTypes {
		list[i] = docs.Problem{Code: t.Code, Status: t.Status, Title: t.Title, Meaning: t.Meaning, Advice: t.Advice}
	}
	return list
}

func (s *Server) openapiYAML(c *call) *problem { return c.file("application/yaml", s.spec.YAML) }
func (s *Server) openapiJSON(c *call) *problem { return c.file("application/json", s.spec.JSON) }
func (s *Server) docs(c *call) *problem        { return c.file("text/html; charset=utf-8", s.spec.HTML) }

func (s *Server) problemPage(c *call) *problem {
	page, found := s.spec.Problem(c.PathValue("code"))
	if !found {
		return fail("not-found")
	}
	return c.file("text/html; charset=utf-8", page)
}

func (c *call) file(mediaType string, body []byte) *problem {
	c.w.Header().Set("Content-Type", mediaType)
	_, _ = c.w.Write(body) // the caller has gone: nobody is left to tell
	return nil
}
