package mongodb

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// MongoDB keeps the transaction of a dead client open for up to a minute (transactionLifetimeLimitSeconds), and all
// others would wait that long. Therefore each process registers the session that it commits in, with a heartbeat by the
// clock of the server. A process that waits too long ends the sessions of those whose heartbeat is stale. A process
// that was only suspended finds its transaction gone and tries again.
//
// A process that lives ends its own transactions: see Store.finish.
//
// Nothing of this is needed for batches to be right, only for them to be soon: the lock of the head makes them right.
// So it is done beside the batches, and a failure of it is logged and fails nobody.

type processDocument struct {
	ID          string        `bson:"_id"`
	Session     bson.Binary   `bson:"session"`
	HeartbeatAt bson.DateTime `bson:"heartbeatAt"`
}

// process is this process, as others that share the database see it.
type process struct {
	s          *Store
	id         string
	session    bson.Binary
	collection *mongo.Collection
	clock      atomic.Pointer[reading] // of the last heartbeat
	seen       map[string]*sighting    // others, as they were seen last; only endStale uses it

	waits    chan struct{} // a batch waits too long for the head
	stopping context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// sighting is a heartbeat of another process that was seen.
type sighting struct {
	heartbeat bson.DateTime
	since     time.Time // when it was first seen
	reported  bool      // that the session could not be ended
}

// endedByServer is when the server has certainly ended the transaction of a process that died.
const endedByServer = 2 * time.Minute

// newProcess makes the process of a store. Heartbeats are written and read on the primary alone. Members that lag
// behind would delay what a majority knows of them, and live processes would look dead to each other.
func newProcess(s *Store) *process {
	subtype, id := s.session.ID().Lookup("id").Binary()
	p := &process{
		s: s, id: rand.Text(), session: bson.Binary{Subtype: subtype, Data: id},
		collection: s.db.Collection(processesName,
			options.Collection().SetWriteConcern(writeconcern.W1()).SetReadConcern(readconcern.Local())),
		seen: map[string]*sighting{}, waits: make(chan struct{}, 1),
	}
	p.stopping, p.stop = context.WithCancel(context.Background())
	return p
}

// start registers the session, which must be done before a transaction begins in it, and starts what is done beside
// the batches.
func (p *process) start(ctx context.Context) error {
	if _, err := p.beat(ctx); err != nil {
		return fmt.Errorf("registering this process: %w", translate(err))
	}
	p.s.dropAt.Store(1) // what another process may have left
	for _, f := range []func(context.Context) error{
		func(ctx context.Context) error { _, _ = p.beat(ctx); return nil }, // batches report a server that is lost
		p.s.finish,
		p.s.dropOld,
	} {
		ticker := time.NewTicker(p.s.options.timeouts.heartbeat)
		p.running.Go(func() {
			defer ticker.Stop()
			every(p, ticker.C, f)
		})
	}
	p.running.Go(func() { every(p, p.waits, p.endStale) })
	return nil
}

// every calls f at each signal, until the process stops.
func every[T any](p *process, signal <-chan T, f func(context.Context) error) {
	for {
		select {
		case <-p.stopping.Done():
			return
		case <-signal:
		}
		ctx, cancel := context.WithTimeout(p.stopping, p.s.options.timeouts.answer)
		if err := f(ctx); err != nil && p.stopping.Err() == nil {
			p.s.options.Log.Warn("what is done beside the batches failed: trying again", "error", err)
		}
		cancel()
	}
}

// beat writes the heartbeat and returns it: the time of the server.
func (p *process) beat(ctx context.Context) (bson.DateTime, error) {
	var d processDocument
	err := p.collection.FindOneAndUpdate(ctx, bson.D{{Key: "_id", Value: p.id}}, bson.D{
		{Key: "$set", Value: bson.D{{Key: "session", Value: p.session}}},
		{Key: "$currentDate", Value: bson.D{{Key: "heartbeatAt", Value: true}}},
	}, options.FindOneAndUpdate().SetUpsert(true).SetReturnDocument(options.After)).Decode(&d)
	if err == nil {
		p.clock.Store(&reading{d.HeartbeatAt.Time(), time.Now()})
	}
	return d.HeartbeatAt, err
}

// reading is one of the clock of the server that has the data, and when it came here.
type reading struct{ server, here time.Time }

// now is the time by that clock, or a moment before: what it was at the last heartbeat, and what has passed here since.
func (p *process) now() time.Time {
	r := p.clock.Load()
	return r.server.Add(time.Since(r.here))
}

// end stops what runs beside the batches, and takes the process out of the list.
func (p *process) end(ctx context.Context) {
	p.stop()
	p.running.Wait()
	_, _ = p.collection.DeleteOne(ctx, bson.D{{Key: "_id", Value: p.id}})
}

// wantHead says that a batch waits too long for the head.
func (p *process) wantHead() {
	select {
	case p.waits <- struct{}{}:
	default: // it is known
	}
}

// endStale ends the sessions of processes whose heartbeat is stale. What they wrote is compared with what this process
// has just written by the clock of the same server. An election may change that clock, so a process counts as dead only
// if it also wrote nothing between two looks.
func (p *process) endStale(ctx context.Context) error {
	own, err := p.beat(ctx)
	if err != nil {
		return fmt.Errorf("looking for processes that died: %w", err)
	}
	cursor, err := p.collection.Find(ctx, bson.D{
		{Key: "session", Value: bson.D{{Key: "$exists", Value: true}}},
		{Key: "_id", Value: bson.D{{Key: "$ne", Value: p.id}}},
	})
	var others []processDocument
	if err == nil {
		err = cursor.All(ctx, &others)
	}
	if err != nil {
		return fmt.Errorf("looking for processes that died: %w", err)
	}
	for i := range others {
		if p.isStale(&others[i], own) {
			p.endOther(ctx, &others[i], own)
		}
	}
	return nil
}

func (p *process) isStale(d *processDocument, own bson.DateTime) bool {
	t := &p.s.options.timeouts
	before := p.seen[d.ID]
	if before == nil || before.heartbeat != d.HeartbeatAt {
		p.seen[d.ID] = &sighting{heartbeat: d.HeartbeatAt, since: time.Now()}
		return false
	}
	return own.Time().Sub(d.HeartbeatAt.Time()) > t.stale && time.Since(before.since) >= 2*t.heartbeat
}

// endOther ends the session of a process, which takes no right beyond that of being the same user. If the server
// refuses, it ends the transaction by itself after its own limit.
func (p *process) endOther(ctx context.Context, d *processDocument, own bson.DateTime) {
	seen := p.seen[d.ID]
	log := p.s.options.Log.With("process", d.ID, "lastHeartbeat", d.HeartbeatAt.Time())
	if !seen.reported {
		log.Warn("ending the transaction of a process that no longer says that it lives")
	}
	if err := p.kill(ctx, d.Session); err != nil {
		if !seen.reported {
			log.Warn("the server does not end the session of another process: batches wait until it does so by itself "+
				"(transactionLifetimeLimitSeconds)", "error", err)
		}
		seen.reported = true
		if own.Time().Sub(d.HeartbeatAt.Time()) < endedByServer {
			return
		}
	}
	_, err := p.collection.DeleteOne(ctx, bson.D{
		{Key: "_id", Value: d.ID},
		{Key: "heartbeatAt", Value: d.HeartbeatAt},
	})
	if err == nil {
		delete(p.seen, d.ID)
	}
}

// kill ends a session and the transaction that is open in it.
func (p *process) kill(ctx context.Context, session bson.Binary) error {
	return p.s.client.Database("admin").RunCommand(ctx,
		bson.D{{Key: "killSessions", Value: bson.A{bson.D{{Key: "id", Value: session}}}}}).Err()
}
