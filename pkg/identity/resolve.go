package identity

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
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
func resolve(claims []claim) []session.Binding {
	if len(claims) > 1 {
		clipEstimates(claims)
		slices.SortFunc(claims, compareClaim)
		takeOver(claims)
	}
	out := make([]session.Binding, len(claims))
	for i := range claims {
		out[i] = claims[i].binding()
	}
	if len(out) > 1 {
		slices.SortFunc(out, func(a, b session.Binding) int { return compareBinding(&a, &b) })
		out = slices.CompactFunc(out, func(a, b session.Binding) bool { return keyOf(&a) == keyOf(&b) })
	}
	return out
}

func compareClaim(a, b claim) int {
	return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.key, b.key), cmp.Compare(a.seen, b.seen),
		cmp.Compare(a.to, b.to), compareLease(a.lease, b.lease))
}

// touch reports whether a and b cannot both be true at one moment.
func (a *claim) touch(b *claim) bool {
	return a.key != b.key && a.origin == b.origin && a.lease.FirstPort <= b.lease.LastPort && b.lease.FirstPort <= a.lease.LastPort &&
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

func (c *claim) binding() session.Binding {
	b := session.Binding{
		Prefix: c.lease.Prefix, FirstPort: c.lease.FirstPort, LastPort: c.lease.LastPort,
		From: c.from, To: c.to,
		Subscriber: c.what.subscriber, Line: c.what.line, Equipment: c.what.equipment, Place: c.what.place,
		Identity: c.what.identity, Via: c.lease.Via, Rule: c.lease.Rule,
		Source: c.origin, SourceName: c.src, SourceKey: c.key,
	}
	if c.fromInf {
		b.Certainty |= session.FromInferred
	}
	if c.toInf {
		b.Certainty |= session.ToInferred
	}
	return b
}

// bindingKey names one binding: what is handed over twice under one key is one
// binding, and the later version holds. Of two subscribers that one session named
// at one moment, the first held for no time at all; he has to be told of, too, or
// what was handed over of him would stay.
type bindingKey struct {
	source      string
	subscriber  string
	prefix      netip.Prefix
	from        int64
	first, last uint16
	via         netip.Addr
	rule        string
}

func keyOf(b *session.Binding) bindingKey {
	return bindingKey{source: b.SourceKey, subscriber: b.Subscriber, prefix: b.Prefix, from: b.From, first: b.FirstPort, last: b.LastPort, via: b.Via, rule: b.Rule}
}

// compareBinding is the order of bindings within one prefix: by start. The
// rest only makes it total.
func compareBinding(a, b *session.Binding) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.SourceKey, b.SourceKey),
		cmp.Compare(a.FirstPort, b.FirstPort), cmp.Compare(a.LastPort, b.LastPort), cmp.Compare(a.To, b.To),
		cmp.Compare(a.Subscriber, b.Subscriber), cmp.Compare(a.Certainty, b.Certainty), a.Via.Compare(b.Via), cmp.Compare(a.Rule, b.Rule))
}

// contradictions counts the neighbours in a list that say different things of
// the same moment and ports.
func contradictions(list []session.Binding) int {
	n := 0
	for i := 1; i < len(list); i++ {
		a, b := &list[i-1], &list[i]
		if b.From < a.To && b.Subscriber != a.Subscriber && a.Subscriber != "" && b.Subscriber != "" && a.FirstPort <= b.LastPort && b.FirstPort <= a.LastPort {
			n++
		}
	}
	return n
}
