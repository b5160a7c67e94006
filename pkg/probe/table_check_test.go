package probe

import "testing"

// checkTable verifies what must hold of a table at rest: no slot is BUSY, each
// session that packets look for lies on its chain, and the words of the buckets
// say exactly what is in the slots: the tag of each that is found and of no
// other, a half-open bit for each that is half-open and not on disk, the number
// of sessions that were placed beyond, and no lock.
func checkTable(t testing.TB, tb *table) {
	t.Helper()
	want := make([]uint64, tb.mask+1)
	for slot := range uint32(len(tb.slots)) {
		state, s := tb.state(slot), &tb.slots[slot]
		switch state & phaseMask {
		case phaseFree:
			clean := kernelSlot{State: state}
			if *s != clean {
				t.Fatalf("slot %d is free and not wiped: flags %#x", slot, s.Flags)
			}
			continue
		case phaseBusy:
			t.Fatalf("slot %d is busy", slot)
		}
		hash := tb.hashKey(&s.Key)
		if state&phaseMask != phaseClosed {
			want[slot/slotsPerBucket] |= bit(slot, hashTag(hash))
			if isHalfOpen(state, s.Flags) {
				want[slot/slotsPerBucket] |= bit(slot, wordHalfOpen)
			}
		}
		if state&stateBuried == 0 {
			passed, found := tb.passed(slot, hash)
			if !found {
				t.Fatalf("slot %d is not on the chain of its key", slot)
			}
			for _, b := range passed {
				want[b] += wordOverflows
			}
			if (len(passed) > 0) != (state&stateDisplaced != 0) {
				t.Fatalf("slot %d lies %d buckets from home, state %#x", slot, len(passed), state)
			}
		}
	}
	for b := range want {
		if tb.words[b] != want[b] {
			t.Fatalf("bucket %d: word %#x, not %#x", b, tb.words[b], want[b])
		}
	}
}

// passed lists the buckets of a chain before the slot's own.
func (t *table) passed(slot uint32, hash uint64) (before []uint32, found bool) {
	for i := range maxChain {
		b := t.chainBucket(hash, i)
		if b == slot/slotsPerBucket {
			return before, true
		}
		before = append(before, b)
	}
	return nil, false
}
