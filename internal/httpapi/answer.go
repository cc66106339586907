package httpapi

import (
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/holdfast/holdfast/internal/inventory"
)

// resource is what an answer shows.
type resource interface {
	// version is the number in its ETag; 0: it has no ETag.
	version() int64
	// path is where it can be read, the Location of a new one; empty: nowhere.
	path() string
	// append appends its JSON.
	append([]byte) []byte
}

// answer writes the result of a mutation.
func (c *call) answer(o *inventory.Outcome, shown resource) {
	c.placed(o)
	h := c.w.Header()
	if version := shown.version(); version != 0 {
		h["Etag"] = []string{etag(version)}
	}
	if !o.Created {
		c.send(http.StatusOK, shown.append)
		return
	}
	if path := shown.path(); path != "" {
		h["Location"] = []string{path}
	}
	c.send(http.StatusCreated, shown.append)
}

// placed says where in the feed the effect of a request is, and whether it was an earlier one's.
func (c *call) placed(o *inventory.Outcome) {
	h := c.w.Header()
	h["Holdfast-Sequence"] = []string{c.server.o.Engine.CursorAt(o.Seq).String()}
	if o.Replayed {
		h["Idempotent-Replayed"] = []string{"true"}
	}
}

// one writes a resource that was read, or 304 if the caller has it already.
func (c *call) one(shown resource) error {
	tag := etag(shown.version())
	known, err := c.hasTag(tag)
	if err != nil {
		return err
	}
	c.w.Header()["Etag"] = []string{tag}
	if known {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	c.send(http.StatusOK, shown.append)
	return nil
}

// hasTag reports whether If-None-Match names this tag, weak or strong.
func (c *call) hasTag(tag string) (bool, error) {
	given := c.Header.Values("If-None-Match")
	if len(given) == 0 {
		return false, nil
	}
	tags, any, ok := parseETags(given)
	if !ok {
		return false, badParameter("If-None-Match", etagRule)
	}
	return any || slices.Contains(tags, tag) || slices.Contains(tags, "W/"+tag), nil
}

func etag(version int64) string {
	b := make([]byte, 0, 24)
	b = append(b, '"')
	b = strconv.AppendInt(b, version, 10)
	return string(append(b, '"'))
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// maxPooledBytes bounds the buffers that are kept for the next answer.
const maxPooledBytes = 64 << 10

var jsonType = []string{"application/json"}

// send writes a JSON answer, which build appends to the buffer that it is given.
func (c *call) send(status int, build func([]byte) []byte) {
	buffer := buffers.Get().(*[]byte)
	body := build((*buffer)[:0])
	c.keep(int64(len(body)))
	h := c.w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body) // fails if the caller has gone, and then there is nobody to tell
	if cap(body) <= maxPooledBytes {
		*buffer = body
		buffers.Put(buffer)
	}
}

// sendText writes JSON that is there already.
func (c *call) sendText(body string) {
	c.send(http.StatusOK, func(b []byte) []byte { return append(b, body...) })
}
