package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdfast/holdfast/internal/relay"
)

// session is one connection. It does not reconnect: what is lost with a connection would be a gap in front of what is
// sent on the next one. The sink opens another.
type session struct {
	*nats.Conn
	raw    net.Conn
	inbox  string         // with the number of a message it is the subject of the acknowledgement
	first  int            // number of the next message
	acks   chan *nats.Msg // has room for a whole window
	broken chan error     // why no more acknowledgements come
}

// open connects to the first of the servers that answers.
func open(ctx context.Context, scheme, hosts string, options []nats.Option) (*session, error) {
	var servers []string
	for host := range strings.SplitSeq(hosts, ",") {
		servers = append(servers, scheme+"://"+host)
	}
	s := &session{acks: make(chan *nats.Msg, windowLimit), broken: make(chan error, 1)}
	d := &dialer{ctx: ctx}
	defer d.done()
	conn, err := nats.Connect(strings.Join(servers, ","), append(options, nats.SetCustomDialer(d),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.fail(err) }),
		nats.ClosedHandler(func(c *nats.Conn) { s.fail(c.LastError()) }))...)
	if err != nil {
		return nil, err
	}
	s.Conn, s.raw, s.inbox = conn, d.conn, conn.NewInbox()+"."
	if _, err := conn.ChanSubscribe(s.inbox+"*", s.acks); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// dialer connects until its context ends, which ends the handshake too.
type dialer struct {
	ctx  context.Context
	conn net.Conn
	stop func() bool
}

// Dial implements [nats.CustomDialer].
func (d *dialer) Dial(network, address string) (conn net.Conn, err error) {
	d.done()
	if conn, err = (&net.Dialer{Timeout: connectTimeout}).DialContext(d.ctx, network, address); err != nil {
		return nil, err
	}
	d.conn, d.stop = conn, context.AfterFunc(d.ctx, func() { conn.Close() })
	return conn, nil
}

func (d *dialer) done() {
	if d.stop != nil {
		d.stop()
	}
}

// cut ends the connection, whatever is being written to it.
func (s *session) cut() { s.raw.Close() }

func (s *session) close() {
	s.cut() // or a server that hangs would hold up the farewell
	s.Close()
}

func (s *session) fail(err error) {
	if err == nil {
		err = nats.ErrConnectionClosed
	}
	select {
	case s.broken <- err:
	default:
	}
}

var errPending = errors.New("an event was not acknowledged (is there a stream of JetStream for the subject?)")

// await waits for the acknowledgements of n messages. It returns how many of the first ones are stored.
func (s *session) await(ctx context.Context, n int) (stored int, err error) {
	defer func(first int) { s.first = first + n }(s.first)
	results := make([]error, n)
	for i := range results {
		results[i] = errPending
	}
	for left := n; left > 0 && err == nil; {
		select {
		case m := <-s.acks:
			i, _ := strconv.Atoi(strings.TrimPrefix(m.Subject, s.inbox))
			if i -= s.first; i >= 0 && i < n && results[i] == errPending {
				results[i] = result(m)
				left--
			}
		case err = <-s.broken:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	for i, result := range results {
		switch {
		case result == errPending:
			return i, fmt.Errorf("%w: %w", errPending, err)
		case result != nil:
			return i, result
		}
	}
	return n, nil
}

// result reads an acknowledgement.
func result(m *nats.Msg) error {
	var ack struct {
		Stream string              `json:"stream"`
		Error  *jetstream.APIError `json:"error"`
	}
	if m.Header.Get("Status") == "503" {
		return errors.New("no stream of JetStream takes the subject: make one (nats stream add), or add ?create=true to " +
			"the address of the sink")
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return fmt.Errorf("the acknowledgement is not that of JetStream: %w", err)
	}
	switch {
	case ack.Error != nil && ack.Error.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return &relay.Refused{Reason: ack.Error}
	case ack.Error != nil:
		return ack.Error
	case ack.Stream == "":
		return fmt.Errorf("the acknowledgement is not that of JetStream: %q", m.Data)
	}
	return nil
}

// hasCode reports whether the server answered with an error of this code.
func hasCode(err error, code jetstream.ErrorCode) bool {
	var answer *jetstream.APIError
	return errors.As(err, &answer) && answer.ErrorCode == code
}
