package mongodb

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// MongoDB keeps the transaction of a dead client open for up to a minute (transactionLifetimeLimitSeconds), and all
// others would wait that long. Therefore each process registers the session that it commits in, with a heartbeat by the
// clock of the server. A process that waits too long ends the sessions of those whose heartbeat is stale. A process
// that was only suspended finds its transaction gone and tries again.

type processDocument struct {
	ID          string        `bson:"_id"`
	Session     bson.Binary   `bson:"session"`
	HeartbeatAt bson.DateTime `bson:"heartbeatAt"`
}

// process is this process, as others that share the database see it.
type process struct {
	s          *Store
	id         string
	collection *mongo.Collection

	mu        sync.Mutex
	session   bson.Binary
	condemned []bson.Binary // former sessions of this process, in which a transaction may be open

	stopping chan struct{}
	beating  sync.WaitGroup
}

func newProcess(s *Store) *process {
	return &process{s: s, id: rand.Text(), collection: s.db.Collection(processesName), stopping: make(chan struct{})}
}

// start registers the session and starts the heartbeat.
func (p *process) start(ctx context.Context, session *mongo.Session) error {
	if err := p.register(ctx, session); err != nil {
		return err
	}
	p.beating.Go(func() {
		ticker := time.NewTicker(p.s.options.timeouts.heartbeat)
		defer ticker.Stop()
		for {
			select {
			case <-p.stopping:
				return
			case <-ticker.C:
			}
			ctx, cancel := context.WithTimeout(context.Background(), p.s.options.timeouts.answer)
			_ = p.beat(ctx) // Commit and View report a database that is gone
			cancel()
		}
	})
	return nil
}

// register stores which session others may end. That must be done before a transaction begins in it.
func (p *process) register(ctx context.Context, session *mongo.Session) error {
	subtype, id := session.ID().Lookup("id").Binary()
	p.mu.Lock()
	p.session = bson.Binary{Subtype: subtype, Data: id}
	p.mu.Unlock()
	if err := p.beat(ctx); err != nil {
		return fmt.Errorf("registering this process: %w", translate(err))
	}
	return nil
}

func (p *process) beat(ctx context.Context) error {
	p.mu.Lock()
	session := p.session
	p.mu.Unlock()
	_, err := p.collection.UpdateOne(ctx, bson.D{{Key: "_id", Value: p.id}}, bson.D{
		{Key: "$set", Value: bson.D{{Key: "session", Value: session}}},
		{Key: "$currentDate", Value: bson.D{{Key: "heartbeatAt", Value: true}}},
	}, options.UpdateOne().SetUpsert(true))
	return err
}

func (p *process) stop(ctx context.Context) {
	close(p.stopping)
	p.beating.Wait()
	_, _ = p.collection.DeleteOne(ctx, bson.D{{Key: "_id", Value: p.id}})
}

// endStale ends the sessions of processes whose heartbeat is stale.
func (p *process) endStale(ctx context.Context) error {
	var hello struct {
		LocalTime bson.DateTime `bson:"localTime"`
	}
	if err := p.s.db.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		return err
	}
	last := hello.LocalTime - bson.DateTime(p.s.options.timeouts.stale.Milliseconds())
	cursor, err := p.collection.Find(ctx, bson.D{
		{Key: "heartbeatAt", Value: bson.D{{Key: "$lt", Value: last}}},
		{Key: "_id", Value: bson.D{{Key: "$ne", Value: p.id}}},
	})
	if err != nil {
		return err
	}
	var stale []processDocument
	if err := cursor.All(ctx, &stale); err != nil {
		return err
	}
	for i := range stale {
		d := &stale[i]
		p.s.options.Log.Warn("ending the transaction of a process that no longer says that it lives", "process", d.ID,
			"lastHeartbeat", d.HeartbeatAt.Time())
		if err := p.kill(ctx, d.Session); err != nil {
			return err
		}
		if _, err := p.collection.DeleteOne(ctx, bson.D{
			{Key: "_id", Value: d.ID},
			{Key: "heartbeatAt", Value: d.HeartbeatAt},
		}); err != nil {
			return err
		}
	}
	return nil
}

// kill ends a session and the transaction that is open in it.
func (p *process) kill(ctx context.Context, session bson.Binary) error {
	return p.s.client.Database("admin").RunCommand(ctx,
		bson.D{{Key: "killSessions", Value: bson.A{bson.D{{Key: "id", Value: session}}}}}).Err()
}

// condemn marks the current session. killCondemned must end it before another is used.
func (p *process) condemn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.condemned = append(p.condemned, p.session)
}

// killCondemned ends the sessions that were condemned.
func (p *process) killCondemned(ctx context.Context) error {
	for {
		p.mu.Lock()
		if len(p.condemned) == 0 {
			p.mu.Unlock()
			return nil
		}
		session := p.condemned[0]
		p.mu.Unlock()
		if err := p.kill(ctx, session); err != nil {
			return fmt.Errorf("ending a session: %w", err)
		}
		p.mu.Lock()
		p.condemned = p.condemned[1:]
		p.mu.Unlock()
	}
}
