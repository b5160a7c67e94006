package probe

import "sync/atomic"

// How many sessions are on disk is counted by the agent, in two steps: first a
// slot changes, then the count. So that one that is killed in between leaves no
// count that is wrong for ever, it says before, in table_meta.changing, which
// slot it is about to change; the next agent finds out whether it did.
//
//	bits 63-35  slot + 1; 0: none
//	bits 34-32  the lowest bits of the count: while it has them, it does not have the change
//	bits 31-0   the state of the slot before
//
// What remains: that a program changes that very slot between the kill and the
// next start, in the case of a LIVE one. Then the count may be off by one.
const (
	changingSlot  = 35
	changingCount = 32
	changingMask  = 7 // of the count
)

// announce says that slot, whose state is was, is about to change the count.
// Only the goroutine that collects counts.
func (t *table) announce(slot, was uint32) {
	n := atomic.LoadUint64(&t.meta.Stored)
	atomic.StoreUint64(&t.meta.Changing, uint64(slot+1)<<changingSlot|n&changingMask<<changingCount|uint64(was))
}

// counted ends what announce began: when it was done, by counting it.
func (t *table) counted(done bool, change int64) bool {
	if done {
		atomic.AddUint64(&t.meta.Stored, uint64(change))
	} else {
		atomic.StoreUint64(&t.meta.Changing, 0)
	}
	return done
}

// settleCount counts what an agent that was killed did and had no time to
// count.
func (t *table) settleCount() {
	c := atomic.LoadUint64(&t.meta.Changing)
	slot, was := c>>changingSlot, uint32(c)
	if slot == 0 || slot > uint64(len(t.slots)) || (atomic.LoadUint64(&t.meta.Stored)^c>>changingCount)&changingMask != 0 {
		return
	}
	is := t.state(uint32(slot - 1))
	same := is>>genShift == was>>genShift
	switch {
	case was&phaseMask == phaseClosed: // it was freed; see free
		t.counted(!same || is&phaseMask != phaseClosed || isWiped(is), 1)
	case was&stateStored == 0:
		t.counted(same && is&phaseMask == phaseLive && is&stateStored != 0, 1)
	default:
		t.counted(same && is&phaseMask == phaseLive && is&stateStored == 0, -1)
	}
}
