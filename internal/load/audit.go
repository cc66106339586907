package load

import (
	"context"
	"fmt"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// Audit is what was found after the runs.
type Audit struct {
	Acknowledged int64    `json:"acknowledged"` // reservations
	Lost         int64    `json:"lost"`         // of them, not stored as they were acknowledged
	Oversold     int64    `json:"oversold"`     // units beyond what was for sale
	Verified     bool     `json:"verified"`     // holdfast verify could read the store
	Events       int64    `json:"events"`
	Breaches     []string `json:"breaches"`
}

// Clean reports whether nothing was found.
func (a *Audit) Clean() bool { return a.Lost == 0 && a.Oversold == 0 && len(a.Breaches) == 0 }

func (a *Audit) breach(format string, args ...any) {
	if len(a.Breaches) < 20 {
		a.Breaches = append(a.Breaches, fmt.Sprintf(format, args...))
	}
}

const rowsPerView = 500

// Check holds what was acknowledged against the store, and verifies it whole.
func (a *Audit) Check(ctx context.Context, s store.Store, results []*Result) error {
	a.Verified = true
	for _, r := range results {
		a.Acknowledged += int64(len(r.acknowledged))
		for list := r.acknowledged; len(list) > 0; {
			n := min(len(list), rowsPerView)
			if err := a.checkPage(ctx, s, list[:n]); err != nil {
				return err
			}
			list = list[n:]
		}
	}
	report, err := audit.Run(ctx, s, audit.Options{})
	if err != nil {
		return err
	}
	a.Events = report.Events
	for _, b := range report.Breaches {
		a.breach("%v", b)
	}
	return nil
}

func (a *Audit) checkPage(ctx context.Context, s store.Store, list []acknowledgment) error {
	ids := make([]inventory.ID, len(list))
	for i := range list {
		ids[i] = list[i].id
	}
	return s.View(ctx, func(v store.View) error {
		page, _, err := v.Reservations(ctx, store.ReservationQuery{IDs: ids})
		stored := make(map[inventory.ID]inventory.ReservationStatus, len(page))
		for _, r := range page {
			stored[r.ID] = r.Status
		}
		for _, told := range list {
			a.compare(told, stored[told.id])
		}
		return err
	})
}

// compare allows that a hold which was acknowledged has lapsed since.
func (a *Audit) compare(told acknowledgment, stored inventory.ReservationStatus) {
	if stored == told.status || (told.status == inventory.ReservationActive && stored == inventory.ReservationExpired) {
		return
	}
	a.Lost++
	a.breach("I5: %s was acknowledged %v and is stored as %v",
		told.id.Text(inventory.ReservationPrefix), told.status, stored)
}

// CheckFeed does what can be done without the store: it follows the event feed from a place on.
func (a *Audit) CheckFeed(ctx context.Context, url, after string, results []*Result) error {
	stored := map[inventory.ID]inventory.ReservationStatus{}
	sequence := int64(0)
	c := client.New(url)
	for {
		page, err := c.EventPage(ctx, after, 1000, 0)
		if err != nil {
			return err
		}
		if len(page.Data) == 0 {
			break
		}
		after = page.NextAfter
		for i := range page.Data {
			a.event(&page.Data[i], &sequence, stored)
		}
	}
	for _, r := range results {
		a.Acknowledged += int64(len(r.acknowledged))
		for _, told := range r.acknowledged {
			a.compare(told, stored[told.id])
		}
	}
	return nil
}

// event enters one event of the feed.
func (a *Audit) event(event *client.Event, sequence *int64, stored map[inventory.ID]inventory.ReservationStatus) {
	if *sequence != 0 && event.Sequence != *sequence+1 {
		a.breach("I9: event %d follows event %d", event.Sequence, *sequence)
	}
	*sequence = event.Sequence
	a.Events++
	for _, m := range event.Data.Movements {
		if m.After.Available < 0 || m.After.Reserved < 0 || m.After.Committed < 0 {
			a.Oversold++
			a.breach("I1: event %d leaves %s with a negative bucket", event.Sequence, m.ProductID)
		}
	}
	if r := event.Data.Reservation; r != nil {
		id, _ := inventory.ParseID(inventory.ReservationPrefix, r.ID)
		stored[id], _ = inventory.ParseReservationStatus(string(r.Status))
	}
}
