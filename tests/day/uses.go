package day

import "github.com/edgelog/edgelog/pkg/session"

// Silence that the agent waits for, ns: its default timeouts.
const (
	SilenceUDP      = 60e9
	SilenceTCP      = 300e9
	SilenceHalfOpen = 30e9
	SilenceClosed   = 2e9 // for stragglers of a closed TCP session
)

// far says who is on the other side.
type far uint8

const (
	popular far = iota
	resolver
	peer
	scan
)

// use is one kind of session.
type use struct {
	name     string
	share    int // of a thousand
	proto    uint8
	ports    []uint16 // of the responder; nil: at random
	far      far
	six      bool // IPv6 is used where there is some
	medianMs float64
	sigma    float64
	single   int // of a hundred, have one packet
}

var uses = []use{
	{"dns", 340, session.UDP, []uint16{53}, resolver, true, 18, 0.9, 2},
	{"quic", 200, session.UDP, []uint16{443}, popular, true, 9000, 1.8, 1},
	{"tls", 230, session.TCP, []uint16{443}, popular, true, 4000, 2, 0},
	{"http", 30, session.TCP, []uint16{80}, popular, true, 700, 1.6, 0},
	{"mail and push", 20, session.TCP, []uint16{993, 5223, 5228, 465, 22}, popular, true, 60e3, 2.2, 0},
	{"peers, UDP", 55, session.UDP, nil, peer, true, 3000, 2.2, 35},
	{"peers, TCP", 25, session.TCP, nil, peer, true, 20e3, 2.2, 30},
	{"scans", 50, session.TCP, nil, scan, false, 0, 0, 100},
	{"icmp", 30, session.ICMP, nil, popular, true, 1500, 1.2, 30},
	{"ntp", 20, session.UDP, []uint16{123}, popular, false, 30, 0.6, 3},
}

// scanned are the ports that scans ask for most, the others are random.
var scanned = [...]uint16{23, 445, 22, 80, 443, 8080, 3389, 5060, 8443, 2323, 5555, 3306, 6379, 1433, 25, 21}

// next makes one session that the agent hears of now.
func (s *Stream) next(x *session.Session) {
	u := &uses[s.choice[s.r.IntN(1000)]]
	h := &s.homes[s.busy.Uint64()]
	six := u.six && h.v6 != 0 && s.r.IntN(100) < 55
	s.local(x, h, six)
	x.Proto = u.proto
	s.remote(x, u, six)
	var lasts int64
	single := s.r.IntN(100) < u.single
	if !single {
		lasts = s.lognormal(u.medianMs, u.sigma)
	}
	x.End = s.now - s.ends(x, single)
	x.Start = x.End - lasts
}

// remote writes the far side.
func (s *Stream) remote(x *session.Session, u *use, six bool) {
	switch {
	case len(u.ports) == 1:
		x.ResponderPort = u.ports[0]
	case u.ports != nil:
		x.ResponderPort = u.ports[s.r.IntN(len(u.ports))]
	default:
		x.ResponderPort = uint16(1024 + s.r.IntN(64512))
	}
	switch u.far {
	case popular:
		x.Responder = s.server(six)
	case resolver:
		x.Responder = s.resolver(six)
	case peer:
		x.Responder = s.anybody(six)
	case scan:
		x.Responder, x.Initiator = x.Initiator, s.anybody(false)
		x.Local = session.SideResponder
		if d := s.doors.Uint64(); d < uint64(len(scanned)) {
			x.ResponderPort = scanned[d]
		}
		if x.Inside != (session.Addr{}) { // nobody inside is reached
			x.Inside, x.InsidePort, x.Subscriber = session.Addr{}, 0, ""
		}
	}
	if u.proto == session.ICMP {
		if six {
			x.Proto = session.ICMPv6
		}
		x.InitiatorPort, x.ResponderPort, x.InsidePort = 0, 0, 0
	}
}

// ends says why the session ended, and returns the silence that was waited for.
func (s *Stream) ends(x *session.Session, single bool) int64 {
	if x.Proto != session.TCP {
		x.EndReason = session.EndIdle
		return SilenceUDP
	}
	if single {
		x.InitiatorTCP, x.EndReason = session.SYN, session.EndHalfOpen
		return SilenceHalfOpen
	}
	const psh = 0x08
	x.InitiatorTCP = session.SYN | session.ACK | session.FIN | psh
	x.ResponderTCP = x.InitiatorTCP
	switch p := s.r.IntN(100); {
	case p < 64:
		x.EndReason = session.EndFIN
	case p < 88:
		x.InitiatorTCP |= session.RST
		x.EndReason = session.EndRST
	default:
		x.InitiatorTCP, x.ResponderTCP = session.SYN|session.ACK|psh, session.SYN|session.ACK|psh
		x.EndReason = session.EndIdle
		return SilenceTCP
	}
	return SilenceClosed
}
