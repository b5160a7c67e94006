package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
)

// bpffs returns a BPF file system of the test's own.
func bpffs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// gatewayOptions are those of an agent without uplinks: frames come by hand.
func gatewayOptions(t *testing.T, pins string) Options {
	return Options{
		PinDir: pins, StateDir: t.TempDir(), Profile: session.ProfileSession, Slots: MinSlots, RingBytes: 4096,
		Timeouts: Timeouts{TCP: 20 * time.Second, UDP: 10 * time.Second, Other: 10 * time.Second, ICMP: 10 * time.Second},
		Grace:    time.Millisecond,
	}
}

// withLayout opens a probe whose layout has another name.
func withLayout(t *testing.T, salt string, o Options) (*Probe, error) {
	t.Helper()
	before := layoutSalt
	layoutSalt = salt
	defer func() { layoutSalt = before }()
	return Open(o)
}

func mustOpen(t *testing.T, salt string, o Options) *Probe {
	t.Helper()
	p, err := withLayout(t, salt, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// passes runs frames through the programs of a probe's table, at times after
// a moment of their clock. Frames from 10/8 leave.
func passes(t *testing.T, p *Probe, from uint64, packets ...packet) {
	t.Helper()
	coll, err := loadPrograms(p.maps, &p.opt, knobs{testClock: true}, "edgelog_xdp", "edgelog_egress")
	if err != nil {
		t.Fatal(err)
	}
	defer coll.Close()
	for _, k := range packets {
		if err := coll.Variables["test_clock_ns"].Set(from + uint64(k.after)); err != nil {
			t.Fatal(err)
		}
		program := "edgelog_xdp"
		if src, ok := sourceAddr(k.data, false); ok && src == a4 {
			program = "edgelog_egress"
		}
		if _, err := coll.Programs[program].Run(&ebpf.RunOptions{Data: k.data, Repeat: 1}); err != nil {
			t.Fatal(err)
		}
	}
}

// carryNow does what a start does after the programs were replaced.
func carryNow(t *testing.T, p *Probe) {
	t.Helper()
	var err error
	if p.older, err = p.pins.findOlder(p.opt.Profile); err == nil {
		if err = p.openCarrier(); err == nil {
			err = p.carryOver()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// all collects everything from a table, in short form with times after from,
// and checks that its counters add up before and after.
func all(t *testing.T, p *Probe, from uint64) (got []string) {
	t.Helper()
	if st := p.Status(); !st.Table.Balanced {
		t.Errorf("before: %+v", st.Table)
	}
	var b Batch
	for more := true; more; {
		var err error
		if more, err = p.CollectAll(&b, 1000); err != nil {
			t.Fatal(err)
		}
		for i := range b.Sessions {
			s := b.Sessions[i]
			shift := t0 - p.clock.utc(from)
			s.Start, s.End = s.Start+shift, s.End+shift
			got = append(got, short(&s))
		}
		p.Stored(&b)
	}
	if st := p.Status(); !st.Table.Balanced || st.Table.Open+st.Table.Closed+st.Waiting != 0 {
		t.Errorf("after: %+v", st.Table)
	}
	slices.Sort(got)
	return got
}

func dirsIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() { // the kernel puts maps.debug and progs.debug there
			names = append(names, e.Name())
		}
	}
	return names
}

const otherUDP = "17 10.1.2.3:7 > 192.0.2.9:9 "

// spanning are sessions that are seen by the old programs, and by the new ones
// before the old table is brought over.
func spanning() []struct {
	name        string
	before, now []packet
	want        []string
} {
	s := time.Second
	out, back := false, true
	return []struct {
		name        string
		before, now []packet
		want        []string
	}{
		{"with no packet meanwhile", each(s, tcp4(out, "S"), tcp4(back, "SA")), nil, []string{tcpAB + "0s-1s shutdown"}},
		{"with packets meanwhile", each(s, tcp4(out, "S"), tcp4(back, "SA")), each2(3*s, s, tcp4(back, "A"), tcp4(out, "A")),
			[]string{tcpAB + "0s-4s shutdown"}},
		{"met in mid-stream before, and after from the other side", each(s, tcp4(out, "A")), each2(3*s, s, tcp4(back, "A")),
			[]string{tcpAB + "0s-3s shutdown mid-stream"}},
		{"closed by one side before and by the other after", each(s, tcp4(out, "S"), tcp4(back, "SA"), tcp4(out, "FA")), each2(3*s, s, tcp4(back, "FA"), tcp4(out, "A")),
			[]string{tcpAB + "0s-4s fin"}},
		{"closed before, with a straggler after", each(s, tcp4(out, "S"), tcp4(back, "RA")), each2(3*s, s, tcp4(out, "A")),
			[]string{tcpAB + "0s-3s rst"}},
		{"closed before, and its ports used again after", each(s, tcp4(out, "S"), tcp4(back, "RA")), each2(3*s, s, tcp4(out, "S"), tcp4(back, "SA")),
			[]string{tcpAB + "0s-1s rst", tcpAB + "3s-4s shutdown"}},
		{"closed after, and its ports used again", each(s, tcp4(out, "S"), tcp4(back, "SA")), each2(3*s, s, tcp4(out, "A"), tcp4(back, "RA"), tcp4(out, "S"), tcp4(back, "SA")),
			[]string{tcpAB + "0s-4s rst", tcpAB + "5s-6s shutdown"}},
		{"closed after, and its ports used twice again", each(s, tcp4(out, "S")), each2(3*s, s, tcp4(back, "RA"), tcp4(out, "S"), tcp4(back, "RA"), tcp4(out, "S")),
			[]string{tcpAB + "0s-3s rst", tcpAB + "4s-5s rst", tcpAB + "6s-6s shutdown"}},
		{"with the ports used again before and after", append(each(s, tcp4(out, "S"), tcp4(back, "RA"), tcp4(out, "S")), packet{2500 * time.Millisecond, tcp4(back, "SA")}),
			each2(3*s, s, tcp4(out, "A"), tcp4(back, "RA"), tcp4(out, "S")),
			[]string{tcpAB + "0s-1s rst", tcpAB + "2s-4s rst", tcpAB + "5s-5s shutdown"}},
		{"one that fell silent, and another of the same ends", []packet{{0, udp4(a4, b4, 7, 9)}}, []packet{{10*s + 1, udp4(a4, b4, 7, 9)}},
			[]string{otherUDP + "0s-0s idle", otherUDP + "10.000000001s-10.000000001s shutdown"}},
		{"one that almost fell silent", []packet{{0, udp4(a4, b4, 7, 9)}}, []packet{{10 * s, udp4(b4, a4, 9, 7)}},
			[]string{otherUDP + "0s-10s shutdown"}},
		{"with fragments whose first one comes after", []packet{{0, fragment4(a4, b4, 9, 17, append(udp(5000, 53), make([]byte, 52)...), 24, 64, false)}},
			[]packet{{s, udp4(a4, b4, 7, 9)}}, []string{"17 10.1.2.3:0 > 192.0.2.9:0 0s-0s shutdown fragments,orphan-fragments", otherUDP + "1s-1s shutdown"}},
	}
}

func TestASessionThatSpansAnUpgradeIsOne(t *testing.T) {
	pins := bpffs(t)
	for i, c := range spanning() {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(pins, fmt.Sprint(i))
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			o := gatewayOptions(t, dir)
			from := programsNow() - uint64(15*second)
			old := mustOpen(t, "old", o)
			passes(t, old, from, c.before...)
			if err := old.Close(); err != nil {
				t.Fatal(err)
			}
			older := dirsIn(t, dir)[0]
			hidden := filepath.Join(pins, "hidden")
			if err := os.Rename(filepath.Join(dir, older), hidden); err != nil {
				t.Fatal(err)
			}
			p := mustOpen(t, "", o)
			passes(t, p, from, c.now...)
			if err := os.Rename(hidden, filepath.Join(dir, older)); err != nil {
				t.Fatal(err)
			}
			carryNow(t, p)
			if st := p.Status(); st.Waiting != 0 {
				t.Errorf("%d sessions wait", st.Waiting)
			}
			if in, err := packetCounters(p.maps["packet_counts"], 0, 0); err != nil {
				t.Error(err)
			} else if outgoing, err := packetCounters(p.maps["packet_counts"], 0, 1); err != nil || int(in.Seen+outgoing.Seen) != len(c.before)+len(c.now) {
				t.Errorf("%d + %d packets were counted, %d came: %v", in.Seen, outgoing.Seen, len(c.before)+len(c.now), err)
			}
			if names := dirsIn(t, dir); len(names) != 1 || names[0] == older {
				t.Errorf("the old table is still pinned: %q", names)
			}
			checkTable(t, p.t)
			expect(t, all(t, p, from), c.want...)
		})
	}
}

// metaOfV2 is struct table_meta of version 2.
type metaOfV2 struct {
	HashSeed                                                      [6]uint64
	TickNs, TickBase, Profile, Stored, Orphaned, FragmentsRefused uint64
}

// versionTwo pins a table as version 2 did, with these slots, and returns its
// directory.
func versionTwo(t *testing.T, pins string, meta metaOfV2, slots ...kernelSlot) string {
	t.Helper()
	dir := filepath.Join(pins, "0123456789ab")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, m := range []ebpf.MapSpec{
		{Name: "bucket_words", Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: MinSlots / 128, Flags: unix.BPF_F_MMAPABLE},
		{Name: "events", Type: ebpf.RingBuf, MaxEntries: 4096},
		{Name: "fragments", Type: ebpf.Hash, KeySize: 48, ValueSize: 64, MaxEntries: 65536},
		{Name: "border", Type: ebpf.LPMTrie, KeySize: 20, ValueSize: 4, MaxEntries: 65536, Flags: unix.BPF_F_NO_PREALLOC},
		{Name: "packet_counts", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 112, MaxEntries: 32},
		{Name: "table_counts", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 64, MaxEntries: 1},
		{Name: "meta", Type: ebpf.Array, KeySize: 4, ValueSize: 96, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE},
		{Name: "sessions", Type: ebpf.Array, KeySize: 4, ValueSize: 512, MaxEntries: MinSlots / 8, Flags: unix.BPF_F_MMAPABLE},
	} {
		made, err := ebpf.NewMap(&m)
		if err != nil {
			t.Fatal(err)
		}
		defer made.Close()
		switch m.Name {
		case "meta":
			err = made.Put(uint32(0), meta)
		case "sessions":
			for i := range slots {
				var b kernelBucket
				b.Slot[i%8] = slots[i]
				err = errors.Join(err, made.Put(uint32(i), *(*[512]byte)(unsafe.Pointer(&b))))
			}
		case "packet_counts":
			perCPU := make([]countersV2, ebpf.MustPossibleCPU())
			perCPU[0] = countersV2{Seen: 7, MoreSegments: 2, Outcome: [12]uint64{4, 1, 0, 0, 0, 0, 0, 0, 2}}
			err = made.Put(uint32(3), perCPU)
		case "fragments":
			k := kernelFragmentKey{Id: 5}
			err = made.Put(k, kernelFragment{Key: slots[0].Key, First: slots[0].First, Last: slots[0].Last, Held: 3})
		}
		if err = errors.Join(err, made.Pin(filepath.Join(dir, m.Name))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// v2Slots are one of each kind of slot, and what is to come out of them.
func v2Slots(from uint64) (slots []kernelSlot, want []string) {
	at := func(n int) uint64 { return from + uint64(n)*uint64(second) }
	key := func(n uint16, proto uint32) kernelKey {
		var k kernelKey
		a, b := session.AddrFrom(netip.MustParseAddr("10.1.2.3")), session.AddrFrom(netip.MustParseAddr("192.0.2.9"))
		k.AddrA, k.AddrB = *(*[2]uint64)(unsafe.Pointer(&a)), *(*[2]uint64)(unsafe.Pointer(&b))
		k.PortA, k.PortB, k.RealmProto = port(n), port(80), proto<<realmBits
		return k
	}
	both := func(f uint32) uint32 { return f<<16 | f<<24 }
	slots = []kernelSlot{
		{State: 0x70000 | phaseLive | stateLocalA, Flags: both(0x12) | 3, Key: key(1, 6), First: at(0), Last: at(9)},
		{State: 0x10000 | phaseLive | stateMidstream | stateInitiatorB, Flags: both(0x10), Key: key(2, 6), First: at(1), Last: at(8)},
		{State: 0x10000 | phaseLive | stateStored, Flags: both(0x13), Key: key(3, 6), First: at(1), Last: at(2)},
		{State: 0x10000 | phaseClosed | stateSplit, Key: key(4, 17), First: at(2), Last: at(3)},
		{State: 0x10000 | phaseClosed | stateBuried, Flags: 0x13 << 16, Key: key(5, 6), First: at(3), Last: at(4)},
		{State: 0x10000 | phaseClosed | stateStored, Key: key(6, 6), First: at(3), Last: at(4)},
		{State: 0x10000 | phaseNegative, Key: key(7, 6), First: at(3), Last: at(4)},
		{State: 0x10000 | phaseBusy, Key: key(8, 6), First: at(3), Last: at(4)},
	}
	return slots, []string{
		"6 10.1.2.3:1 > 192.0.2.9:80 0s-9s shutdown", "6 192.0.2.9:80 > 10.1.2.3:2 1s-8s shutdown mid-stream",
		"17 10.1.2.3:4 > 192.0.2.9:80 2s-3s idle", "6 10.1.2.3:5 > 192.0.2.9:80 3s-4s fin",
		"6 10.1.2.3:1 > 192.0.2.9:80 0s-9s shutdown fragments",
	}
}

func TestATableOfVersionTwoIsBroughtOver(t *testing.T) {
	pins := bpffs(t)
	from := programsNow() - uint64(15*second)
	slots, want := v2Slots(from)
	versionTwo(t, pins, metaOfV2{TickNs: 4_000_000, TickBase: 12345, Profile: uint64(session.ProfileSession), Stored: 99}, slots...)
	p := mustOpen(t, "", gatewayOptions(t, pins))
	st := p.Status()
	if !st.Adopted || st.Table.Carried != 4 || st.Table.Lingers != 1 || st.Table.Stored != 0 || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
	if p.t.meta.TickBase != 12345 || p.t.meta.TickNs != 4_000_000 {
		t.Error("the two tables have different clocks")
	}
	c, err := packetCounters(p.maps["packet_counts"], 1, 1)
	if err != nil || c.Seen != 7 || c.Segments != 9 || c.Outcomes["recorded"] != 4 || c.Outcomes["not_ip"] != 1 || c.Outcomes["table_full"] != 2 {
		t.Errorf("the packet counters became %+v: %v", c, err)
	}
	for slot := range uint32(len(p.t.slots)) { // a session keeps its name
		if s := &p.t.slots[slot]; s.Key == slots[0].Key && s.Flags&flagsReuse != 3 {
			t.Errorf("reuse %d", s.Flags&flagsReuse)
		}
	}
	if names := dirsIn(t, pins); len(names) != 1 || names[0] != p.pins.layout {
		t.Errorf("what is pinned: %q", names)
	}
	got := all(t, p, from)
	// What was held of a datagram's fragments meets the session that it has the key of.
	want[0] = want[4]
	expect(t, got, want[:4]...)
}

func TestABringingOverThatIsKilledAtAnyMomentGoesOn(t *testing.T) {
	killed := errors.New("killed")
	for at := 1; ; at++ {
		pins := bpffs(t)
		from := programsNow() - uint64(15*second)
		slots, want := v2Slots(from)
		versionTwo(t, pins, metaOfV2{TickNs: 4_000_000, Profile: uint64(session.ProfileSession)}, slots...)
		o := gatewayOptions(t, pins)
		steps := 0
		o.step = func() error {
			if steps++; steps == at {
				return killed
			}
			return nil
		}
		p, err := Open(o)
		if err == nil {
			_ = p.Close()
			if at < 6 {
				t.Errorf("there were only %d steps", at)
			}
			return
		}
		if !errors.Is(err, killed) {
			t.Fatal(err)
		}
		o.step = nil
		p = mustOpen(t, "", o)
		want[0] = want[4]
		got := slices.Compact(all(t, p, from)) // a session that was carried twice has one name
		expect(t, got, want[:4]...)
		if names := dirsIn(t, pins); len(names) != 1 {
			t.Errorf("killed at step %d: what is pinned: %q", at, names)
		}
	}
}

// TestThisVersionWillBeUnderstood fails when the packet counters change without
// a new version and an entry of their own in formats.
func TestThisVersionWillBeUnderstood(t *testing.T) {
	if _, known := formats[tableVersion]; !known {
		t.Errorf("formats has no version %d", tableVersion)
	}
	if a, b := unsafe.Sizeof(countersV3{}), unsafe.Sizeof(kernelPacketCounters{}); tableVersion == 3 && a != b {
		t.Errorf("packet counters of %d bytes, of version 3 they have %d", b, a)
	}
}

func TestATableOfALaterVersionIsLeftAlone(t *testing.T) {
	pins := bpffs(t)
	o := gatewayOptions(t, pins)
	old := mustOpen(t, "later", o)
	old.t.meta.Version = tableVersion + 1
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	before := dirsIn(t, pins)
	_, err := Open(o)
	if !errors.Is(err, ErrNewerTable) || !strings.Contains(err.Error(), "drain") {
		t.Errorf("%v", err)
	}
	if after := dirsIn(t, pins); !slices.Equal(before, after) {
		t.Errorf("before %q, after %q", before, after)
	}
}

func TestAnOlderTableThatAnotherAgentUsesIsLeftAlone(t *testing.T) {
	pins := bpffs(t)
	o := gatewayOptions(t, pins)
	old := mustOpen(t, "old", o)
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "another agent uses it") {
		t.Errorf("%v", err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	o.Profile = session.ProfileAccess
	if _, err := Open(o); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "filled with profile") {
		t.Errorf("%v", err)
	}
	o.Profile = session.ProfileSession
	mustOpen(t, "", o)
}

func TestATableOfAnotherSizeIsBroughtOverAsFarAsThereIsRoom(t *testing.T) {
	pins := bpffs(t)
	o := gatewayOptions(t, pins)
	o.Slots = 4 * MinSlots
	from := programsNow() - uint64(5*second)
	old := mustOpen(t, "", o)
	const all = 2 * MinSlots
	var packets []packet
	for i := range uint32(all) {
		packets = append(packets, packet{0, udpN(i)})
	}
	passes(t, old, from, packets...)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	o.Slots = MinSlots
	p := mustOpen(t, "", o)
	st := p.Status()
	if st.Table.Slots != MinSlots || st.Table.Carried+st.Waiting != all || st.Waiting < all-MinSlots || st.Table.Carried < MinSlots*3/4 {
		t.Errorf("%d slots, %d carried, %d wait", st.Table.Slots, st.Table.Carried, st.Waiting)
	}
	if err := p.Close(); err != nil { // the next one goes on
		t.Fatal(err)
	}
	p = mustOpen(t, "", o)
	found := map[string]int{}
	var b Batch
	for more := true; more; {
		var err error
		if more, err = p.CollectAll(&b, 300); err != nil {
			t.Fatal(err)
		}
		for i := range b.Sessions {
			found[short(&b.Sessions[i])]++
		}
		p.Stored(&b)
	}
	if len(found) != all {
		t.Errorf("%d of %d sessions came out", len(found), all)
	}
	if st := p.Status(); !st.Table.Balanced || st.Waiting != 0 || st.Table.Stored != all {
		t.Errorf("%+v", st.Table)
	}
	if names := dirsIn(t, pins); len(names) != 1 {
		t.Errorf("what is pinned: %q", names)
	}
}
