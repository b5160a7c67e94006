package block

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// mix makes sessions like those of an access network. Its parameters: 10,000
// subscribers with one IPv4 address and one IPv6 /56 each; how busy they are
// follows a Zipf law (1.1); 40 % of sessions are IPv6. 45 % are QUIC or HTTPS
// over TCP to 20,000 servers by a Zipf law (1.15), 35 % are DNS to two
// resolvers of the provider's neighbour and two public ones, 8 % are between
// subscribers and random peers on random ports, 6 % are scans from outside that
// nobody answers, 4 % ICMP, 2 % NTP. Source ports are random in the range that
// Linux uses, durations are log-normal by protocol, starts are even over the
// span.
type mix struct {
	r     *rand.Rand
	subs  *rand.Zipf
	hosts *rand.Zipf
	start time.Time
	span  time.Duration
	n     int
	names []string // one string a subscriber, as a book of bindings has it
}

const (
	mixSubscribers = 10_000
	mixServers     = 20_000
)

// newMix spreads n sessions over span; 2,400 a second stands for 100,000
// subscribers with one record a minute and 40 % more at the busy hour.
func newMix(seed uint64, n int, span time.Duration) *mix {
	r := rand.New(rand.NewPCG(seed, 2))
	names := make([]string, mixSubscribers)
	for i := range names {
		names[i] = fmt.Sprintf("cust%06d@example.net", 100000+scatter(uint64(i))%800000)
	}
	return &mix{
		r: r, n: n, span: span, names: names,
		subs:  rand.NewZipf(r, 1.1, 200, mixSubscribers-1),
		hosts: rand.NewZipf(r, 1.15, 8, mixServers-1),
		start: time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC),
	}
}

func v4(a uint32) (x session.Addr) {
	x[10], x[11] = 0xff, 0xff
	binary.BigEndian.PutUint32(x[12:], a)
	return x
}

func v6(hi, lo uint64) (x session.Addr) {
	binary.BigEndian.PutUint64(x[:8], hi)
	binary.BigEndian.PutUint64(x[8:], lo)
	return x
}

// scatter spreads small numbers over 64 bits, always the same way.
func scatter(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (m *mix) local(sub uint64, six bool) session.Addr {
	if !six {
		return v4(0x52_00_00_00 + uint32(sub) + uint32(sub/250)*6)
	}
	device := m.r.Uint64N(3)
	return v6(0x2a05f6c0_00000000|sub<<8, scatter(sub<<2|device))
}

func (m *mix) server(six bool) session.Addr {
	h := m.hosts.Uint64()
	if six {
		return v6(0x2600000000000000|scatter(h%97)>>16<<8, h/97)
	}
	return v4(uint32(scatter(h))>>2 | 0x10000000)
}

func (m *mix) lognormal(median, sigma float64) time.Duration {
	d := median * math.Exp(m.r.NormFloat64()*sigma)
	return time.Duration(math.Min(d, 4*3600e3)) * time.Millisecond
}

func (m *mix) ephemeral() uint16 { return uint16(32768 + m.r.IntN(28232)) }

// session returns one more session.
func (m *mix) session() session.Session {
	sub := m.subs.Uint64()
	six := m.r.Float64() < 0.4
	s := session.Session{
		Initiator: m.local(sub, six), InitiatorPort: m.ephemeral(), Local: session.SideInitiator,
		Subscriber: m.names[sub], EndReason: session.EndIdle, Proto: session.UDP,
	}
	var lasts time.Duration
	switch p := m.r.Float64(); {
	case p < 0.25:
		s.Responder, s.ResponderPort, s.Proto = m.server(six), 443, session.TCP
		s.InitiatorTCP, s.ResponderTCP, s.EndReason = 0x1b, 0x1b, session.EndFIN
		if m.r.Float64() < 0.3 {
			s.InitiatorTCP, s.EndReason = 0x1f, session.EndRST
		}
		lasts = m.lognormal(4000, 2)
	case p < 0.45:
		s.Responder, s.ResponderPort = m.server(six), 443
		lasts = m.lognormal(9000, 1.8)
	case p < 0.80:
		s.ResponderPort = 53
		s.Responder = [2]session.Addr{v4(0x08080808), v4(0x01010101)}[m.r.IntN(2)]
		if six {
			s.Responder = [2]session.Addr{v6(0x2001486048600000, 0x8888), v6(0x2606470047000000, 0x1111)}[m.r.IntN(2)]
		}
		lasts = m.lognormal(18, 0.8)
	case p < 0.88:
		s.Responder, s.ResponderPort = v4(m.r.Uint32()&0x7fffffff|0x10000000), uint16(1024+m.r.IntN(64000))
		s.Initiator = m.local(sub, false)
		lasts = m.lognormal(800, 2)
	case p < 0.94:
		s.Responder, s.ResponderPort, s.Local = m.local(sub, false), uint16([]int{22, 23, 80, 443, 445, 3389, 8080}[m.r.IntN(7)]), session.SideResponder
		s.Initiator, s.Proto, s.InitiatorTCP, s.EndReason = v4(m.r.Uint32()&0x7fffffff|0x10000000), session.TCP, session.SYN, session.EndHalfOpen
	case p < 0.98:
		s.Responder, s.InitiatorPort, s.Proto = m.server(six), 0, session.ICMP
		lasts = time.Duration(m.r.IntN(4)) * time.Second
	default:
		s.Responder, s.ResponderPort, s.InitiatorPort = m.server(six), 123, 123
		lasts = m.lognormal(25, 0.5)
	}
	s.Start = m.start.Add(time.Duration(m.r.Int64N(int64(m.span)))).UnixNano()
	s.End = s.Start + int64(lasts)
	return s
}

func (m *mix) sessions() []session.Session {
	out := make([]session.Session, m.n)
	for i := range out {
		out[i] = m.session()
	}
	slices.SortFunc(out, func(a, b session.Session) int { return int(min(max(a.End-b.End, -1), 1)) })
	return out
}

// bindings makes what a RADIUS server reports of those subscribers.
func (m *mix) bindings() []session.Binding {
	out := make([]session.Binding, m.n)
	for i := range out {
		sub := m.subs.Uint64()
		from := m.start.Add(time.Duration(m.r.Int64N(int64(m.span)))).Truncate(time.Second)
		b := session.Binding{
			Prefix: Exactly(m.local(sub, false).Netip()), LastPort: 65535,
			From: from.UnixNano(), To: from.Add(m.lognormal(3600e3, 1)).Truncate(time.Second).UnixNano(),
			Subscriber: m.names[sub],
			Line:       fmt.Sprintf("bng1 eth 0/%d/%d:%d", sub%8, sub%48, 100+sub%3900),
			Equipment:  fmt.Sprintf("02:%02x:%02x:00:00:01", byte(sub>>8), byte(sub)),
			Place:      "bng1", Source: session.SourceRADIUS, SourceName: "bng1.example.net", SourceKey: fmt.Sprintf("%016X", m.r.Uint64()),
		}
		if m.r.IntN(5) == 0 {
			b.To, b.Certainty = session.Forever, session.ToInferred
		}
		out[i] = b
	}
	return out
}
