package inventory

import (
	"encoding/binary"
	"errors"
)

// The compact form in which rows, receipts and events are stored: fields in a fixed order, integers as varints, strings
// with their length before them. Its layout is part of the store's format: whoever changes it raises the number of the
// format, and keeps what reads the older ones.

var errCorrupt = errors.New("stored bytes cannot be read")

func appendUint(b []byte, v int64) []byte { return binary.AppendUvarint(b, uint64(v)) }
func appendInt(b []byte, v int64) []byte  { return binary.AppendVarint(b, v) }
func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader takes fields off the front of its data. After the first failure it returns zero values.
type reader struct {
	data   []byte
	failed bool
}

func (r *reader) fail() {
	r.failed = true
	r.data = nil
}

func (r *reader) uint() int64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 || v > 1<<63-1 {
		r.fail()
		return 0
	}
	r.data = r.data[n:]
	return int64(v)
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.data)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) bytes(n int64) []byte {
	if n > int64(len(r.data)) {
		r.fail()
		return nil
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) string() string { return string(r.bytes(r.uint())) }

func (r *reader) id() (id ID) {
	copy(id[:], r.bytes(int64(len(id))))
	return id
}

// count reads the length of a list whose entries take at least so many bytes each. It fails if they cannot all be
// there: damaged bytes must not make anybody allocate much memory.
func (r *reader) count(entryBytes int64) int {
	n := r.uint()
	if n > int64(len(r.data))/entryBytes {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) done() error {
	if r.failed || len(r.data) > 0 {
		return errCorrupt
	}
	return nil
}

func appendMoney(b []byte, m Money) []byte {
	return appendString(appendUint(b, m.Amount), m.Currency)
}

func (r *reader) money() Money { return Money{r.uint(), r.string()} }

func appendMetadata(b []byte, m Metadata) []byte {
	b = appendUint(b, int64(len(m)))
	for i := range m {
		b = appendString(appendString(b, m[i].Name), m[i].Value)
	}
	return b
}

func (r *reader) metadata() Metadata {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	m := make(Metadata, n)
	for i := range m {
		m[i] = Member{r.string(), r.string()}
	}
	return m
}

func appendLocation(b []byte, location string) []byte {
	if location == MainLocation {
		return append(b, 0) // no location is empty, so this is free
	}
	return appendString(b, location)
}

func (r *reader) location() string {
	if s := r.string(); s != "" {
		return s
	}
	return MainLocation
}

// appendLines writes the one currency of the lines once.
func appendLines(b []byte, lines []Line, total Money) []byte {
	b = appendMoney(b, total)
	b = appendUint(b, int64(len(lines)))
	for i := range lines {
		l := &lines[i]
		b = appendLocation(appendString(b, l.ProductID), l.Location)
		b = appendUint(appendUint(b, l.Quantity), l.UnitPrice.Amount)
	}
	return b
}

func (r *reader) lines() ([]Line, Money) {
	total := r.money()
	lines := make([]Line, r.count(4))
	for i := range lines {
		lines[i] = Line{r.string(), r.location(), r.uint(), Money{r.uint(), total.Currency}}
	}
	return lines, total
}

// appendSince writes a time relative to an earlier one; zero ("not yet") stays zero.
func appendSince(b []byte, t, start Time) []byte {
	if t == 0 {
		return append(b, 0)
	}
	return appendUint(b, int64(t-start)+1)
}

func (r *reader) since(start Time) Time {
	if v := r.uint(); v != 0 {
		return start + Time(v-1)
	}
	return 0
}

// AppendProduct appends the catalogue part of a product.
func AppendProduct(b []byte, p *Product) []byte {
	b = appendString(appendString(b, p.ID), p.Name)
	b = appendMetadata(appendMoney(b, p.Price), p.Metadata)
	b = appendUint(appendUint(b, p.Version), int64(p.CreatedAt))
	return appendUint(appendSince(b, p.UpdatedAt, p.CreatedAt), p.Seq)
}

func (r *reader) product() *Product {
	p := &Product{
		ID: r.string(), Name: r.string(), Price: r.money(), Metadata: r.metadata(),
		Version: r.uint(), CreatedAt: Time(r.uint()),
	}
	p.UpdatedAt = r.since(p.CreatedAt)
	p.Seq = r.uint()
	return p
}

// DecodeProduct reads what [AppendProduct] wrote. It fails if the bytes are not exactly that, as the other decoders do.
func DecodeProduct(data []byte) (*Product, error) {
	r := reader{data: data}
	p := r.product()
	return p, r.done()
}

func appendStockedProduct(b []byte, p *Product) []byte {
	b = AppendProduct(b, p)
	b = appendUint(b, int64(len(p.Stock)))
	for i := range p.Stock {
		s := &p.Stock[i]
		b = appendBuckets(appendLocation(b, s.Location), s.Buckets)
		b = appendUint(b, s.Seq)
	}
	return b
}

func (r *reader) stockedProduct() *Product {
	p := r.product()
	p.Stock = make([]Stock, r.count(5))
	for i := range p.Stock {
		p.Stock[i] = Stock{r.location(), r.buckets(), r.uint()}
	}
	return p
}

func appendBuckets(b []byte, v Buckets) []byte {
	return appendInt(appendInt(appendInt(b, v.Available), v.Reserved), v.Committed)
}

func (r *reader) buckets() Buckets { return Buckets{r.int(), r.int(), r.int()} }

// AppendReservation appends a reservation.
func AppendReservation(b []byte, v *Reservation) []byte {
	b = append(b, v.ID[:]...)
	b = append(b, byte(v.Status))
	b = appendUint(appendUint(b, v.Version), v.Seq)
	b = appendSince(appendSince(appendSince(b, v.UpdatedAt, v.CreatedAt),
		v.ExpiresAt, v.CreatedAt), v.EndedAt, v.CreatedAt)
	if v.OrderID.IsZero() {
		b = append(b, 0)
	} else {
		b = append(append(b, 1), v.OrderID[:]...)
	}
	b = appendString(appendString(b, v.CustomerID), v.CancelReason)
	return appendMetadata(appendLines(b, v.Lines, v.Total), v.Metadata)
}

func (r *reader) reservation() *Reservation {
	v := &Reservation{ID: r.id(), Status: ReservationStatus(r.byte()), Version: r.uint(), Seq: r.uint()}
	v.CreatedAt = v.ID.Time()
	v.UpdatedAt, v.ExpiresAt, v.EndedAt = r.since(v.CreatedAt), r.since(v.CreatedAt), r.since(v.CreatedAt)
	if r.byte() == 1 {
		v.OrderID = r.id()
	}
	v.CustomerID, v.CancelReason = r.string(), r.string()
	v.Lines, v.Total = r.lines()
	v.Metadata = r.metadata()
	if !v.Status.Valid() {
		r.fail()
	}
	return v
}

// DecodeReservation reads what [AppendReservation] wrote.
func DecodeReservation(data []byte) (*Reservation, error) {
	r := reader{data: data}
	v := r.reservation()
	return v, r.done()
}

// AppendOrder appends an order.
func AppendOrder(b []byte, v *Order) []byte {
	b = append(append(b, v.ID[:]...), v.ReservationID[:]...)
	b = append(b, byte(v.Status))
	b = appendUint(appendUint(b, v.Version), v.Seq)
	b = appendSince(appendSince(appendSince(b, v.UpdatedAt, v.CreatedAt),
		v.FulfilledAt, v.CreatedAt), v.CancelledAt, v.CreatedAt)
	b = appendString(appendString(appendString(b, v.Reference), v.CustomerID), v.CancelReason)
	return appendMetadata(appendLines(b, v.Lines, v.Total), v.Metadata)
}

func (r *reader) order() *Order {
	v := &Order{ID: r.id(), ReservationID: r.id(), Status: OrderStatus(r.byte()), Version: r.uint(), Seq: r.uint()}
	v.CreatedAt = v.ID.Time()
	v.UpdatedAt, v.FulfilledAt, v.CancelledAt = r.since(v.CreatedAt), r.since(v.CreatedAt), r.since(v.CreatedAt)
	v.Reference, v.CustomerID, v.CancelReason = r.string(), r.string(), r.string()
	v.Lines, v.Total = r.lines()
	v.Metadata = r.metadata()
	if !v.Status.Valid() {
		r.fail()
	}
	return v
}

// DecodeOrder reads what [AppendOrder] wrote.
func DecodeOrder(data []byte) (*Order, error) {
	r := reader{data: data}
	v := r.order()
	return v, r.done()
}

func appendAdjustment(b []byte, v *Adjustment) []byte {
	b = append(b, v.ID[:]...)
	b = appendLocation(appendString(b, v.ProductID), v.Location)
	return appendString(appendString(appendInt(b, v.Delta), v.Reason), v.Reference)
}

func (r *reader) adjustment() *Adjustment {
	v := &Adjustment{
		ID: r.id(), ProductID: r.string(), Location: r.location(),
		Delta: r.int(), Reason: r.string(), Reference: r.string(),
	}
	v.CreatedAt = v.ID.Time()
	return v
}

// Flags before the resources of an event or outcome: they say what follows. Those from the second byte on are written
// only where there is one of them.
const (
	hasProduct uint16 = 1 << iota
	hasAdjustment
	hasReservation
	hasOrder
	isCreated
	hasActor   // an event has an actor, which comes after its resources
	hasResults // the outcome of a group has results, which come after its resources
	hasMore    // there is a second byte of flags
	hasWebhook
	hasDelivery
)

// resources are those that an event or an outcome carries.
type resources struct {
	*Product
	*Adjustment
	*Reservation
	*Order
	*Webhook
	*Delivery
}

func (c *resources) flags() (flags uint16) {
	for _, part := range []struct {
		is   bool
		flag uint16
	}{
		{c.Product != nil, hasProduct},
		{c.Adjustment != nil, hasAdjustment},
		{c.Reservation != nil, hasReservation},
		{c.Order != nil, hasOrder},
		{c.Webhook != nil, hasWebhook},
		{c.Delivery != nil, hasDelivery},
	} {
		if part.is {
			flags |= part.flag
		}
	}
	return flags
}

func appendResources(b []byte, flags uint16, c *resources) []byte {
	flags |= c.flags()
	if flags > 0xff {
		b = append(b, byte(flags|hasMore), byte(flags>>8))
	} else {
		b = append(b, byte(flags))
	}
	if c.Product != nil {
		b = appendStockedProduct(b, c.Product)
	}
	if c.Adjustment != nil {
		b = appendAdjustment(b, c.Adjustment)
	}
	if c.Reservation != nil {
		b = AppendReservation(b, c.Reservation)
	}
	if c.Order != nil {
		b = AppendOrder(b, c.Order)
	}
	if c.Webhook != nil {
		b = appendWebhook(b, c.Webhook.public())
	}
	if c.Delivery != nil {
		b = appendDelivery(append(b, byte(c.Delivery.Status)), c.Delivery)
	}
	return b
}

func (r *reader) flags() uint16 {
	flags := uint16(r.byte())
	if flags&hasMore == 0 {
		return flags
	}
	more := uint16(r.byte())
	if more == 0 {
		r.fail()
	}
	return flags&^hasMore | more<<8
}

func (r *reader) resources() (flags uint16, c resources) {
	flags = r.flags()
	if flags&hasProduct != 0 {
		c.Product = r.stockedProduct()
	}
	if flags&hasAdjustment != 0 {
		c.Adjustment = r.adjustment()
	}
	if flags&hasReservation != 0 {
		c.Reservation = r.reservation()
	}
	if flags&hasOrder != 0 {
		c.Order = r.order()
	}
	if flags&hasWebhook != 0 {
		c.Webhook = r.webhook()
	}
	if flags&hasDelivery != 0 {
		status := DeliveryStatus(r.byte())
		c.Delivery = r.delivery()
		c.Delivery.Status = status
	}
	return flags, c
}

// AppendOutcome appends the outcome of a command that was not refused, for its receipt.
func AppendOutcome(b []byte, o *Outcome) []byte {
	flags := uint16(0)
	if o.Created {
		flags |= isCreated
	}
	if o.Results != nil {
		flags |= hasResults
	}
	b = appendResources(b, flags, &resources{o.Product, o.Adjustment, o.Reservation, o.Order, o.Webhook, o.Delivery})
	if o.Results != nil {
		b = appendResults(b, o.Results)
	}
	return appendUint(b, o.Seq)
}

// DecodeOutcome reads what [AppendOutcome] wrote.
func DecodeOutcome(data []byte) (Outcome, error) {
	r := reader{data: data}
	o := r.outcome(true)
	return o, r.done()
}

// outcome reads an outcome. Those of the operations of a group have no results of their own.
func (r *reader) outcome(groups bool) (o Outcome) {
	flags, c := r.resources()
	o.Product, o.Adjustment, o.Reservation, o.Order = c.Product, c.Adjustment, c.Reservation, c.Order
	o.Webhook, o.Delivery = c.Webhook, c.Delivery
	o.Created = flags&isCreated != 0
	if flags&hasResults != 0 {
		if !groups {
			r.fail()
			return o
		}
		o.Results = r.results()
	}
	o.Seq = r.uint()
	return o
}

// What an operation of a group came to.
const (
	operationDone byte = iota
	operationRefused
	operationBroken
)

func appendResults(b []byte, results *Results) []byte {
	b = appendString(b, results.RequestID)
	b = appendUint(b, int64(len(results.Outcomes)))
	for i := range results.Outcomes {
		switch o := &results.Outcomes[i]; {
		case o.Broken:
			b = append(b, operationBroken)
		case o.Refusal != nil:
			b = appendRefusal(append(b, operationRefused), o.Refusal)
		default:
			b = AppendOutcome(append(b, operationDone), o)
		}
	}
	return b
}

func (r *reader) results() *Results {
	results := &Results{RequestID: r.string()}
	results.Outcomes = make([]Outcome, r.count(1))
	for i := range results.Outcomes {
		switch o := &results.Outcomes[i]; r.byte() {
		case operationDone:
			*o = r.outcome(false)
		case operationRefused:
			o.Refusal = r.refusal()
		default:
			o.Broken = true
		}
	}
	return results
}

func appendRefusal(b []byte, v *Refusal) []byte {
	b = appendUint(appendString(b, string(v.Code)), int64(len(v.Shortages)))
	for i := range v.Shortages {
		s := &v.Shortages[i]
		b = appendLocation(appendString(b, s.ProductID), s.Location)
		b = appendUint(appendUint(appendUint(b, s.Requested), s.Available), s.Reserved)
	}
	b = appendUint(b, int64(len(v.Lines)))
	for _, line := range v.Lines {
		b = appendUint(b, int64(line))
	}
	c := v.Current
	if c == nil {
		return append(b, 0)
	}
	b = appendString(append(b, 1), c.Status)
	b = appendUint(appendUint(b, int64(c.ExpiresAt)), int64(c.EndedAt))
	return appendUint(append(b, c.OrderID[:]...), c.Version)
}

func (r *reader) refusal() *Refusal {
	v := &Refusal{Code: Code(r.string())}
	for range r.count(5) {
		v.Shortages = append(v.Shortages, Shortage{StockKey{r.string(), r.location()}, r.uint(), r.uint(), r.uint()})
	}
	for range r.count(1) {
		v.Lines = append(v.Lines, int(r.uint()))
	}
	if r.byte() == 1 {
		v.Current = &Current{
			Status: r.string(), ExpiresAt: Time(r.uint()), EndedAt: Time(r.uint()), OrderID: r.id(), Version: r.uint(),
		}
	}
	return v
}

// AppendEvent writes an event of a batch, without its sequence and its time: those [DecodeEvents] gets with the batch.
func AppendEvent(b []byte, e *Event) []byte {
	b = append(b, byte(e.Type))
	b = appendUint(b, int64(len(e.Movements)))
	for i := range e.Movements {
		m := &e.Movements[i]
		b = appendLocation(appendString(b, m.ProductID), m.Location)
		b = appendBuckets(appendBuckets(b, m.Delta), m.After)
	}
	carried := resources{e.Product, e.Adjustment, e.Reservation, e.Order, e.Webhook, nil}
	if e.Actor == nil {
		return appendResources(b, 0, &carried)
	}
	b = appendResources(b, hasActor, &carried)
	return appendString(appendString(append(b, byte(e.Actor.Type)), e.Actor.ID), e.Actor.Name)
}

func decodeEvent(r *reader, seq int64, at Time) Event {
	e := Event{Seq: seq, Time: at, Type: EventType(r.byte())}
	if n := r.count(8); n > 0 {
		e.Movements = make([]Movement, n)
	}
	for i := range e.Movements {
		e.Movements[i] = Movement{StockKey{r.string(), r.location()}, r.buckets(), r.buckets()}
	}
	flags, c := r.resources()
	e.Product, e.Adjustment, e.Reservation, e.Order, e.Webhook = c.Product, c.Adjustment, c.Reservation, c.Order, c.Webhook
	if flags&hasActor != 0 {
		e.Actor = &Actor{Type: ActorType(r.byte()), ID: r.string(), Name: r.string()}
	}
	if !e.Type.valid() || flags&^hasActor != eventKinds[e.Type].carries {
		r.fail()
	}
	return e
}
