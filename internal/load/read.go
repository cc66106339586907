package load

import "net/http"

// Read is one thing that clients read over and over.
type Read struct {
	Name        string // for people
	Path        string
	IfNoneMatch string // the entity tag that the client has; empty: none
	Status      int    // what the answer should be: 200, or 304
}

// act reads once. Where an entity tag has changed meanwhile, the whole answer is as good.
func (r *Read) act(c *conn, tell func(...step)) error {
	status, answer, err := c.get(r.Path, r.IfNoneMatch)
	if err != nil {
		return err
	}
	s := step{kind: reads, status: status}
	if status != r.Status && status != http.StatusOK {
		s.code = problemCode(status, answer)
	}
	tell(s)
	return nil
}
