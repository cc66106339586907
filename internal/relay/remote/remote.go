// Package remote is the source of relays that take the events of a server elsewhere, over HTTP: of one whose store belongs
// to it alone. How far each sink has got is kept in a file.
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/relay"
	"github.com/holdfast/holdfast/internal/wire"
)

// pageEvents is how many events are asked for at once: as many as the server gives.
const pageEvents = 1000

// Source is a [relay.Source]. Close it after its relays.
type Source struct {
	client *client.Client
	path   string
	lock   *flock.Flock

	mu    sync.Mutex
	sinks map[string]position // by name
}

// position is what the file has of a sink.
type position struct {
	After    string `json:"after"`
	SetAside int64  `json:"setAside"`
}

var _ relay.Source = (*Source)(nil)

// Open reads the file of positions, which is made with the first of them. It fails if another process uses it.
func Open(c *client.Client, path string) (*Source, error) {
	s := &Source{client: c, path: path, lock: flock.New(path + ".lock"), sinks: map[string]position{}}
	locked, err := s.lock.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("locking %s.lock: %w", path, err)
	case !locked:
		return nil, fmt.Errorf("%s is used by another worker: stop that one first, or name another file", path)
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s.sinks)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the positions of sinks in %s: %w", path, err), s.Close())
	}
	return s, nil
}

// Close lets another process use the file.
func (s *Source) Close() error { return s.lock.Unlock() }

// Alone implements [relay.Source]: the file is locked.
func (s *Source) Alone() bool { return true }

// Hold implements [relay.Source].
func (s *Source) Hold(_ context.Context, sink string, _ time.Duration, p *inventory.SinkProgress) (
	state inventory.Sink, held bool, err error,
) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, known := s.sinks[sink]
	if p != nil {
		before := now
		now = position{p.Position.String(), now.SetAside + p.SetAside}
		s.sinks[sink] = now
		if err := s.write(); err != nil {
			if s.sinks[sink] = before; !known {
				delete(s.sinks, sink)
			}
			return state, false, fmt.Errorf("writing the positions of sinks: %w", err)
		}
	}
	if now.After != "" {
		if state.Position, err = inventory.ParseCursor(now.After); err != nil {
			return state, false, fmt.Errorf("the position of %s in %s is %q: %w", sink, s.path, now.After, err)
		}
	}
	state.SetAside = now.SetAside
	return state, true, nil
}

// write replaces the file. Once it returns nil the new one is on the disk.
func (s *Source) write() error {
	data, err := json.MarshalIndent(s.sinks, "", "\t")
	if err != nil {
		return err
	}
	file, err := os.OpenFile(s.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(data, '\n'))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(s.path+".new", s.path)
}

// Read implements [relay.Source]. A page says where it ends. Where it begins in the same epoch all its events are of that,
// so the places between are known as well. Where an epoch begins on the page, one event is asked for at a time.
func (s *Source) Read(ctx context.Context, after inventory.Cursor, wait time.Duration) (part relay.Part, err error) {
	page, end, err := s.page(ctx, after, pageEvents, wait)
	if err == nil && end.Epoch != after.Epoch && len(page.Data) > 1 {
		page, end, err = s.page(ctx, after, 1, 0)
	}
	if err != nil {
		return part, err
	}
	head, err := inventory.ParseCursor(page.Head)
	if err != nil {
		return part, fmt.Errorf("the server's head is %q: %w", page.Head, err)
	}
	part.Head = head.Seq
	for i := range page.Data {
		place := inventory.Cursor{Epoch: end.Epoch, Seq: page.Data[i].Sequence}
		part.Messages = append(part.Messages, messageOf(&page.Data[i], page.Store, place))
	}
	return part, nil
}

func (s *Source) page(ctx context.Context, after inventory.Cursor, limit int, wait time.Duration) (
	page *client.EventPage, end inventory.Cursor, err error,
) {
	if page, err = s.client.EventPage(ctx, after.String(), limit, wait); err != nil {
		return nil, end, elsewhere(err)
	}
	if end, err = inventory.ParseCursor(page.NextAfter); err != nil {
		err = fmt.Errorf("the server's nextAfter is %q: %w", page.NextAfter, err)
	}
	return page, end, err
}

// elsewhere is the error for a place that the server's feed does not have.
func elsewhere(err error) error {
	var problem *client.Error
	if !errors.As(err, &problem) || problem.Code != client.CursorAhead {
		return err
	}
	shared, unknown := inventory.ParseCursor(problem.SharedAfter)
	return &engine.CursorAheadError{Shared: shared, Known: unknown == nil}
}

func messageOf(e *client.Event, store string, place inventory.Cursor) relay.Message {
	head := wire.CloudEvent{
		ID: e.ID, Store: store, Type: e.Type, Subject: e.Subject, Time: inventory.Time(e.Time.UnixMilli()), Sequence: e.Sequence,
		OrderKey: orderKey(e),
	}
	return relay.Message{
		ID: e.ID, Type: e.Type, Key: head.OrderKey, Sequence: e.Sequence, Body: head.Append(nil, e.Raw), Place: place, Time: e.Time,
	}
}

// orderKey is that of [inventory.Event.OrderKey], or the subject of what this program does not know.
func orderKey(e *client.Event) string {
	switch d := &e.Data; {
	case d.Reservation != nil:
		return d.Reservation.ID
	case d.Order != nil:
		return d.Order.ReservationID
	case d.Product != nil:
		return d.Product.ID
	}
	return e.Subject
}
