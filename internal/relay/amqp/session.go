package amqp

import (
	"context"
	"errors"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/holdfast/holdfast/internal/relay"
)

// session is a connection with a channel on which the broker confirms what it is sent.
type session struct {
	raw     net.Conn
	conn    *amqp.Connection
	channel *amqp.Channel
	closed  chan *amqp.Error // why the broker has closed the channel
}

// newSession makes a session on a new connection, which it closes where it fails.
func newSession(ctx context.Context, raw net.Conn, config amqp.Config) (s *session, err error) {
	s = &session{raw: raw}
	defer context.AfterFunc(ctx, s.cut)()
	defer func() {
		if err != nil {
			s.close()
			s, err = nil, errors.Join(err, ctx.Err())
		}
	}()
	if s.conn, err = amqp.Open(raw, config); err != nil {
		return s, err
	}
	if s.channel, err = s.conn.Channel(); err != nil {
		return s, err
	}
	s.closed = s.channel.NotifyClose(make(chan *amqp.Error, 1))
	return s, s.channel.Confirm(false)
}

// cut ends the connection, whatever is being written to it.
func (s *session) cut() { s.raw.Close() }

func (s *session) close() {
	if s.conn != nil {
		_ = s.conn.CloseDeadline(time.Now().Add(farewell)) // the broker may be gone
	}
	s.cut()
}

// errRejected is the error of a broker that has not taken a message: because a queue is full, say.
var errRejected = errors.New("RabbitMQ has not taken an event")

// publish sends messages and waits until all are confirmed. It returns how many of the first ones are, and why the next
// one is not.
func (s *session) publish(ctx context.Context, exchange string, messages []relay.Message) (confirmed int, err error) {
	defer context.AfterFunc(ctx, s.cut)()
	confirmations, broken := s.post(exchange, messages)
	for _, c := range confirmations {
		if !c.Wait() { // ends when the connection does
			return confirmed, errors.Join(s.why(), ctx.Err())
		}
		confirmed++
	}
	if broken != nil {
		broken = errors.Join(broken, ctx.Err())
	}
	return confirmed, broken
}

// post sends messages until it fails. What was sent by then may be confirmed all the same.
func (s *session) post(exchange string, messages []relay.Message) ([]*amqp.DeferredConfirmation, error) {
	confirmations := make([]*amqp.DeferredConfirmation, 0, len(messages))
	for i := range messages {
		m := &messages[i]
		c, err := s.channel.PublishWithDeferredConfirm(exchange, m.Type, false, false, amqp.Publishing{
			ContentType: relay.ContentType, DeliveryMode: amqp.Persistent, MessageId: m.ID, Type: m.Type, Body: m.Body,
		})
		if err != nil {
			return confirmations, err
		}
		confirmations = append(confirmations, c)
	}
	return confirmations, nil
}

// why is the reason for a message that was not confirmed.
func (s *session) why() error {
	select {
	case err, open := <-s.closed:
		if open {
			return err
		}
		return amqp.ErrClosed
	default:
		return errRejected
	}
}
