package mongodb

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

var _ store.Looker = (*Store)(nil)

// Look implements [store.Looker] by one command. Its read concern is linearizable: the server answers once it has
// made sure that it still is the primary and that what it read is with a majority. So the answer has all that was
// acknowledged before, by whichever server or router. The journal is only added to, and entries up to the head are
// there once the head is, so no snapshot is needed.
func (s *Store) Look(ctx context.Context, after int64, limit, maxBytes int) (
	head store.Head, now inventory.Time, entries []store.Entry, err error,
) {
	if err := s.enter(); err != nil {
		return head, 0, nil, err
	}
	defer s.viewing.Done()
	c := s.read.Collection(headName, options.Collection().SetReadConcern(readconcern.Linearizable()))
	cursor, err := c.Aggregate(ctx, followed(after, limit))
	if err != nil {
		return head, 0, nil, ended(ctx, fmt.Errorf("looking at the head: %w", translate(err)))
	}
	defer cursor.Close(ctx)
	found := false
	for bytes := 0; bytes < maxBytes && cursor.Next(ctx); {
		var d followedDocument
		if err := bson.Unmarshal(cursor.Current, &d); err != nil {
			return head, 0, nil, fmt.Errorf("looking at the head: %w", err)
		}
		if err := d.Head.check(); err != nil {
			return head, 0, nil, err
		}
		last := lastDocument{Head: d.Head, Now: d.Now, Last: d.Last}
		head, found = last.state(), true
		now = s.latest(&head, &last)
		if d.Entry != nil {
			entries = append(entries, d.Entry.entry())
			bytes += len(d.Entry.Events)
		}
	}
	if err := cursor.Err(); err != nil {
		return head, 0, nil, ended(ctx, fmt.Errorf("looking at the head: %w", translate(err)))
	}
	if !found {
		return head, 0, nil, errNoHead
	}
	return head, now, entries, nil
}

// followedDocument is the head with one of the entries that follow.
type followedDocument struct {
	Head  headDocument      `bson:",inline"`
	Now   bson.DateTime     `bson:"now"`
	Last  []journalDocument `bson:"last"`
	Entry *journalDocument  `bson:"entry"`
}

// followed is the pipeline that reads the head with the entries after one: a document for each of them, since together
// they may be larger than a document can be.
func followed(after int64, limit int) bson.A {
	missed := bson.D{{Key: "$subtract", Value: bson.A{"$batchNo", after}}}
	count := bson.D{{Key: "$max", Value: bson.A{0, bson.D{{Key: "$min", Value: bson.A{missed, limit}}}}}}
	numbers := bson.D{{Key: "$map", Value: bson.D{
		{Key: "input", Value: bson.D{{Key: "$range", Value: bson.A{0, count}}}},
		{Key: "in", Value: bson.D{{Key: "$add", Value: bson.A{"$$this", after + 1}}}},
	}}}
	each := func(path string) bson.D {
		return bson.D{{Key: "$unwind", Value: bson.D{
			{Key: "path", Value: path},
			{Key: "preserveNullAndEmptyArrays", Value: true}, // the head alone, if there is none
		}}}
	}
	return append(lastOf(), bson.D{{Key: "$addFields", Value: bson.D{{Key: "number", Value: numbers}}}}, each("$number"),
		lookup(journalName, "number", "_id", "entry"), each("$entry"))
}
