// Package nats is a sink that publishes events to a subject which a stream of NATS JetStream stores.
package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdfast/holdfast/internal/relay"
)

const (
	// windowLimit is how many messages are on their way at once.
	windowLimit = 2000
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 5 * time.Second
	// wrongLastMsgID is the server's code for a message that is not to follow the one before it. The client has no name
	// for it.
	wrongLastMsgID jetstream.ErrorCode = 10070
)

// Sink is a [relay.Sink] in a subject.
//
// Messages are published without waiting for each other, so the server could take one after it has refused the one
// before: if a stream is full, a smaller message may still fit. Sent again, the first would then come behind the other.
// Therefore each says which one it follows (Nats-Expected-Last-Msg-Id), and the server refuses what comes after a gap.
// What others write to the same stream looks like a gap too; fewer messages are then sent at once.
type Sink struct {
	address *relay.Address
	subject string
	create  bool
	options []nats.Option
	window  int
	session *session // nil: not connected
}

var _ relay.Sink = (*Sink)(nil)

// New reads nats://HOST/SUBJECT, or tls://HOST/SUBJECT. It connects with the first event.
func New(address string) (*Sink, error) {
	a, err := relay.ParseAddress(address, "create")
	if err != nil {
		return nil, err
	}
	create, err := a.Flag("create")
	if err != nil {
		return nil, err
	}
	s := &Sink{address: a, subject: strings.TrimPrefix(a.Path, "/"), create: create, window: windowLimit}
	if a.Host == "" || !isSubject(s.subject) {
		return nil, fmt.Errorf("the sink %s names no server or no subject: it should be like "+
			"nats://localhost:4222/holdfast.events", a.Name())
	}
	s.options = []nats.Option{
		nats.Name("holdfast"), nats.Timeout(connectTimeout), nats.NoReconnect(), // see session
	}
	if a.Scheme == "tls" {
		s.options = append(s.options, nats.Secure())
	}
	switch {
	case a.User != "" && a.Password != "":
		s.options = append(s.options, nats.UserInfo(a.User, a.Password))
	case a.User+a.Password != "":
		s.options = append(s.options, nats.Token(a.User+a.Password))
	}
	return s, nil
}

// isSubject reports whether one can publish to a subject.
func isSubject(subject string) bool {
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" || strings.ContainsAny(token, "*> \t\r\n") {
			return false
		}
	}
	return true
}

// Name is the address without secrets.
func (s *Sink) Name() string { return s.address.Name() }

// Send implements [relay.Sink].
func (s *Sink) Send(ctx context.Context, messages []relay.Message) (accepted int, err error) {
	if err := s.connect(ctx); err != nil {
		return 0, fmt.Errorf("connecting to NATS: %w", err)
	}
	stop := context.AfterFunc(ctx, s.session.cut)
	defer stop()
	for accepted < len(messages) && err == nil {
		n := 0
		n, err = s.publish(ctx, messages[accepted:min(accepted+s.window, len(messages))])
		accepted += n
		switch {
		case err == nil:
			s.window = min(2*s.window, windowLimit)
		case n > 0 && hasCode(err, wrongLastMsgID): // others write to this stream
			s.window, err = n, nil
		}
	}
	var refused *relay.Refused
	if err != nil && !errors.As(err, &refused) {
		s.disconnect()
	}
	return accepted, err
}

// Close implements [relay.Sink].
func (s *Sink) Close() error {
	s.disconnect()
	return nil
}

// publish sends messages and waits for all acknowledgements. It returns how many of the first ones are stored.
func (s *Sink) publish(ctx context.Context, messages []relay.Message) (stored int, err error) {
	sent, broken := s.post(messages)
	if stored, err = s.session.await(ctx, sent); err == nil {
		err = broken
	}
	return stored, err
}

// post sends messages, and returns how many are on their way. The error, if any, is that of the next one.
func (s *Sink) post(messages []relay.Message) (sent int, err error) {
	for i := range messages {
		m := &messages[i]
		header := nats.Header{nats.MsgIdHdr: {m.ID}, "Content-Type": {relay.ContentType}}
		if i > 0 {
			header[nats.ExpectedLastMsgIdHdr] = []string{messages[i-1].ID}
		}
		err := s.session.PublishMsg(&nats.Msg{
			Subject: s.subject, Reply: s.session.inbox + strconv.Itoa(s.session.first+i), Header: header, Data: m.Body,
		})
		if errors.Is(err, nats.ErrMaxPayload) {
			return i, &relay.Refused{Reason: err}
		}
		if err != nil {
			s.session.cut()
			return i, err
		}
	}
	return len(messages), nil
}

// connect makes a session where there is none, and the stream if that is wanted.
func (s *Sink) connect(ctx context.Context) error {
	if s.session != nil {
		return nil
	}
	session, err := open(ctx, s.address.Scheme, s.address.Host, s.options)
	if err != nil {
		return err
	}
	s.session = session
	if s.create {
		if err := s.createStream(ctx); err != nil {
			s.disconnect()
			return err
		}
	}
	return nil
}

func (s *Sink) disconnect() {
	if s.session != nil {
		s.session.close()
		s.session = nil
	}
}

// createStream makes a stream for the subject if none has it.
func (s *Sink) createStream(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.session.cut)()
	js, err := jetstream.New(s.session.Conn)
	if err != nil {
		return err
	}
	if _, err = js.StreamNameBySubject(ctx, s.subject); errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{
			Name: strings.NewReplacer(".", "_", "/", "_", `\`, "_").Replace(s.subject), Subjects: []string{s.subject},
		})
	}
	if err != nil {
		return fmt.Errorf("making a stream for %s: %w", s.subject, err)
	}
	return nil
}
