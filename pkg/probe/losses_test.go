package probe

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// unstored returns the earliest first and last packet of a session that is not
// on the disk, 0 when there is none.
func unstored(t *table) (first, last uint64) {
	for slot := range uint32(len(t.slots)) {
		state := t.state(slot)
		if phase := state & phaseMask; phase != phaseLive && phase != phaseClosed || state&stateStored != 0 {
			continue
		}
		s := &t.slots[slot]
		if f := atomic.LoadUint64(&s.First); first == 0 || f < first {
			first = f
		}
		if l := atomic.LoadUint64(&s.Last); last == 0 || l < last {
			last = l
		}
	}
	return first, last
}

func TestWhatIsSaidToBeOnTheDiskIsThere(t *testing.T) {
	r := live(t, MinSlots)
	r.c.sweep = 2 * time.Second
	flags := []string{"S", "A", "FA", "R", "PA"}
	dice := rand.New(rand.NewPCG(1, 1))
	var known, moved uint64
	for at := time.Duration(0); at < 900*time.Second; at += time.Duration(dice.IntN(1500)) * time.Millisecond {
		var frame []byte
		switch dice.IntN(4) {
		case 0:
			frame = udpN(dice.Uint32N(40))
		case 1, 2: // one tuple, begun anew again and again
			frame = tcp4(dice.IntN(2) == 0, flags[dice.IntN(len(flags))])
		}
		if dice.IntN(8) == 0 { // the disk is full
			r.now = uint64(t0 + int64(at))
			r.c.collect(&r.batch, r.now, 1<<20)
			r.c.release(&r.batch)
			r.batch.Reset()
		} else {
			r.at(t, at, frame)
		}
		if through := r.holds(t); through > known {
			known = through
			moved++
		}
	}
	if late := time.Duration(r.now - known); moved < 100 || late > 70*time.Second {
		t.Errorf("the bound moved %d times and is %v late", moved, late)
	}
}

// holds fails unless the bounds are true, and returns the one of ends.
func (r *Replay) holds(t *testing.T) uint64 {
	t.Helper()
	through, open := r.c.reach.bounds()
	if first, last := unstored(r.t); last != 0 && through > last || first != 0 && open > first {
		t.Fatalf("a session that ended at %v is said to be stored through %v, or one that began at %v before %v", last, through, first, open)
	}
	return through
}

func TestASessionBehindTheWalkIsNotSaidToBeOnTheDisk(t *testing.T) {
	r := live(t, MinSlots)
	r.c.sweep = 2 * time.Second
	at := time.Duration(0)
	for i := range uint32(50) { // each finds an empty table, and another place in it
		r.at(t, at, udpN(i))
		for range 90 {
			at += 700 * time.Millisecond
			r.at(t, at, nil)
			r.holds(t)
		}
	}
}

func TestABoundIsNotKnownBeforeTwoWalks(t *testing.T) {
	r := live(t, MinSlots)
	r.c.sweep = 2 * time.Second
	for _, c := range []struct {
		at    time.Duration
		known bool
	}{{0, false}, {time.Second, false}, {2 * time.Second, true}} {
		r.at(t, c.at, nil)
		if through, _ := r.c.reach.bounds(); through > 0 != c.known {
			t.Errorf("after %v: %d", c.at, through)
		}
	}
}

func TestWhatWaitsInAnOlderTableIsNotSaidToBeOnTheDisk(t *testing.T) {
	o := gatewayOptions(t, bpffs(t))
	o.Slots, o.Timeouts.UDP = 4*MinSlots, time.Hour
	old := mustOpen(t, "", o)
	var packets []packet
	for i := range uint32(MinSlots * 3 / 2) {
		packets = append(packets, packet{0, udpN(i)})
	}
	from := programsNow() - uint64(5*second)
	passes(t, old, from, packets...)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	o.Slots = MinSlots
	p := mustOpen(t, "", o)
	p.c.sweep = 1 // each Collect is a whole walk
	began := p.clock.utc(from)
	walks := func() Losses {
		var b Batch
		for range 4 {
			for now := programsNow(); programsNow() == now; { // a walk a tick
				runtime.Gosched()
			}
			if err := p.Collect(&b, 1<<20); err != nil {
				t.Fatal(err)
			}
			p.Stored(&b)
		}
		l, err := p.Losses()
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for slot := range uint32(len(p.t.slots)) { // as if those that found room were on the disk
		if state := p.t.state(slot); state&phaseMask != phaseFree {
			p.t.free(slot, state)
		}
	}
	p.carriedAt = programsNow() + uint64(time.Hour) // not by itself
	if l := walks(); p.Status().Waiting == 0 || l.StoredThrough > began {
		t.Errorf("%d sessions wait since %d; all that ended before %d is said to be on the disk", p.Status().Waiting, began, l.StoredThrough)
	}
	if err := p.carryOver(); err != nil {
		t.Fatal(err)
	}
	if l := walks(); p.Status().Waiting != 0 || l.OldestOpen == 0 || l.OldestOpen > began || l.StoredThrough > began {
		t.Errorf("%d wait; the carried ones are open since %d; %d and %d are said", p.Status().Waiting, began, l.StoredThrough, l.OldestOpen)
	}
}
