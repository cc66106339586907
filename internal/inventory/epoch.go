package inventory

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// An epoch is a part of the feed that was written without a restore in between. Every feed begins in the zero epoch.
// Whoever brings back an older state of a store begins another one, because the sequences that follow were given to
// other events before. Its id is random: nobody can know how many epochs the lost end of the feed had.
type Epoch [5]byte

// Epochs are the epochs of a feed after the zero one: for each, its id and the sequence after which it began, in big
// endian, in the order in which they began. A string can be compared, and nobody can change it.
type Epochs string

const epochSize = len(Epoch{}) + 8

// entry is the id of epoch i and the sequence after which it began.
func (e Epochs) entry(i int) (id Epoch, after int64) {
	part := []byte(e[i*epochSize : (i+1)*epochSize])
	copy(id[:], part)
	return id, int64(binary.BigEndian.Uint64(part[len(id):]))
}

func (e Epochs) count() int { return len(e) / epochSize }

// Begin adds an epoch for the events after a sequence. The last one, if it has no events, is replaced.
func (e Epochs) Begin(id Epoch, after int64) Epochs {
	if last := e.count() - 1; last >= 0 {
		if _, began := e.entry(last); began == after {
			e = e[:last*epochSize]
		}
	}
	return e + Epochs(binary.BigEndian.AppendUint64(id[:], uint64(after)))
}

// At is the place after an event.
func (e Epochs) At(seq int64) Cursor {
	for i := e.count() - 1; i >= 0; i-- {
		if id, after := e.entry(i); seq > after {
			return Cursor{id, seq}
		}
	}
	return Cursor{Seq: seq}
}

// Shared is the last place that this feed has in common with the one that a cursor came from. It reports false where
// the cursor's epoch is not one of this feed, so that nobody knows.
func (e Epochs) Shared(c Cursor) (place Cursor, known bool) {
	known = c.Epoch == Epoch{}
	for i := range e.count() {
		id, after := e.entry(i)
		if known || id == c.Epoch && c.Seq <= after { // the latter never was in a feed
			return e.At(min(c.Seq, after)), true
		}
		known = id == c.Epoch
	}
	return c, known
}

// Check reports what is wrong with the epochs of a feed that ends at a sequence.
func (e Epochs) Check(end int64) error {
	if len(e)%epochSize != 0 {
		return fmt.Errorf("%d bytes are not a list of epochs", len(e))
	}
	seen, last := map[Epoch]bool{{}: true}, int64(-1)
	for i := range e.count() {
		id, after := e.entry(i)
		switch {
		case seen[id]:
			return errors.New("an epoch began twice")
		case after <= last || after > end:
			return fmt.Errorf("an epoch began after event %d, the one before it after %d, and the last event is %d", after,
				last, end)
		}
		seen[id], last = true, after
	}
	return nil
}

// Cursor is a place in a feed: after the event that has this sequence in this epoch. The zero Cursor is the beginning.
type Cursor struct {
	Epoch Epoch
	Seq   int64
}

// epochEncoding spells an epoch in eight characters.
var epochEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Append appends the text of a cursor: the sequence, and before it the epoch if it is not the zero one.
func (c Cursor) Append(b []byte) []byte {
	if c.Epoch != (Epoch{}) {
		b = append(epochEncoding.AppendEncode(b, c.Epoch[:]), '.')
	}
	return strconv.AppendInt(b, c.Seq, 10)
}

func (c Cursor) String() string { return string(c.Append(nil)) }

// ParseCursor reads the text of a cursor.
func ParseCursor(text string) (c Cursor, err error) {
	seq := text
	if epoch, rest, found := strings.Cut(text, "."); found {
		id, err := epochEncoding.DecodeString(epoch)
		if err != nil || len(id) != len(c.Epoch) {
			return Cursor{}, errNoCursor
		}
		seq = rest
		copy(c.Epoch[:], id)
	}
	if c.Seq, err = strconv.ParseInt(seq, 10, 64); err != nil || c.Seq < 0 || c.String() != text {
		return Cursor{}, errNoCursor
	}
	return c, nil
}

var errNoCursor = errors.New("not a place in a feed")
