package probe

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// The benchmarks of this file measure what a packet costs in the kernel, with
// BPF_PROG_TEST_RUN, each round against an empty program and against the hash
// reference of tests/bench/reference/reference.bpf.c. Quote the ratios.

// rig is our programs, the reference and the spray, over tables of their own.
type rig struct {
	r   *Replay
	ref referenceObjects
}

func newRig(tb testing.TB, offset uint32, flows uint32) *rig {
	tb.Helper()
	r, err := openBench(2 * max(flows, 1<<15)) // half full at the most; the reference has as much room
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.Close() })
	g := &rig{r: r}
	spec, err := loadReference()
	if err != nil {
		tb.Fatal(err)
	}
	spec.Maps["flows"].MaxEntries = 2 * max(flows, 1<<15)
	if err := spec.Variables["spray_offset"].Set(offset); err != nil {
		tb.Fatal(err)
	}
	if err := spec.LoadAndAssign(&g.ref, nil); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = g.ref.Close() })
	if err := g.ref.SprayMask.Set(flows - 1); err != nil {
		tb.Fatal(err)
	}
	return g
}

// openBench is a Replay with the real clock and a ring that does not fill.
func openBench(slots uint32) (*Replay, error) {
	return openReplay(ReplayOptions{Slots: slots}, 1<<25, false)
}

// through returns the program that sprays and then calls target.
func (g *rig) through(tb testing.TB, target *ebpf.Program) *ebpf.Program {
	tb.Helper()
	to, spray := g.ref.XdpTarget, g.ref.SprayXdp
	if target.Type() == ebpf.SchedCLS {
		to, spray = g.ref.TcTarget, g.ref.SprayTc
	}
	if err := to.Put(uint32(0), target); err != nil {
		tb.Fatal(err)
	}
	return spray
}

func nanos(tb testing.TB, p *ebpf.Program, frame []byte, repeat int) float64 {
	tb.Helper()
	_, total, err := p.Benchmark(frame, repeat, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return float64(total.Nanoseconds())
}

// best is what a disturbed machine allows to compare: disturbance only adds.
func best(v []float64) float64 { return slices.Min(v) }

func frameV4(tags int) ([]byte, uint32) {
	f := make([]byte, 12, 128)
	for range tags {
		f = append(f, 0x81, 0x00, 0x00, 0x0a)
	}
	f = append(f, 0x08, 0x00)
	at := len(f)
	f = append(f, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 192, 0, 2, 1)
	return append(f, tcpAck...), uint32(at + 12)
}

func frameV6() ([]byte, uint32) {
	f := append(make([]byte, 12, 128), 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64)
	f = append(f, make([]byte, 32)...)
	f[22], f[38] = 0x20, 0x20
	return append(f, tcpAck...), 34
}

var tcpAck = []byte{0x30, 0x39, 0x00, 0x50, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0}

type shape struct {
	name  string
	frame []byte
	at    uint32 // offset of the last four bytes of the source address
}

func shapes() []shape {
	v4, at4 := frameV4(0)
	qq, atq := frameV4(2)
	v6, at6 := frameV6()
	return []shape{{"ipv4", v4, at4}, {"ipv6", v6, at6}, {"qinq", qq, atq}}
}

// BenchmarkEstablished: one packet of a session that is in the table.
func BenchmarkEstablished(b *testing.B) {
	for _, s := range shapes() {
		for _, flows := range []uint32{1, 1 << 16, 1 << 20} {
			for _, hook := range []string{"xdp", "egress"} {
				b.Run(fmt.Sprintf("%s/%s/flows=%d", hook, s.name, flows), func(b *testing.B) {
					benchEstablished(b, s, flows, hook)
				})
			}
		}
	}
}

func benchEstablished(b *testing.B, s shape, flows uint32, hook string) {
	g := newRig(b, s.at, flows)
	ours, empty, hash := g.r.coll.Programs["edgelog_xdp"], g.ref.EmptyXdp, g.ref.HashXdp
	if hook == "egress" {
		ours, empty, hash = g.r.coll.Programs["edgelog_egress"], g.ref.EmptyTc, g.ref.HashTc
	}
	const rounds, repeat = 5, 1 << 20
	measure := func(p *ebpf.Program) float64 {
		if flows == 1 {
			return nanos(b, p, s.frame, repeat)
		}
		return nanos(b, g.through(b, p), s.frame, repeat)
	}
	if flows > 1 { // meet every flow first
		for _, p := range []*ebpf.Program{ours, hash} {
			nanos(b, g.through(b, p), s.frame, int(flows)*8)
		}
	}
	var plain, sprayed, mine, theirs []float64
	for b.Loop() {
		for range rounds {
			plain = append(plain, nanos(b, empty, s.frame, repeat))
			sprayed = append(sprayed, measure(empty))
			mine = append(mine, measure(ours))
			theirs = append(theirs, measure(hash))
		}
	}
	report(b, plain, sprayed, mine, theirs)
}

// report prints ratios, without what the spray costs.
func report(b *testing.B, plain, sprayed, mine, theirs []float64) {
	base := best(plain)
	spray := best(sprayed) - base
	own, other := best(mine)-spray, best(theirs)-spray
	b.ReportMetric(own, "ns/packet")
	b.ReportMetric(base, "empty-ns")
	b.ReportMetric(other, "hash-ns")
	b.ReportMetric(own/base, "x-empty")
	b.ReportMetric((other-base)/(own-base), "hash-net/net")
	b.ReportMetric(other/own, "hash/ours")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkNew: the first packet of a session, the table half full at the end.
func BenchmarkNew(b *testing.B) {
	for _, s := range shapes()[:2] {
		b.Run("xdp/"+s.name, func(b *testing.B) { benchNew(b, s) })
	}
}

func benchNew(b *testing.B, s shape) {
	const sessions = 1 << 20
	g := newRig(b, s.at, sessions)
	if err := g.ref.SprayCount.Set(uint32(1)); err != nil {
		b.Fatal(err)
	}
	syn := append([]byte(nil), s.frame...)
	syn[len(syn)-7] = 0x02
	var plain, sprayed, mine, theirs []float64
	for b.Loop() {
		for range 3 {
			plain = append(plain, nanos(b, g.ref.EmptyXdp, syn, sessions))
			sprayed = append(sprayed, nanos(b, g.through(b, g.ref.EmptyXdp), syn, sessions))
			g.r.wipe()
			mine = append(mine, nanos(b, g.through(b, g.r.coll.Programs["edgelog_xdp"]), syn, sessions))
			g.clearFlows(b)
			theirs = append(theirs, nanos(b, g.through(b, g.ref.HashXdp), syn, sessions))
		}
	}
	report(b, plain, sprayed, mine, theirs)
}

// wipe empties the table, which nothing else uses, and reads the ring empty.
func (r *Replay) wipe() {
	clear(r.t.slots)
	clear(r.t.words)
}

func (g *rig) clearFlows(tb testing.TB) {
	tb.Helper()
	var k referenceKey
	var v referenceFlow
	var keys []referenceKey
	for it := g.ref.Flows.Iterate(); it.Next(&k, &v); {
		keys = append(keys, k)
	}
	if len(keys) > 0 {
		if _, err := g.ref.Flows.BatchDelete(keys, nil); err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkSweep: one walk of the agent through a table with open sessions.
func BenchmarkSweep(b *testing.B) {
	for _, slots := range []uint32{1 << 20, 1 << 22, 1 << 24} {
		b.Run(fmt.Sprintf("slots=%d", slots), func(b *testing.B) {
			r, err := openReplay(ReplayOptions{Slots: slots}, 4096, false)
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			now := programsNow()
			for i := range r.t.slots {
				if i%4 == 0 {
					s := &r.t.slots[i]
					s.State, s.First, s.Last = phaseLive, now, now
					s.Key.AddrA[1] = uint64(binary.BigEndian.Uint32([]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
				}
			}
			var batch Batch
			for b.Loop() {
				now++ // else the walk is not due
				r.c.collect(&batch, now, 1<<30)
			}
			b.ReportMetric(float64(slots)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mslots/s")
		})
	}
}

// BenchmarkCollect: what has ended is read out of a table in which every fourth
// slot is due, given out in batches, and marked as stored, as in a rush.
func BenchmarkCollect(b *testing.B) {
	const slots, due = 1 << 22, 1 << 20
	r, err := openReplay(ReplayOptions{Slots: slots}, 4096, false)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	r.c.timeouts.Linger = time.Nanosecond
	now := programsNow()
	var batch Batch
	for b.Loop() {
		b.StopTimer()
		for i := range due {
			s := &r.t.slots[i*slots/due]
			s.State, s.Flags, s.First, s.Last = phaseLive, rst<<flagsAShift, now, now
			s.Key.AddrA[1] = uint64(i) << 32
		}
		r.c.settled = queue[settled]{}
		b.StartTimer()
		for n := 0; n < due; {
			now++
			r.c.collect(&batch, now, 1<<16)
			if batch.Len() == 0 {
				b.Fatalf("%d of %d found", n, due)
			}
			n += batch.Len()
			r.c.stored(&batch, now)
			batch.Reset()
		}
	}
	b.ReportMetric(due*float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}
