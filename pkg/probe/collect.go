package probe

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// collector decides which slots are due to be recorded, and what becomes of
// them afterwards. It is driven by one goroutine with the programs' clock.
//
// A slot waits in at most one of its queues, and is marked "taken" from then
// until Stored or Release, so that no sweep takes it twice; a displaced one that
// was marked STORED, until its grace is over. In a rush only the
// sweep finds slots: see rush.
type collector struct {
	t         *table
	localOnly bool // profile "source": the far endpoint is not there
	timeouts  Timeouts
	window    time.Duration // fragments of one datagram
	sweep     time.Duration
	grace     time.Duration

	lingering queue[waiting] // LIVE, closed by FIN or RST: wait for stragglers
	closed    queue[waiting] // CLOSED: wait until no program can still write to them
	settled   queue[settled]
	rush      rush

	cursor    uint32 // where the sweep goes on
	sweptAt   uint64 // programs' clock of the last step
	reach     reach  // of what is on the disk
	lag       lag
	negatives bool   // forget all negative answers in the next walk
	forgetTo  uint32 // the walk ends here
}

func (c *collector) idle(p uint8) time.Duration {
	switch p {
	case session.TCP:
		return c.timeouts.TCP
	case session.UDP:
		return c.timeouts.UDP
	case session.ICMP, session.ICMPv6:
		return c.timeouts.ICMP
	}
	return c.timeouts.Other
}

// silence is how long nothing was heard; negative when time ran backwards.
func silence(now, last uint64) time.Duration { return time.Duration(int64(now - last)) }

func before(now uint64, d time.Duration) uint64 { return now - uint64(d) }

// news takes an event of the ring.
func (c *collector) news(e *kernelEvent) {
	if e.Slot >= uint32(len(c.t.slots)) {
		return
	}
	state := c.t.state(e.Slot)
	if uint16(state>>genShift) != e.Generation || c.t.isTaken(e.Slot) {
		return // old news
	}
	switch kernelEventKind(e.Kind) {
	case kernelEventKindEVENT_CLOSING:
		if state&phaseMask == phaseLive {
			c.t.take(e.Slot)
			c.lingering.push(waiting{e.Slot, state, e.Time})
		}
	case kernelEventKindEVENT_CLOSED:
		if state&phaseMask == phaseClosed {
			c.t.take(e.Slot)
			c.closed.push(waiting{e.Slot, state, e.Time})
		}
	}
}

// collect adds to b what is due, until it holds max sessions.
func (c *collector) collect(b *Batch, now uint64, max int) {
	c.recheck(now)
	c.takeClosed(b, now, max)
	c.takeLingering(b, now, max)
	if b.Len() < max {
		c.step(b, now, max)
	}
}

// take adds a slot to the batch. One that the kernel changed hands of while it
// was read is left alone, and false returned: what it held is in a grave.
func (c *collector) take(b *Batch, slot, state uint32) bool {
	n := len(b.Sessions)
	b.Sessions = slices.Grow(b.Sessions, 1)[:n+1]
	r := c.t.read(slot, state, c.localOnly, &b.Sessions[n])
	if now := c.t.state(slot); now>>genShift != state>>genShift || now&phaseMask != state&phaseMask {
		c.t.untake(slot)
		b.Sessions = b.Sessions[:n]
		return false
	}
	b.refs = append(b.refs, r)
	return true
}

func (c *collector) takeClosed(b *Batch, now uint64, max int) {
	for b.Len() < max {
		w, ok := due(&c.closed, before(now, c.grace))
		if !ok {
			return
		}
		// Nobody but the agent moves a CLOSED slot on.
		c.take(b, w.slot, c.t.state(w.slot))
	}
}

func (c *collector) takeLingering(b *Batch, now uint64, max int) {
	for b.Len() < max {
		w, ok := due(&c.lingering, before(now, c.timeouts.Linger))
		if !ok {
			return
		}
		state := c.t.state(w.slot)
		slot := &c.t.slots[w.slot]
		quiet := silence(now, atomic.LoadUint64(&slot.Last))
		switch {
		case state>>genShift != w.state>>genShift || state&phaseMask != phaseLive:
			c.t.untake(w.slot) // begun anew; its old content is in a grave
		case c.early(slot, quiet):
			c.take(b, w.slot, state)
		case closing(atomic.LoadUint32(&slot.Flags)):
			c.lingering.push(waiting{w.slot, state, now}) // a straggler came
		default:
			c.t.untake(w.slot) // it goes on: the sweep will find it
		}
	}
}

// early says whether a session may be recorded although its slot stays LIVE:
// closed and quiet, or half-open for long.
func (c *collector) early(s *kernelSlot, quiet time.Duration) bool {
	flags := atomic.LoadUint32(&s.Flags)
	return closing(flags) && quiet >= c.timeouts.Linger || halfOpen(flags) && quiet >= c.timeouts.HalfOpen
}

// recheck looks again at slots marked STORED a grace ago: one that changed
// after all is opened again, and so will be recorded again.
func (c *collector) recheck(now uint64) {
	list := c.settled.entries[c.settled.head:]
	n := 0
	for n < len(list) && int64(list[n].since-before(now, c.grace)) <= 0 {
		n++
	}
	for part := range slices.Chunk(list[:n], touched) {
		for i := range part {
			c.t.touch(part[i].slot)
		}
		for i := range part {
			c.settle(part[i].ref)
		}
	}
	c.settled.drop(n)
}

// settle ends the grace of a slot that was marked STORED.
func (c *collector) settle(r ref) {
	if r.state&stateDisplaced != 0 {
		c.t.untake(r.slot) // see markStored
	}
	c.reopenIfChanged(r)
}

func (c *collector) reopenIfChanged(r ref) {
	slot := &c.t.slots[r.slot]
	if atomic.LoadUint64(&slot.Last) == r.last && atomic.LoadUint32(&slot.Flags) == r.flags {
		return
	}
	if c.t.state(r.slot) != r.state {
		return
	}
	c.t.announce(r.slot, r.state)
	if c.t.counted(c.t.swap(r.slot, r.state, r.state&^stateStored), -1) {
		c.t.settleHalfOpen(r.slot)
		if !c.t.isTaken(r.slot) {
			c.t.take(r.slot)
			c.lingering.push(waiting{r.slot, r.state &^ stateStored, r.last})
		}
	}
}

// step walks on through the table: as far as the time since the last step
// asks for, so that one whole walk takes c.sweep, or as long as a rush allows.
func (c *collector) step(b *Batch, now uint64, max int) {
	total := uint64(len(c.t.slots))
	passed, whole := now-c.sweptAt, uint64(c.pace(now))
	if c.sweptAt == 0 || passed > whole {
		passed = whole
	}
	n := total * passed / whole
	if n == 0 {
		return // not yet a slot's worth
	}
	c.sweptAt = now
	if c.reach.began == 0 {
		c.reach.began = now
	}
	for range n {
		if b.Len() >= max || c.closed.len() >= maxClosed {
			return
		}
		c.look(b, c.cursor, now)
		c.cursor++
		if uint64(c.cursor) == total {
			c.cursor = 0
			c.reach.walked(now)
			c.lag.walked(now)
		}
		if c.negatives && c.cursor == c.forgetTo {
			c.negatives = false
		}
	}
}

// look decides about one slot.
func (c *collector) look(b *Batch, slot uint32, now uint64) {
	state := c.t.state(slot)
	switch state & phaseMask {
	case phaseFree, phaseBusy:
		return
	case phaseNegative:
		s := &c.t.slots[slot]
		if c.negatives || silence(now, atomic.LoadUint64(&s.Last)) > c.timeouts.UDP {
			c.t.free(slot, state)
		}
		return
	}
	if state&stateStored == 0 {
		c.reach.meet(&c.t.slots[slot])
	}
	if c.t.isTaken(slot) {
		return
	}
	if isWiped(state) {
		c.t.free(slot, state)
		return
	}
	if state&phaseMask == phaseClosed { // its event was lost, or it is from before a restart
		c.t.take(slot)
		c.closed.push(waiting{slot, state, now})
		return
	}
	c.lookLive(b, slot, state, now)
}

func (c *collector) lookLive(b *Batch, slot, state uint32, now uint64) {
	s := &c.t.slots[slot]
	quiet := silence(now, atomic.LoadUint64(&s.Last))
	limit := c.idle(proto(&s.Key))
	if state&stateOrphan != 0 {
		limit += 2 * c.window // its fragments are recorded when they have waited in vain
	}
	switch {
	case state&stateStored != 0:
		if quiet > limit || state&stateDisplaced != 0 && c.t.isCrowded(slot/slotsPerBucket) {
			c.t.free(slot, state)
		}
	case quiet > limit:
		if closed, ok := c.t.closeSlot(slot, state, stateSplit); ok {
			c.t.take(slot)
			c.closed.push(waiting{slot, closed, now})
		}
	case c.early(s, quiet):
		c.t.take(slot)
		c.take(b, slot, state)
	}
}

// takeOpen adds sessions that are still going on, with the given reason, and
// makes them CLOSED. No program may run any more.
func (c *collector) takeOpen(b *Batch, max int, reason session.EndReason) (more bool) {
	for slot := range uint32(len(c.t.slots)) {
		state := c.t.state(slot)
		if state&phaseMask != phaseLive && state&phaseMask != phaseClosed || c.t.isTaken(slot) {
			continue
		}
		if state&stateStored != 0 {
			c.t.free(slot, state)
			continue
		}
		if b.Len() >= max {
			return true
		}
		wasOpen := state&phaseMask == phaseLive
		if wasOpen {
			closed, ok := c.t.closeSlot(slot, state, 0)
			if !ok {
				continue
			}
			state = closed
		}
		c.t.take(slot)
		if !c.take(b, slot, state) {
			continue
		}
		s := &b.Sessions[b.Len()-1]
		if wasOpen && s.EndReason != session.EndFIN && s.EndReason != session.EndRST {
			s.EndReason = reason
		}
	}
	return false
}

// flushQueues gives back all that waits, for takeOpen to find, and looks a
// last time at what was marked STORED.
func (c *collector) flushQueues() {
	for c.settled.len() > 0 {
		r := c.settled.entries[c.settled.head].ref
		c.settled.drop(1)
		c.settle(r)
	}
	for _, q := range []*queue[waiting]{&c.lingering, &c.closed} {
		for _, w := range q.entries[q.head:] {
			c.t.untake(w.slot)
		}
		q.drop(q.len())
	}
}

// stored frees or marks the slots of a batch that is durable.
func (c *collector) stored(b *Batch, now uint64) {
	for part := range slices.Chunk(b.refs, touched) {
		for i := range part {
			c.t.touch(part[i].slot)
		}
		for i := range part {
			r := &part[i]
			c.t.untake(r.slot)
			if r.state&phaseMask != phaseClosed {
				c.markStored(*r, now)
				continue
			}
			c.t.announce(r.slot, r.state)
			c.t.counted(c.t.free(r.slot, r.state), 1)
		}
	}
}

// markStored marks a LIVE slot as on disk, unless it has begun anew meanwhile:
// then what was written is written again from its grave. One that a straggler
// has changed since it was read waits, and is written again.
func (c *collector) markStored(r ref, now uint64) {
	slot := &c.t.slots[r.slot]
	if last := atomic.LoadUint64(&slot.Last); last != r.last || atomic.LoadUint32(&slot.Flags) != r.flags {
		if state := c.t.state(r.slot); state>>genShift == r.state>>genShift {
			c.t.take(r.slot)
			c.lingering.push(waiting{r.slot, state, now})
		}
		return
	}
	for {
		state := c.t.state(r.slot)
		if state>>genShift != r.state>>genShift || state&phaseMask != phaseLive || state&stateStored != 0 {
			return
		}
		half := isHalfOpen(state, r.flags)
		if half { // before a program may take the slot over, and mark it for its next session
			atomic.AndUint64(&c.t.words[r.slot/slotsPerBucket], ^bit(r.slot, wordHalfOpen))
		}
		c.t.announce(r.slot, state)
		if c.t.counted(c.t.swap(r.slot, state, state|stateStored), 1) {
			r.state = state | stateStored
			c.settled.push(settled{r, now})
			if state&stateDisplaced != 0 { // not to be freed within the grace
				c.t.take(r.slot)
			}
			return
		}
		if half {
			c.t.settleHalfOpen(r.slot)
		}
	}
}

// release gives the slots of a batch back: they will be collected again.
func (c *collector) release(b *Batch) {
	for _, r := range b.refs {
		q := &c.lingering
		if r.state&phaseMask == phaseClosed {
			q = &c.closed
		}
		q.push(waiting{r.slot, r.state, 0}) // due at once
	}
}
