package block

import (
	"net/netip"

	"github.com/edgelog/edgelog/pkg/session"
)

// Query is one question: every condition that is given must hold.
//
// A session matches when any part of it lies in [From, To]; both are compared
// in whole milliseconds, as blocks keep time, so that cutting off fractions
// loses no session. A binding matches when it was in force at any instant of
// [From, To].
type Query struct {
	Subscriber string       // "" for any
	Address    netip.Prefix // the end user's side, before or behind a translation; the zero Prefix for any
	Port       uint16       // with Address: the end user's port there; 0 for any
	Remote     netip.Prefix // the far side; the zero Prefix for any
	RemotePort uint16       // with Remote; 0 for any

	From int64 // UTC, nanoseconds since 1970
	To   int64 // UTC, nanoseconds since 1970, included
}

// Exactly returns the prefix that holds a alone.
func Exactly(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a.WithZone(""), a.BitLen()) }

// span is a prefix made ready for comparing.
type span struct {
	any      bool
	is4      bool
	mask, is wide
}

func spanOf(p netip.Prefix) span {
	if !p.IsValid() {
		return span{any: true}
	}
	a, bits := p.Addr(), p.Bits()
	if a.Is4() {
		bits += 96
	}
	m := mask(bits)
	w := widen(session.AddrFrom(a))
	w.hi &= m.hi
	w.lo &= m.lo
	return span{is4: w.is4() && bits >= 96, mask: m, is: w}
}

func mask(bits int) (m wide) {
	if bits > 64 {
		return wide{^uint64(0), ^uint64(0) << (128 - bits)}
	}
	return wide{hi: ^uint64(0) << (64 - bits)}
}

// holds reports whether w lies in the prefix; an IPv6 prefix, however short,
// never holds an IPv4 address.
func (p *span) holds(w wide) bool {
	return p.any || w.hi&p.mask.hi == p.is.hi && w.lo&p.mask.lo == p.is.lo && w.is4() == p.is4
}

// window is the time of a query in milliseconds.
type window struct{ from, to int64 }

// asked is a query made ready for one block.
type asked struct {
	window
	local, remote         span
	localPort, remotePort uint16 // 0 for any
	holder                int    // entry of names, -1 for any
}

// Match appends the sessions that q asks for to dst. Where it is not known
// which side is the end user's, either side may be either.
func (s *Sessions) Match(dst []session.Session, q Query) []session.Session {
	a := asked{
		window: window{milli(q.From), milli(q.To)},
		local:  spanOf(q.Address), remote: spanOf(q.Remote), holder: -1,
	}
	if !a.local.any {
		a.localPort = q.Port
	}
	if !a.remote.any {
		a.remotePort = q.RemotePort
	}
	if s.MinStart > a.to || s.MaxEnd < a.from {
		return dst
	}
	if q.Subscriber != "" {
		if a.holder = find(s.names, q.Subscriber); a.holder < 0 {
			return dst
		}
	}
	for run, addr := range s.locals {
		here := a.local.holds(addr)
		for i := s.firsts[run]; i < s.firsts[run+1]; i++ {
			if s.start[i] > a.to {
				break // starts ascend within an address
			}
			if s.end[i] >= a.from && s.matches(&a, addr, here, i) {
				dst = append(dst, s.at(run, i))
			}
		}
	}
	return dst
}

// matches looks at everything but the time.
func (s *Sessions) matches(a *asked, addr wide, here bool, i int) bool {
	if a.holder >= 0 && s.holder[i] != uint32(a.holder) {
		return false
	}
	x := s.shapes[s.shape[i]]
	side, flags := session.Side(x>>16), session.Flags(x>>8)
	f := &s.book[s.far[i]]
	farPort := uint16(f.service >> 8)
	if here && (a.localPort == 0 || s.localPort[i] == a.localPort) && a.farSide(flags, f.wide, farPort) {
		return true
	}
	if w, port, ok := s.insideOf(i); ok && !a.local.any && a.local.holds(w) && (a.localPort == 0 || port == a.localPort) &&
		a.farSide(flags, f.wide, farPort) {
		return true
	}
	return side != session.SideInitiator && side != session.SideResponder && flags&session.LocalOnly == 0 &&
		a.local.holds(f.wide) && (a.localPort == 0 || farPort == a.localPort) && a.farSide(flags, addr, s.localPort[i])
}

// farSide reports whether the far side is the one asked for. One that was never
// recorded never is.
func (a *asked) farSide(flags session.Flags, w wide, port uint16) bool {
	if a.remote.any {
		return true
	}
	return flags&session.LocalOnly == 0 && a.remote.holds(w) && (a.remotePort == 0 || port == a.remotePort)
}

func find(list []string, s string) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	return -1
}
