package block

import (
	"net/netip"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// Query is one question: every condition that is given must hold.
//
// A session matches when any part of it lies in [From, To]; both are compared
// in whole milliseconds, as blocks keep time, so that cutting off fractions
// loses no session.
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

func askedOf(q *Query) asked {
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
	return a
}

// place is a row and its local address.
type place struct{ run, row uint32 }

// Match appends the sessions that q asks for to dst. Where it is not known
// which side is the end user's, either side may be either. It opens no more
// columns than it must to see that there is nothing. The error is that of
// Look; it cannot be one after Decoder.Sessions. dst is then returned as it was.
func (s *Sessions) Match(dst []session.Session, q Query) ([]session.Session, error) {
	if !s.MayMatch(q) {
		return dst, nil
	}
	a := askedOf(&q)
	s.found = s.found[:0]
	for _, narrow := range [...]func(*asked, Query) (bool, error){s.byLocal, s.bySubscriber, s.byBook, s.byTime, s.byPort} {
		if some, err := narrow(&a, q); !some || err != nil {
			return dst, err
		}
	}
	if err := s.need(everything...); err != nil {
		return dst, err
	}
	for _, p := range s.found {
		addr, i := s.locals[p.run], int(p.row)
		if s.matches(&a, addr, a.local.holds(addr), i) {
			dst = append(dst, s.at(int(p.run), i))
		}
	}
	return dst, nil
}

// onlyLocal reports whether the address asked for can be a row's local one only.
func (s *Sessions) onlyLocal(a *asked) bool { return !a.local.any && !s.loose && len(s.insides) == 0 }

// byLocal says whether one of the addresses is asked for.
func (s *Sessions) byLocal(a *asked, _ Query) (bool, error) {
	if err := s.need(colLocal); err != nil || a.local.any || s.loose || slices.ContainsFunc(s.locals, a.local.holds) {
		return true, err
	}
	err := s.need(colInside)
	return slices.ContainsFunc(s.insides, a.local.holds), err
}

func (s *Sessions) bySubscriber(a *asked, q Query) (bool, error) {
	if q.Subscriber == "" {
		return true, nil
	}
	if err := s.need(colSubscriber); err != nil {
		return false, err
	}
	a.holder = slices.Index(s.names, q.Subscriber)
	return a.holder >= 0, nil
}

// byBook says whether one of the remote addresses is asked for.
func (s *Sessions) byBook(a *asked, _ Query) (bool, error) {
	if a.remote.any || s.loose {
		return true, nil
	}
	err := s.need(colFarBook)
	return slices.ContainsFunc(s.book, func(f far) bool {
		return a.remote.holds(f.wide) && (a.remotePort == 0 || uint16(f.service>>8) == a.remotePort)
	}), err
}

// byTime finds the rows in the window, of the addresses that are asked for.
func (s *Sessions) byTime(a *asked, _ Query) (bool, error) {
	if err := s.need(colInside, colStart); err != nil {
		return false, err
	}
	only := s.onlyLocal(a)
	for run, addr := range s.locals {
		if only && !a.local.holds(addr) {
			continue
		}
		for i := s.firsts[run]; i < s.firsts[run+1] && s.start[i] <= a.to; i++ { // starts ascend within an address
			if a.holder < 0 || s.holder[i] == uint32(a.holder) {
				s.found = append(s.found, place{uint32(run), uint32(i)})
			}
		}
	}
	if len(s.found) == 0 {
		return false, nil
	}
	if err := s.need(colDuration); err != nil {
		return false, err
	}
	s.found = slices.DeleteFunc(s.found, func(p place) bool { return s.end[p.row] < a.from })
	return len(s.found) > 0, nil
}

func (s *Sessions) byPort(a *asked, _ Query) (bool, error) {
	if a.localPort == 0 || !s.onlyLocal(a) {
		return true, nil
	}
	if err := s.need(colLocalPort); err != nil {
		return false, err
	}
	s.found = slices.DeleteFunc(s.found, func(p place) bool { return s.localPort[p.row] != a.localPort })
	return len(s.found) > 0, nil
}

// matches looks at everything but the time.
func (s *Sessions) matches(a *asked, addr wide, here bool, i int) bool {
	if a.holder >= 0 && s.holder[i] != uint32(a.holder) {
		return false
	}
	x := s.shapes[s.shape[i]]
	flags := session.Flags(x >> 8)
	f := &s.book[s.far[i]]
	farPort := uint16(f.service >> 8)
	if here && (a.localPort == 0 || s.localPort[i] == a.localPort) && a.farSide(flags, f.wide, farPort) {
		return true
	}
	if w, port, ok := s.insideOf(i); ok && !a.local.any && a.local.holds(w) && (a.localPort == 0 || port == a.localPort) &&
		a.farSide(flags, f.wide, farPort) {
		return true
	}
	return x.loose() && a.local.holds(f.wide) && (a.localPort == 0 || farPort == a.localPort) && a.farSide(flags, addr, s.localPort[i])
}

// farSide reports whether the far side is the one asked for. One that was never
// recorded never is.
func (a *asked) farSide(flags session.Flags, w wide, port uint16) bool {
	if a.remote.any {
		return true
	}
	return flags&session.LocalOnly == 0 && a.remote.holds(w) && (a.remotePort == 0 || port == a.remotePort)
}
