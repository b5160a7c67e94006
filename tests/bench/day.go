package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// days makes the sessions of a provider, day after day, in the order in which an
// agent gets them: by their ends. What they are like:
//
//   - 10,000 subscribers, whose activity follows Zipf (s 1.1, v 200); each has an
//     IPv4 address for good, but for one in five: 64 of these share one, with a
//     translation. Three in five have an IPv6 /56 too, with three devices, and use
//     it where the server does, for two in five sessions.
//   - Per hour as many sessions as the hour's share of the day says (a trough at 4
//     in the morning, a peak of 1.7 times the mean at 21, UTC).
//   - 35 % DNS, nine in ten of it to the provider's two resolvers; 25 % TCP to port
//     443, three in ten of it ended by RST; 20 % QUIC; 8 % UDP between peers; 6 %
//     scans from outside that nobody answers; 4 % ICMP; 2 % NTP.
//   - 50,000 servers, whose popularity follows Zipf (s 1.15, v 8).
//   - Durations are log-normal by protocol: medians of 18 ms (DNS), 4 s (TCP), 9 s
//     (QUIC), 0.8 s (peers), at most four hours. Source ports are random in 32768-60999.
type days struct {
	r       *rand.Rand
	subs    *rand.Zipf
	servers *rand.Zipf
	names   []string
	perDay  float64
	begin   int64 // ns
	at      int64 // ns, the end of the session made last
	n       uint64
}

const (
	daySubscribers = 10_000
	dayServers     = 50_000
	behindOne      = 64 // subscribers that share an address
	sharing        = 5  // one subscriber in so many shares
)

// hourly is the share of each hour of a day, their mean 1.
var hourly = [24]float64{0.75, 0.55, 0.42, 0.36, 0.33, 0.36, 0.48, 0.68, 0.85, 0.95, 1.0, 1.05, 1.1, 1.1, 1.08, 1.1, 1.15, 1.25, 1.4, 1.55, 1.66, 1.7, 1.5, 1.13}

func newDays(begin time.Time, perDay float64) *days {
	r := rand.New(rand.NewPCG(20, 26))
	d := &days{
		r: r, perDay: perDay, begin: begin.UnixNano(), at: begin.UnixNano(),
		subs: rand.NewZipf(r, 1.1, 200, daySubscribers-1), servers: rand.NewZipf(r, 1.15, 8, dayServers-1),
	}
	for i := range uint64(daySubscribers) {
		d.names = append(d.names, fmt.Sprintf("cust%06d@example.net", 100_000+scattered(i)%800_000))
	}
	return d
}

// scattered spreads small numbers over 64 bits, always the same way.
func scattered(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func ipv4(a uint32) (x session.Addr) {
	x[10], x[11] = 0xff, 0xff
	binary.BigEndian.PutUint32(x[12:], a)
	return x
}

func ipv6(hi, lo uint64) (x session.Addr) {
	binary.BigEndian.PutUint64(x[:8], hi)
	binary.BigEndian.PutUint64(x[8:], lo)
	return x
}

// own returns the address that a subscriber is seen with, and the one that he
// has himself where that is another.
func (d *days) own(sub uint64, six bool) (local, inside session.Addr) {
	switch {
	case six:
		return ipv6(0x20010db8_00000000|sub<<8, scattered(sub<<2|d.r.Uint64N(3))), session.Addr{}
	case sub%sharing == 0:
		return ipv4(0xc6336400 + uint32(sub/sharing/behindOne)), ipv4(0x64400000 + uint32(sub))
	}
	return ipv4(0x52000000 + uint32(sub) + uint32(sub/250)*6), session.Addr{}
}

func (d *days) server(six bool) session.Addr {
	h := d.servers.Uint64()
	if six {
		return ipv6(0x2600000000000000|scattered(h%97)>>16<<8, h/97)
	}
	return ipv4(uint32(scattered(h))>>2 | 0x10000000)
}

func (d *days) lasts(median, sigma float64) int64 {
	return int64(math.Min(median*math.Exp(d.r.NormFloat64()*sigma), 4*3600e3)) * 1e6
}

func (d *days) ephemeral() uint16 { return uint16(32768 + d.r.IntN(28232)) }

// next puts the session that ends next into s.
func (d *days) next(s *session.Session) {
	hour := time.Unix(0, d.at).UTC().Hour()
	mean := 24 * 3600e9 / (d.perDay * hourly[hour])
	d.at += int64(d.r.ExpFloat64() * mean)
	d.n++
	sub := d.subs.Uint64()
	six := sub%5 < 3 && d.r.IntN(5) < 2
	*s = session.Session{Local: session.SideInitiator, Subscriber: d.names[sub], EndReason: session.EndIdle, Proto: session.UDP, InitiatorPort: d.ephemeral()}
	var lasts int64
	switch p := d.r.IntN(100); {
	case p < 35:
		lasts = d.lasts(18, 0.8)
		d.dns(s, six)
	case p < 60:
		s.Responder, s.ResponderPort, s.Proto = d.server(six), 443, session.TCP
		s.InitiatorTCP, s.ResponderTCP, s.EndReason = 0x1b, 0x1b, session.EndFIN
		if d.r.IntN(10) < 3 {
			s.InitiatorTCP, s.EndReason = 0x1f, session.EndRST
		}
		lasts = d.lasts(4000, 2)
	case p < 80:
		s.Responder, s.ResponderPort = d.server(six), 443
		lasts = d.lasts(9000, 1.8)
	case p < 88:
		six = false
		s.Responder, s.ResponderPort = ipv4(d.r.Uint32()&0x7fffffff|0x10000000), uint16(1024+d.r.IntN(64000))
		lasts = d.lasts(800, 2)
	case p < 94:
		d.scan(s, sub)
		s.Start, s.End = d.at, d.at
		return
	case p < 98:
		s.Responder, s.InitiatorPort, s.Proto = d.server(six), 0, session.ICMP
		lasts = d.r.Int64N(4) * 1e9
	default:
		s.Responder, s.ResponderPort, s.InitiatorPort = d.server(six), 123, 123
		lasts = d.lasts(25, 0.5)
	}
	s.Initiator, s.Inside = d.own(sub, six)
	if s.Inside != (session.Addr{}) && s.InitiatorPort != 0 {
		s.InsidePort = s.InitiatorPort
	}
	s.Start, s.End = d.at-lasts, d.at
}

func (d *days) dns(s *session.Session, six bool) {
	s.ResponderPort = 53
	which := uint64(d.r.IntN(2))
	far := d.r.IntN(10) == 0
	switch {
	case six && far:
		s.Responder = ipv6(0x2606470047000000, 0x1111+which)
	case six:
		s.Responder = ipv6(0x20010db8ffff0000, 0x53+which)
	case far:
		s.Responder = ipv4(0x08080808 - 0x04040404*uint32(which))
	default:
		s.Responder = ipv4(0x50000035 + uint32(which))
	}
}

// scan is a SYN from outside that nobody answers.
func (d *days) scan(s *session.Session, sub uint64) {
	s.Responder, _ = d.own(sub, false)
	s.ResponderPort, s.Local = []uint16{22, 23, 80, 443, 445, 3389, 8080}[d.r.IntN(7)], session.SideResponder
	s.Initiator, s.Proto, s.InitiatorTCP, s.EndReason = ipv4(d.r.Uint32()&0x7fffffff|0x10000000), session.TCP, session.SYN, session.EndHalfOpen
}

// static is the table of who has which prefix, as the configuration takes it.
func (d *days) static() string {
	out := []byte("prefix,subscriber\n")
	row := func(p netip.Prefix, sub uint64) { out = fmt.Appendf(out, "%s,%s\n", p, d.names[sub]) }
	for sub := range uint64(daySubscribers) {
		local, inside := d.own(sub, false)
		if inside != (session.Addr{}) {
			local = inside
		}
		row(netip.PrefixFrom(local.Netip(), 32), sub)
		if sub%5 < 3 {
			local, _ = d.own(sub, true)
			row(netip.PrefixFrom(local.Netip(), 56).Masked(), sub)
		}
	}
	return string(out)
}

// some makes n sessions.
func (d *days) some(n int) []session.Session {
	out := make([]session.Session, n)
	for i := range out {
		d.next(&out[i])
	}
	return slices.Clip(out)
}
