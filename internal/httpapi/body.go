package httpapi

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"

	"github.com/holdfast/holdfast/internal/wire"
)

const maxBodyBytes = wire.MaxBodyBytes

// body reads the body of a mutation, of up to limit bytes: JSON, or one of the other media types.
func (c *call) body(limit int64, mediaTypes ...string) ([]byte, error) {
	if c.ContentLength != 0 && !c.hasMediaType(mediaTypes) {
		return nil, fail(CodeUnsupportedMediaType)
	}
	if c.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	if c.ContentLength == 0 {
		return nil, nil
	}
	return c.readBody(limit)
}

// hasMediaType reports whether the Content-Type is JSON in UTF-8, or one of the others; without one the body is JSON.
func (c *call) hasMediaType(others []string) bool {
	given := c.Header["Content-Type"]
	switch {
	case len(given) == 0 || len(given) == 1 && given[0] == jsonType[0]:
		return true
	case len(given) > 1:
		return false
	}
	mediaType, parameters, err := mime.ParseMediaType(given[0])
	if err != nil || mediaType != jsonType[0] && !slices.Contains(others, mediaType) {
		return false
	}
	charset, hasCharset := parameters["charset"]
	return !hasCharset || strings.EqualFold(charset, "utf-8")
}

func tooLarge(limit int64) *problem {
	return fail(CodeBodyTooLarge, fmt.Sprintf("A body has at most %d MiB here: send a smaller one.", limit>>20))
}

func (c *call) readBody(limit int64) ([]byte, error) {
	// What the caller says of the length is not believed before it is there.
	body := make([]byte, 0, min(max(c.ContentLength+1, 512), freeBytes))
	limited := io.LimitReader(c.Request.Body, limit+1)
	for {
		n, err := limited.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > limit:
			return nil, tooLarge(limit)
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, fail(CodeInvalidJSON, "The body could not be read to its end: send all of it, within the time limit.")
		case len(body) == cap(body):
			if err := c.claim(int64(cap(body))); err != nil {
				return nil, err
			}
			body = slices.Grow(body, cap(body))
		}
	}
}
