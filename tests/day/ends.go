package day

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"github.com/edgelog/edgelog/pkg/session"
)

// home is one subscriber's.
type home struct {
	name    string
	v4      session.Addr // public
	inside  session.Addr // behind the translator; zero: none
	ports   uint16       // first of the block at the translator
	v6      uint64       // upper half of the first /64; 0: none
	devices uint64
	id      uint64
}

const (
	sharedBy  = 16   // subscribers behind one address
	portBlock = 2016 // ports of each
)

func homes(seed uint64, n int) []home {
	list := make([]home, n)
	places := rand.New(rand.NewPCG(seed, 1)).Perm(n)
	shared := 0
	for i := range list {
		h := scatter(seed<<32 | uint64(i))
		p := uint32(places[i])
		list[i] = home{name: userName(scatter(h)), devices: 1 + h>>8%6, id: h}
		if h%5 == 0 {
			list[i].inside = v4(0x64400000 + p)
			list[i].v4 = v4(0xcb007000 + uint32(shared/sharedBy))
			list[i].ports = uint16(1024 + shared%sharedBy*portBlock)
			shared++
		} else {
			list[i].v4 = v4(0x52a00000 + p)
		}
		if h>>16%5 < 3 {
			list[i].v6 = 0x2a05f6c0_00000000 | uint64(p)<<8
		}
	}
	return list
}

// Prefixes calls yield with each prefix that a subscriber has for good: his IPv4
// address, behind the translator where he is behind one, and his IPv6 /56.
func (s *Stream) Prefixes(yield func(p netip.Prefix, subscriber string)) {
	for i := range s.homes {
		h := &s.homes[i]
		own := h.v4
		if h.inside != (session.Addr{}) {
			own = h.inside
		}
		yield(netip.PrefixFrom(own.Netip(), 32), h.name)
		if h.v6 != 0 {
			yield(netip.PrefixFrom(v6(h.v6, 0).Netip(), 56), h.name)
		}
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

// local writes the end user's side as the initiator.
func (s *Stream) local(x *session.Session, h *home, six bool) {
	x.Subscriber, x.Local = h.name, session.SideInitiator
	device := s.r.Uint64N(h.devices)
	port := uint16(32768 + s.r.IntN(28232))
	if scatter(h.id+device)&1 == 0 {
		port = uint16(49152 + s.r.IntN(16384))
	}
	x.Initiator, x.InitiatorPort = h.v4, port
	switch {
	case six:
		x.Initiator = v6(h.v6, scatter(h.id^device<<48^uint64(session.DayOf(s.now))))
	case h.inside != session.Addr{}:
		x.Inside, x.InsidePort = h.inside, port
		x.InitiatorPort = h.ports + uint16(s.r.IntN(portBlock))
	}
}

const (
	servers4 = 50_000
	servers6 = 20_000
)

// server is a popular far end.
func (s *Stream) server(six bool) session.Addr {
	if six {
		h := s.hosts6.Uint64()
		return v6(0x2600_0000_0000_0000|scatter(h%3000)>>20<<8, h/3000)
	}
	h := s.hosts4.Uint64()
	return v4(0x10000000 + uint32(scatter(h%12_000)>>44)<<8 + uint32(scatter(h)>>56))
}

var (
	resolvers4 = [...]session.Addr{v4(0x08080808), v4(0x08080404), v4(0x01010101), v4(0x09090909)}
	resolvers6 = [...]session.Addr{v6(0x2001486048600000, 0x8888), v6(0x2001486048600000, 0x8844), v6(0x2606470047000000, 0x1111), v6(0x262000fe00000000, 0xfe)}
)

// resolver is one of four; the first serves half of all questions.
func (s *Stream) resolver(six bool) session.Addr {
	i := max(0, s.r.IntN(6)-2)
	if six {
		return resolvers6[i]
	}
	return resolvers4[i]
}

// anybody is any address of the network.
func (s *Stream) anybody(six bool) session.Addr {
	if six {
		return v6(0x2000_0000_0000_0000|s.r.Uint64()>>3, s.r.Uint64())
	}
	return v4(0x20000000 + s.r.Uint32()>>1)
}
