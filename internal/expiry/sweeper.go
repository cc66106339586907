// Package expiry ends holds whose deadline has come, by sending Expire commands through the door.
//
// It is a convenience, not a guarantee: a hold stops counting at its deadline whether or not anybody sweeps. The
// sweeper keeps the shown stock fresh and spares buyers the work.
package expiry

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
)

const (
	// One command ends between shortestPass and longestPass holds: as many as take about lonelyTime if nobody else is
	// served meanwhile, and about busyTime if somebody is. Shown stock may be late, buyers must not be.
	shortestPass, firstPass, longestPass = 32, 256, 2048
	busyTime, lonelyTime                 = 1250 * time.Microsecond, 50 * time.Millisecond
	// longestSleep is how late the sweeper may be for a hold that was made while it slept.
	longestSleep = time.Second
	// A hold that cannot be ended is tried again after a delay that doubles.
	firstDelay, longestDelay = time.Second, 5 * time.Minute
	// asideLimit is how many holds that cannot be ended are remembered at the most. Any others are tried in every pass.
	asideLimit = 4096
)

// Options are what a sweeper needs. Engine must be given.
type Options struct {
	Engine  Engine
	Now     func() time.Time // for durations; default: time.Now
	Log     *slog.Logger     // default: nothing is logged
	Observe func(Report)     // called after every pass that could look; default: nobody is told
}

// Engine is as much of an [engine.Engine] as a sweeper uses.
type Engine interface {
	Do(context.Context, *inventory.Request) (inventory.Outcome, error)
	// Due returns reservations that are due or fall due within a time, earliest first, up to limit, and the time by the
	// clock that decides.
	Due(ctx context.Context, within time.Duration, limit int) ([]engine.Deadline, inventory.Time, error)
	// Commands is how many commands were committed, the sweeper's own included.
	Commands() int64
}

// Report says how a pass went.
type Report struct {
	Expired int
	Lag     time.Duration // how long ago the oldest deadline was that was found due; 0: none was
	Aside   int           // holds that could not be ended and wait for another try
}

// Sweeper ends due holds.
type Sweeper struct {
	o     Options
	pass  int // holds that one command ends
	aside map[inventory.ID]retry
	away  bool // the last pass failed
}

type retry struct {
	at    time.Time
	delay time.Duration
}

// New makes a sweeper. [Sweeper.Run] runs it.
func New(o Options) *Sweeper {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(Report) {}
	}
	return &Sweeper{o: o, pass: firstPass, aside: map[inventory.ID]retry{}}
}

// Run sweeps until ctx ends: as soon as the next deadline comes, and at least once a second.
func (s *Sweeper) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(s.Pass(ctx))
	}
}

// Pass ends due holds, as many as one command takes, and returns how long to sleep before the next pass: 0 to a second.
func (s *Sweeper) Pass(ctx context.Context) time.Duration {
	list, clock, err := s.o.Engine.Due(ctx, longestSleep, s.pass+len(s.aside))
	if err != nil {
		s.failed(ctx, "looking for due holds failed", err)
		return longestSleep
	}
	now := s.o.Now()
	due, report, sleep := s.sort(list, clock, now)
	if len(due) > 0 {
		before := s.o.Engine.Commands()
		if report.Expired, err = s.expire(ctx, due, now); err != nil {
			s.failed(ctx, "ending due holds failed", err)
			sleep = longestSleep
		} else if len(due) == s.pass {
			s.pace(s.o.Now().Sub(now), s.o.Engine.Commands()-before > 1)
		}
	}
	if err == nil && s.away {
		s.away = false
		s.o.Log.Info("due holds are ended again")
	}
	report.Aside = len(s.aside)
	s.o.Observe(report)
	return sleep
}

// pace chooses the size of the next pass: by how long this one took, which was full, and by whether others were served
// meanwhile.
func (s *Sweeper) pace(took time.Duration, busy bool) {
	enough := lonelyTime
	if busy {
		enough = busyTime
	}
	switch {
	case took > 2*enough:
		s.pass = max(s.pass/2, shortestPass)
	case took < enough:
		s.pass = min(s.pass*2, longestPass)
	}
}

// sort picks the holds to end now, and says how long to sleep until the next one falls due.
func (s *Sweeper) sort(
	list []engine.Deadline, clock inventory.Time, now time.Time,
) (due []inventory.ID, report Report, sleep time.Duration) {
	for _, d := range list {
		left := time.Duration(d.At-clock) * time.Millisecond
		if left > 0 {
			return due, report, min(left, longestSleep)
		}
		if r, waits := s.aside[d.ID]; waits && now.Before(r.at) {
			continue
		}
		report.Lag = max(report.Lag, -left)
		if due = append(due, d.ID); len(due) == s.pass {
			return due, report, 0 // more may be due
		}
	}
	return due, report, longestSleep
}

func (s *Sweeper) expire(ctx context.Context, due []inventory.ID, now time.Time) (int, error) {
	outcome, err := s.o.Engine.Do(ctx, &inventory.Request{Command: &inventory.Expire{IDs: due}})
	if err == nil {
		for _, id := range due {
			delete(s.aside, id)
		}
		return outcome.Expired, nil
	}
	if !errors.Is(err, engine.ErrInternal) {
		return 0, err
	}
	if len(due) == 1 {
		s.setAside(due[0], now)
		return 0, nil
	}
	half := len(due) / 2 // one of them is bad, and must not keep the others from ending
	first, err := s.expire(ctx, due[:half], now)
	if err != nil {
		return first, err
	}
	second, err := s.expire(ctx, due[half:], now)
	return first + second, err
}

func (s *Sweeper) setAside(id inventory.ID, now time.Time) {
	delay := firstDelay
	if r, again := s.aside[id]; again {
		delay = min(2*r.delay, longestDelay)
	} else if len(s.aside) >= asideLimit {
		return
	}
	s.aside[id] = retry{now.Add(delay), delay}
	s.o.Log.Error("a due hold cannot be ended and was set aside: run holdfast verify",
		"reservation", id.Text(inventory.ReservationPrefix), "retryIn", delay)
}

// failed logs that a pass failed: once, not every second while the store is away.
func (s *Sweeper) failed(ctx context.Context, message string, err error) {
	if ctx.Err() == nil && !s.away {
		s.away = true
		s.o.Log.Warn(message, "error", err)
	}
}
