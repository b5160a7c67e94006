package identity

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// DefaultTrust is the order in which sources that contradict each other are
// believed.
func DefaultTrust() []session.Source {
	return []session.Source{session.SourceRADIUS, session.SourceDHCP, session.SourceLeases, session.SourceNAT, session.SourceStatic}
}

// ranks turns an order of trust into numbers.
func ranks(trust []session.Source) (out [256]uint8) {
	if trust == nil {
		trust = DefaultTrust()
	}
	for i := range out {
		out[i] = math.MaxUint8
	}
	for i, s := range trust {
		if out[s] == math.MaxUint8 {
			out[s] = uint8(min(i, math.MaxUint8-1))
		}
	}
	return out
}

// At returns the binding of address a and port at the time ns (UTC,
// nanoseconds since 1970): of those that hold the one with the longest prefix,
// then the fewest ports, then of the source that is trusted most, then a
// reported start before an inferred one, then the latest start. For protocols
// without ports, port is 0. It takes no lock and allocates nothing.
func (b *Book) At(a session.Addr, port uint16, ns int64) (Hold, bool) {
	h, ok := b.idx.at(a, port, ns)
	return Hold{h}, ok
}

// At is Book.At.
func (r *Reader) At(a session.Addr, port uint16, ns int64) (Hold, bool) {
	h, ok := r.idx.at(a, port, ns)
	return Hold{h}, ok
}

// Name returns whose address a and port were at the time ns: the subscriber of
// At, or where that names an address of whoever holds it (session.Binding.Via,
// Rule), the holder of that. It takes no lock and allocates nothing.
func (b *Book) Name(a session.Addr, port uint16, ns int64) (subscriber string, ok bool) {
	return b.idx.name(a, port, ns)
}

// Name is Book.Name.
func (r *Reader) Name(a session.Addr, port uint16, ns int64) (subscriber string, ok bool) {
	return r.idx.name(a, port, ns)
}

// Holder returns the binding by which whoever had address a and port at the
// time ns had it: At, with the Subscriber, Identity, Line, Equipment and Place
// of what it leads to (see Name) where those say more. It holds for as long as
// all that leads there, and its certainty is that of the least certain of them.
func (b *Book) Holder(a session.Addr, port uint16, ns int64) (session.Binding, bool) {
	return b.idx.holder(a, port, ns)
}

// Holder is Book.Holder.
func (r *Reader) Holder(a session.Addr, port uint16, ns int64) (session.Binding, bool) {
	return r.idx.holder(a, port, ns)
}

// AllOn returns every binding of address a and any of the ports first to last
// that holds at some moment of from..to, both included, the longest prefix
// first.
func (b *Book) AllOn(a session.Addr, first, last uint16, from, to int64) []session.Binding {
	return b.idx.allOn(a, first, last, from, to)
}

// AllOn is Book.AllOn.
func (r *Reader) AllOn(a session.Addr, first, last uint16, from, to int64) []session.Binding {
	return r.idx.allOn(a, first, last, from, to)
}

func (b *Book) believed(x, y *session.Binding) int   { return b.idx.believed(x, y) }
func (r *Reader) believed(x, y *session.Binding) int { return r.idx.believed(x, y) }

// maxLinks bounds a chain: a shared address, the address behind it, and the
// equipment that it was leased to.
const maxLinks = 3

func (x *index) name(a session.Addr, port uint16, ns int64) (subscriber string, ok bool) {
	for range maxLinks {
		b, found := x.at(a, port, ns)
		if !found {
			break
		}
		if b.name != 0 || !ok {
			subscriber, ok = b.subscriber(), true
		}
		if b.flags&leads == 0 {
			break
		}
		t := b.said()
		via := viaOf(t.rule, addrOf(t.via), a.Netip(), port)
		if !via.IsValid() {
			break
		}
		a, port = session.AddrFrom(via), 0
	}
	return subscriber, ok && subscriber != ""
}

func (x *index) holder(a session.Addr, port uint16, ns int64) (out session.Binding, ok bool) {
	for range maxLinks {
		h, found := x.at(a, port, ns)
		if !found {
			break
		}
		b := h.binding()
		via := viaOf(b.Rule, b.Via, a.Netip(), port)
		if ok {
			lead(&out, &b)
		} else {
			out, ok = b, true
		}
		if !via.IsValid() {
			break
		}
		a, port = session.AddrFrom(via), 0
	}
	return out, ok
}

// lead puts into out what b says of whom it leads to.
func lead(out, b *session.Binding) {
	for _, t := range [...]struct {
		to   *string
		from string
	}{{&out.Subscriber, b.Subscriber}, {&out.Identity, b.Identity}, {&out.Line, b.Line}, {&out.Equipment, b.Equipment}, {&out.Place, b.Place}} {
		if t.from != "" {
			*t.to = t.from
		}
	}
	if (out.To == session.Forever) != (b.To == session.Forever) {
		out.Certainty |= session.ToInferred // of the one without an end, the end may have been lost
	}
	out.From, out.To = max(out.From, b.From), min(out.To, b.To)
	out.Certainty |= b.Certainty
}

// viaOf returns whose holder a binding with that rule and via means for address
// a and port; invalid: its own subscriber.
func viaOf(rule string, via netip.Addr, a netip.Addr, port uint16) netip.Addr {
	if rule == "" {
		return via
	}
	r, err := parsedRule(rule)
	if err != nil {
		return netip.Addr{}
	}
	via, _ = r.Inside(a, port)
	return via
}

// believed orders bindings by which is believed first: the longest prefix, the
// fewest ports, the source that is trusted most, a reported start, the latest
// start.
func (x *index) believed(a, b *session.Binding) int {
	return cmp.Or(cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()), cmp.Compare(a.LastPort-a.FirstPort, b.LastPort-b.FirstPort),
		cmp.Compare(x.trust[a.Source], x.trust[b.Source]),
		cmp.Compare(a.Certainty&session.FromInferred, b.Certainty&session.FromInferred), cmp.Compare(b.From, a.From))
}

// Bindings is what Trace looks in: a Book or a Reader.
type Bindings interface {
	AllOn(a session.Addr, first, last uint16, from, to int64) []session.Binding
	believed(x, y *session.Binding) int
}

// Chain is one way in which somebody held an address: Links[0] is a binding of
// the address itself, each further one is of what the one before names (Via,
// Rule), and the last one names the subscriber.
type Chain struct {
	Links    []session.Binding
	From, To int64 // while all links hold, within the window: UTC, ns; To is not included
}

// Subscriber returns who held the address; "" when it is not known who held the
// last link, which then names an address.
func (c *Chain) Subscriber() string {
	for i := len(c.Links) - 1; i >= 0; i-- {
		if s := c.Links[i].Subscriber; s != "" {
			return s
		}
	}
	return ""
}

// Hold is the chain as one binding of the address that was asked for, as Holder
// returns it: it holds for as long as all links do, within the window or not,
// with the certainty of the least certain of them.
func (c *Chain) Hold() session.Binding {
	out := c.Links[0]
	for i := range c.Links[1:] {
		lead(&out, &c.Links[i+1])
	}
	return out
}

// Holds are the chains as bindings, for Certain to judge.
func Holds(chains []Chain) []session.Binding {
	out := make([]session.Binding, len(chains))
	for i := range chains {
		out[i] = chains[i].Hold()
	}
	return out
}

// Trace returns every way in which somebody held address a with any of the ports
// first..last at some moment of from..to, both included; those that are
// believed first come first. Where nobody is known to hold what a link names,
// the chain ends with that link, for the time that is not covered.
func Trace(b Bindings, a session.Addr, first, last uint16, from, to int64) []Chain {
	return trace(b, a, first, last, from, to, maxLinks)
}

func trace(b Bindings, a session.Addr, first, last uint16, from, to int64, depth int) []Chain {
	list := b.AllOn(a, first, last, from, to)
	slices.SortStableFunc(list, func(x, y session.Binding) int { return b.believed(&x, &y) })
	var out []Chain
	for i := range list {
		x := &list[i]
		alone := Chain{Links: []session.Binding{*x}, From: max(x.From, from), To: min(x.To, after(to))}
		if depth <= 1 {
			out = append(out, alone)
			continue
		}
		for _, hop := range hops(x, a.Netip(), first, last) {
			out = append(out, follow(b, &alone, hop, depth-1)...)
		}
	}
	return out
}

// after is the first moment that does not belong to a window which ends with to.
func after(to int64) int64 {
	if to == math.MaxInt64 {
		return to
	}
	return to + 1
}

// hops returns the addresses that x means; one that is not valid where it means
// its own subscriber. A rule may mean many when no port is known: at most
// maxHops are followed.
func hops(x *session.Binding, a netip.Addr, first, last uint16) []netip.Addr {
	if x.Rule == "" {
		return []netip.Addr{x.Via}
	}
	r, err := parsedRule(x.Rule)
	if err != nil {
		return []netip.Addr{{}}
	}
	var out []netip.Addr
	for port := int(first); port <= int(last) && len(out) < maxHops; {
		via, ok := r.Inside(a, uint16(port))
		if !ok {
			port++
			continue
		}
		if !slices.Contains(out, via) {
			out = append(out, via)
		}
		port = r.next(uint16(port))
	}
	return out
}

const maxHops = 1 << 12

// follow returns the chains that begin with the one link of c and go on behind
// via, and c itself for when nobody holds that.
func follow(b Bindings, c *Chain, via netip.Addr, depth int) []Chain {
	if !via.IsValid() {
		return []Chain{*c}
	}
	inner := trace(b, session.AddrFrom(via), 0, math.MaxUint16, c.From, max(c.To-1, c.From), depth)
	out := make([]Chain, 0, len(inner)+1)
	covered := c.From
	for _, n := range inner {
		n.Links = append([]session.Binding{c.Links[0]}, n.Links...)
		n.From, n.To = max(n.From, c.From), min(n.To, c.To)
		out = append(out, n)
	}
	slices.SortFunc(inner, func(x, y Chain) int { return cmp.Compare(x.From, y.From) })
	for _, n := range inner {
		if n.From > covered {
			break
		}
		covered = max(covered, n.To)
	}
	if covered < c.To || len(inner) == 0 {
		out = append(out, *c)
	}
	return out
}
