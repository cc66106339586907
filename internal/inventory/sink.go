package inventory

// A sink is a place outside to which a relay takes the events of the feed. Its record says how far they were taken, and
// which process does it: one at a time, for as long as it keeps coming back.

const sinkKind = "sink"

// MaxSinkNameBytes bounds the name of a sink.
const MaxSinkNameBytes = 400

// Sink is the state of a sink.
type Sink struct {
	Holder   string // the process that serves it; empty: none does
	Until    Time   // when others may take it over
	Position Cursor // everything up to here was accepted, or set aside
	SetAside int64  // how many events were refused for good
}

// HoldSink takes a sink or keeps it, and notes how far its events were taken. Who has lost a sink to another holder
// cannot move its position any more. The outcome shows the sink as it is afterwards: its Holder says whether it was got.
type HoldSink struct {
	Name   string
	Holder string // random, of one process
	Lease  Time   // how long nobody else may take it, in milliseconds; 0 gives it up
	// Alone says that there is no other process: whoever held the sink before is gone.
	Alone    bool
	Progress *SinkProgress // nil: none
}

// SinkProgress is what has become of events.
type SinkProgress struct {
	Position Cursor
	SetAside int64 // how many were set aside since the last progress
}

func sinkKey(name string) RecordKey { return RecordKey{sinkKind, name} }

func (c *HoldSink) addKeys(k *Keys) { k.record(sinkKey(c.Name)) }
func (c *HoldSink) size() int       { return len(c.Name) + len(c.Holder) }

func (c *HoldSink) decide(b *batch, _ *Request) Outcome {
	key := sinkKey(c.Name)
	var sink Sink
	if r := b.Records[key]; r != nil {
		sink = decodeSink(r.Data)
	}
	mine := sink.Holder == c.Holder
	free := sink.Holder == "" || sink.Until <= b.Now || c.Alone
	if !mine && (!free || c.Progress != nil) {
		return Outcome{Sink: &sink, Seq: b.seq}
	}
	sink.Holder, sink.Until = c.Holder, b.Now+c.Lease
	if c.Lease == 0 {
		sink.Holder = ""
	}
	if p := c.Progress; p != nil {
		sink.Position = p.Position
		sink.SetAside += p.SetAside
	}
	b.putRecord(key, appendSink(nil, &sink))
	return Outcome{Sink: &sink, Seq: b.seq}
}

func appendSink(b []byte, s *Sink) []byte {
	b = appendString(b, s.Holder)
	b = appendInt(b, int64(s.Until))
	b = append(b, s.Position.Epoch[:]...)
	b = appendUint(b, s.Position.Seq)
	return appendUint(b, s.SetAside)
}

// decodeSink panics for bytes that are no sink: its relay then fails, and nothing else.
func decodeSink(data []byte) (s Sink) {
	r := reader{data: data}
	s.Holder, s.Until = r.string(), Time(r.int())
	copy(s.Position.Epoch[:], r.bytes(int64(len(s.Position.Epoch))))
	s.Position.Seq, s.SetAside = r.uint(), r.uint()
	if err := r.done(); err != nil {
		panic(err)
	}
	return s
}
