package httpapi

// problemByCode finds what a code means by the text in the path of its page.
var problemByCode = func() map[string]*problemType {
	types := make(map[string]*problemType, len(problemTypes))
	for i := range problemTypes {
		types[string(problemTypes[i].Code)] = &problemTypes[i]
	}
	return types
}()

// failed is the problem of a page that could not be made.
func (c *call) failed(err error) *problem { return c.explain(err) }

// servePage makes an operation of a page.
func servePage(serve func(*call) *problem) func(*call) error {
	return func(c *call) error {
		if p := serve(c); p != nil {
			return p
		}
		return nil
	}
}
