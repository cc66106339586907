package inventory

// Reserve holds the units of every line for a limited time, or of none.
type Reserve struct {
	Lines      []ReserveLine // 1 to MaxLines
	TTL        int64         // milliseconds, at least 1,000
	CustomerID string
	Metadata   Metadata
}

// ReserveLine is one line of [Reserve]. Without a UnitPrice the catalogue's price is charged.
type ReserveLine struct {
	ProductID string
	Location  string
	Quantity  int64 // 1 to MaxQuantity, also after adding up lines of one product and location
	UnitPrice *Money
}

func (c *Reserve) addKeys(k *Keys) {
	for i := range c.Lines {
		k.demand(StockKey{c.Lines[i].ProductID, c.Lines[i].Location}, c.Lines[i].Quantity)
	}
}

func (c *Reserve) size() int {
	n := len(c.CustomerID) + c.Metadata.Size()
	for i := range c.Lines {
		n += 2*len(c.Lines[i].ProductID) + 2*len(c.Lines[i].Location) + 64 // the line and its movement
	}
	return n
}

func (c *Reserve) decide(b *batch, request *Request) Outcome {
	lines, refusal := c.priced(b)
	if refusal != nil {
		return Outcome{Refusal: refusal}
	}
	total, ok := Total(lines)
	if !ok {
		return refuse(RefusedTotalTooLarge)
	}
	var shortages []Shortage
	sums := needs(lines)
	for _, n := range sums {
		switch b.makeRoom(n.StockKey, n.Quantity) {
		case unknown:
			return Outcome{Deferred: true}
		case short:
			shortages = append(shortages, b.shortage(n.StockKey, n.Quantity))
		}
	}
	if shortages != nil {
		return Outcome{Refusal: &Refusal{Code: RefusedInsufficientStock, Shortages: shortages}}
	}
	seq := b.next()
	r := &Reservation{
		ID: NewID(b.Now, seq, request.Salt), Status: ReservationActive, Lines: lines, Total: total,
		CustomerID: c.CustomerID, Metadata: c.Metadata,
		CreatedAt: b.Now, UpdatedAt: b.Now, ExpiresAt: b.Now + Time(c.TTL), Version: 1, Seq: seq,
	}
	movements := b.moveAll(sums, perReserve)
	b.putReservation(nil, r)
	b.emit(&Event{Type: EventReservationCreated, Reservation: r, Movements: movements})
	return Outcome{Created: true, Reservation: r, Seq: seq}
}

// priced gives every line its price, in one currency.
func (c *Reserve) priced(b *batch) ([]Line, *Refusal) {
	lines := make([]Line, len(c.Lines))
	var missing, mixed []int
	for i := range c.Lines {
		l := &c.Lines[i]
		p := b.Products[l.ProductID]
		if p == nil {
			missing = append(missing, i)
			continue
		}
		lines[i] = Line{p.ID, l.Location, l.Quantity, p.Price}
		if l.UnitPrice != nil {
			lines[i].UnitPrice = *l.UnitPrice
		}
		if lines[i].UnitPrice.Currency != lines[0].UnitPrice.Currency {
			mixed = append(mixed, i)
		}
	}
	if missing != nil {
		return nil, &Refusal{Code: RefusedProductNotFound, Lines: missing}
	}
	if mixed != nil {
		return nil, &Refusal{Code: RefusedMixedCurrencies, Lines: mixed}
	}
	return lines, nil
}

// Cancel gives the units of an ACTIVE reservation back.
type Cancel struct {
	ID     ID
	Reason string
}

func (c *Cancel) addKeys(k *Keys) { k.reservation(c.ID) }

func (c *Cancel) about(o *Outcome) referring { return &Cancel{ID: o.reservationID(), Reason: c.Reason} }

func (c *Cancel) size() int { return len(c.Reason) }

func (c *Cancel) decide(b *batch, _ *Request) Outcome {
	r, refusal := b.active(c.ID)
	if refusal != nil {
		if refusal.Code == RefusedReservationCancelled {
			return Outcome{Reservation: r, Seq: r.Seq}
		}
		return Outcome{Refusal: refusal}
	}
	r = b.end(r, ReservationCancelled, b.Now, EventReservationCancelled, perRelease,
		func(r *Reservation) { r.CancelReason = c.Reason })
	return Outcome{Reservation: r, Seq: r.Seq}
}

// Extend moves the deadline of an ACTIVE reservation to TTL from now. It never moves back, and never past MaxHold after
// the reservation was made.
type Extend struct {
	ID      ID
	TTL     int64 // milliseconds
	MaxHold int64 // milliseconds
}

func (c *Extend) addKeys(k *Keys) { k.reservation(c.ID) }

func (c *Extend) about(o *Outcome) referring {
	return &Extend{ID: o.reservationID(), TTL: c.TTL, MaxHold: c.MaxHold}
}

func (c *Extend) size() int { return 0 }

func (c *Extend) decide(b *batch, _ *Request) Outcome {
	r, refusal := b.active(c.ID)
	if refusal != nil {
		return Outcome{Refusal: refusal}
	}
	deadline := b.Now + Time(c.TTL)
	if deadline <= r.ExpiresAt {
		return Outcome{Reservation: r, Seq: r.Seq}
	}
	if deadline > r.CreatedAt+Time(c.MaxHold) {
		return Outcome{Refusal: refuseReservation(RefusedHoldLimitReached, r)}
	}
	extended := *r
	extended.ExpiresAt = deadline
	extended.UpdatedAt = b.Now
	extended.Version++
	extended.Seq = b.next()
	b.putReservation(r, &extended)
	b.emit(&Event{Type: EventReservationExtended, Reservation: &extended})
	return Outcome{Reservation: &extended, Seq: extended.Seq}
}

// Expire ends those of the named reservations whose deadline has come, and leaves the others as they are. It is never
// refused. Where they are more than a batch may write, the next one goes on with the rest.
type Expire struct {
	IDs []ID

	expired int // by batches before
}

func (c *Expire) addKeys(k *Keys) {
	for _, id := range c.IDs {
		k.reservation(id)
	}
}

func (c *Expire) size() int { return 256 * len(c.IDs) }

func (c *Expire) decide(b *batch, _ *Request) Outcome {
	expired := c.expired
	for i, id := range c.IDs {
		if i > 0 && b.bytes() >= MaxBatchBytes {
			return Outcome{Deferred: true, Again: &Expire{c.IDs[i:], expired}}
		}
		if r := b.Reservations[id]; r != nil && r.Due(b.Now) {
			b.expire(r)
			expired++
		}
	}
	return Outcome{Expired: expired, Seq: b.seq}
}

// expire ends a reservation whose deadline has come. That is time's effect, whoever's command brings it about: if that
// command has an actor, the event of the expiry has the system's instead.
func (b *batch) expire(r *Reservation) *Reservation {
	if sender := b.actor; sender != nil {
		b.actor = systemActor
		defer func() { b.actor = sender }()
	}
	before := len(b.events)
	ended := b.end(r, ReservationExpired, r.ExpiresAt, EventReservationExpired, perRelease, nil)
	if b.saved {
		b.lapsed = append(b.lapsed, r.ID)
		b.lapsedBytes += len(b.events) - before
	}
	return ended
}

// end turns an ACTIVE reservation into one with another status, which ended at a time. Each unit of it moves as per
// says.
func (b *batch) end(
	r *Reservation, status ReservationStatus, at Time, eventType EventType, per Buckets, more func(*Reservation),
) *Reservation {
	seq := b.next()
	ended := *r
	ended.Status = status
	ended.EndedAt = at
	ended.UpdatedAt = at
	ended.Version++
	ended.Seq = seq
	if more != nil {
		more(&ended)
	}
	movements := b.moveLines(r.Lines, per)
	b.putReservation(r, &ended)
	b.emit(&Event{Type: eventType, Reservation: &ended, Movements: movements})
	return &ended
}

// active finds a reservation that may still be changed. One whose deadline has come is expired first, so that nobody is
// ever told that it might still be confirmed (I3, I7). The refusal says why it may not be changed.
func (b *batch) active(id ID) (*Reservation, *Refusal) {
	r := b.Reservations[id]
	if r == nil {
		return nil, &Refusal{Code: RefusedReservationNotFound}
	}
	if r.Due(b.Now) {
		r = b.expire(r)
	}
	switch r.Status {
	case ReservationExpired:
		return r, refuseReservation(RefusedReservationExpired, r)
	case ReservationCancelled:
		return r, refuseReservation(RefusedReservationCancelled, r)
	case ReservationConfirmed:
		return r, refuseReservation(RefusedReservationConfirmed, r)
	}
	return r, nil
}

func refuseReservation(code Code, r *Reservation) *Refusal {
	return &Refusal{Code: code, Current: &Current{
		Status: r.Status.String(), ExpiresAt: r.ExpiresAt, EndedAt: r.EndedAt, OrderID: r.OrderID,
	}}
}
