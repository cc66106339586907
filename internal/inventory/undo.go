package inventory

// savepoint is a state of a batch to which everything can be taken back. While there is one, each change of the batch
// notes how to undo itself. That costs more than the change alone, so there is one only while a group is decided.
type savepoint struct {
	*batch
	seq                       int64
	events, receipts, count   int
	receiptBytes, recordBytes int
	tally                     Tally
}

func (b *batch) save() *savepoint {
	b.saved = true
	return &savepoint{
		batch: b, seq: b.seq, events: len(b.events), receipts: len(b.receipts), count: b.count,
		receiptBytes: b.receiptBytes, recordBytes: b.recordBytes, tally: b.tally,
	}
}

// written is how many bytes were added since, without those of holds that lapsed: nobody's command wrote them.
func (s *savepoint) written() int {
	return s.bytes() - s.batch.lapsedBytes - s.events - s.receiptBytes - s.recordBytes
}

// end ends the savepoint. What was done since stands.
func (s *savepoint) end() {
	s.saved, s.undos, s.lapsed, s.lapsedBytes = false, s.undos[:0], s.lapsed[:0], 0
}

// undo takes everything back, the latest change first. Then it ends the holds again that had lapsed since: that was
// time's effect, and the answer to the group may say so.
func (s *savepoint) undo() {
	b := s.batch
	for i := len(b.undos) - 1; i >= 0; i-- {
		b.undos[i]()
	}
	b.seq, b.events, b.receipts, b.count = s.seq, b.events[:s.events], b.receipts[:s.receipts], s.count
	b.receiptBytes, b.recordBytes, b.tally = s.receiptBytes, s.recordBytes, s.tally
	b.saved = false
	for _, id := range b.lapsed {
		if r := b.Reservations[id]; r != nil && r.Due(b.Now) {
			b.expire(r)
		}
	}
}

// note remembers how to undo a change. It is for callers who have seen that there is a savepoint.
func (b *batch) note(undo func()) { b.undos = append(b.undos, undo) }

// touch remembers a row as it was before the batch.
func touch[K comparable, T any](b *batch, t *touched[K, T], key K, before *T) {
	if t.add(key, before) && b.saved {
		b.note(func() { t.drop(key) })
	}
}

// put enters a row, or removes it if the row is nil.
func put[K comparable, T any](b *batch, rows map[K]*T, key K, row *T) {
	if b.saved {
		before, found := rows[key]
		b.note(func() {
			if found {
				rows[key] = before
			} else {
				delete(rows, key)
			}
		})
	}
	if row == nil {
		delete(rows, key)
	} else {
		rows[key] = row
	}
}
