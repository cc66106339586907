package mongodb

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/holdfast/holdfast/internal/store"
)

const (
	// bulkWireVersion is that of MongoDB 8.0, which can write to several collections by one command.
	bulkWireVersion = 25
	// bulkWrites is how many documents one such command may write. Where there are more, commands are shared by so many
	// that a few more cost little, and inserting a list of documents is the way that servers are made for: the test
	// server takes a third of the time for 64.
	bulkWrites = 16
	// bulkBytes is how much one such command may write, because a document of a command is bounded.
	bulkBytes = 12 << 20
)

// bulk is a bulkWrite command.
type bulk struct {
	ops, namespaces bson.A
	added, changed  int
}

// bulkOf makes the command, unless it would be large.
func bulkOf(database string, all []*documents) (b *bulk, ok bool) {
	b = &bulk{}
	size := 0
	add := func(op bson.D) bool {
		raw, err := bson.Marshal(op)
		size += len(raw)
		b.ops = append(b.ops, bson.Raw(raw))
		return err == nil && size <= bulkBytes && len(b.ops) <= bulkWrites
	}
	for i, d := range all {
		b.namespaces = append(b.namespaces, bson.D{{Key: "ns", Value: database + "." + d.collection}})
		for _, document := range d.added {
			if !add(bson.D{{Key: "insert", Value: i}, {Key: "document", Value: document}}) {
				return nil, false
			}
		}
		for _, c := range d.changed {
			if !add(c.op(i)) {
				return nil, false
			}
		}
		b.added += len(d.added)
		b.changed += len(d.changed)
	}
	return b, true
}

func (c *change) op(namespace int) bson.D {
	if c.replacement == nil {
		return bson.D{{Key: "delete", Value: namespace}, {Key: "filter", Value: c.filter}, {Key: "multi", Value: false}}
	}
	return bson.D{
		{Key: "update", Value: namespace},
		{Key: "filter", Value: c.filter},
		{Key: "updateMods", Value: c.replacement},
		{Key: "multi", Value: false},
	}
}

// bulkReply is the answer, with the first write that failed.
type bulkReply struct {
	Cursor struct {
		FirstBatch []struct {
			OK      float64 `bson:"ok"`
			Code    int32   `bson:"code"`
			Message string  `bson:"errmsg"`
		} `bson:"firstBatch"`
	} `bson:"cursor"`
	Errors   int `bson:"nErrors"`
	Inserted int `bson:"nInserted"`
	Matched  int `bson:"nMatched"`
	Deleted  int `bson:"nDeleted"`
}

// writeBulk sends the command within a transaction and requires that every document was there as it was loaded. A
// server that turns out not to have it (it was upgraded in part, or not let use what is new) gets the others from the
// next attempt on.
func (s *Store) writeBulk(ctx context.Context, b *bulk) error {
	var reply bulkReply
	err := s.client.Database("admin").RunCommand(ctx, bson.D{
		{Key: "bulkWrite", Value: 1},
		{Key: "ops", Value: b.ops},
		{Key: "nsInfo", Value: b.namespaces},
		{Key: "errorsOnly", Value: true},
		{Key: "ordered", Value: true},
	}).Decode(&reply)
	if hasCode(err, unsupportedCodes...) {
		s.bulk = false
		return store.Retryable{Err: fmt.Errorf("%w: %w", store.ErrUnavailable, err)}
	}
	if err != nil {
		return err
	}
	for _, w := range reply.Cursor.FirstBatch {
		if w.OK != 1 {
			return mongo.CommandError{Code: w.Code, Message: w.Message}
		}
	}
	if reply.Errors > 0 || reply.Inserted != b.added || reply.Matched+reply.Deleted != b.changed {
		return fmt.Errorf("%w: %d errors, %d of %d documents added, %d of %d found", errMatches, reply.Errors, reply.Inserted,
			b.added, reply.Matched+reply.Deleted, b.changed)
	}
	return nil
}
