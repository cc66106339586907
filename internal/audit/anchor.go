package audit

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast/holdfast/internal/store"
)

// Anchor is what an audit saw of a journal: the last entry. Kept outside the store, it shows later whether the history
// up to there is still the same. The chain alone does not, because whoever rewrites all entries chains them anew.
type Anchor struct {
	At       time.Time // of the audit
	Store    string
	BatchNo  int64
	Seq      int64
	Checksum [32]byte
}

// String is the line of an anchor in a file: its parts with one space between them, the checksum as hex digits.
func (a Anchor) String() string {
	return fmt.Sprintf("%s %s %d %d %x", a.At.UTC().Format(time.RFC3339), a.Store, a.BatchNo, a.Seq, a.Checksum)
}

// ReadAnchors reads the lines of a file of anchors.
func ReadAnchors(r io.Reader) (list []Anchor, err error) {
	lines := bufio.NewReaderSize(r, 1024)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return list, nil
		}
		a, whole := parseAnchor(strings.TrimSuffix(string(line), "\n"))
		switch {
		case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("reading line %d: %w", len(list)+1, err)
		case err != nil || !whole:
			return nil, fmt.Errorf("line %d is not one that verify --anchor writes", len(list)+1)
		}
		list = append(list, a)
	}
}

func parseAnchor(line string) (a Anchor, ok bool) {
	parts := strings.Split(line, " ")
	if len(parts) != 5 {
		return a, false
	}
	checksum, err := hex.DecodeString(parts[4])
	copy(a.Checksum[:], checksum)
	at, err2 := time.Parse(time.RFC3339, parts[0])
	batchNo, err3 := strconv.ParseInt(parts[2], 10, 64)
	seq, err4 := strconv.ParseInt(parts[3], 10, 64)
	a.At, a.Store, a.BatchNo, a.Seq = at, parts[1], batchNo, seq
	return a, errors.Join(err, err2, err3, err4) == nil && a.String() == line
}

// anchors are those of an audit that its journal pass has not met yet, in the order of their batches.
type anchors struct {
	*auditor
	list []Anchor
}

// head compares the anchors with the store that it says it is.
func (a *anchors) head(head *store.Head) {
	for i := range a.list {
		if of := &a.list[i]; of.Store != head.Store {
			a.breach("anchor", of.name(), "it is of store %s, but this one is %s", of.Store, head.Store)
			return
		}
	}
}

// entry compares the anchors of a journal entry with it.
func (a *anchors) entry(e *store.Entry) {
	for ; len(a.list) > 0 && a.list[0].BatchNo <= e.BatchNo; a.list = a.list[1:] {
		switch of := &a.list[0]; {
		case of.BatchNo < e.BatchNo:
			a.gone(of)
		case of.Checksum != e.Checksum || of.Seq != e.First+int64(e.Count)-1:
			a.breach("anchor", of.name(), "history was rewritten: journal entry %d is another one now", e.BatchNo)
		}
	}
}

// end is called when there are no more entries.
func (a *anchors) end() {
	for i := range a.list {
		a.gone(&a.list[i])
	}
}

// gone names an anchor whose entry is missing. Before the first batch there is no entry.
func (a *anchors) gone(of *Anchor) {
	if of.BatchNo > 0 {
		a.breach("anchor", of.name(), "journal entry %d is missing", of.BatchNo)
	}
}

func (a *Anchor) name() string { return "anchor of " + a.At.UTC().Format(time.RFC3339) }
