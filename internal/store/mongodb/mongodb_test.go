package mongodb

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// patient are timeouts for tests that are not about them: the server of the tests may stand still where the machine has
// too much to do, and for a minute where a test beside leaves a transaction open.
var patient = timeouts{
	answer: 3 * time.Minute, head: 3 * time.Minute, settle: 3 * time.Minute, heartbeat: 500 * time.Millisecond,
	stale: 30 * time.Second,
}

// backend is how the suite gets a store; plain is one that does without bulkWrite, as before MongoDB 8.0.
var backend, plain = backendOf(false), backendOf(true)

func backendOf(noBulk bool) storetest.Backend {
	return storetest.Backend{
		Open: func(t testing.TB, now func() time.Time) store.Store {
			address := dbtest.MongoDB(t)
			s := open(t, address, Options{Now: now, timeouts: patient, noBulk: noBulk})
			s.address = address
			return s
		},
		Reopen: func(t testing.TB, s store.Store, now func() time.Time) store.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			address := s.(*Store).address
			reopened := open(t, address, Options{Now: now, timeouts: patient, noBulk: noBulk})
			reopened.address = address
			return reopened
		},
		Share: func(t testing.TB, s store.Store, now func() time.Time) store.Store {
			return open(t, s.(*Store).address, Options{Now: now, timeouts: patient, noBulk: noBulk})
		},
		Damage: func(t testing.TB, s store.Store, id inventory.ID) {
			with(t, s.(*Store).address, func(db *mongo.Database) {
				_, err := db.Collection(reservationsName).UpdateOne(context.Background(),
					bson.D{{Key: "_id", Value: id.Text(inventory.ReservationPrefix)}},
					bson.D{{Key: "$set", Value: bson.D{{Key: "version", Value: "one"}}}})
				if err != nil {
					t.Fatal(err)
				}
			})
		},
		Enforces: true,
	}
}

func open(t testing.TB, address string, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T)      { storetest.Run(t, backend) }
func TestPlainStore(t *testing.T) { storetest.Run(t, plain) }

func BenchmarkStore(b *testing.B)      { storetest.Benchmark(b, backend) }
func BenchmarkPlainStore(b *testing.B) { storetest.Benchmark(b, plain) }

func BenchmarkOverdue(b *testing.B) { storetest.BenchmarkOverdue(b, backend) }

// with runs f on the database beside the store.
func with(t testing.TB, address string, f func(db *mongo.Database)) {
	t.Helper()
	name, err := databaseOf(address)
	if err != nil {
		t.Fatal(err)
	}
	client, err := mongo.Connect(options.Client().ApplyURI(address))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.Background()) }()
	f(client.Database(name))
}

// TestServerClock: the server's clock decides, read by locking the head.
func TestServerClock(t *testing.T) {
	address := dbtest.MongoDB(t)
	s := open(t, address, Options{})
	clock := func() (now inventory.Time) {
		with(t, address, func(db *mongo.Database) {
			var hello struct{ LocalTime bson.DateTime }
			if err := db.RunCommand(context.Background(), bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
				t.Fatal(err)
			}
			now = timeOf(hello.LocalTime)
		})
		return now
	}
	before := clock()
	p := storetest.Must(t, s, storetest.Product("mug"))[0].Product
	if after := clock(); p.CreatedAt < before || p.CreatedAt > after {
		t.Errorf("made at %d, between %d and %d by the server", p.CreatedAt, before, after)
	}
	with(t, address, func(db *mongo.Database) {
		_, err := db.Collection(journalName).UpdateOne(context.Background(), bson.D{},
			bson.D{{Key: "$set", Value: bson.D{{Key: "at", Value: dateOf(clock() + 3_600_000)}}}})
		if err != nil {
			t.Fatal(err)
		}
	})
	s = open(t, address, Options{})
	if _, err := storetest.Commit(t.Context(), s, storetest.Hold("mug", "")); !errors.Is(err, store.ErrClockBehind) {
		t.Errorf("an hour behind the last batch: %v", err)
	}
	storetest.Must(t, open(t, address, Options{Clock: store.NewClock(true, 0, nil)}), storetest.Hold("mug", ""))
}

// TestRotation: receipts live for a day at least and go with the collection that they are in.
func TestRotation(t *testing.T) {
	clock := storetest.NewClock()
	address := dbtest.MongoDB(t)
	s := open(t, address, Options{Now: clock.Now})
	storetest.Must(t, s, storetest.Product("mug"), storetest.Hold("mug", "first"))
	replayed := func(key string) bool { return storetest.Must(t, s, storetest.Hold("mug", key))[0].Replayed }
	clock.Advance(24 * time.Hour)
	storetest.Must(t, s, storetest.Hold("mug", "second"))
	if !replayed("first") || !replayed("second") {
		t.Error("a receipt of a day ago is gone")
	}
	clock.Advance(25 * time.Hour)
	storetest.Must(t, s, storetest.Hold("mug", "third"))
	if replayed("first") {
		t.Error("a receipt of two days ago is still there")
	}
	if !replayed("second") || !replayed("third") {
		t.Error("a newer receipt went with the old ones")
	}
	awaitReceipts(t, s, address)
}

// awaitReceipts has old receipts dropped now, and requires that nothing is left of them.
func awaitReceipts(t *testing.T, s *Store, address string) {
	t.Helper()
	s.dropAt.Store(1)
	if err := s.dropOld(t.Context()); err != nil {
		t.Error(err)
	}
	with(t, address, func(db *mongo.Database) {
		names, err := db.ListCollectionNames(context.Background(),
			bson.D{{Key: "name", Value: bson.D{{Key: "$regex", Value: "^receipts_"}}}})
		if err != nil || len(names) != receiptsKept {
			t.Errorf("collections of receipts: %v %v", names, err)
		}
	})
}

// TestDropIsTriedAgain: a collection of receipts that could not be dropped is dropped later, also by the next start.
func TestDropIsTriedAgain(t *testing.T) {
	clock := storetest.NewClock()
	_, address := dbtest.OwnMongoDB(t)
	s := open(t, address, Options{Now: clock.Now})
	storetest.Must(t, s, storetest.Product("mug"), storetest.Hold("mug", "first"))
	dbtest.FailPoint(t, address, "alwaysOn",
		bson.D{{Key: "failCommands", Value: bson.A{"drop"}}, {Key: "errorCode", Value: 91}})
	for _, key := range []string{"second", "third", "fourth"} {
		clock.Advance(25 * time.Hour)
		storetest.Must(t, s, storetest.Hold("mug", key))
	}
	s.dropAt.Store(1)
	if err := s.dropOld(t.Context()); err == nil || s.dropAt.Load() <= time.Now().UnixMilli() {
		t.Errorf("the server fails to drop: %v, again at %d", err, s.dropAt.Load())
	}
	s.Close()
	dbtest.FailPoint(t, address, "off", nil)
	s = open(t, address, Options{Now: clock.Now})
	if s.dropAt.Load() > 1 {
		t.Error("the next start does not drop")
	}
	awaitReceipts(t, s, address)
}

// TestRetries: what the server wants tried again is, told by its label or its code alone, at every command of a batch,
// with and without bulkWrite.
func TestRetries(t *testing.T) {
	_, address := dbtest.OwnMongoDB(t)
	bulk, plain := open(t, address, Options{}), open(t, address, Options{noBulk: true})
	storetest.Must(t, bulk, storetest.Product("mug"), storetest.Product("cup"))
	label := bson.E{Key: "errorLabels", Value: bson.A{retryableLabel}}
	for n, c := range []struct {
		s        *Store
		commands bson.A
	}{
		{bulk, bson.A{"findAndModify"}},
		{bulk, bson.A{"aggregate"}},
		{bulk, bson.A{"bulkWrite"}},
		{plain, bson.A{"find"}},
		{plain, bson.A{"insert"}},
		{plain, bson.A{"update", "abortTransaction"}},
	} {
		for i, code := range retryableCodes {
			for _, data := range []bson.D{{{Key: "errorCode", Value: code}}, {{Key: "errorCode", Value: code}, label}} {
				dbtest.FailPoint(t, address, bson.D{{Key: "times", Value: 2}},
					append(bson.D{{Key: "failCommands", Value: c.commands}}, data...))
				if i%2 == 0 {
					c.s.memory.forget() // load the rows as well
				}
				if _, err := storetest.Commit(context.Background(), c.s,
					storetest.Hold([]string{"mug", "cup"}[n%2], rand.Text())); err != nil {
					t.Fatalf("%v fails with %v: %v", c.commands, data, err)
				}
			}
		}
	}
	dbtest.FailPoint(t, address, bson.D{{Key: "times", Value: 1}},
		bson.D{{Key: "failCommands", Value: bson.A{"bulkWrite"}}, {Key: "errorCode", Value: 8000}})
	if _, err := storetest.Commit(t.Context(), bulk, storetest.Hold("mug", "")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("an error of the server that says nothing: %v", err)
	}
	dbtest.FailPoint(t, address, bson.D{{Key: "times", Value: 1}},
		bson.D{{Key: "failCommands", Value: bson.A{"bulkWrite"}}, {Key: "errorCode", Value: 59}})
	if storetest.Must(t, bulk, storetest.Hold("mug", "")); bulk.bulk {
		t.Error("a server without bulkWrite after all is still asked for it")
	}
}

// TestRefusedServers: what has no transactions, or only says so, is not served from.
func TestRefusedServers(t *testing.T) {
	ctx := context.Background()
	if _, err := Open(ctx, "mongodb://127.0.0.1:1/", Options{}); err == nil ||
		!strings.Contains(err.Error(), "must name a database") {
		t.Errorf("no database: %v", err)
	}
	address := dbtest.MongoDB(t)
	if _, err := Open(ctx, address, Options{ReadOnly: true}); err == nil ||
		!strings.Contains(err.Error(), "no Holdfast store") {
		t.Errorf("an empty database, for reading: %v", err)
	}
	proxy, proxied := dbtest.NewProxy(t, address)
	// The server no longer sees that a command is of a transaction: what is aborted stays.
	proxy.Rewrite("startTransaction", "startTranzaction")
	proxy.Rewrite("readConcern", "readConcerN")
	proxy.Rewrite("autocommit\x00\x00", "autocommiT\x00\x00")
	if _, err := Open(ctx, proxied, Options{}); !errors.Is(err, errNoTransactions) {
		t.Errorf("a server that only pretends: %v", err)
	}
	s := open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	if _, err := storetest.Commit(context.Background(), open(t, address, Options{ReadOnly: true}),
		storetest.Hold("mug", "")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a store for reading committed: %v", err)
	}
	with(t, address, func(db *mongo.Database) {
		if _, err := db.Collection(headName).UpdateOne(ctx, bson.D{},
			bson.D{{Key: "$set", Value: bson.D{{Key: "format", Value: 99}}}}); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := storetest.Commit(context.Background(), s, storetest.Hold("mug", "")); !errors.Is(err, store.ErrBroken) ||
		!errors.Is(err, store.ErrNewerFormat) {
		t.Errorf("a head of a newer format, under way: %v", err)
	}
	if _, err := Open(ctx, address, Options{}); !errors.Is(err, store.ErrNewerFormat) {
		t.Errorf("a head of a newer format: %v", err)
	}
}

// TestStandalone: the sentence says what to do.
func TestStandalone(t *testing.T) {
	_, address := dbtest.OwnMongoDB(t)
	dbtest.FailPoint(t, address, "alwaysOn", bson.D{
		{Key: "failCommands", Value: bson.A{"insert"}},
		{Key: "errorCode", Value: illegalOperation},
	})
	if _, err := Open(context.Background(), address, Options{}); !errors.Is(err, errNoTransactions) ||
		!strings.Contains(err.Error(), "replica set") {
		t.Errorf("a standalone server: %v", err)
	}
}

// TestWithoutValidators: a server that does not take them is served, with one warning.
func TestWithoutValidators(t *testing.T) {
	_, address := dbtest.OwnMongoDB(t)
	dbtest.FailPoint(t, address, "alwaysOn",
		bson.D{{Key: "failCommands", Value: bson.A{"create", "collMod"}}, {Key: "errorCode", Value: 59}})
	var log bytes.Buffer
	if _, err := Open(context.Background(), address, Options{}); err == nil {
		t.Error("opened on a server that makes no collections")
	}
	dbtest.FailPoint(t, address, bson.D{{Key: "skip", Value: 1}, {Key: "times", Value: 1}},
		bson.D{{Key: "failCommands", Value: bson.A{"create"}}, {Key: "errorCode", Value: 59}})
	s, err := Open(context.Background(), address, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	storetest.Must(t, s, storetest.Product("mug"))
	if n := strings.Count(log.String(), "Holdfast checks alone"); n != 1 {
		t.Errorf("%d warnings: %s", n, log.String())
	}
}

// negative tries to write a negative bucket past Holdfast.
func negative(t *testing.T, address string) (err error) {
	with(t, address, func(db *mongo.Database) {
		_, err = db.Collection(stockName).InsertOne(t.Context(),
			stockDocument{ID: "mug/x", AvailableStock: -1, TotalStock: -1})
	})
	return err
}

// TestValidatorsAreMended: a start that meets a failing server leaves no collection unvalidated: what may pass is tried
// again, anything else fails the start, and each start compares what there is.
func TestValidatorsAreMended(t *testing.T) {
	_, address := dbtest.OwnMongoDB(t)
	for _, code := range []int{189, 11600, 262, 112} { // PrimarySteppedDown, InterruptedAtShutdown, ...
		fresh := address + fmt.Sprint("&appName=x", code)
		fresh = strings.Replace(fresh, "?", fmt.Sprint("-", code, "?"), 1)
		dbtest.FailPoint(t, address, bson.D{{Key: "times", Value: 3}},
			bson.D{{Key: "failCommands", Value: bson.A{"create", "createIndexes", "collMod"}}, {Key: "errorCode", Value: code}})
		storetest.Must(t, open(t, fresh, Options{}), storetest.Product("mug"))
		if err := negative(t, fresh); !hasCode(err, documentValidation) {
			t.Errorf("after a start with code %d: a negative bucket: %v", code, err)
		}
	}
	dbtest.FailPoint(t, address, "alwaysOn",
		bson.D{{Key: "failCommands", Value: bson.A{"create"}}, {Key: "errorCode", Value: 13}})
	if _, err := Open(t.Context(), address, Options{}); err == nil {
		t.Error("opened by a user who may make no collections")
	}
	dbtest.FailPoint(t, address, "off", nil)
	open(t, address, Options{}).Close()
	with(t, address, func(db *mongo.Database) {
		err := db.RunCommand(t.Context(),
			bson.D{{Key: "collMod", Value: stockName}, {Key: "validator", Value: bson.D{}}}).Err()
		if err != nil {
			t.Fatal(err)
		}
	})
	for range 2 {
		mended := 0
		open(t, address, Options{monitor: &event.CommandMonitor{
			Started: func(_ context.Context, e *event.CommandStartedEvent) {
				if e.CommandName == "collMod" {
					mended++
				}
			},
		}}).Close()
		if err := negative(t, address); !hasCode(err, documentValidation) || mended > 1 {
			t.Errorf("a negative bucket after a restart: %v, with %d collections changed", err, mended)
		}
	}
}

// TestFirstStartOfTen: ten processes open one empty database at once, on a server that fails as one does that has much
// to do at once.
func TestFirstStartOfTen(t *testing.T) {
	_, address := dbtest.OwnMongoDB(t)
	dbtest.FailPoint(t, address, bson.D{{Key: "times", Value: 12}}, bson.D{
		{Key: "failCommands", Value: bson.A{"insert", "create", "createIndexes", "commitTransaction"}},
		{Key: "errorCode", Value: writeConflict},
	})
	var starts sync.WaitGroup
	stores := make([]*Store, 10)
	for i := range stores {
		starts.Go(func() {
			var err error
			if stores[i], err = Open(context.Background(), address, Options{timeouts: patient}); err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	starts.Wait()
	for _, s := range stores {
		if s != nil {
			storetest.Must(t, s, storetest.Product(rand.Text()))
			s.Close()
		}
	}
}

// TestGuardOfADeadProcess: a process that died while it made the store keeps nobody out.
func TestGuardOfADeadProcess(t *testing.T) {
	address := dbtest.MongoDB(t)
	with(t, address, func(db *mongo.Database) {
		_, err := db.Collection(processesName).InsertOne(t.Context(),
			bson.D{{Key: "_id", Value: guardID}, {Key: "by", Value: "x"}})
		if err != nil {
			t.Fatal(err)
		}
	})
	storetest.Must(t, open(t, address, Options{}), storetest.Product("mug"))
}

// TestReadable: people can read their data, by the names of the API.
func TestReadable(t *testing.T) {
	address := dbtest.MongoDB(t)
	s := open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"))
	r := storetest.Must(t, s, storetest.Hold("mug", ""))[0].Reservation
	storetest.Must(t, s, &inventory.Request{Command: &inventory.Confirm{ReservationID: r.ID, Reference: "pay-1"}})
	with(t, address, func(db *mongo.Database) {
		for collection, want := range map[string]bson.D{
			stockName: {
				{Key: "productId", Value: "mug"},
				{Key: "totalStock", Value: 100},
				{Key: "availableStock", Value: 99},
				{Key: "committedStock", Value: 1},
			},
			reservationsName: {
				{Key: "_id", Value: r.ID.Text(inventory.ReservationPrefix)},
				{Key: "status", Value: "CONFIRMED"},
				{Key: "customerId", Value: "anna"},
				{Key: "lines.unitPrice.amount", Value: 250},
				{Key: "expiresAt", Value: dateOf(r.ExpiresAt)},
			},
			ordersName: {
				{Key: "reservationId", Value: r.ID.Text(inventory.ReservationPrefix)},
				{Key: "lines.priceAtPurchase.currency", Value: "EUR"},
				{Key: "reference", Value: "pay-1"},
			},
		} {
			if n, err := db.Collection(collection).CountDocuments(context.Background(), want); err != nil || n != 1 {
				t.Errorf("%s: %d documents like %v (%v)", collection, n, want, err)
			}
		}
	})
}

// TestDamageIsNamed: what somebody changes in the collections is named by the audit.
func TestDamageIsNamed(t *testing.T) {
	ctx := context.Background()
	address := dbtest.MongoDB(t)
	s := open(t, address, Options{})
	storetest.Must(t, s, storetest.Product("mug"), storetest.Product("cup"))
	held := storetest.Must(t, s, storetest.Hold("mug", "k"), storetest.Hold("cup", ""))
	storetest.Must(t, s, &inventory.Request{Command: &inventory.Confirm{ReservationID: held[1].Reservation.ID}})
	breaches := func() (all string) {
		report, err := audit.Run(ctx, s, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range report.Breaches {
			all += b.String() + "\n"
		}
		return all
	}
	if found := breaches(); found != "" {
		t.Fatalf("before any damage: %s", found)
	}
	set := func(name string, value any) bson.D {
		return bson.D{{Key: "$set", Value: bson.D{{Key: name, Value: value}}}}
	}
	inc := func(names ...string) bson.D {
		var d bson.D
		for _, name := range names {
			d = append(d, bson.E{Key: name, Value: 1})
		}
		return bson.D{{Key: "$inc", Value: d}}
	}
	by := func(name string, value any) bson.D { return bson.D{{Key: name, Value: value}} }
	for name, c := range map[string]struct {
		collection   string
		filter, edit bson.D // no edit: delete
		want         string
	}{
		"available":  {stockName, by("productId", "mug"), inc("availableStock", "totalStock"), "I9: stock of mug"},
		"reserved":   {stockName, by("productId", "mug"), inc("reservedStock", "totalStock"), "I2: stock of mug"},
		"no stock":   {stockName, by("productId", "cup"), nil, "I9: stock of cup"},
		"stock seq":  {stockName, by("productId", "mug"), set("sequence", 1), "I9: stock of mug"},
		"status":     {reservationsName, by("status", "ACTIVE"), set("status", "EXPIRED"), "I9: rsv_"},
		"deadline":   {reservationsName, by("status", "ACTIVE"), set("expiresAt", bson.DateTime(7)), "I9: rsv_"},
		"customer":   {reservationsName, by("status", "ACTIVE"), set("customerId", "bob"), "I9: rsv_"},
		"quantity":   {reservationsName, by("status", "ACTIVE"), set("lines.0.quantity", 2), "I9: rsv_"},
		"type":       {reservationsName, by("status", "ACTIVE"), set("version", "one"), "row: reservation document rsv_"},
		"line":       {reservationsName, by("status", "ACTIVE"), set("lines.0.line", 2), "row: reservation document rsv_"},
		"no hold":    {reservationsName, by("status", "ACTIVE"), nil, "its row is missing"},
		"order":      {ordersName, bson.D{}, set("status", "FULFILLED"), "I9: ord_"},
		"reference":  {ordersName, bson.D{}, set("reference", "x"), "I9: ord_"},
		"price":      {ordersName, bson.D{}, set("lines.0.priceAtPurchase.amount", 2), "I4: ord_"},
		"no order":   {ordersName, bson.D{}, nil, "I4"},
		"events":     {journalName, by("_id", 2), set("events", []byte{1}), "was changed"},
		"no entry":   {journalName, by("_id", 2), nil, "are missing"},
		"entry at":   {journalName, by("_id", 1), set("at", bson.DateTime(7)), "was changed"},
		"head":       {headName, bson.D{}, inc("batchNo"), "are missing at the end"},
		"name":       {productsName, by("_id", "mug"), set("name", "x"), "I9: product mug"},
		"no product": {productsName, by("_id", "mug"), nil, "its product mug is missing"},
	} {
		with(t, address, func(db *mongo.Database) {
			collection := db.Collection(c.collection)
			var before bson.D
			if err := collection.FindOne(ctx, c.filter).Decode(&before); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			id := bson.D{{Key: "_id", Value: before[0].Value}}
			var err error
			if c.edit == nil {
				_, err = collection.DeleteOne(ctx, id)
			} else {
				_, err = collection.UpdateOne(ctx, id, c.edit)
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if found := breaches(); !strings.Contains(found, c.want) {
				t.Errorf("%s: want %q in\n%s", name, c.want, found)
			}
			if _, err := collection.ReplaceOne(ctx, id, before, options.Replace().SetUpsert(true)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		})
	}
	if found := breaches(); found != "" {
		t.Fatalf("after all was put back: %s", found)
	}
}

// TestDamagedRecord: a page ends at a record that cannot be read and names it, and a batch that loads it fails.
func TestDamagedRecord(t *testing.T) {
	address := dbtest.MongoDB(t)
	s := open(t, address, Options{})
	commit := func(keys *inventory.Keys, changes ...inventory.RecordChange) error {
		return s.Commit(t.Context(), keys, func(*inventory.State) (*inventory.Changes, error) {
			return &inventory.Changes{Records: changes}, nil
		})
	}
	for _, key := range []string{"a", "b"} {
		name := inventory.RecordKey{Kind: "note", Key: key}
		after := &inventory.Record{RecordKey: name, Version: 1}
		if err := commit(&inventory.Keys{}, inventory.RecordChange{
			RecordKey: name,
			Change:    inventory.Change[inventory.Record]{After: after},
		}); err != nil {
			t.Fatal(err)
		}
	}
	with(t, address, func(db *mongo.Database) {
		filter, change := bson.D{{Key: "key", Value: "b"}}, bson.D{{Key: "$set", Value: bson.D{{Key: "key", Value: "c"}}}}
		if _, err := db.Collection(recordsName).UpdateOne(t.Context(), filter, change); err != nil {
			t.Fatal(err)
		}
	})
	_ = s.View(t.Context(), func(v store.View) error {
		page, next, err := v.Records(t.Context(), store.RecordQuery{Kind: "note", Limit: 9})
		if len(page) != 1 || next != "" || !store.IsCorrupt(err) || !strings.Contains(err.Error(), "note/b") {
			t.Errorf("%d records, then %q: %v", len(page), next, err)
		}
		return nil
	})
	if err := commit(&inventory.Keys{Records: []inventory.RecordKey{{Kind: "note", Key: "b"}}}); !store.IsCorrupt(err) {
		t.Errorf("a batch that wants it: %v", err)
	}
}

func TestUpgrade(t *testing.T) {
	address := dbtest.MongoDB(t)
	storetest.Must(t, open(t, address, Options{}), storetest.Product("mug"))
	with(t, address, func(db *mongo.Database) {
		_, err := db.Collection(headName).UpdateOne(t.Context(), bson.D{},
			bson.D{{Key: "$set", Value: bson.D{
				{Key: "format", Value: 1},
				{Key: "layout", Value: 1},
				{Key: "sequence", Value: int64(1)},
				{Key: "at", Value: bson.NewDateTimeFromTime(storetest.Start)},
				{Key: "chain", Value: make([]byte, 32)},
			}}})
		_, made := db.Collection(reservationsName).Indexes().CreateOne(t.Context(),
			index(bson.D{{Key: "status", Value: "ACTIVE"}}, false, up("lines.productId"), down("_id")))
		if err = errors.Join(err, made, db.Collection(recordsName).Drop(t.Context())); err != nil {
			t.Fatal(err)
		}
	})
	storetest.Upgrade(t, func(readOnly bool) store.Store { return open(t, address, Options{ReadOnly: readOnly}) })
	with(t, address, func(db *mongo.Database) {
		var d bson.M
		if err := db.Collection(headName).FindOne(t.Context(), bson.D{}).Decode(&d); err != nil {
			t.Fatal(err)
		}
		if d["sequence"] != nil || d["at"] != nil || d["chain"] != nil || d["layout"] != int32(layout) {
			t.Errorf("the upgraded head is %v", d)
		}
		list, err := db.Collection(reservationsName).Indexes().ListSpecifications(t.Context())
		if err != nil || len(list) != 1+len(indexes()[reservationsName]) {
			t.Errorf("the upgraded reservations have the indexes %v: %v", list, err)
		}
	})
}

// TestHeartbeat: the driver's monitor can miss that a connection broke, and then takes the server for lost until its
// next heartbeat. With the driver's own interval that was longer than a batch may wait.
func TestHeartbeat(t *testing.T) {
	for address, want := range map[string]time.Duration{
		"mongodb://db.example/shop":                           time.Second,
		"mongodb://db.example/shop?heartbeatFrequencyMS=2500": 2500 * time.Millisecond,
	} {
		if got := clientOptions(address).HeartbeatInterval; got == nil || *got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

// TestGiveWay: a process whose batches follow each other leaves the head to others once in a while, as long as there
// are any.
func TestGiveWay(t *testing.T) {
	address := dbtest.MongoDB(t)
	mine, other := open(t, address, Options{}), open(t, address, Options{})
	storetest.Must(t, other, storetest.Product("mug"))
	hold := func() { storetest.Must(t, mine, storetest.Hold("mug", "")) }
	for want := 1; want <= longestRun; want++ {
		if hold(); mine.run != want {
			t.Fatalf("after %d batches in a row: a run of %d", want, mine.run)
		}
	}
	for range 2 {
		if hold(); mine.run != 0 {
			t.Fatalf("it gave way and nobody came: a run of %d", mine.run)
		}
	}
	storetest.Must(t, other, storetest.Hold("mug", ""))
	if hold(); mine.run != 1 {
		t.Errorf("after a batch of another: a run of %d", mine.run)
	}
}

// TestWait: between 2 and 6 batch times, a half of that after eight tries, and a fifth at the least.
func TestWait(t *testing.T) {
	s := &Store{batchTime: 10 * time.Millisecond}
	for tries, part := range map[int]time.Duration{0: 1, 8: 2, 32: 5, 1_000_000: 5} {
		for range 1000 {
			if wait := s.wait(tries); wait < 20*time.Millisecond/part || wait >= 60*time.Millisecond/part {
				t.Fatalf("after %d tries: %v", tries, wait)
			}
		}
	}
}
