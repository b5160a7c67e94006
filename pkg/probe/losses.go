package probe

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// Losses says what was not recorded, and how far what was recorded has come.
// All times are UTC, ns since 1970, by the history of the clock; counts go on
// from the day that the table was made.
type Losses struct {
	At      int64  // when the counters were read
	Ticks   uint64 // the same by the programs' clock, ns; it is never set
	Looked  uint64 // what Looked was last told, by this agent or an earlier one
	Adopted bool   // the table of an earlier agent was taken over

	// Every session that ended before StoredThrough, and every one that began
	// before OldestOpen, is on the disk. 0 until the table was walked through, and
	// as long as an older one is not empty.
	StoredThrough, OldestOpen int64

	Sampled     uint64 // refused packets that were due as samples, of all uplinks
	SamplesLost uint64 // of them, those that left no record

	Uplinks []Loss
}

// Loss is what was not recorded of one uplink.
type Loss struct {
	Uplink  string
	Present bool // the link exists
	// In and Out: a program looks at what comes in, and goes out, as the kernel
	// has just said. An attachment that is gone does not come back by itself:
	// one that is there at two times was there in between, unless Breaks counted.
	In, Out bool
	Breaks  uint64
	// Kept: what an earlier agent had attached in both directions was still
	// attached when this one took it over.
	Kept  bool
	Error string // why it is not watched, or its counters could not be read

	Refused Refusals
	// First and last refusal since the time that Looked was told; 0: none.
	FirstRefused, LastRefused int64
}

// Refusals counts the packets that should have been recorded and were not.
type Refusals struct {
	TableFull     uint64 // a new session found no slot
	HalfOpen      uint64 // half-open sessions had their share of the table
	Contended     uint64 // a new session did not get a lock
	FragmentsLost uint64 // a later fragment found no place to wait
}

// Total is the sum of them.
func (r Refusals) Total() uint64 { return r.TableFull + r.HalfOpen + r.Contended + r.FragmentsLost }

// Losses reads what was not recorded. It asks the kernel about each attachment
// and reads a few counters; it does not walk through the table.
func (p *Probe) Losses() (Losses, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Losses{}, errors.New("read losses: the probe is closed")
	}
	out := Losses{Ticks: programsNow(), Adopted: p.adopted}
	out.At = p.clock.utc(out.Ticks)
	for _, u := range p.uplinks {
		out.Uplinks = append(out.Uplinks, p.loss(u))
	}
	p.cmu.Lock()
	defer p.cmu.Unlock()
	counters, err := tableCounters(p.maps["table_counts"])
	if err != nil {
		return out, err
	}
	out.Sampled, out.SamplesLost = counters.Sampled, counters.SamplesLost
	out.Looked = atomic.LoadUint64(&p.t.meta.LookedAt)
	through, open := p.c.reach.bounds()
	if slices.ContainsFunc(p.older, func(o *older) bool { return o.t != nil }) {
		through, open = 0, 0 // the walk does not go through what waits there
	}
	if p.fragsHeld > 0 && through > 0 { // they may yet begin a session that long ago
		through, open = min(through, before(out.Ticks, fragmentWindow)), min(open, before(out.Ticks, fragmentWindow))
	}
	if through > 0 {
		out.StoredThrough, out.OldestOpen = p.clock.utc(through), p.clock.utc(open)
	}
	return out, nil
}

func (p *Probe) loss(u *uplink) Loss {
	l := Loss{
		Uplink: u.cfg.Name, Present: u.ifindex != 0, Breaks: u.breaks, Kept: u.kept, Error: u.problem,
		In: u.ifindex != 0 && p.watches(u, hookIngress, &u.ingress), Out: u.ifindex != 0 && p.watches(u, hookEgress, &u.egress),
	}
	var first, last uint64
	for egress := range uint32(2) {
		var perCPU []kernelPacketCounters
		if err := p.maps["packet_counts"].Lookup(u.id*2+egress, &perCPU); err != nil {
			l.Error, l.In, l.Out = fmt.Sprintf("read the packet counters: %v", err), false, false
			return l
		}
		for i := range perCPU {
			c := &perCPU[i]
			l.Refused.TableFull += c.Outcome[kernelOutcomeOUTCOME_TABLE_FULL]
			l.Refused.HalfOpen += c.Outcome[kernelOutcomeOUTCOME_HALF_OPEN]
			l.Refused.Contended += c.Outcome[kernelOutcomeOUTCOME_CONTENDED]
			l.Refused.FragmentsLost += c.Outcome[kernelOutcomeOUTCOME_FRAGMENT_LOST]
			if c.RefusedLast <= atomic.LoadUint64(&p.t.meta.LookedAt) {
				continue // all before
			}
			if first == 0 || c.RefusedFirst < first {
				first = c.RefusedFirst
			}
			last = max(last, c.RefusedLast)
		}
	}
	if last > 0 {
		l.FirstRefused, l.LastRefused = p.clock.utc(first), p.clock.utc(last)
	}
	return l
}

// Looked says that what was refused up to ticks, by the programs' clock, is
// kept on the disk: the programs note the first refusal after it.
func (p *Probe) Looked(ticks uint64) {
	p.cmu.Lock()
	defer p.cmu.Unlock()
	if !p.freed {
		atomic.StoreUint64(&p.t.meta.LookedAt, ticks)
	}
}

// watches asks the kernel whether one direction is as we left it.
func (p *Probe) watches(u *uplink, hook string, a *attachment) bool {
	switch {
	case a.link != nil:
		return linkIfindex(a.link) == u.ifindex
	case a.filter != nil:
		return len(p.pins.ourFilters(u.ifindex, hook)) > 0
	}
	return false
}

// watchedBefore reports whether an earlier agent left both directions of a link
// watched.
func (p *Probe) watchedBefore(ifindex int) bool {
	by := func(hooks ...string) bool {
		for _, hook := range hooks {
			if l := p.pins.pinnedLink(hook, ifindex); l != nil {
				_ = l.Close() // pinned: stays
				return true
			}
		}
		return len(p.pins.ourFilters(ifindex, hooks[len(hooks)-1])) > 0
	}
	return by(hookXDP, hookIngress) && by(hookEgress)
}

// reach bounds what is not on the disk yet by what walks through the table meet:
// the earliest first and last packet of a session that is not stored.
//
// A session that is not stored at the end of a walk was met by it, or by the
// walk before (when it was moved to another slot in between), or came, or came
// back, after the walk before began.
type reach struct {
	first, last uint64 // of the walk that is going on; 0: nothing met
	began       uint64
	past        walk // the walk before it
	through     uint64
	open        uint64
}

type walk struct{ first, last, began uint64 }

// meet takes a slot that holds a session which is not stored.
func (r *reach) meet(s *kernelSlot) {
	if first := atomic.LoadUint64(&s.First); r.first == 0 || first < r.first {
		r.first = first
	}
	if last := atomic.LoadUint64(&s.Last); r.last == 0 || last < r.last {
		r.last = last
	}
}

// walked ends a walk; the next one begins.
func (r *reach) walked(now uint64) {
	this := walk{r.first, r.last, r.began}
	if this.first == 0 {
		this.first, this.last = now, now
	}
	if r.past.began > 0 {
		r.through = min(this.last, r.past.last, r.past.began)
		r.open = min(this.first, r.past.first, r.past.began)
	}
	if this.began > 0 {
		r.past = this
	}
	*r = reach{began: now, past: r.past, through: r.through, open: r.open}
}

// bounds returns them; 0 while two walks have not been made.
func (r *reach) bounds() (through, open uint64) { return r.through, r.open }
