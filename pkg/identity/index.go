package identity

import (
	"net/netip"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// at returns the best binding for a and port at ns: of those that hold, the
// one with the longest prefix, then the fewest ports, then of the source that
// is trusted most; then a reported start goes before an inferred one, the later
// before the earlier, and the order of SourceKey decides the rest.
func (x *index) at(a session.Addr, port uint16, ns int64) (*bound, bool) {
	hi, lo, lengths := x.where(a)
	buckets := *x.buckets.Load() // after the lengths, which are published last
	for _, n := range lengths {
		h, l := mask(hi, lo, n)
		e := x.find(buckets, h, l, n)
		if e == nil {
			continue
		}
		if one := &e.one[0]; one.covers(port, ns) {
			return one, true
		}
		if e.several != nil {
			if b := x.best(*e.several, port, ns); b != nil {
				return b, true
			}
		}
	}
	return nil, false
}

func (x *index) best(list []bound, port uint16, ns int64) *bound {
	var b *bound
	for i := len(list) - 1; i >= 0; i-- {
		c := &list[i]
		if !c.covers(port, ns) {
			continue
		}
		if b == nil || x.better(c, b) {
			b = c
		}
	}
	return b
}

// better reports whether c goes before b, which stands behind it in the order
// of compareBinding.
func (x *index) better(c, b *bound) bool {
	if w, v := c.last-c.first, b.last-b.first; w != v {
		return w < v
	}
	if t, u := x.trust[c.k.src.origin], x.trust[b.k.src.origin]; t != u {
		return t < u
	}
	return b.certainty()&session.FromInferred != 0 && c.certainty()&session.FromInferred == 0
}

// allOn returns every binding that holds for a and any of the ports first..last
// at some moment of from..to, both included, the longest prefix first. One that
// began and ended at the same moment counts as holding then.
func (x *index) allOn(a session.Addr, first, last uint16, from, to int64) []session.Binding {
	var out []session.Binding
	hi, lo, lengths := x.where(a)
	buckets := *x.buckets.Load()
	for _, n := range lengths {
		h, l := mask(hi, lo, n)
		list := x.find(buckets, h, l, n).list()
		for i := range list {
			b := &list[i]
			if last >= b.first && first <= b.last && b.from <= to && (b.to > from || b.from == b.to && b.from >= from) {
				out = append(out, b.binding())
			}
		}
	}
	return out
}

// Certain reports whether the candidates, all that hold at some moment of
// from..to as AllAt returns them, leave no doubt about the subscriber: those of
// the longest prefix name one subscriber, each has a reported start and a
// reported end, and one of them holds all the time. A binding still in force is
// not certain: its end may have been lost, or be on its way.
func Certain(candidates []session.Binding, from, to int64) bool {
	if len(candidates) == 0 || candidates[0].Subscriber == "" {
		return false
	}
	first, whole := &candidates[0], false
	for i := range candidates {
		b := &candidates[i]
		if b.Prefix != first.Prefix {
			break
		}
		if b.Certainty != 0 || b.To == session.Forever || b.Subscriber != first.Subscriber {
			return false
		}
		whole = whole || b.From <= from && b.To > to
	}
	return whole
}

// inForce returns the bindings that have no end.
func (x *index) inForce() []session.Binding {
	var out []session.Binding
	for list := range x.all() {
		for i := range list {
			if list[i].to == session.Forever {
				out = append(out, list[i].binding())
			}
		}
	}
	return out
}

// Held returns the bindings that have not ended by the time, those that begin
// later included, in no particular order.
func (b *Book) Held(at int64) []session.Binding {
	var out []session.Binding
	for list := range b.idx.all() {
		for i := range list {
			if list[i].to > at {
				out = append(out, list[i].binding())
			}
		}
	}
	return out
}

// prefixesOf returns the prefixes that the facts of s name, each once, sorted.
func prefixesOf(dst []netip.Prefix, s *sess) []netip.Prefix {
	for i := range s.facts {
		if i > 0 && s.facts[i].what == s.facts[i-1].what {
			continue
		}
		for _, l := range s.facts[i].what.leases {
			dst = append(dst, l.Prefix)
		}
	}
	if len(dst) > 1 {
		slices.SortFunc(dst, netip.Prefix.Compare)
		dst = slices.Compact(dst)
	}
	return dst
}
