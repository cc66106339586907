package dbtest

import (
	"bytes"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Cut is what a [Proxy] does with a message from the client and with the connection that it came on.
type Cut int

// The cuts.
const (
	Pass      Cut = iota
	CutBefore     // drop the message and both connections: the server never sees it
	CutInside     // pass the first half of it
	CutAfter      // pass it, and drop both connections at once
	CutReply      // pass it, wait for the reply, and drop that and both connections
	// drop the message and keep the connections: to the client the network is gone, to the server the client is silent
	SwallowIt
	SwallowBack // pass it, drop every reply and keep the connections
	cuts
)

var cutNames = [...]string{
	"pass", "before", "inside", "after", "reply dropped", "half-open",
	"half-open, reply dropped",
}

func (c Cut) String() string { return cutNames[c] }

// CutAt chooses the cut for the nth of many messages, from 0. It takes each kind in turn; once in so many messages it
// takes one that only timeouts reveal.
func CutAt(n, betweenHalfOpen int) Cut {
	var quick, half []Cut
	for c := CutBefore; c < cuts; c++ {
		if c.HalfOpen() {
			half = append(half, c)
		} else {
			quick = append(quick, c)
		}
	}
	if n%betweenHalfOpen == 0 {
		return half[n/betweenHalfOpen%len(half)]
	}
	return quick[n%len(quick)]
}

// HalfOpen reports whether only its timeouts tell the client about the cut.
func (c Cut) HalfOpen() bool { return c == SwallowIt || c == SwallowBack }

// Proxy passes TCP connections on to a server, and cuts one with RST where a test tells it to.
type Proxy struct {
	Port     int
	listener net.Listener

	mu     sync.Mutex
	target string
	armed  Cut
	times  int             // how many messages are left to cut
	match  []byte          // what a message must contain
	hit    chan struct{}   // closed when the first cut was made
	pairs  map[*pair]bool  // open connections
	down   bool            // refuse new connections
	sent   int             // messages from clients
	words  [][2][]byte     // words and their replacements, of equal length
	all    *sync.WaitGroup // of connections
}

// pair is a connection of a client and the one to the server that belongs to it.
type pair struct {
	client, server net.Conn
	swallow        bool // everything, from now on
	dropping       bool // cut at the next reply
}

// NewProxy starts a proxy to the server of a database or of HTTP that a URL names, and returns the URL that goes
// through it.
func NewProxy(t testing.TB, address string) (*Proxy, string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		Port: listener.Addr().(*net.TCPAddr).Port, listener: listener, target: u.Host,
		pairs: map[*pair]bool{}, all: &sync.WaitGroup{},
	}
	p.all.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.Down()
		p.all.Wait()
	})
	return p, strings.Replace(address, u.Host, listener.Addr().String(), 1)
}

// Arm cuts the next messages from clients that contain match, so many times. The channel is closed at the first cut.
func (p *Proxy) Arm(c Cut, match string, times int) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed, p.times, p.match, p.hit = c, times, []byte(match), make(chan struct{})
	return p.hit
}

// Down drops all connections and refuses new ones until [Proxy.Up].
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for pair := range p.pairs {
		pair.drop()
	}
}

// Target leads new connections to another server. Those that there are stay where they are.
func (p *Proxy) Target(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// Up lets connections pass again.
func (p *Proxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// To has new connections go to another server.
func (p *Proxy) To(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = address
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		down, target := p.down, p.target
		p.mu.Unlock()
		if down {
			reset(client)
			continue
		}
		server, err := net.Dial("tcp", target)
		if err != nil {
			reset(client)
			continue
		}
		c := &pair{client: client, server: server}
		p.mu.Lock()
		p.pairs[c] = true
		p.mu.Unlock()
		p.all.Go(func() { p.pump(c, client, server, p.fromClient) })
		p.all.Go(func() { p.pump(c, server, client, p.fromServer) })
	}
}

// pump passes messages on until one side is gone.
func (p *Proxy) pump(c *pair, from, to net.Conn, filter func(*pair, []byte) (pass []byte, cut bool)) {
	buffer := make([]byte, 1<<20)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			pass, cut := filter(c, buffer[:n])
			_, _ = to.Write(pass)
			if cut {
				break
			}
		}
		if err != nil {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.swallow && from == c.client {
		return // the client has given up: the server must not learn of it
	}
	c.drop()
	delete(p.pairs, c)
}

// Rewrite replaces a word in all messages from clients. The replacement must have the same length.
func (p *Proxy) Rewrite(from, to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.words = append(p.words, [2][]byte{[]byte(from), []byte(to)})
}

// Messages returns how many messages clients have sent. If a client waits for each answer, that is the number of its
// round trips.
func (p *Proxy) Messages() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

func (p *Proxy) fromClient(c *pair, message []byte) (pass []byte, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
	for _, w := range p.words {
		message = bytes.ReplaceAll(message, w[0], w[1])
	}
	if c.swallow {
		return nil, false
	}
	if p.times == 0 || !bytes.Contains(message, p.match) {
		return message, false
	}
	p.times--
	select {
	case <-p.hit:
	default:
		close(p.hit)
	}
	switch p.armed {
	case CutBefore:
		return nil, true
	case CutInside:
		return message[:len(message)/2], true
	case CutAfter:
		return message, true
	case CutReply:
		c.dropping = true
		return message, false
	case SwallowBack:
		c.swallow = true
		return message, false
	default:
		c.swallow = true
		return nil, false
	}
}

func (p *Proxy) fromServer(c *pair, reply []byte) (pass []byte, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case c.dropping:
		return nil, true
	case c.swallow:
		return nil, false
	}
	return reply, false
}

func (c *pair) drop() {
	reset(c.client)
	reset(c.server)
}

// reset closes a connection with RST.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
