package relay

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

// partEvents and partBytes bound a part of the feed that is sent at once.
const partEvents, partBytes = 2000, 4 << 20

// eventBytes is what most events have as CloudEvents, and some more.
const eventBytes = 1 << 10

// engineSource is the engine of this process.
type engineSource struct {
	*engine.Engine
	holder string
}

// FromEngine makes an engine the source of relays.
func FromEngine(e *engine.Engine) Source { return &engineSource{e, rand.Text()} }

func (s *engineSource) Alone() bool { return s.SoleWriter() }

func (s *engineSource) Hold(ctx context.Context, sink string, lease time.Duration, p *inventory.SinkProgress) (
	inventory.Sink, bool, error,
) {
	o, err := s.Do(ctx, &inventory.Request{Command: &inventory.HoldSink{
		Name: sink, Holder: s.holder, Lease: inventory.Time(lease.Milliseconds()), Alone: s.Alone(), Progress: p,
	}})
	if err != nil {
		return inventory.Sink{}, false, err
	}
	return *o.Sink, o.Sink.Holder == s.holder || lease == 0, nil
}

func (s *engineSource) Read(ctx context.Context, after inventory.Cursor, wait time.Duration) (Part, error) {
	query := engine.EventQuery{After: after, Limit: partEvents, Bytes: partBytes}
	page, err := s.Events(ctx, query)
	if err == nil && len(page.Events) == 0 {
		_, err = s.AwaitEvents(ctx, query, wait)
	}
	return Part{messagesOf(&page), page.Head}, err
}

func messagesOf(page *engine.Page) []Message {
	ids := wire.EventIDs{Store: page.Store, Epochs: page.Epochs}
	messages := make([]Message, len(page.Events))
	bodies := make([]byte, 0, len(page.Events)*eventBytes)
	ends := make([]int, len(page.Events))
	for i := range page.Events {
		bodies = wire.AppendCloudEvent(bodies, &page.Events[i], &ids)
		ends[i] = len(bodies)
	}
	start := 0
	for i := range page.Events {
		e := &page.Events[i]
		messages[i] = Message{
			ID: ids.ID(e.Seq), Type: e.Type.String(), Key: e.OrderKey(), Sequence: e.Seq, Body: bodies[start:ends[i]:ends[i]],
			Place: page.Epochs.At(e.Seq), Time: time.UnixMilli(int64(e.Time)),
		}
		start = ends[i]
	}
	return messages
}
