package probe

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/edgelog/edgelog/pkg/session"
)

func TestSamplesStayInTheRingUntilTheyAreOnTheDisk(t *testing.T) {
	s := strain(t, ReplayOptions{})
	s.full()
	s.sent += sampleFlood(t, s.Replay, 500*8)
	first := s.status()
	if first.SamplesWaiting < 7 {
		t.Fatalf("%d samples wait", first.SamplesWaiting)
	}
	take := func(r *sampler, max int) (b Batch) { r.collect(&b, max); return b }
	a, b := take(&s.Replay.samples, 3), take(&s.Replay.samples, 1<<20)
	if a.Len() != 3 || uint64(a.Len()+b.Len()) != first.SamplesWaiting || !s.Replay.samples.drained() {
		t.Fatalf("%d and %d of %d", a.Len(), b.Len(), first.SamplesWaiting)
	}
	s.Replay.samples.stored(&b) // the later one first
	if st := s.status(); st.SamplesWaiting != first.SamplesWaiting {
		t.Errorf("%d samples wait while the first ones are not stored", st.SamplesWaiting)
	}
	// An agent that is killed now leaves all of them to the next.
	next, err := openSampler(s.maps, s.Replay.t, false)
	if err != nil {
		t.Fatal(err)
	}
	if c := take(&next, 1<<20); uint64(c.Len()) != first.SamplesWaiting || c.Sessions[0] != a.Sessions[0] {
		t.Errorf("the next agent finds %d of %d", c.Len(), first.SamplesWaiting)
	}
	next.close()
	s.Replay.samples.release(&a)
	again := take(&s.Replay.samples, 2)
	rest := take(&s.Replay.samples, 1<<20)
	if !slices.Equal(slices.Concat(again.Sessions, rest.Sessions), a.Sessions) {
		t.Errorf("what was given back is not what comes again")
	}
	s.Replay.samples.stored(&again)
	s.Replay.samples.stored(&rest)
	if st := s.status(); st.SamplesWaiting != 0 || st.SamplesStored != st.Sampled {
		t.Errorf("%+v", st)
	}
}

// sampleFlood sends UDP packets of new sessions of one end user, without
// reading any sample meanwhile.
func sampleFlood(t *testing.T, r *Replay, n int) (sent int) {
	t.Helper()
	for i := range n {
		f := udp4(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), netip.MustParseAddr("10.77.0.1"), 4000+uint16(i>>16), 53)
		if _, err := r.coll.Programs["edgelog_xdp"].Run(&ebpf.RunOptions{Data: f, Repeat: 1}); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func TestSamplesForWhichTheRingHasNoRoomAreCounted(t *testing.T) {
	s := strain(t, ReplayOptions{})
	s.full()
	s.sent += sampleFlood(t, s.Replay, 500*100)
	if st := s.status(); st.SamplesLost == 0 || st.SamplesWaiting == 0 {
		t.Errorf("%+v", st)
	}
}

func TestEndUsersWithoutACounterAreCountedTogether(t *testing.T) {
	s := strain(t, ReplayOptions{})
	s.full()
	var none uint64
	for i := uint64(0); ; i++ { // until the map is full
		if err := s.maps["sample_counts"].Put(kernelEndUser{Addr: [2]uint64{1, i}}, none); err != nil {
			break
		}
	}
	before, err := tableCounters(s.maps["table_counts"])
	if err != nil {
		t.Fatal(err)
	}
	refused := s.outcomes()["table_full"]
	for i := range 3000 {
		s.packet(udp4(netip.AddrFrom4([4]byte{10, 55, byte(i >> 8), byte(i)}), b4, 1, 2), t0+1)
	}
	after, err := tableCounters(s.maps["table_counts"])
	if err != nil {
		t.Fatal(err)
	}
	refused = s.outcomes()["table_full"] - refused
	if crowd := after.SampleCrowd - before.SampleCrowd; crowd != refused || refused < 2500 || after.Sampled == before.Sampled {
		t.Errorf("%d refused, %d counted together, %d samples", refused, crowd, after.Sampled-before.Sampled)
	}
}

func TestTheSourceProfileSamplesWithoutTheFarEnd(t *testing.T) {
	s := strain(t, ReplayOptions{Profile: session.ProfileSource})
	s.full()
	for i := range 1200 {
		s.packet(udp4(a4, b4, uint16(1000+i), 53), t0+second)
	}
	s.packet(udp4(a4, b4, 1, 53), t0+second)
	n := 0
	for _, x := range s.samples() {
		if x.Start != t0+second {
			continue
		}
		n++
		if x.Flags != session.Sampled|session.LocalOnly || x.Initiator.Netip() != a4 || x.Responder != (session.Addr{}) || x.Local != session.SideInitiator {
			t.Errorf("%+v", x)
		}
	}
	if n < 1 {
		t.Errorf("no sample")
	}
}
