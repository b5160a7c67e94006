package probe

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

var ours = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}

// strained is a Replay that keeps what it is given.
type strained struct {
	*Replay
	t    *testing.T
	got  []session.Session
	sent int
}

func strain(t *testing.T, opt ReplayOptions) *strained {
	t.Helper()
	s := &strained{t: t}
	opt.Slots, opt.Local = MinSlots, ours
	opt.Emit = func(b []session.Session) { s.got = append(s.got, b...) }
	r, err := OpenReplay(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	s.Replay = r
	return s
}

// packet runs a frame and returns the outcome.
func (s *strained) packet(f []byte, at int64) string {
	s.t.Helper()
	before := s.outcomes()
	if err := s.Packet(f, at); err != nil {
		s.t.Fatal(err)
	}
	s.sent++
	for name, n := range s.outcomes() {
		if n != before[name] {
			return name
		}
	}
	s.t.Fatal("a packet without an outcome")
	return ""
}

func (s *strained) outcomes() map[string]uint64 {
	s.t.Helper()
	sum := map[string]uint64{}
	for egress := range uint32(2) {
		c, err := packetCounters(s.maps["packet_counts"], 0, egress)
		if err != nil {
			s.t.Fatal(err)
		}
		for name, n := range c.Outcomes {
			sum[name] += n
		}
	}
	return sum
}

// status checks what must hold at any time.
func (s *strained) status() TableStatus {
	s.t.Helper()
	st, err := s.Status()
	if err != nil {
		s.t.Fatal(err)
	}
	t := st.Table
	if !t.Balanced || !st.In.Balanced() || !st.Out.Balanced() || int(st.In.Seen+st.Out.Seen) != s.sent {
		s.t.Fatalf("the counters do not add up: %+v", st)
	}
	if t.Sampled != t.SamplesStored+t.SamplesWaiting+t.SamplesLost {
		s.t.Fatalf("%d samples taken, %d stored, %d waiting, %d lost", t.Sampled, t.SamplesStored, t.SamplesWaiting, t.SamplesLost)
	}
	if t.HalfOpen > t.HalfOpenLimit {
		s.t.Fatalf("%d half-open sessions, at most %d may be", t.HalfOpen, t.HalfOpenLimit)
	}
	checkTable(s.t, s.Replay.t)
	return t
}

func (s *strained) samples() (out []session.Session) {
	for _, x := range s.got {
		if x.Flags&session.Sampled != 0 {
			out = append(out, x)
		}
	}
	return out
}

// full fills the table until hardly anything finds room.
func (s *strained) full() {
	s.t.Helper()
	for i := range uint32(8 * MinSlots) {
		s.packet(udp4(netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)}), b4, 1, 2), t0)
	}
}

func udp6(src, dst netip.Addr, sp, dp uint16) []byte {
	return frame(ether(0x86dd), ip(src, dst, 17, udp(sp, dp)))
}

func TestEvery500thRefusedPacketOfAnEndUserIsASample(t *testing.T) {
	s := strain(t, ReplayOptions{})
	s.full()
	far6 := netip.MustParseAddr("2001:db8:ffff::1")
	one, two := netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("10.1.1.2")
	net64 := [2]netip.Addr{netip.MustParseAddr("2001:db8:1:5::1"), netip.MustParseAddr("2001:db8:1:5:ffff::2")}
	users := []func(i int) []byte{
		func(i int) []byte { return udp4(one, b4, uint16(i), 53) },          // its own
		func(i int) []byte { return udp4(b4, two, 53, uint16(i)) },          // of what comes in for it
		func(i int) []byte { return udp6(net64[i%2], far6, uint16(i), 53) }, // two addresses of one /64
	}
	type sample struct {
		from, to netip.AddrPort
		at       int64
		local    session.Side
	}
	ends := func(user, i int) (from, to netip.AddrPort, local session.Side) {
		far := netip.AddrPortFrom(b4, 53)
		switch user {
		case 0:
			return netip.AddrPortFrom(one, uint16(i)), far, session.SideInitiator
		case 1:
			return far, netip.AddrPortFrom(two, uint16(i)), session.SideResponder
		}
		return netip.AddrPortFrom(net64[i%2], uint16(i)), netip.AddrPortFrom(far6, 53), session.SideInitiator
	}
	var want []sample
	var refused [3]int
	for i := 1; i <= 1300; i++ {
		for user, f := range users {
			at := t0 + int64(i)*int64(time.Millisecond)
			if s.packet(f(i), at) != "table_full" {
				continue
			}
			if refused[user]++; refused[user]%500 == 0 {
				from, to, local := ends(user, i)
				want = append(want, sample{from, to, at, local})
			}
		}
	}
	s.packet(udp4(one, b4, 9, 9), t0+2*second)
	var got []sample
	for _, x := range s.samples() {
		got = append(got, sample{netip.AddrPortFrom(x.Initiator.Netip(), x.InitiatorPort), netip.AddrPortFrom(x.Responder.Netip(), x.ResponderPort), x.Start, x.Local})
		if x.End != x.Start || x.EndReason != session.EndSample || x.Proto != session.UDP || x.Flags != session.Sampled {
			t.Errorf("a sample reads %+v", x)
		}
	}
	// The filling left further ones, of users of its own.
	got = slices.DeleteFunc(got, func(x sample) bool { return x.at == t0 })
	if len(want) < 6 || !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if st := s.status(); st.SamplesLost != 0 || st.Refused["table_full"] == 0 || st.Full != st.Refused["table_full"] {
		t.Errorf("%+v", st)
	}
}

func TestWhenThereIsRoomAgainSessionsAreRecordedAgain(t *testing.T) {
	s := strain(t, ReplayOptions{})
	s.full()
	refused := s.status().Full
	if refused == 0 {
		t.Fatal("the table was never full")
	}
	after := t0 + int64(3*time.Minute)
	for i := range uint16(MinSlots / 2) { // after the walk that the first packet sets off
		if got := s.packet(udp4(a4, b4, 1000+i, 53), after); i > 0 && got != "recorded" {
			t.Fatalf("packet %d is %s", i, got)
		}
	}
	if err := forgetUsers(s.maps, uint64(t0)+uint64(sampleMemory)-1); err != nil {
		t.Fatal(err)
	}
	var user kernelEndUser
	if err := s.maps["sample_counts"].NextKey(nil, &user); err != nil {
		t.Errorf("the counters were emptied too early: %v", err)
	}
	if err := forgetUsers(s.maps, uint64(after)+uint64(sampleMemory)); err != nil {
		t.Fatal(err)
	}
	if err := s.maps["sample_counts"].NextKey(nil, &user); err == nil {
		t.Errorf("end users are still remembered")
	}
	if err := s.Finish(); err != nil {
		t.Fatal(err)
	}
	if st := s.status(); st.Open+st.Closed != 0 || st.Full > refused+1 {
		t.Errorf("%+v", st)
	}
}

// syn is a SYN, or what answers one, of session i of a flood from everywhere.
func syn(i int, flags string) []byte {
	from := netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)})
	return frame(ether(0x0800), ip(from, a4, 6, tcp(uint16(i*7+1), 443, flags)))
}

func TestAFloodOfSYNsLeavesEstablishedSessionsAndHalfTheTable(t *testing.T) {
	for _, c := range []struct{ name, flags string }{{"SYN", "S"}, {"SYN+ACK, answers to a flood elsewhere in our name", "SA"}} {
		t.Run(c.name, func(t *testing.T) {
			s := strain(t, ReplayOptions{HalfOpenShare: 0.5})
			const established = MinSlots / 8
			from := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 3, byte(i >> 8), byte(i)}) }
			for i := range established {
				for _, f := range []string{"S", "A"} {
					s.packet(frame(ether(0x0800), ip(from(i), b4, 6, tcp(40000, 80, f))), t0)
				}
			}
			counts := map[string]int{}
			const flood = 20000
			for i := range flood {
				counts[s.packet(syn(i, c.flags), t0+second)]++
			}
			st := s.status()
			if st.Open != established+uint64(counts["recorded"]) || st.HalfOpen != uint64(counts["recorded"]) ||
				counts["half_open"] != flood-counts["recorded"] || st.Refused["half_open"] != uint64(counts["half_open"]) {
				t.Errorf("of the flood %v; %+v", counts, st)
			}
			if st.HalfOpen < st.HalfOpenLimit*9/10 {
				t.Errorf("%d half-open sessions are recorded, %d may be", st.HalfOpen, st.HalfOpenLimit)
			}
			// Others find room: a request, and a session whose SYN was refused. They fill the
			// table to 3/4: at 7/8 one of 3,000 finds its whole chain full.
			for i := range MinSlots / 8 {
				if got := s.packet(udp4(from(i), b4, 7, 53), t0+second); got != "recorded" {
					t.Fatalf("a request is %s", got)
				}
			}
			for i := range 5 {
				if got := s.packet(syn(flood-1-i, "A"), t0+second); got != "recorded" {
					t.Errorf("the first packet behind a refused SYN is %s", got)
				}
			}
			if n := counts["half_open"] / 500; len(s.samples()) != n {
				t.Errorf("%d samples of %d packets for one end user", len(s.samples()), counts["half_open"])
			}
			s.status()
			if err := s.Finish(); err != nil {
				t.Fatal(err)
			}
			whole := 0
			for _, x := range s.got {
				if x.Initiator.Netip().As16()[12] == 10 && x.Proto == session.TCP && x.Start == t0 && x.InitiatorTCP == session.SYN|session.ACK {
					whole++
				}
			}
			if whole != established {
				t.Errorf("%d of %d established sessions were recorded", whole, established)
			}
		})
	}
}

func TestHalfOpenSessionsMakeRoomForThemselves(t *testing.T) {
	r, err := openReplay(ReplayOptions{Slots: MinSlots, HalfOpenShare: 0.25}, 1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	r.c.timeouts.Linger, r.c.timeouts.HalfOpen = 2*time.Second, 30*time.Second
	half := func() uint64 {
		st, err := r.Status()
		if err != nil {
			t.Fatal(err)
		}
		checkTable(t, r.t)
		return st.Table.HalfOpen
	}
	for i := range 4 * MinSlots {
		r.at(t, 0, syn(i, "S"))
	}
	limit := uint64(MinSlots / 4)
	if n := half(); n > limit || n < limit*9/10 {
		t.Errorf("%d of %d", n, limit)
	}
	r.at(t, time.Second, syn(0, "A")) // the first one is answered for
	before := half()
	if before >= limit {
		t.Errorf("%d of %d", before, limit)
	}
	stored := r.at(t, 31*time.Second, nil)
	if n := half(); n != 0 || uint64(len(stored)) != before {
		t.Errorf("%d are still half-open, %d of %d are stored", n, len(stored), before)
	}
	for i := range 4 * MinSlots { // the next ones take their slots over
		r.at(t, 32*time.Second, syn(100000+i, "S"))
	}
	if n := half(); n < limit*9/10 {
		t.Errorf("%d of %d in the second round", n, limit)
	}
}

func TestAnAnswerOrARefusalEndsBeingHalfOpen(t *testing.T) {
	for _, c := range []struct {
		name string
		then []byte
		half uint64
	}{
		{"an ACK", tcp4(false, "A"), 0},
		{"data", tcp4(true, "PA"), 0},
		{"a FIN", tcp4(false, "FA"), 0},
		{"another SYN", tcp4(false, "S"), 1},
		{"a SYN+ACK", tcp4(true, "SA"), 1},
		{"a reset", tcp4(true, "RA"), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := live(t, MinSlots)
			r.at(t, 0, tcp4(false, "S"))
			checkTable(t, r.t)
			r.at(t, time.Second, c.then)
			checkTable(t, r.t)
			st, err := r.Status()
			if err != nil || st.Table.HalfOpen != c.half {
				t.Errorf("%d half-open, %v", st.Table.HalfOpen, err)
			}
			r.at(t, 40*time.Second, nil) // all but the established are on the disk
			checkTable(t, r.t)
			r.at(t, 41*time.Second, tcp4(false, "S")) // reopened, or begun anew
			checkTable(t, r.t)
			r.at(t, 42*time.Second, tcp4(false, "A"))
			checkTable(t, r.t)
			if st, err = r.Status(); err != nil || st.Table.HalfOpen != 0 {
				t.Errorf("%d half-open in the end, %v", st.Table.HalfOpen, err)
			}
		})
	}
}

// TestAFloodFromTwoProcessorsKeepsTheShare: the words must be exact, and the
// share held, when slots are claimed, established, stored and freed at once.
func TestAFloodFromTwoProcessorsKeepsTheShare(t *testing.T) {
	r, err := openReplay(ReplayOptions{Slots: MinSlots, HalfOpenShare: 0.5}, 1<<16, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.c.timeouts.Linger, r.c.timeouts.HalfOpen, r.c.grace = time.Millisecond, 2*time.Millisecond, time.Millisecond
	var in, out [][]byte
	for i := range 8 * MinSlots {
		in = append(in, syn(i, "S"))
		if i%16 == 0 {
			in = append(in, syn(i, "A"))
		}
		if i%64 == 0 {
			out = append(out, tcp4Out(i, "SA"), tcp4Out(i, "RA"))
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })
	var flooded, answered atomic.Uint64
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() { hammer(t, r.coll.Programs["edgelog_xdp"], in, &flooded, &stop) })
	wg.Go(func() { hammer(t, r.coll.Programs["edgelog_egress"], out, &answered, &stop) })
	for (flooded.Load() < 100_000 || answered.Load() < 100_000) && !t.Failed() {
		r.c.collect(&r.batch, programsNow(), 1<<20)
		r.samples.collect(&r.batch, 1<<20)
		r.emit()
	}
	stop.Store(true)
	wg.Wait()
	checkTable(t, r.t)
	st, err := r.Status()
	if err != nil {
		t.Fatal(err)
	}
	if !st.Table.Balanced || st.Table.Sampled != st.Table.SamplesStored+st.Table.SamplesWaiting+st.Table.SamplesLost || st.Table.Refused["half_open"] == 0 {
		t.Errorf("%+v", st)
	}
}

// tcp4Out is an answer to session i of the flood.
func tcp4Out(i int, flags string) []byte {
	to := netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)})
	return frame(ether(0x0800), ip(a4, to, 6, tcp(443, uint16(i*7+1), flags)))
}

func TestAShareThatIsNoShareIsRefused(t *testing.T) {
	for _, share := range []float64{-0.1, 1.01} {
		o := Options{HalfOpenShare: share}.withDefaults()
		if err := o.check(); err == nil {
			t.Errorf("a share of %v is accepted", share)
		}
	}
	for share, slots := range map[float64]uint32{0.01: 1, 0.25: 2, 0.5: 4, 1: 8} {
		if n := halfOpenCap(share); n != slots {
			t.Errorf("%v of a bucket are %d slots, not %d", share, n, slots)
		}
	}
}
