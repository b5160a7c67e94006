package probe

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/edgelog/edgelog/pkg/session"
)

// hostile is live with a share for half-open sessions.
func hostile(t testing.TB, slots uint32, share float64) *Replay {
	t.Helper()
	r, err := openReplay(ReplayOptions{Slots: slots, HalfOpenShare: share}, 1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	r.c.timeouts.Linger, r.c.timeouts.HalfOpen = 2*time.Second, 30*time.Second
	return r
}

// run sends a frame at the time that the clock stands at.
func (r *Replay) run(t testing.TB, f []byte) {
	t.Helper()
	if _, err := r.coll.Programs["edgelog_xdp"].Run(&ebpf.RunOptions{Data: f, Repeat: 1}); err != nil {
		t.Fatal(err)
	}
}

// tick sets the clock and stores what is due then.
func (r *Replay) tick(t testing.TB, after time.Duration) {
	t.Helper()
	r.now = uint64(t0 + int64(after))
	if err := r.clock.Set(r.now); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.c.collect(&r.batch, r.now, 1<<30)
		r.emit()
	}
}

func TestALongSYNFloodLeavesRoomForOthers(t *testing.T) {
	r := hostile(t, MinSlots, 0.5)
	f := tcp4(false, "S")
	const seconds = 240
	n := 0
	for s := range seconds {
		r.tick(t, time.Duration(s)*time.Second)
		for range MinSlots / 4 {
			n++
			binary.BigEndian.PutUint32(f[26:], 20<<24|uint32(n))
			r.run(t, f)
		}
	}
	for i := range uint32(MinSlots / 4) {
		r.run(t, udpN(i))
		n++
	}
	st, err := r.Status()
	if err != nil {
		t.Fatal(err)
	}
	if full := st.In.Outcomes["table_full"]; full != 0 {
		t.Errorf("%d sessions found no room beside half-open ones: %+v, %s", full, st.Table, st.In.Sum())
	}
	checkTable(t, r.t)
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	balanced(t, r, n)
}

func TestATupleThatBeginsAnewManyTimesInOneTickFillsNoBuckets(t *testing.T) {
	r := hostile(t, MinSlots, 0.5)
	r.opt.Emit = func([]session.Session) {}
	f := tcp4(false, "SF")
	const n = MinSlots / 2
	r.tick(t, 0)
	for range n {
		r.run(t, f)
	}
	st, err := r.Status()
	if err != nil {
		t.Fatal(err)
	}
	if full := st.In.Outcomes["table_full"]; full != 0 {
		t.Errorf("%d of %d found no room in a table of %d slots", full, n, MinSlots)
	}
	checkTable(t, r.t)
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	balanced(t, r, n)
}
