package probe

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// check compares what was sent with what was stored.
func (s *storm) check() {
	st, err := s.r.Status()
	if err != nil {
		s.t.Fatal(err)
	}
	if !st.Table.Balanced || !st.In.Balanced() || !st.Out.Balanced() || st.Table.Open+st.Table.Closed != 0 {
		s.t.Errorf("the counters do not add up: %+v", st)
	}
	if int64(st.In.Seen+st.Out.Seen) != s.sent.Load() {
		s.t.Errorf("%d packets sent, %d seen", s.sent.Load(), st.In.Seen+st.Out.Seen)
	}
	checkTable(s.t, s.r.t)
	refused := s.sent.Load() - int64(st.In.Outcomes["recorded"]+st.Out.Outcomes["recorded"])
	lanes, udp := s.byLane()
	missing := 0
	for i, l := range s.lanes {
		missing += s.compare(l.lives, lanes[uint32(i)])
	}
	for i, want := range s.udp {
		missing += s.compare([]life{want}, udp[uint32(i)])
	}
	if int64(missing) > refused {
		s.t.Errorf("%d sessions are missing, and %d packets were refused", missing, refused)
	}
	want := int64(len(s.udp)) + s.begun.Load()
	if got := int64(st.Table.Started); got != want-int64(missing) {
		s.t.Errorf("%d sessions sent, %d started", want, got)
	}
	s.t.Logf("%d packets, %d sessions sent, %d of them stored, by %d records; %d tuples reused, %d sessions reopened, ring full %d times, %d packets refused:%s;%s",
		s.sent.Load(), want, len(s.records), s.written, s.begun.Load(), st.Table.Reopened, st.Table.RingFull, refused, st.In.Sum(), st.Out.Sum())
}

// byLane sorts the records of each lane and of each UDP session by time.
func (s *storm) byLane() (lanes, udp map[uint32][]session.Session) {
	lanes, udp = map[uint32][]session.Session{}, map[uint32][]session.Session{}
	for _, r := range s.records {
		a, into := r.Initiator, lanes
		if a.Netip() == b4 {
			a = r.Responder
		}
		if r.Proto == session.UDP {
			into = udp
		}
		n := binary.BigEndian.Uint32(a[12:])
		if r.Proto == session.UDP {
			n -= 10<<24 | 2<<16
		} else {
			n &= 0xffff
		}
		into[n] = append(into[n], r)
	}
	for _, list := range lanes {
		slices.SortFunc(list, func(x, y session.Session) int {
			// Within a tick they are fewer than reuse counts before it begins again.
			return cmp.Or(cmp.Compare(x.Start, y.Start), int(int8(x.Reuse-y.Reuse)))
		})
	}
	return lanes, udp
}

// compare holds a lane's lives against its records, and returns how many are
// missing. When some are missing nothing can be said of the others.
func (s *storm) compare(lives []life, got []session.Session) (missing int) {
	if len(got) > len(lives) {
		s.t.Errorf("%d sessions sent, %d stored: %+v", len(lives), len(got), got[:min(len(got), 4)])
		return 0
	}
	if len(got) < len(lives) {
		return len(lives) - len(got)
	}
	right := s.clock.tick
	if s.clock.test == nil {
		right *= 2 // the kernel moves the clock that the test reads after the programs' one: one more that it is behind
	}
	within := func(what string, i int, at int64, want [2]uint64) {
		if uint64(at)+right < want[0] || uint64(at) > want[1]+right {
			s.t.Errorf("life %d of %d: its %s packet at %d, not from %d to %d", i, len(lives), what, at, want[0], want[1])
		}
	}
	for i, l := range lives {
		within("first", i, got[i].Start, l.first)
		within("last", i, got[i].End, l.last)
		if l.reset && got[i].EndReason != session.EndRST {
			s.t.Errorf("life %d of %d was reset, and ended by %q", i, len(lives), got[i].EndReason)
		}
		if got[i].Flags&(session.MidStream|session.SynAck) != 0 {
			s.t.Errorf("life %d of %d began with SYN, and is said to be %v", i, len(lives), got[i].Flags.Words())
		}
	}
	return 0
}
