package identity

import (
	"cmp"
	"slices"
)

// resolve turns all claims on one prefix into bindings, in the order of
// compareBinding. It is a pure function of the set of claims:
//
//   - a start that is an estimate does not reach back into what was reported
//     of others;
//   - a claim whose end nobody reported ends when another session's claim
//     starts; that end is inferred;
//   - claims whose ends are both reported stay as they are, even if they
//     contradict each other.
//
// Claims on ranges of ports that do not meet, claims of one group
// (Event.Group), and claims of different kinds of source do not touch each
// other. The claims are reordered.
func resolve(claims []claim) []bound {
	if len(claims) > few {
		slices.SortFunc(claims, func(a, b claim) int { return cmp.Compare(a.lease.FirstPort, b.lease.FirstPort) })
	}
	for rest := claims; len(rest) > 0; {
		n := len(rest)
		if n > few {
			n = meetingFirst(rest)
		}
		if n > 1 {
			clipEstimates(rest[:n])
			slices.SortFunc(rest[:n], compareClaim)
			takeOver(rest[:n])
		}
		rest = rest[n:]
	}
	out := make([]bound, len(claims))
	for i := range claims {
		out[i] = claims[i].bound()
	}
	if len(out) > 1 {
		slices.SortFunc(out, func(a, b bound) int { return compareBinding(&a, &b) })
		out = slices.CompactFunc(out, func(a, b bound) bool { return a.from == b.from && a.key() == b.key() })
	}
	return out
}

// meetingFirst returns how many claims, which are in the order of their ports, can
// meet each other before one comes that meets none of them.
func meetingFirst(claims []claim) int {
	n, last := 1, claims[0].lease.LastPort
	for n < len(claims) && claims[n].lease.FirstPort <= last {
		last = max(last, claims[n].lease.LastPort)
		n++
	}
	return n
}

func compareClaim(a, b claim) int {
	return cmp.Or(cmp.Compare(a.from, b.from), compareKeys(a.k.src, a.id, b.k.src, b.id), cmp.Compare(a.seen, b.seen),
		cmp.Compare(a.to, b.to), compareLease(a.lease, b.lease))
}

// touch reports whether a and b cannot both be true at one moment.
func (a *claim) touch(b *claim) bool {
	return a.k.src.origin == b.k.src.origin && a.lease.FirstPort <= b.lease.LastPort && b.lease.FirstPort <= a.lease.LastPort &&
		!(a.k.src == b.k.src && a.id == b.id) &&
		(a.what.group == "" || a.what.group != b.what.group || a.what.subscriber != b.what.subscriber || a.lease.Via != b.lease.Via)
}

// clipEstimates moves estimated starts behind the reported ends of earlier
// holders. If an earlier holder without a reported end was heard of after the
// estimated start, the estimate is wrong, and moves behind that holder's
// inferred end.
func clipEstimates(claims []claim) {
	for i := range claims {
		c := &claims[i]
		if !c.fromInf || c.from >= c.seen {
			continue
		}
		from := c.from
		for j := range claims {
			o := &claims[j]
			reported := !o.toInf && !o.open()
			if o.start() < c.seen && o.touch(c) && (reported || o.last >= c.from) {
				from = max(from, min(o.to, c.seen))
			}
		}
		c.from = from
	}
}

// takeOver ends each claim without a reported end at the start of the next
// claim that it touches. Of two that start at one moment the later in the
// order of compareClaim holds.
func takeOver(claims []claim) {
	for i := range claims {
		c := &claims[i]
		if !c.toInf && !c.open() {
			continue
		}
		for j := i + 1; j < len(claims); j++ {
			o := &claims[j]
			if o.from >= c.to {
				break
			}
			if o.touch(c) {
				c.to, c.toInf = o.from, true
				break
			}
		}
	}
}

// contradictions counts the neighbours in a list that say different things of
// the same moment and ports.
func contradictions(list []bound) int {
	n := 0
	for i := 1; i < len(list); i++ {
		a, b := &list[i-1], &list[i]
		if b.from < a.to && a.name != 0 && b.name != 0 && a.first <= b.last && b.first <= a.last && b.subscriber() != a.subscriber() {
			n++
		}
	}
	return n
}
