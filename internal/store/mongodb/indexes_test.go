package mongodb

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// found is a find that was sent.
type found struct {
	collection         string
	filter, sort, hint bson.D
}

// isSorted reports whether the server sorts what is found: the ACTIVE reservations of a product, which have no index of
// their own.
func (f *found) isSorted() bool {
	fixed, _ := conditions(f.filter)
	return fixed["lines.productId"] != nil && f.sort[0].Key == "_id"
}

// TestIndexes: every find in what grows reads from an index, in the order in which the index is, so that what it costs
// does not grow with what is stored. What an index serves is stated here by MongoDB's rules
// (mongodb.com/docs/manual/tutorial/sort-results-with-indexes, .../core/index-partial), since the plans of the server
// that tests start differ. [TestExplain] asks a real one.
func TestIndexes(t *testing.T) {
	for _, f := range allFinds(t, dbtest.MongoDB(t)) {
		if f.isSorted() {
			f.sort = nil
		}
		served := slices.ContainsFunc(indexes()[f.collection], func(m mongo.IndexModel) bool { return serves(t, m, f) })
		if !served && !serves(t, mongo.IndexModel{Keys: bson.D{up("_id")}}, f) {
			t.Errorf("no index of %s serves %v in the order %v", f.collection, f.filter, f.sort)
		}
	}
}

// TestExplain: a real server reads no collection from its beginning for a find, and sorts nothing by itself.
func TestExplain(t *testing.T) {
	address := dbtest.RealMongoDB(t)
	for _, f := range allFinds(t, address) {
		if f.collection == headName || f.collection == processesName {
			continue // they have few documents
		}
		with(t, address, func(db *mongo.Database) {
			var plan bson.Raw
			command := bson.D{
				{Key: "find", Value: f.collection}, {Key: "filter", Value: f.filter}, {Key: "sort", Value: f.sort},
			}
			if f.hint != nil {
				command = append(command, bson.E{Key: "hint", Value: f.hint})
			}
			err := db.RunCommand(t.Context(), bson.D{
				{Key: "explain", Value: command},
				{Key: "verbosity", Value: "queryPlanner"},
			}).Decode(&plan)
			if err != nil {
				t.Fatalf("%s %v: %v", f.collection, f.filter, err)
			}
			winning := plan.Lookup("queryPlanner", "winningPlan").String()
			if strings.Contains(winning, `"COLLSCAN"`) || (strings.Contains(winning, `"SORT"`) && !f.isSorted()) {
				t.Errorf("%s %v in the order %v: %s", f.collection, f.filter, f.sort, winning)
			}
		})
	}
}

// allFinds are the finds of a store, of each kind one. A pipeline counts as the find that it begins with.
func allFinds(t *testing.T, address string) (finds []found) {
	var mu sync.Mutex
	clock := storetest.NewClock()
	s := open(t, address, Options{
		Now: clock.Now,
		monitor: &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
			f, ok := findOf(t, e)
			mu.Lock()
			defer mu.Unlock()
			if ok {
				finds = append(finds, f)
			}
		}},
	})
	storetest.Must(t, s, storetest.Product("mug"))
	held := storetest.Must(t, s, storetest.Hold("mug", "k"), storetest.Hold("mug", ""))
	rsv := held[0].Reservation.ID
	ord := storetest.Must(t, s, &inventory.Request{Command: &inventory.Confirm{ReservationID: rsv}})[0].Order.ID
	clock.Advance(time.Hour)
	storetest.Must(t, s, &inventory.Request{Command: &inventory.Reserve{
		Lines: []inventory.ReserveLine{{ProductID: "mug", Location: inventory.MainLocation, Quantity: 99}}, TTL: 1000,
	}})
	err := s.View(context.Background(), func(v store.View) (err error) {
		check := func(e error) { err = errors.Join(err, e) }
		for _, q := range []store.ProductQuery{{Limit: 10}, {IDs: []string{"mug"}}, {After: "a", Limit: 10}} {
			_, _, e := v.Products(context.Background(), q)
			check(e)
		}
		for _, q := range []store.ReservationQuery{
			{IDs: []inventory.ID{rsv}},
			{Limit: 10},
			{Before: rsv, Limit: 10},
			{CustomerID: "anna", Limit: 10},
			{Status: inventory.ReservationExpired, DueBy: 1, Limit: 10},
			{CustomerID: "anna", Status: inventory.ReservationCancelled, Limit: 10},
			{ProductID: "mug", Status: inventory.ReservationActive, Limit: 10},
			{CustomerID: "anna", ProductID: "mug", Status: inventory.ReservationActive, Before: rsv, Limit: 10},
		} {
			_, _, e := v.Reservations(context.Background(), q)
			check(e)
		}
		for _, q := range []store.OrderQuery{
			{IDs: []inventory.ID{ord}},
			{Limit: 10},
			{ReservationID: rsv, Limit: 10},
			{Reference: "pay-1", Limit: 10},
			{CustomerID: "anna", Limit: 10},
			{Status: inventory.OrderConfirmed, Limit: 10},
			{Status: inventory.OrderFulfilled, Limit: 10},
			{Status: inventory.OrderConfirmed, CustomerID: "anna", Before: ord, Limit: 10},
		} {
			_, _, e := v.Orders(context.Background(), q)
			check(e)
		}
		_, e := v.Journal(context.Background(), store.JournalPosition{Seq: 2}, 10, 1000)
		check(e)
		_, e = v.Due(context.Background(), inventory.Time(clock.Now().UnixMilli()), 10)
		check(e)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(finds) < 20 {
		t.Errorf("only %d finds were seen", len(finds))
	}
	s.Close()
	return finds
}

func findOf(t *testing.T, e *event.CommandStartedEvent) (f found, ok bool) {
	var command struct {
		Find, Aggregate string
		Filter, Sort    bson.D
		Hint            any
		Pipeline        []struct {
			Match bson.D `bson:"$match"`
			Sort  bson.D `bson:"$sort"`
		}
	}
	if e.CommandName != "find" && e.CommandName != "aggregate" {
		return f, false
	}
	if err := bson.Unmarshal(e.Command, &command); err != nil {
		t.Errorf("%v in %v", err, e.Command)
	}
	hint, _ := command.Hint.(bson.D)
	f = found{command.Find, command.Filter, command.Sort, hint}
	if len(command.Pipeline) > 1 {
		f = found{command.Aggregate, command.Pipeline[0].Match, command.Pipeline[1].Sort, nil}
	}
	return f, f.collection != "" && f.collection != processesName
}

// serves reports whether an index hands out what a find asks for, already in order.
func serves(t *testing.T, m mongo.IndexModel, f found) bool {
	fixed, bounded := conditions(f.filter)
	var o options.IndexOptions
	if m.Options != nil {
		for _, set := range m.Options.List() {
			if err := set(&o); err != nil {
				t.Fatal(err)
			}
		}
	}
	if partial, ok := o.PartialFilterExpression.(bson.D); ok { // every document that the find asks for must be in it
		for _, e := range partial {
			if value, is := fixed[e.Key]; !is || (!isExists(e.Value) && value != e.Value) {
				return false
			}
		}
	}
	keys := m.Keys.(bson.D)
	if _, ok := fixed[keys[0].Key]; !ok && !bounded[keys[0].Key] && len(f.filter) > 0 {
		return false // it would be read from its beginning
	}
	for len(keys) > 0 && (len(f.sort) == 0 || keys[0].Key != f.sort[0].Key) {
		if _, ok := fixed[keys[0].Key]; !ok {
			return len(f.sort) == 0 && (bounded[keys[0].Key] || len(keys) < len(m.Keys.(bson.D)))
		}
		if keys = keys[1:]; len(keys) == 0 && o.Unique != nil && *o.Unique {
			return true // there is one document at most
		}
	}
	if len(keys) < len(f.sort) || len(f.sort) == 0 {
		return len(f.sort) == 0 // all its keys are fixed
	}
	turned := ascends(keys[0]) != ascends(f.sort[0])
	for i, e := range f.sort {
		if keys[i].Key != e.Key || (ascends(keys[i]) != ascends(e)) != turned {
			return false
		}
	}
	return true
}

// conditions are the fields of a filter that have one value, and those that have several or a range.
func conditions(filter bson.D) (fixed map[string]any, bounded map[string]bool) {
	fixed, bounded = map[string]any{}, map[string]bool{}
	for _, e := range filter {
		operators, ok := e.Value.(bson.D)
		switch {
		case !ok:
			fixed[e.Key] = e.Value
		case operators[0].Key == "$elemMatch":
			inside, _ := conditions(operators[0].Value.(bson.D))
			for name, value := range inside {
				fixed[e.Key+"."+name] = value
			}
		default:
			bounded[e.Key] = true
		}
	}
	return fixed, bounded
}

func isExists(condition any) bool {
	d, ok := condition.(bson.D)
	return ok && d[0].Key == "$exists"
}

// ascends reports the direction of a key, of an index or of a sort as it was sent.
func ascends(e bson.E) bool {
	n, sent := e.Value.(int32)
	return n > 0 || (!sent && e.Value.(int) > 0)
}
