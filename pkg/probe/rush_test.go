package probe

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// resets runs RST segments of n new sessions through the program, from the
// given number on.
func resets(t testing.TB, r *Replay, from, n int) {
	t.Helper()
	f := tcp4(false, "R")
	for i := from; i < from+n; i++ {
		binary.BigEndian.PutUint32(f[26:], 20<<24|uint32(i))
		if _, err := r.coll.Programs["edgelog_xdp"].Run(&ebpf.RunOptions{Data: f, Repeat: 1}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheRingIsReadAsTheKernelWroteIt(t *testing.T) {
	r, err := openReplay(ReplayOptions{Slots: 1 << 14}, 4096, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ring, err := openRing[kernelEvent](r.maps["events"])
	if err != nil {
		t.Fatal(err)
	}
	defer ring.close()
	read := func(most int) (slots map[uint32]int, full bool) {
		slots = map[uint32]int{}
		full = ring.take(most, func(e *kernelEvent) {
			s := &r.t.slots[e.Slot]
			if uint16(s.State>>genShift) != e.Generation || e.Time != s.Last {
				t.Fatalf("event %+v of slot %+v", *e, *s)
			}
			slots[e.Slot]++
		})
		return slots, full
	}
	const round = 120 // sessions with an event of 24 bytes: it goes around in one and a half
	for i := range 10 {
		resets(t, r, i*round, round)
		some, full := read(31)
		rest, fullToo := read(1000)
		n := 0
		for _, slots := range []map[uint32]int{some, rest} {
			for _, events := range slots {
				n += events
			}
		}
		if n != round || full || fullToo || ring.waiting() != 0 {
			t.Fatalf("round %d: %d events of %d, full %v, %d bytes left", i, n, round, full || fullToo, ring.waiting())
		}
	}
	resets(t, r, 10*round, 400)
	if slots, full := read(1000); !full || len(slots) == 0 || ring.waiting() != 0 {
		t.Errorf("the ring did not hold 400 events, and gave %d sessions, full %v", len(slots), full)
	}
	resets(t, r, 10*round+400, 1)
	if _, full := read(1000); full {
		t.Error("the ring is said to be full after it was read")
	}
	if st, err := r.Status(); err != nil || st.Table.RingFull == 0 {
		t.Errorf("%d events did not fit, %v", st.Table.RingFull, err)
	}
}

func TestInARushTheWalkFindsWhatNoEventNames(t *testing.T) {
	r := live(t, 1<<14)
	r.c.sweep, r.c.rush.every = time.Hour, time.Second
	r.at(t, 0, nil) // the first walk is a whole one
	resets(t, r, 0, 500)
	found := func(from, to time.Duration) (n int) {
		for at := from; at <= to; at += 50 * time.Millisecond {
			n += len(r.at(t, at, nil))
		}
		return n
	}
	if n := found(50*time.Millisecond, 10*time.Second); n > 10 {
		t.Fatalf("%d of 500 found by a walk of an hour in ten seconds", n)
	}
	r.c.sign(r.now)
	if n := found(10*time.Second, 12*time.Second); n < 490 {
		t.Errorf("%d of 500 found by walks of a second", n)
	}
	resets(t, r, 500, 500) // at its end: it lasts until these have lingered and been found
	r.c.sign(r.now)
	if n := found(12*time.Second, 17*time.Second); n != 500 {
		t.Errorf("%d of 500 found that closed when the rush was over", n)
	}
	if got := r.c.pace(r.now); got != time.Hour {
		t.Errorf("it still walks in %v", got)
	}
}
