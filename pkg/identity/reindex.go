package identity

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
)

type touched struct {
	p netip.Prefix
	k *kept
}

// reindex brings the lists of all prefixes of the changed sessions up to date.
// A session may occur in changed several times. b.mu is held.
func (b *Book) reindex(changed []*kept) {
	touches := make([]touched, 0, len(changed))
	var prefixes []netip.Prefix
	for _, k := range changed {
		s := k.look()
		b.buf = s.pack(b.buf)
		if k.wait != nil || lastsUntil(s.facts) != 0 {
			k.times().now = b.now
		}
		b.watch(s)
		prefixes = prefixesOf(prefixes[:0], s)
		if len(prefixes) > 0 {
			delete(b.bare, k)
		}
		for _, p := range prefixes {
			touches = append(touches, touched{p, k})
		}
	}
	slices.SortFunc(touches, func(x, y touched) int { return x.p.Compare(y.p) })
	for len(touches) > 0 {
		p, n := touches[0].p, 1
		for n < len(touches) && touches[n].p == p {
			n++
		}
		old := b.idx.list(p)
		list := b.resolvePrefix(p, old, touches[:n])
		if b.replaced(old, list) || len(list) == 1 { // if only for the record to be that of now
			b.idx.set(p, list)
		}
		touches = touches[n:]
	}
}

// few is how many bindings are resolved together without asking which can meet.
const few = 16

// resolvePrefix computes the list of p from the changed sessions and those in the
// old list. An address may be shared in thousands of blocks of ports: of the old
// list only what can meet the changed sessions is resolved again.
func (b *Book) resolvePrefix(p netip.Prefix, old []bound, changed []touched) []bound {
	meet := b.meet[:0]
	for _, t := range changed {
		meet = append(meet, t.k)
	}
	meet = unique(meet)
	claims := b.scratch[:0]
	n := len(meet)
	for _, k := range meet {
		claims = claimsOn(claims, k.look(), p)
	}
	ranges := []portRange{{0, math.MaxUint16}}
	if len(old) > few {
		ranges = meeting(old, claims, meet)
	}
	var apart []bound // keeps its order
	for i := range old {
		if o := &old[i]; !within(ranges, o.first) {
			apart = append(apart, *o)
		} else if !o.k.gone() {
			meet = append(meet, o.k)
		}
	}
	meet = unique(meet)
	for _, k := range meet[n:] {
		claims = claimsOn(claims, k.look(), p)
	}
	claims = slices.DeleteFunc(claims, func(c claim) bool { return !within(ranges, c.lease.FirstPort) })
	list := merge(apart, resolve(claims))
	clear(claims)
	clear(meet)
	b.scratch, b.meet = claims, meet
	return list
}

// unique drops all but the first of each, and keeps the order.
func unique(list []*kept) []*kept {
	out := list[:0]
	seen := map[*kept]bool(nil)
	if len(list) > few {
		seen = make(map[*kept]bool, len(list))
	}
	for _, k := range list {
		if seen == nil && slices.Contains(out, k) || seen[k] {
			continue
		}
		if seen != nil {
			seen[k] = true
		}
		out = append(out, k)
	}
	return out
}

// portRange is a range of ports.
type portRange struct{ first, last uint16 }

// meeting returns the ranges of ports, ascending, outside of which nothing can
// meet what the changed sessions claim, or held until now.
func meeting(old []bound, claims []claim, changed []*kept) []portRange {
	type span struct {
		portRange
		changed bool
	}
	is := make(map[*kept]bool, len(changed))
	for _, k := range changed {
		is[k] = true
	}
	spans := make([]span, 0, len(old)+len(claims))
	for i := range old {
		spans = append(spans, span{portRange{old[i].first, old[i].last}, is[old[i].k]})
	}
	for i := range claims {
		spans = append(spans, span{portRange{claims[i].lease.FirstPort, claims[i].lease.LastPort}, true})
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var out []portRange
	for len(spans) > 0 {
		r, n := spans[0], 1
		for n < len(spans) && spans[n].first <= r.last {
			r.last, r.changed = max(r.last, spans[n].last), r.changed || spans[n].changed
			n++
		}
		if r.changed {
			out = append(out, r.portRange)
		}
		spans = spans[n:]
	}
	return out
}

// within reports whether a port is in one of the ranges, which are ascending.
func within(ranges []portRange, port uint16) bool {
	i, found := slices.BinarySearchFunc(ranges, port, func(r portRange, port uint16) int { return cmp.Compare(r.first, port) })
	return found || i > 0 && port <= ranges[i-1].last
}

// merge joins two lists in the order of compareBinding.
func merge(a, b []bound) []bound {
	if len(a) == 0 {
		return b
	}
	out := make([]bound, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if compareBinding(&a[0], &b[0]) <= 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// claimsOn appends the claims of s on p.
func claimsOn(dst []claim, s *sess, p netip.Prefix) []claim {
	n := len(dst)
	dst = s.claims(dst)
	w := n
	for i := n; i < len(dst); i++ {
		if dst[i].lease.Prefix == p {
			dst[w] = dst[i]
			w++
		}
	}
	return dst[:w]
}
