package probe

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/edgelog/edgelog/pkg/session"
)

// TestGoSeesTheKernelsStructures compares size and each field's offset of the
// generated types with the types in the object.
func TestGoSeesTheKernelsStructures(t *testing.T) {
	spec, err := loadSpec()
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{
		"slot": kernelSlot{}, "key": kernelKey{}, "bucket": kernelBucket{}, "bucket_line": kernelBucketLine{}, "event": kernelEvent{},
		"fragment": kernelFragment{}, "fragment_key": kernelFragmentKey{}, "orphan": kernelOrphan{}, "prefix": kernelPrefix{},
		"packet_counters": kernelPacketCounters{}, "table_counters": kernelTableCounters{}, "table_meta": kernelTableMeta{},
		"clock_reading": kernelClockReading{}, "sample": kernelSample{}, "end_user": kernelEndUser{}, "carried_counts": kernelCarriedCounts{},
	} {
		var s *btf.Struct
		if err := spec.Types.TypeByName(name, &s); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		g := reflect.TypeOf(v)
		if uintptr(s.Size) != g.Size() {
			t.Errorf("%s: %d bytes in the kernel, %d here", name, s.Size, g.Size())
		}
		for i, m := range s.Members {
			f := g.Field(i + 1) // the first is the layout marker
			if uintptr(m.Offset.Bytes()) != f.Offset || !strings.EqualFold(strings.ReplaceAll(m.Name, "_", ""), f.Name) {
				t.Errorf("%s.%s at %d in the kernel, %s at %d here", name, m.Name, m.Offset.Bytes(), f.Name, f.Offset)
			}
		}
	}
	if n := len(outcomeNames); n != int(kernelOutcomeOUTCOMES) {
		t.Errorf("%d outcomes have a name, %d exist", n, kernelOutcomeOUTCOMES)
	}
}

func udpN(i uint32) []byte {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 0x0a000000|i)
	return udp4(netip.AddrFrom4(a), b4, 5000, 53)
}

func TestATableTakesSessionsUntilItIsFullAndGivesEverySlotBack(t *testing.T) {
	r, err := openReplay(ReplayOptions{Slots: MinSlots, Emit: func([]session.Session) {}}, 4096, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range uint32(MinSlots * 3 / 4) {
		if err := r.Packet(udpN(i), t0); err != nil {
			t.Fatal(err)
		}
	}
	st, err := r.Status()
	if err != nil {
		t.Fatal(err)
	}
	if st.Table.Open != MinSlots*3/4 {
		t.Errorf("at three quarters %d of %d found room", st.Table.Open, MinSlots*3/4)
	}
	checkTable(t, r.t)
	for i := range uint32(MinSlots * 2) {
		if err := r.Packet(udpN(i), t0+1); err != nil {
			t.Fatal(err)
		}
	}
	if st, err = r.Status(); err != nil {
		t.Fatal(err)
	}
	if st.In.Outcomes["table_full"] == 0 || st.Table.Open+st.In.Outcomes["table_full"] < MinSlots*2 {
		t.Errorf("open %d, refused %d", st.Table.Open, st.In.Outcomes["table_full"])
	}
	checkTable(t, r.t)
	// A minute later all are idle: everything ends, and every slot is free again.
	r.now += uint64(2 * time.Minute)
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	st = balanced(t, r, MinSlots*3/4+MinSlots*2)
	checkTable(t, r.t)
	for b, w := range r.t.words {
		if w != 0 {
			t.Fatalf("bucket %d still has word %#x", b, w)
		}
	}
	if st.Table.Lingers+st.Table.Negative != 0 {
		t.Errorf("%+v", st.Table)
	}
}

func TestStoredAndNegativeSlotsGiveWayToNewSessions(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	r, err := openReplay(ReplayOptions{Slots: MinSlots, Local: local}, 4096, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stranger := netip.MustParseAddr("198.51.100.1")
	for i := range uint32(MinSlots * 4) {
		if err := r.Packet(udp4(netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}), stranger, 1, 2), t0); err != nil {
			t.Fatal(err)
		}
	}
	before, err := r.Status()
	if err != nil {
		t.Fatal(err)
	}
	if before.Table.Negative < MinSlots*9/10 {
		t.Fatalf("only %d negative answers are remembered", before.Table.Negative)
	}
	for i := range uint32(MinSlots / 2) {
		if err := r.Packet(udpN(i), t0+1); err != nil {
			t.Fatal(err)
		}
	}
	st, err := r.Status()
	if err != nil {
		t.Fatal(err)
	}
	if st.Table.Open != MinSlots/2 {
		t.Errorf("%d of %d new sessions found room beside negative answers: in%s, out%s", st.Table.Open, MinSlots/2, st.In.Sum(), st.Out.Sum())
	}
	checkTable(t, r.t)
}

// live is a Replay whose collector works as the agent's does: with lingering,
// on the programs' own clock.
func live(t testing.TB, slots uint32) *Replay {
	t.Helper()
	r, err := openReplay(ReplayOptions{Slots: slots}, 1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	r.c.timeouts.Linger, r.c.timeouts.HalfOpen = 2*time.Second, 30*time.Second
	return r
}

// at runs a frame and returns what is due then.
func (r *Replay) at(t testing.TB, after time.Duration, f []byte) []string {
	t.Helper()
	r.now = uint64(t0 + int64(after))
	if f != nil {
		if err := r.clock.Set(r.now); err != nil {
			t.Fatal(err)
		}
		if _, err := r.coll.Programs["edgelog_xdp"].Run(&ebpf.RunOptions{Data: f, Repeat: 1}); err != nil {
			t.Fatal(err)
		}
	}
	var out []string
	for range 2 {
		r.c.collect(&r.batch, r.now, 1<<20)
	}
	for i := range r.batch.Sessions {
		out = append(out, short(&r.batch.Sessions[i]))
	}
	r.c.stored(&r.batch, r.now)
	r.batch.Reset()
	return sorted(out)
}

func TestAClosedSessionIsStoredSoonAndAgainAfterAStraggler(t *testing.T) {
	r := live(t, MinSlots)
	r.at(t, 0, tcp4(false, "S"))
	expect(t, r.at(t, time.Second, tcp4(true, "RA")))
	expect(t, r.at(t, 2*time.Second, nil))
	expect(t, r.at(t, 3*time.Second, nil), tcpAB+"0s-1s rst")
	expect(t, r.at(t, 4*time.Second, nil)) // once is enough
	expect(t, r.at(t, 100*time.Second, tcp4(true, "RA")))
	expect(t, r.at(t, 102*time.Second, nil), tcpAB+"0s-1m40s rst") // the same ID: it holds instead of the first
	st, err := r.Status()
	if err != nil {
		t.Fatal(err)
	}
	if st.Table.Started != 1 || st.Table.Reopened != 1 || st.Table.Stored != 2 || !st.Table.Balanced {
		t.Errorf("%+v", st.Table)
	}
	r.at(t, 103*time.Second, tcp4(false, "S")) // the tuple anew: nothing of the old one has to move
	expect(t, r.at(t, 104*time.Second, nil))
	expect(t, r.at(t, 403*time.Second, nil), tcpAB+"1m43s-1m43s half-open")
}

func TestASessionThatGoesOnIsNotRecordedEarlyBecauseItWasQueued(t *testing.T) {
	r := live(t, MinSlots)
	r.at(t, 0, tcp4(false, "S"))
	r.now += uint64(31 * second)
	r.c.collect(&r.batch, r.now, 1<<20)
	if r.batch.Len() != 1 {
		t.Fatalf("%d collected", r.batch.Len())
	}
	r.c.release(&r.batch) // the disk was full
	r.batch.Reset()
	expect(t, r.at(t, 32*time.Second, tcp4(true, "SA")))
	expect(t, r.at(t, 36*time.Second, nil))
	expect(t, r.at(t, 40*time.Second, nil))
}

func TestAFreedSlotIsWiped(t *testing.T) {
	r := live(t, MinSlots)
	r.at(t, 0, udpN(1))
	r.at(t, 0, tcp4(false, "R"))
	r.at(t, 3*time.Second, nil)
	r.at(t, 400*time.Second, nil)
	r.at(t, 800*time.Second, nil)
	for i := range r.t.slots {
		s := r.t.slots[i]
		s.State = 0
		if s != (kernelSlot{}) {
			t.Errorf("slot %d still holds %+v", i, s)
		}
	}
}

func TestASlotThatAnAgentDiedFreeingIsFreedByTheNext(t *testing.T) {
	r := live(t, MinSlots)
	r.at(t, 0, udpN(1))
	for slot := range uint32(len(r.t.slots)) {
		if state := r.t.state(slot); state&phaseMask == phaseLive {
			r.t.swap(slot, state, state&^phaseMask|phaseClosed|stateStored) // as free does first
		}
	}
	expect(t, r.at(t, time.Second, nil)) // nothing is recorded
	for slot := range uint32(len(r.t.slots)) {
		if state := r.t.state(slot); state&phaseMask != phaseFree {
			t.Errorf("slot %d is in phase %d", slot, state&phaseMask)
		}
	}
}

func TestAnUnansweredSYNIsStoredEarlyAndCorrectedWhenItIsAnswered(t *testing.T) {
	r := live(t, MinSlots)
	r.at(t, 0, tcp4(false, "S"))
	expect(t, r.at(t, 31*time.Second, nil), tcpAB+"0s-0s half-open")
	r.at(t, 60*time.Second, tcp4(true, "SA"))
	r.at(t, 61*time.Second, tcp4(true, "FA"))
	r.at(t, 62*time.Second, tcp4(false, "FA"))
	expect(t, r.at(t, 64*time.Second, nil), tcpAB+"0s-1m2s fin")
}

func TestABatchThatCouldNotBeStoredIsCollectedAgain(t *testing.T) {
	r := live(t, MinSlots)
	r.at(t, 0, tcp4(false, "R"))
	if err := r.Packet(udpN(1), t0); err != nil {
		t.Fatal(err)
	}
	for try := range 3 {
		now := uint64(t0 + int64(200*time.Second) + int64(try)*second)
		for range 2 {
			r.c.collect(&r.batch, now, 1<<20)
		}
		if r.batch.Len() != 2 {
			t.Fatalf("try %d: %d sessions", try, r.batch.Len())
		}
		r.c.release(&r.batch)
		r.batch.Reset()
	}
	if got := r.at(t, 210*time.Second, nil); len(got) != 2 {
		t.Errorf("%v", got)
	}
	checkTable(t, r.t)
}

// hammer runs frames on one CPU until stop.
func hammer(t *testing.T, p *ebpf.Program, frames [][]byte, sent *atomic.Uint64, stop *atomic.Bool) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	rng := rand.New(rand.NewPCG(1, 2))
	for !stop.Load() {
		// Once: to run XDP again and again the kernel patches its own code first, and waits.
		if _, err := p.Run(&ebpf.RunOptions{Data: frames[rng.IntN(len(frames))], Repeat: 1}); err != nil {
			t.Error(err)
			return
		}
		sent.Add(1)
	}
}

// TestTwoCPUsAndTheAgentAtOnce: both directions of few tuples, opened, reset
// and opened again from two CPUs while the agent sweeps and stores. No
// session may be lost or counted twice, and the table must be sound at rest.
func TestTwoCPUsAndTheAgentAtOnce(t *testing.T) {
	for _, flows := range []int{1, 16, 4096} {
		t.Run(fmt.Sprintf("%d flows", flows), func(t *testing.T) {
			r, err := openReplay(ReplayOptions{Slots: 1 << 15}, 1<<16, false)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			r.c.timeouts.Linger, r.c.timeouts.HalfOpen, r.c.grace = time.Millisecond, time.Millisecond, time.Millisecond
			var in, out [][]byte
			for i := range flows {
				a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
				for _, f := range []string{"S", "A", "R"} {
					in = append(in, frame(ether(0x0800), ip(b4, a, 6, tcp(80, 40000, f+"A"))))
					out = append(out, frame(ether(0x0800), ip(a, b4, 6, tcp(40000, 80, f))))
				}
			}
			var sent atomic.Uint64
			var stop atomic.Bool
			var wg sync.WaitGroup
			wg.Go(func() { hammer(t, r.coll.Programs["edgelog_xdp"], in, &sent, &stop) })
			wg.Go(func() { hammer(t, r.coll.Programs["edgelog_egress"], out, &sent, &stop) })
			seen := map[session.ID]int{}
			take := func(now uint64) {
				for i := range r.batch.Sessions {
					seen[r.batch.Sessions[i].ID()]++
				}
				r.c.stored(&r.batch, now)
				r.batch.Reset()
			}
			for sent.Load() < 400_000 && !t.Failed() {
				r.c.collect(&r.batch, programsNow(), 1<<20)
				take(programsNow())
			}
			stop.Store(true)
			wg.Wait()
			r.c.flushQueues()
			r.c.takeOpen(&r.batch, 1<<20, session.EndOpen)
			take(programsNow())
			st, err := r.Status()
			if err != nil {
				t.Fatal(err)
			}
			if !st.Table.Balanced || !st.In.Balanced() || !st.Out.Balanced() || st.Table.Open+st.Table.Closed != 0 {
				t.Errorf("%+v", st)
			}
			checkTable(t, r.t)
			if full := st.In.Outcomes["table_full"] + st.Out.Outcomes["table_full"]; full == 0 && uint64(len(seen)) != st.Table.Started && t.Name() != "TestTwoCPUsAndTheAgentAtOnce/1_flows" { // one tuple begins anew more than 256 times in a tick: its 8 bits come round
				t.Errorf("%d sessions started, %d different ones were stored", st.Table.Started, len(seen))
			}
		})
	}
}

func TestGSOBuffersCountTheirSegments(t *testing.T) {
	r := live(t, MinSlots)
	big := frame(ether(0x0800), ip(a4, b4, 6, append(tcp(40000, 80, "A"), make([]byte, 2000)...)))
	for _, c := range []struct {
		segs, size uint32
		want       uint64
	}{{0, 0, 1}, {3, 700, 3}, {0, 700, 3}} {
		before, err := packetCounters(r.maps["packet_counts"], 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx := skbContext{GSOSegs: c.segs, GSOSize: c.size}
		if _, err := r.coll.Programs["edgelog_egress"].Run(&ebpf.RunOptions{Data: big, Context: ctx, Repeat: 1}); err != nil {
			t.Fatal(err)
		}
		after, err := packetCounters(r.maps["packet_counts"], 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := after.Segments - before.Segments; got != c.want || after.Seen != before.Seen+1 {
			t.Errorf("gso_segs %d, gso_size %d: %d segments, not %d", c.segs, c.size, got, c.want)
		}
	}
}

// skbContext is struct __sk_buff of linux/bpf.h as far as test runs take it.
type skbContext struct {
	_       [41]uint32 // up to gso_segs; zero
	GSOSegs uint32
	_       uint64 // sk
	GSOSize uint32
	_       uint32
	_       uint64 // hwtstamp
}

// FuzzFrame: whatever a frame holds, it passes unchanged, is counted once, and
// leaves the table sound.
func FuzzFrame(f *testing.F) {
	for _, seed := range [][]byte{
		tcp4(false, "S"), udp4(a4, b4, 1, 2), frame(ether(0x8864), pppoe(0, 0x57), ip(a6, b6, 17, udp(1, 2))),
		frame(ether(0x8100), vlan(1, 0x8847), label(false), label(true), ip(a4, b4, 17, udp(1, 2))),
		fragment6(a6, b6, 9, 17, udp(1, 2), 0, 8, true), fragment4(a4, b4, 9, 17, udp(1, 2), 8, 12, false),
		frame(ether(0x86dd), ip(a6, b6, 0, []byte{43, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0})),
	} {
		f.Add(seed, int64(0), false)
		f.Add(seed, int64(61), true)
	}
	r, err := openReplay(ReplayOptions{Slots: MinSlots}, 4096, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = r.Close() })
	outwards, err := openReplay(ReplayOptions{Slots: MinSlots, Local: []netip.Prefix{netip.MustParsePrefix("::/0"), netip.MustParsePrefix("0.0.0.0/0")}}, 4096, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = outwards.Close() })
	n := map[*Replay]int{}
	f.Fuzz(func(t *testing.T, data []byte, after int64, egress bool) {
		if len(data) > 4000 {
			return
		}
		use := r
		if egress {
			use = outwards
		}
		if err := use.Packet(data, t0+after%1000*second); err != nil {
			t.Fatal(err)
		}
		n[use]++
		st, err := use.Status()
		if err != nil {
			t.Fatal(err)
		}
		if !st.In.Balanced() || !st.Out.Balanced() || !st.Table.Balanced || int(st.In.Seen+st.Out.Seen+st.Runts) != n[use] {
			t.Fatalf("the counters do not add up: %+v", st)
		}
		checkTable(t, use.t)
	})
}
