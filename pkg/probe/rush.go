package probe

import (
	"sync/atomic"
	"time"
)

// A rush is a time in which so much happens that to go after each event costs
// more than to look at every slot: a slot that an event names is somewhere in
// memory, and is fetched from there once when the event comes, once when its
// time has come and once when it is stored; a walk meets slots in the order in
// which they lie, and leaves them in that order to whoever stores them. So in a
// rush the events are only counted, and the walks come closer to each other.
type rush struct {
	every time.Duration // one walk takes so long in a rush; 0: there is none
	last  uint64        // programs' clock of the last sign of one; 0: none yet
}

const (
	calm      = 1 << 11                // events in one reading that are gone after one by one
	maxClosed = 1 << 18                // slots that wait for their grace
	touched   = 64                     // slots fetched from memory before they are worked on
	idleParts = 400                    // of a processor's time: a walk costs a quarter of a percent
	rushParts = 20                     // in a rush five
	perSlot   = 4 * time.Nanosecond    // of a walk
	shortest  = 100 * time.Millisecond // walk in a rush
)

// walkEvery is how long a walk takes that may cost so many parts of a
// processor's time.
func walkEvery(slots, parts int) time.Duration {
	return time.Duration(slots) * perSlot * time.Duration(parts)
}

// sign notes that there was more news than can be gone after.
func (c *collector) sign(now uint64) { c.rush.last = now }

// pace is how long a whole walk takes now. After a rush what closed at its end
// must still be found, when it has lingered, by a walk of its own.
func (c *collector) pace(now uint64) time.Duration {
	r := &c.rush
	if r.every == 0 || r.last == 0 || silence(now, r.last) > c.timeouts.Linger+2*r.every {
		return c.sweep
	}
	return min(r.every, c.sweep)
}

// touch has a slot fetched from memory; several at once take hardly longer than
// one, as long as nothing in between has to be done in order.
func (t *table) touch(slot uint32) {
	atomic.LoadUint32(&t.slots[slot].State)
}
