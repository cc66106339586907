package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// conn is one HTTP/1.1 connection with as little as can be between the load and the socket: net/http's client would need
// as much of the processor as the server that is measured.
type conn struct {
	host   string
	socket net.Conn
	in     *bufio.Reader
	out    []byte
	body   []byte
}

// answerTimeout is how long an answer may take before the run calls it an error.
const answerTimeout = 30 * time.Second

func dial(ctx context.Context, host string) (*conn, error) {
	socket, err := (&net.Dialer{Timeout: answerTimeout}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	return &conn{host: host, socket: socket, in: bufio.NewReaderSize(socket, 8<<10)}, nil
}

func (c *conn) close() { _ = c.socket.Close() }

// post sends a request and reads its answer, whose body is valid until the next call.
func (c *conn) post(path, key string, body []byte) (status int, answer []byte, err error) {
	b := c.begin(http.MethodPost, path)
	b = appendHeader(b, "Idempotency-Key", key)
	b = append(b, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	return c.send(append(b, body...))
}

// get asks for a resource, and with an entity tag only if it has another.
func (c *conn) get(path, ifNoneMatch string) (status int, answer []byte, err error) {
	b := c.begin(http.MethodGet, path)
	b = appendHeader(b, "If-None-Match", ifNoneMatch)
	return c.send(append(b, "\r\n\r\n"...))
}

func (c *conn) begin(method, path string) []byte {
	b := append(c.out[:0], method...)
	b = append(b, ' ')
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	return append(b, c.host...)
}

func appendHeader(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, "\r\n"...)
	b = append(b, name...)
	b = append(b, ": "...)
	return append(b, value...)
}

func (c *conn) send(request []byte) (status int, answer []byte, err error) {
	c.out = request
	_ = c.socket.SetDeadline(time.Now().Add(answerTimeout))
	if _, err := c.socket.Write(request); err != nil {
		return 0, nil, err
	}
	return c.read()
}

var errAnswer = errors.New("the answer is no HTTP/1.1 with a Content-Length")

func (c *conn) read() (status int, body []byte, err error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, nil, errAnswer
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, errAnswer
	}
	length, err := c.readHeaders()
	if err != nil {
		return 0, nil, err
	}
	if status == http.StatusNotModified {
		length = 0 // whatever the header says
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	_, err = io.ReadFull(c.in, c.body)
	return status, c.body, err
}

// readHeaders returns the length of the body.
func (c *conn) readHeaders() (length int, err error) {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return length, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, errAnswer
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			return 0, errAnswer
		}
	}
}

// member finds the first string member of this name in a JSON answer of ours.
func member(answer []byte, name string) string {
	_, rest, found := bytes.Cut(answer, []byte(`"`+name+`":"`))
	if !found {
		return ""
	}
	value, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(value)
}

// problemCode is the code of an error answer.
func problemCode(status int, answer []byte) string {
	if code := member(answer, "code"); code != "" {
		return code
	}
	return fmt.Sprint("status ", status)
}
