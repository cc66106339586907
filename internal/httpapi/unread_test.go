package httpapi_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/httpapi"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// serveRaw serves as holdfast serve does, and returns the address.
func serveRaw(t *testing.T, server *httpapi.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: server, MaxHeaderBytes: 4 << 10}
	done := make(chan error)
	go func() { done <- s.Serve(server.Listener(l)) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return l.Addr().String()
}

// TestUnreadRequests: what net/http answers by itself is a problem, also after other requests on the same connection.
func TestUnreadRequests(t *testing.T) {
	h := newMemoryHarness(t, storetest.NewClock())
	address := serveRaw(t, h.server)
	const good = "GET /livez HTTP/1.1\r\nHost: shop\r\n\r\n"
	for name, c := range map[string]struct {
		request, detail string
		status          int
	}{
		"not HTTP":       {"hello\r\n\r\n", "malformed", 400},
		"a bad header":   {"GET / HTTP/1.1\r\nHost: shop\r\nno colon\r\n\r\n", "malformed", 400},
		"no host":        {"GET /livez HTTP/1.1\r\n\r\n", "missing required Host header", 400},
		"a bad host":     {"GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n", "malformed Host header", 400},
		"a bad length":   {"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: x\r\n\r\n", "malformed", 400},
		"large headers":  {"GET / HTTP/1.1\r\nHost: shop\r\nA: " + strings.Repeat("a", 20<<10) + "\r\n\r\n", "too large", 431},
		"an encoding":    {"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: gzip\r\n\r\n", "transfer encoding", 501},
		"a late version": {"GET /livez HTTP/3.0\r\nHost: shop\r\n\r\n", "version", 505},
	} {
		t.Run(name, func(t *testing.T) {
			for _, before := range []string{"", good} {
				requireUnread(t, address, before, c.request, c.detail, c.status)
			}
		})
	}
}

func requireUnread(t *testing.T, address, before, request, detail string, status int) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, before+request); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	if before != "" {
		response, err := http.ReadResponse(reader, nil)
		if err != nil || response.StatusCode != 200 {
			t.Fatal(response, err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatal(err)
		}
	}
	response, err := http.ReadResponse(reader, nil)
	if err != nil || !response.Close {
		t.Fatal(response, err)
	}
	var p struct {
		Type, Title, Detail, Code, RequestID string
		Status                               int
	}
	err = json.NewDecoder(response.Body).Decode(&p)
	if err != nil || p.Status != status || p.Code != "invalid-request" || !strings.Contains(p.Detail, detail) ||
		p.RequestID == "" || p.Type == "" || p.Title == "" {
		t.Errorf("after %q: %+v, %v", before, p, err)
	}
	if response.StatusCode != status || response.Header.Get("Request-Id") != p.RequestID ||
		response.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("after %q: %d %v", before, response.StatusCode, response.Header)
	}
	if rest, err := io.ReadAll(reader); len(rest) > 0 || err != nil {
		t.Errorf("then: %q, %v", rest, err)
	}
}
