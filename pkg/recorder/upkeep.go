package recorder

import (
	"fmt"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

// lookEvery is how often upkeep looks at the disk and the keys.
const lookEvery = 5 * time.Second

// upkeep is what must be done now and then although nothing is stored. The
// goroutine that stores does it.
type upkeep struct {
	next  time.Duration // of the time that passed, whatever the clock is set to
	state store.State   // of the disk when it was looked at last; "" before that
	since time.Time     // when it was first seen in that state
	pace  pace
	heap  heap
	apart time.Time // what the clock showed when no time had passed yet; zero: it was not looked at
}

// lookAtClock notes that the clock was set, where there is no probe that does: times
// in the ledger that go back are explained by it.
func (r *Recorder) lookAtClock(at time.Duration, now time.Time) {
	if _, none := r.src.(noSource); !none {
		return
	}
	was := r.upkeep.apart
	r.upkeep.apart = now.Add(-at)
	if step := r.upkeep.apart.Sub(was); !was.IsZero() && step.Abs() > ledger.Tolerance {
		r.evidence.note(ledger.ClockStep, map[string]string{"cause": "clock-step", "text": fmt.Sprintf("the clock was set by %.3f s", step.Seconds())})
	}
}

// look gives up the data keys of days that are over, and reports a change of
// the free space, which lets the store take its ballast again when there is room.
func (r *Recorder) look() {
	at, now := r.o.Elapsed(), r.o.Now()
	if at < r.upkeep.next {
		return
	}
	r.upkeep.next = at + lookEvery
	r.upkeep.pace.look(r.src, now)
	r.lookAtClock(at, now)
	r.keepMark()
	r.upkeep.heap.keep()
	r.volume.look()
	// Sessions of yesterday may still come; what is later still gets a key of
	// its own (filer.add).
	yesterday := session.DayOf(now.UnixNano()) - 1
	for _, day := range r.vault.Days() {
		if session.Day(day) < yesterday {
			r.vault.Forget(day)
		}
	}
	r.expiry.tick()
	h := r.store.Tend()
	r.merger.low = h.State != store.StateOK
	if h.State == r.upkeep.state {
		return
	}
	was := r.upkeep.state
	r.upkeep.state, r.upkeep.since = h.State, now
	switch {
	case h.State == store.StateOK && was != "":
		r.log.Info("the disk is well again", "free_bytes", h.Free)
	case h.State == store.StateLow:
		r.log.Warn("the disk is filling up; make room", "free_bytes", h.Free)
	case h.State == store.StateStopped:
		r.log.Error("the disk is too full to store anything; capture goes on in the table", "free_bytes", h.Free)
		r.note(fmt.Errorf("store: %w: %d MiB free", store.ErrNoSpace, h.Free>>20))
	case h.State == store.StateFailed:
		r.log.Error("the store takes nothing; capture goes on in the table", "error", h.Err)
		r.note(fmt.Errorf("store: %w", h.Err))
	}
}
