package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// Listener makes problems of what net/http answers by itself, in plain text, to a request that it cannot read. No
// handler is asked about such a request, so that answer is recognized where it is written: see decision 0022.
func (s *Server) Listener(l net.Listener) net.Listener { return listener{l, s} }

type listener struct {
	net.Listener
	server *Server
}

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, is := conn.(*net.TCPConn); is {
		return &conversation{tcp, l.server}, nil
	}
	return conn, err
}

// conversation is a connection. It keeps the other methods of a TCP connection, some of which net/http looks for.
type conversation struct {
	*net.TCPConn
	server *Server
}

// What net/http's own answers begin with, what follows the status, and how long they are at most.
const (
	unreadStart    = "HTTP/1.1 "
	unreadHead     = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	maxUnreadBytes = 256
)

// Write implements [net.Conn].
func (c *conversation) Write(b []byte) (int, error) {
	if len(b) > maxUnreadBytes || len(b) < len(unreadStart) || b[0] != 'H' || b[len(unreadStart)] < '4' {
		return c.TCPConn.Write(b)
	}
	p := unread(b)
	if p == nil {
		return c.TCPConn.Write(b)
	}
	if _, err := c.TCPConn.Write(p.unreadAnswer(c.server.newRequestID())); err != nil {
		return 0, err
	}
	return len(b), nil
}

// unread makes the problem of an answer by net/http, or nil of any other. Such an answer is one write, and has no other
// headers, as every answer of a handler has. No body can have these bytes either: JSON has no line ends inside strings.
func unread(answer []byte) *problem {
	rest, is := bytes.CutPrefix(answer, []byte(unreadStart))
	line, body, found := bytes.Cut(rest, []byte(unreadHead))
	if !is || !found || len(line) < 3 {
		return nil
	}
	status, err := strconv.Atoi(string(line[:3]))
	if err != nil || status < 400 || (!bytes.Equal(line, body) && status != http.StatusNotImplemented) {
		return nil
	}
	reason := unreadReasons[status]
	if _, named, found := strings.Cut(string(line), ": "); found {
		reason = named
	}
	p := fail(CodeInvalidRequest, "The request cannot be read: "+reason+".")
	p.Status = status
	return p
}

// unreadReasons is what is wrong where net/http does not name it.
var unreadReasons = map[int]string{
	http.StatusBadRequest:                  "its first line or a header is malformed",
	http.StatusRequestHeaderFieldsTooLarge: "its headers are too large",
	http.StatusNotImplemented:              "unsupported transfer encoding",
}

// unreadAnswer is the problem as net/http would have written it. The connection ends with it: where the next request
// would begin, nobody knows.
func (p *problem) unreadAnswer(requestID string) []byte {
	p.RequestID = requestID
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // every member is a plain value
	}
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n"+
		"Request-Id: %s\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\n%s",
		p.Status, http.StatusText(p.Status), len(body), requestID, body)
}
