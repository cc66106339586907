package audit

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// receiptsPerPage is larger than [rowsPerPage], because receipts are small.
const receiptsPerPage = 2000

// receipts is the pass over the receipts (I6): a receipt must be able to give its answer again, and the answer must be
// about something that there is.
func (a *auditor) receipts(ctx context.Context) error {
	for after, more := (store.ReceiptCursor{}), true; more; more = after != (store.ReceiptCursor{}) {
		err := a.store.View(ctx, func(v store.View) error {
			lister, can := v.(store.Lister)
			if !can {
				after = store.ReceiptCursor{}
				return nil
			}
			page, next, err := lister.Receipts(ctx, after, receiptsPerPage)
			if err != nil {
				return err
			}
			after = next
			return a.answers(ctx, v, page)
		})
		if err != nil {
			return err
		}
		a.options.Progress(fmt.Sprintf("receipts: %d", a.report.Receipts))
	}
	return nil
}

// answers are those of a page of receipts, with the rows that they are about.
type answers struct {
	lookup
	head store.Head
	list []answer

	products     map[string]*inventory.Product
	reservations map[inventory.ID]*inventory.Reservation
	orders       map[inventory.ID]*inventory.Order
	bad          map[inventory.ID]bool // rows that cannot be used; the row pass names them
	badProducts  map[string]bool
}

// answer is an outcome that one receipt has: its own, or that of an operation of its group.
type answer struct {
	receipt string
	*inventory.Outcome
}

func (a *auditor) answers(ctx context.Context, v store.View, page []*inventory.Receipt) error {
	head, err := v.Head(ctx)
	if err != nil {
		return err
	}
	all := answers{lookup: lookup{auditor: a}, head: head}
	for _, r := range page {
		all.add(r)
	}
	if err := all.load(ctx, v); err != nil {
		return err
	}
	for i := range all.list {
		all.check(&all.list[i])
	}
	return all.answer(ctx, v)
}

func (a *answers) add(r *inventory.Receipt) {
	a.report.Receipts++
	name := fmt.Sprintf("receipt %x", r.Key)
	outcome, err := inventory.DecodeOutcome(r.Answer)
	if err != nil {
		a.breach("I6", name, "its answer cannot be read: %v", err)
		return
	}
	if outcome.Seq > a.head.Seq {
		a.breach("I6", name, "its answer is of event %d, but the last one is %d", outcome.Seq, a.head.Seq)
	}
	if outcome.Results == nil {
		a.list = append(a.list, answer{name, &outcome})
		return
	}
	for i := range outcome.Results.Outcomes {
		if o := &outcome.Results.Outcomes[i]; o.Refusal == nil && !o.Broken {
			a.list = append(a.list, answer{fmt.Sprintf("%s operation %d", name, i), o})
		}
	}
}

// load looks the rows of all answers up together.
func (a *answers) load(ctx context.Context, v store.View) error {
	var reservationIDs, orderIDs []inventory.ID
	products := map[string]bool{}
	for _, of := range a.list {
		switch {
		case of.Reservation != nil:
			reservationIDs = append(reservationIDs, of.Reservation.ID)
		case of.Order != nil:
			orderIDs = append(orderIDs, of.Order.ID)
		case of.Product != nil:
			products[of.Product.ID] = true
		}
	}
	var badOrders map[inventory.ID]bool
	var err error
	if a.reservations, a.bad, err = reservationsByID(ctx, v, unique(reservationIDs)); err != nil {
		return err
	}
	if a.orders, badOrders, err = ordersByID(ctx, v, unique(orderIDs)); err != nil {
		return err
	}
	for id := range badOrders {
		a.bad[id] = true
	}
	a.products, a.badProducts, err = productsByID(ctx, v, products)
	return err
}

func unique(ids []inventory.ID) []inventory.ID {
	slices.SortFunc(ids, func(a, b inventory.ID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

func (a *answers) check(of *answer) {
	kinds := 0
	for _, has := range []bool{of.Product != nil, of.Reservation != nil, of.Order != nil} {
		if has {
			kinds++
		}
	}
	switch {
	case kinds == 0 && (of.Webhook != nil || of.Delivery != nil):
		// Records may be deleted, and nothing of them is in the journal.
	case kinds != 1 || (of.Adjustment != nil && of.Product == nil):
		a.breach("I6", of.receipt, "its answer is not about one resource, but %d", kinds)
	case of.Reservation != nil:
		a.checkReservation(of.receipt, of.Reservation)
	case of.Order != nil:
		a.checkOrder(of.receipt, of.Order)
	default:
		a.checkProduct(of.receipt, of.Product)
		a.checkAdjustment(of.receipt, of.Adjustment)
	}
}

// checkReservation compares the reservation that an answer shows with its row, which is as old or newer.
func (a *answers) checkReservation(receipt string, shown *inventory.Reservation) {
	row := a.reservations[shown.ID]
	if a.bad[shown.ID] {
		return
	}
	name := shown.ID.Text(inventory.ReservationPrefix)
	switch {
	case row == nil || row.Seq < shown.Seq:
		a.breach("I6", receipt, "there is no reservation %s as of event %d", name, shown.Seq)
	case !slices.Equal(row.Lines, shown.Lines) || row.CustomerID != shown.CustomerID,
		row.Seq == shown.Seq && !bytes.Equal(inventory.AppendReservation(nil, row), inventory.AppendReservation(nil, shown)):
		a.breach("I6", receipt, "it shows reservation %s otherwise than it was", name)
	}
}

func (a *answers) checkOrder(receipt string, shown *inventory.Order) {
	row := a.orders[shown.ID]
	if a.bad[shown.ID] {
		return
	}
	name := shown.ID.Text(inventory.OrderPrefix)
	switch {
	case row == nil || row.Seq < shown.Seq:
		a.breach("I6", receipt, "there is no order %s as of event %d", name, shown.Seq)
	case !slices.Equal(row.Lines, shown.Lines) || row.ReservationID != shown.ReservationID,
		row.Seq == shown.Seq && !bytes.Equal(inventory.AppendOrder(nil, row), inventory.AppendOrder(nil, shown)):
		a.breach("I6", receipt, "it shows order %s otherwise than it was", name)
	}
}

func (a *answers) checkProduct(receipt string, shown *inventory.Product) {
	row := a.products[shown.ID]
	if a.badProducts[shown.ID] {
		return
	}
	switch {
	case row == nil || row.Seq < shown.Seq:
		a.breach("I6", receipt, "there is no product %s as of event %d", shown.ID, shown.Seq)
	case row.Seq == shown.Seq && !bytes.Equal(inventory.AppendProduct(nil, row), inventory.AppendProduct(nil, shown)):
		a.breach("I6", receipt, "it shows product %s otherwise than it was", shown.ID)
	}
}

// checkAdjustment wants the event that made an adjustment, because an adjustment has no row.
func (a *answers) checkAdjustment(receipt string, shown *inventory.Adjustment) {
	if shown == nil {
		return
	}
	a.want(shown.ID.Sequence(), func(e *inventory.Event) {
		if e == nil || e.Adjustment == nil || *e.Adjustment != *shown {
			a.breach("I6", receipt, "no event made adjustment %s", shown.ID.Text(inventory.AdjustmentPrefix))
		}
	})
}
