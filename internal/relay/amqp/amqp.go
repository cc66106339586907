// Package amqp is a sink that publishes events to an exchange of RabbitMQ, or of another broker of AMQP 0-9-1 that
// confirms what it has taken.
package amqp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/holdfast/holdfast/internal/relay"
)

// Sink is a [relay.Sink] in an exchange. What it has accepted is in every queue that the exchange sends it to, on the
// disk if the queue is durable. What no queue is bound for, the broker drops.
//
// After a failure the sink connects anew and begins with the first event that was not confirmed. The broker may still
// get something from the old connection. Each connection has sent its events in order and without a gap, so the first
// copies of all events are in order. One case is left: a queue that rejects what it has no room for may take an event
// that comes later, and has been sent already.
type Sink struct {
	address  *relay.Address
	exchange string
	create   bool
	session  *session // nil: not connected
}

var _ relay.Sink = (*Sink)(nil)

const (
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 5 * time.Second
	// farewell bounds the end of a connection in good order.
	farewell = time.Second
)

// New reads amqp://HOST/VHOST?exchange=NAME, or amqps:. It connects with the first event.
func New(address string) (*Sink, error) {
	a, err := relay.ParseAddress(address, "create", "exchange")
	if err != nil {
		return nil, err
	}
	s := &Sink{address: a, exchange: a.Parameter("exchange")}
	if s.create, err = a.Flag("create"); err != nil {
		return nil, err
	}
	if a.Hostname() == "" || s.exchange == "" {
		return nil, fmt.Errorf("the sink %s names no server or no exchange: it should be like "+
			"amqp://localhost:5672/?exchange=holdfast", a.Name())
	}
	return s, nil
}

// Name is the address without secrets.
func (s *Sink) Name() string { return s.address.Name() }

// Send implements [relay.Sink].
func (s *Sink) Send(ctx context.Context, messages []relay.Message) (accepted int, err error) {
	return relay.InParts(messages, isTooLarge, func(part []relay.Message) (int, error) {
		if err := s.connect(ctx); err != nil {
			return 0, fmt.Errorf("connecting to RabbitMQ: %w", err)
		}
		n, err := s.session.publish(ctx, s.exchange, part)
		if err != nil {
			s.disconnect()
		}
		return n, err
	})
}

// Close implements [relay.Sink].
func (s *Sink) Close() error {
	s.disconnect()
	return nil
}

// isTooLarge reports whether the broker refuses what was published as it is. It does not say which message that was.
func isTooLarge(err error) bool { return hasCode(err, amqp.PreconditionFailed) }

func hasCode(err error, code int) bool {
	var answer *amqp.Error
	return errors.As(err, &answer) && answer.Server && answer.Code == code
}

// connect makes a session where there is none, and the exchange if that is wanted.
func (s *Sink) connect(ctx context.Context) (err error) {
	if s.session != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := s.dial(ctx)
	if err != nil {
		return err
	}
	if s.session, err = newSession(ctx, conn, s.config()); err != nil {
		return err
	}
	if err = s.findExchange(ctx); err != nil {
		s.disconnect()
	}
	return err
}

func (s *Sink) disconnect() {
	if s.session != nil {
		s.session.close()
		s.session = nil
	}
}

func (s *Sink) dial(ctx context.Context) (net.Conn, error) {
	port := s.address.Port()
	if s.address.Scheme == "amqps" {
		if port == "" {
			port = "5671"
		}
		d := &tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12}}
		return d.DialContext(ctx, "tcp", net.JoinHostPort(s.address.Hostname(), port))
	}
	if port == "" {
		port = "5672"
	}
	return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(s.address.Hostname(), port))
}

// config says who connects to what. Without a user it is guest, whom RabbitMQ lets in from its own machine.
func (s *Sink) config() amqp.Config {
	login := &amqp.PlainAuth{Username: s.address.User, Password: s.address.Password}
	if login.Username == "" {
		login.Username, login.Password = "guest", "guest"
	}
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName("holdfast")
	vhost := strings.TrimPrefix(s.address.Path, "/")
	if vhost == "" {
		vhost = "/"
	}
	return amqp.Config{
		SASL: []amqp.Authentication{login}, Vhost: vhost, Properties: properties, Heartbeat: 10 * time.Second,
		Locale: "en_US",
	}
}

// findExchange makes the exchange if that is wanted, and if not, looks whether it exists.
func (s *Sink) findExchange(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.session.cut)()
	declare := s.session.channel.ExchangeDeclarePassive
	if s.create {
		declare = s.session.channel.ExchangeDeclare
	}
	err := declare(s.exchange, amqp.ExchangeTopic, true, false, false, false, nil)
	switch {
	case err == nil:
		return nil
	case hasCode(err, amqp.NotFound):
		return fmt.Errorf("there is no exchange %s: make it (rabbitmqadmin declare exchange), or add &create=true to the "+
			"address of the sink", s.exchange)
	}
	return fmt.Errorf("finding the exchange %s: %w", s.exchange, errors.Join(err, ctx.Err()))
}
