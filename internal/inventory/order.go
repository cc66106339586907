package inventory

// Confirm turns an ACTIVE reservation into an order, once.
type Confirm struct {
	ReservationID ID
	Reference     string
	Metadata      Metadata
}

func (c *Confirm) addKeys(k *Keys) { k.reservation(c.ReservationID) }

func (c *Confirm) about(o *Outcome) referring {
	named := *c
	named.ReservationID = o.reservationID()
	return &named
}

func (c *Confirm) size() int { return len(c.Reference) + c.Metadata.Size() }

func (c *Confirm) decide(b *batch, request *Request) Outcome {
	r, refusal := b.active(c.ReservationID)
	if refusal != nil {
		if refusal.Code == RefusedReservationConfirmed {
			return c.repeat(b, r, refusal)
		}
		return Outcome{Refusal: refusal}
	}
	orderID := NewID(b.Now, b.seq+2, request.Salt) // reservation.confirmed comes right before its order.created
	r = b.end(r, ReservationConfirmed, b.Now, EventReservationConfirmed, perConfirm,
		func(r *Reservation) { r.OrderID = orderID })
	o := &Order{
		ID: orderID, ReservationID: r.ID, Reference: c.Reference, Status: OrderConfirmed,
		Lines: r.Lines, Total: r.Total, CustomerID: r.CustomerID, Metadata: c.Metadata,
		CreatedAt: b.Now, UpdatedAt: b.Now, Version: 1, Seq: b.next(),
	}
	b.putOrder(nil, o)
	b.emit(&Event{Type: EventOrderCreated, Order: o})
	return Outcome{Created: true, Order: o, Seq: o.Seq}
}

// repeat answers the confirm of a reservation that has become an order before with that order (I4).
func (c *Confirm) repeat(b *batch, r *Reservation, refusal *Refusal) Outcome {
	o := b.Orders[r.OrderID]
	switch {
	case o.Status == OrderCancelled:
		refusal.Code = RefusedOrderCancelled
		return Outcome{Refusal: refusal}
	case c.Reference != "" && o.Reference != "" && c.Reference != o.Reference: // somebody paid twice
		return Outcome{Refusal: refusal}
	}
	return Outcome{Order: o, Seq: o.Seq}
}

// Fulfill ships an order: its units leave the stock.
type Fulfill struct{ ID ID }

func (c *Fulfill) addKeys(k *Keys) { k.order(c.ID) }

func (c *Fulfill) about(o *Outcome) referring { return &Fulfill{ID: o.orderID()} }

func (c *Fulfill) size() int { return 0 }

func (c *Fulfill) decide(b *batch, _ *Request) Outcome {
	return b.endOrder(c.ID, OrderFulfilled, EventOrderFulfilled, perFulfill, func(o *Order) { o.FulfilledAt = b.Now })
}

// CancelOrder cancels an order that was not shipped, and gives its units back.
type CancelOrder struct {
	ID     ID
	Reason string
}

func (c *CancelOrder) addKeys(k *Keys) { k.order(c.ID) }

func (c *CancelOrder) about(o *Outcome) referring {
	return &CancelOrder{ID: o.orderID(), Reason: c.Reason}
}

func (c *CancelOrder) size() int { return len(c.Reason) }

func (c *CancelOrder) decide(b *batch, _ *Request) Outcome {
	return b.endOrder(c.ID, OrderCancelled, EventOrderCancelled, perCancelOrder, func(o *Order) {
		o.CancelledAt = b.Now
		o.CancelReason = c.Reason
	})
}

func (b *batch) endOrder(id ID, status OrderStatus, eventType EventType, per Buckets, more func(*Order)) Outcome {
	o := b.Orders[id]
	switch {
	case o == nil:
		return refuse(RefusedOrderNotFound)
	case o.Status == status:
		return Outcome{Order: o, Seq: o.Seq}
	case o.Status != OrderConfirmed:
		code := RefusedOrderFulfilled
		if o.Status == OrderCancelled {
			code = RefusedOrderCancelled
		}
		return Outcome{Refusal: &Refusal{Code: code, Current: &Current{
			Status: o.Status.String(), EndedAt: max(o.FulfilledAt, o.CancelledAt), OrderID: o.ID,
		}}}
	}
	ended := *o
	ended.Status = status
	ended.UpdatedAt = b.Now
	ended.Version++
	ended.Seq = b.next()
	more(&ended)
	movements := b.moveLines(o.Lines, per)
	b.putOrder(o, &ended)
	b.emit(&Event{Type: eventType, Order: &ended, Movements: movements})
	return Outcome{Order: &ended, Seq: ended.Seq}
}
