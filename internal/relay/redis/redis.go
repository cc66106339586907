// Package redis is a sink that adds events to a stream of Redis.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/holdfast/holdfast/internal/relay"
)

const (
	defaultPort = "6379"
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 5 * time.Second
	// transactionEvents is how many events are added at once: meanwhile Redis serves nobody else.
	transactionEvents = 500
	// defaultBulkBytes is the longest value that Redis takes if it is not told otherwise.
	defaultBulkBytes = 512 << 20
)

// Sink is a [relay.Sink] in a stream.
//
// Events are added in transactions, so that Redis takes all of them or none: if it is full, a smaller one behind one
// that does not fit would otherwise get before it.
type Sink struct {
	address *relay.Address
	stream  string
	create  bool
	session *session // nil: not connected
}

var _ relay.Sink = (*Sink)(nil)

// New reads redis://HOST/STREAM, or rediss://HOST/STREAM. It connects with the first event.
func New(address string) (*Sink, error) {
	a, err := relay.ParseAddress(address, "create")
	if err != nil {
		return nil, err
	}
	create, err := a.Flag("create")
	if err != nil {
		return nil, err
	}
	s := &Sink{address: a, stream: strings.TrimPrefix(a.Path, "/"), create: create}
	if a.Hostname() == "" || s.stream == "" {
		return nil, fmt.Errorf("the sink %s names no server or no stream: it should be like redis://localhost:6379/holdfast",
			a.Name())
	}
	return s, nil
}

// Name is the address without secrets.
func (s *Sink) Name() string { return s.address.Name() }

// Send implements [relay.Sink].
func (s *Sink) Send(ctx context.Context, messages []relay.Message) (accepted int, err error) {
	if s.session == nil {
		if s.session, err = open(ctx, s.address); err != nil {
			return 0, fmt.Errorf("connecting to Redis: %w", err)
		}
	}
	defer context.AfterFunc(ctx, s.session.cut)()
	for accepted < len(messages) {
		part := messages[accepted:min(accepted+transactionEvents, len(messages))]
		fitting := s.session.fitting(part)
		if fitting == 0 {
			return accepted, &relay.Refused{Reason: fmt.Errorf("it has %d bytes and Redis takes %d (proto-max-bulk-len)",
				len(part[0].Body), s.session.bulkBytes)}
		}
		if err := s.add(ctx, part[:fitting]); err != nil {
			return accepted, errors.Join(err, s.Close())
		}
		accepted += fitting
	}
	return accepted, nil
}

// add adds all messages or none.
func (s *Sink) add(ctx context.Context, messages []relay.Message) error {
	commands, err := s.session.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for i := range messages {
			m := &messages[i]
			p.XAdd(ctx, &redis.XAddArgs{
				Stream: s.stream, NoMkStream: !s.create, Values: []any{"id", m.ID, "key", m.Key, "event", m.Body},
			})
		}
		return nil
	})
	if err != nil && len(commands) > 0 && commands[0].Err() != nil {
		err = commands[0].Err() // says why the transaction failed
	}
	switch {
	case errors.Is(err, redis.Nil):
		return fmt.Errorf("there is no stream %s: make it (XGROUP CREATE %[1]s GROUP $ MKSTREAM), or add ?create=true to "+
			"the address of the sink", s.stream)
	case err != nil:
		return fmt.Errorf("adding events to the stream %s: %w", s.stream, err)
	}
	return nil
}

// Close implements [relay.Sink].
func (s *Sink) Close() error {
	if s.session != nil {
		s.session.close()
		s.session = nil
	}
	return nil
}

// session is one connection.
type session struct {
	*redis.Conn
	client    *redis.Client
	raw       net.Conn
	bulkBytes int // no value may be longer
}

func open(ctx context.Context, a *relay.Address) (*session, error) {
	conn, err := dial(ctx, a)
	if err != nil {
		return nil, err
	}
	s := &session{raw: conn, bulkBytes: defaultBulkBytes}
	defer context.AfterFunc(ctx, s.cut)()
	unused := make(chan net.Conn, 1)
	unused <- conn
	s.client = redis.NewClient(&redis.Options{
		Addr: conn.RemoteAddr().String(), Username: a.User, Password: a.Password, Protocol: 2, PoolSize: 1,
		PipelinePoolSize: -1,
		// Whoever opened the session makes another if this one is lost. The end of its context ends all waiting, by cut.
		MaxRetries: -1, DialerRetries: 1, ReadTimeout: -1, WriteTimeout: -1, ConnMaxIdleTime: -1,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			select {
			case conn := <-unused:
				return conn, nil
			default:
				return nil, errors.New("the connection is lost")
			}
		},
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	s.Conn = s.client.Conn()
	if err := s.Ping(ctx).Err(); err != nil {
		s.close()
		return nil, err
	}
	settings, _ := s.ConfigGet(ctx, "proto-max-bulk-len").Result() // not every user may ask
	if n, err := strconv.Atoi(settings["proto-max-bulk-len"]); err == nil {
		s.bulkBytes = n
	}
	return s, nil
}

func dial(ctx context.Context, a *relay.Address) (net.Conn, error) {
	port := a.Port()
	if port == "" {
		port = defaultPort
	}
	dialer, address := &net.Dialer{Timeout: connectTimeout}, net.JoinHostPort(a.Hostname(), port)
	if a.Scheme == "rediss" {
		return (&tls.Dialer{NetDialer: dialer}).DialContext(ctx, "tcp", address)
	}
	return dialer.DialContext(ctx, "tcp", address)
}

// fitting is how many of the first messages are not too long.
func (s *session) fitting(messages []relay.Message) int {
	for i := range messages {
		if len(messages[i].Body) > s.bulkBytes {
			return i
		}
	}
	return len(messages)
}

// cut ends the connection, whatever is being read or written.
func (s *session) cut() { s.raw.Close() }

func (s *session) close() {
	s.cut()
	_ = errors.Join(s.Conn.Close(), s.client.Close()) // they only say that the connection was cut
}
