// Package mongodb is the store on MongoDB 4.4 or later, a replica set or a sharded cluster, for one or many processes
// that share a database.
//
// A batch is one transaction that begins by writing the head. If two do so at once, the server aborts one of them,
// which waits and tries again. The filter of every change has what is changed, and the number of matches is checked. So
// a batch is right even if the isolation is weaker than the server promises.
package mongodb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/holdfast/holdfast/internal/store"
)

// Options are what a store needs from outside.
type Options struct {
	// Now is the clock that decides, in tests. Default: the clock of the server, which it enters when the head is
	// locked.
	Now   func() time.Time
	Clock *store.Clock // which readings of the clock are gone by; nil: all that are not behind the store
	// ReadOnly opens existing collections for View only. Nothing is written, and Commit fails.
	ReadOnly bool
	Log      *slog.Logger // default: none

	timeouts timeouts              // set by tests
	monitor  *event.CommandMonitor // set by tests
	noBulk   bool                  // set by tests
}

// timeouts bound what a batch waits for.
type timeouts struct {
	answer    time.Duration // for the server's answer to one command
	head      time.Duration // for the head, while other processes commit
	settle    time.Duration // to find out what became of a batch
	heartbeat time.Duration // between two heartbeats of a process
	stale     time.Duration // without a heartbeat until others end the transaction of a process
}

// Other processes wait for one that died within a transaction until it is stale and they have noticed. That must take
// less than 5 seconds.
var defaultTimeouts = timeouts{
	answer: 4 * time.Second, head: 10 * time.Second, settle: 12 * time.Second, heartbeat: 500 * time.Millisecond,
	stale: 3 * time.Second,
}

// flushed is the write concern of all that is acknowledged: it is on the disks of a majority.
var flushed = func() *writeconcern.WriteConcern {
	journaled := true
	return &writeconcern.WriteConcern{W: "majority", Journal: &journaled}
}()

var transactionOptions = options.Transaction().SetReadConcern(readconcern.Snapshot()).SetWriteConcern(flushed).
	SetReadPreference(readpref.Primary())

// Store is a [store.Store] in one MongoDB database.
type Store struct {
	options Options
	client  *mongo.Client // of batches and of what is done beside them
	db      *mongo.Database
	readers *mongo.Client // of views, so that they do not take the connections of batches
	read    *mongo.Database
	routed  bool // through mongos

	turn           *store.Turn
	session        *mongo.Session // of the transactions that commit; others end it by its id if this process dies
	process        *process       // nil if the store is read-only
	aborted        atomic.Int64   // aborts that the server has answered, so that nothing is open after them
	leftOpen       atomic.Bool    // an abort was not answered, and nothing was done in the session since
	settled        atomic.Int64   // batches whose commit was not answered, for tests
	batchTime      time.Duration  // the mean of recent batches
	last           [16]byte       // id of the last batch that this process committed
	run            int            // batches in a row since one of another process; 0: not counted
	rotationFailed time.Time      // when a new collection of receipts could not be made
	dropAt         atomic.Int64   // when to drop old receipts, in ms of this process's clock; 0: there are none
	memory         memory         // what the last batches of this process left
	sharing        bool           // another process has committed lately, so memory may not be current
	apart          bool           // the next batch loads from one collection after another
	bulk           bool           // the server takes bulkWrite
	address        string         // set by tests

	viewing sync.WaitGroup
	entry   sync.RWMutex // held for reading while a View is added to viewing
}

var _ store.Store = (*Store)(nil)

// Open connects to a database, proves that its transactions work, and makes or upgrades its collections and indexes.
// The URL is one that MongoDB knows (mongodb.com/docs/manual/reference/connection-string), and must name a database.
func Open(ctx context.Context, address string, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.timeouts == (timeouts{}) {
		o.timeouts = defaultTimeouts
	}
	database, err := databaseOf(address)
	if err != nil {
		return nil, err
	}
	s := &Store{options: o, turn: store.NewTurn(), batchTime: firstBatchTime}
	connect := func(o *options.ClientOptions) (*mongo.Client, *mongo.Database, error) {
		client, err := mongo.Connect(o)
		if err != nil {
			return nil, nil, fmt.Errorf("the store URL cannot be used: %w", withoutSecrets(err, address))
		}
		return client, client.Database(database, options.Database().SetWriteConcern(flushed).
			SetReadConcern(readconcern.Majority()).SetReadPreference(readpref.Primary())), nil
	}
	own := clientOptions(address).SetMonitor(s.monitor()).SetMaxPoolSize(ownConnections)
	if s.client, s.db, err = connect(own); err != nil {
		return nil, err
	}
	if s.readers, s.read, err = connect(clientOptions(address).SetMonitor(o.monitor)); err != nil {
		return nil, errors.Join(err, s.client.Disconnect(ctx))
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store: %w", err), s.Close())
	}
	return s, nil
}

// databaseOf returns the database that the URL names: mongodb://hosts/DATABASE?options.
func databaseOf(address string) (string, error) {
	_, rest, _ := strings.Cut(address, "://")
	_, path, _ := strings.Cut(rest, "/")
	name, _, _ := strings.Cut(path, "?")
	name, err := url.PathUnescape(name)
	if err != nil || name == "" {
		return "", errors.New("the store URL must name a database: mongodb://HOST/DATABASE")
	}
	return name, nil
}

// Unless the URL says otherwise, connections are given up sooner than the driver would, because callers wait for them.
const (
	connectTimeout   = 5 * time.Second
	selectionTimeout = 5 * time.Second
	// heartbeatInterval is how long the driver (2.10) may consider a server lost that is back. If a connection breaks
	// just when the monitor of the driver begins to wait for news, the monitor does not notice until this time is over.
	// The default of the driver is 10 s.
	heartbeatInterval = time.Second
	// ownConnections is enough for a batch and all that is done beside the batches. What the URL says of connections is
	// for readers.
	ownConnections = 8
)

func clientOptions(address string) *options.ClientOptions {
	o := options.Client().ApplyURI(address)
	if o.ConnectTimeout == nil {
		o.SetConnectTimeout(connectTimeout)
	}
	if o.ServerSelectionTimeout == nil {
		o.SetServerSelectionTimeout(selectionTimeout)
	}
	if o.HeartbeatInterval == nil {
		o.SetHeartbeatInterval(heartbeatInterval)
	}
	if o.AppName == nil {
		o.SetAppName("holdfast")
	}
	return o
}

// withoutSecrets replaces an error that quotes the password of a URL.
func withoutSecrets(err error, address string) error {
	_, rest, _ := strings.Cut(address, "://")
	user, _, found := strings.Cut(rest, "@")
	_, password, _ := strings.Cut(user, ":")
	if found && password != "" && strings.Contains(err.Error(), password) {
		return errors.New("percent-encode what is special in the user and the password, and look at the options")
	}
	return err
}

// catchUp makes the session's next transaction see all that was acknowledged before. A router chooses what a
// transaction sees by its own clock, which may be behind that of another router; but never less than what the session
// has read before.
func (s *Store) catchUp(ctx context.Context) error {
	head := s.read.Collection(headName, options.Collection().SetReadConcern(readconcern.Linearizable()))
	return head.FindOne(ctx, bson.D{{Key: "_id", Value: headID}}).Err()
}

// hello asks what is at the other end.
func (s *Store) hello(ctx context.Context) error {
	var hello struct {
		MaxWireVersion int    `bson:"maxWireVersion"`
		Message        string `bson:"msg"`
	}
	if err := s.db.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		return translate(err)
	}
	s.bulk, s.routed = hello.MaxWireVersion >= bulkWireVersion && !s.options.noBulk, hello.Message == "isdbgrid"
	return nil
}

func (s *Store) open(ctx context.Context) (err error) {
	if err := s.hello(ctx); err != nil {
		return err
	}
	if s.options.ReadOnly {
		return s.openReadOnly(ctx)
	}
	if err := guarded(ctx, s.db, s.prepare); err != nil {
		return unreachable(err)
	}
	if err := s.checkLayout(ctx); err != nil {
		return err
	}
	if s.routed {
		if err := oneShard(ctx, s.db); err != nil {
			return err
		}
	}
	if s.session, err = s.client.StartSession(); err != nil {
		return err
	}
	s.process = newProcess(s)
	return s.process.start(ctx)
}

// prepare makes or upgrades the store. The proof comes first: a server without
// transactions gets no store.
func (s *Store) prepare(ctx context.Context) error {
	err := step(ctx, "making the collection "+proofName, func(ctx context.Context) error {
		return createCollection(ctx, s.db, proofName, nil) // made within a transaction it might not be there for the next
	})
	if err != nil {
		return err
	}
	if err := prove(ctx, s.db); err != nil {
		return err
	}
	return migrate(ctx, s.db, s.options.Log)
}

func unreachable(err error) error {
	if isLost(err) && !errors.Is(err, errNoTransactions) {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

func (s *Store) openReadOnly(ctx context.Context) error {
	err := s.checkLayout(ctx)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return fmt.Errorf("there is no Holdfast store in the database %s", s.db.Name())
	}
	return err
}

func (s *Store) checkLayout(ctx context.Context) error {
	var d headDocument
	if err := s.db.Collection(headName).FindOne(ctx, bson.D{{Key: "_id", Value: headID}}).Decode(&d); err != nil {
		if errors.Is(err, mongo.ErrNoDocuments) {
			return err
		}
		return fmt.Errorf("reading the head: %w", translate(err))
	}
	return d.check()
}

func (d *headDocument) check() error {
	if d.Format > store.Format || d.Layout > layout {
		return fmt.Errorf("%w: its format is %d.%d, this program knows up to %d.%d: use the Holdfast that wrote it, or a "+
			"later one",
			store.ErrNewerFormat, d.Format, d.Layout, store.Format, layout)
	}
	return nil
}

// Close implements [store.Store].
func (s *Store) Close() error {
	return s.turn.Close(func() error {
		s.entry.Lock() // all views that were let in are counted, and no others will be
		defer s.entry.Unlock()
		s.viewing.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), s.options.timeouts.answer)
		defer cancel()
		if s.process != nil {
			s.process.end(ctx)
		}
		if s.session != nil {
			s.session.EndSession(ctx)
		}
		return errors.Join(s.client.Disconnect(ctx), s.readers.Disconnect(ctx))
	})
}

// enter adds a View to those under way. It fails if the store is closed.
func (s *Store) enter() error {
	s.entry.RLock()
	defer s.entry.RUnlock()
	if s.turn.IsClosed() {
		return store.ErrClosed
	}
	s.viewing.Add(1)
	return nil
}

// SoleWriter implements [store.Store]. Other processes may share the database.
func (s *Store) SoleWriter() (clock func() time.Time, sole bool) { return nil, false }

// View implements [store.Store].
func (s *Store) View(ctx context.Context, read func(store.View) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.viewing.Done()
	if err := ctx.Err(); err != nil {
		return err
	}
	session, err := s.readers.StartSession()
	if err != nil {
		return translate(err)
	}
	defer session.EndSession(ctx)
	if s.routed {
		if err := s.catchUp(mongo.NewSessionContext(ctx, session)); err != nil {
			return ended(ctx, translate(err))
		}
	}
	if err := session.StartTransaction(transactionOptions); err != nil {
		return translate(err)
	}
	v := &view{Store: s, session: session}
	readErr := read(v)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.timeouts.answer)
	defer cancel()
	if readErr != nil {
		_ = session.AbortTransaction(end)
		return readErr
	}
	// The commit of a transaction that only read waits until all that it read is on the disks of a majority, so that no
	// election undoes it.
	if err := session.CommitTransaction(end); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return nil
}
