package identity

import (
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// claim is one uninterrupted hold of one session on one lease, before it is
// resolved against the claims of other sessions.
type claim struct {
	lease    Lease
	what     *content // its subscriber, never nil
	k        *kept    // the session
	id       string   // of k
	from, to int64    // UTC, ns; to is Forever while nothing speaks of an end
	seen     int64    // first moment at which a message named the lease; from may be an estimate before it
	last     int64    // last such moment
	fromInf  bool
	toInf    bool
}

// start is the first moment at which the hold is more than an estimate.
func (c *claim) start() int64 {
	if c.fromInf {
		return c.seen
	}
	return c.from
}

// open reports whether nothing has been reported of the claim's end.
func (c *claim) open() bool { return c.to == session.Forever }

// life is one incarnation of a session id: a source may use an id again.
type life struct {
	facts []fact // none is a cut or a split
	floor int64  // it did not begin before
	ceil  int64  // it was over by then; Forever when nothing says so
}

// ceilOr0 is the time by which l was over, 0 when nothing says so.
func (l *life) ceilOr0() int64 {
	if l.ceil == session.Forever {
		return 0
	}
	return l.ceil
}

// claims appends to dst what the facts of s amount to. It is a pure function
// of the facts and of the restarts of the source.
func (s *sess) claims(dst []claim) []claim {
	first := len(dst)
	facts := s.facts
	ours := slices.ContainsFunc(facts, isOurs)
	if ours {
		facts = slices.DeleteFunc(slices.Clone(facts), isOurs)
	}
	var floor int64
	for len(facts) > 0 {
		n := s.lifeLen(facts)
		l := life{facts: facts[:n], floor: floor, ceil: session.Forever}
		last := &l.facts[n-1]
		if r, ok := s.src.resetAfter(last); ok {
			l.ceil = r
		}
		if n < len(facts) {
			next := &facts[n]
			l.ceil = min(l.ceil, next.at)
			if beganAfter(last, next) {
				l.ceil = min(l.ceil, next.at-next.held)
			}
		}
		dst = s.lifeClaims(dst, &l)
		facts = facts[n:]
		floor = last.at
	}
	if !ours {
		return dst
	}
	s.cut(dst[first:])
	return s.split(dst, first)
}

// isOurs reports whether f is what the book itself noted, not a source.
func isOurs(f fact) bool { return f.kind == kindCut || f.kind == kindSplit }

// lifeLen returns how many of the facts, from the first on, are of one life.
func (s *sess) lifeLen(facts []fact) int {
	stop, name := -1, facts[0].what.subscriber
	start := facts[0].kind == Start
	for i := range facts {
		f := &facts[i]
		if i > 0 && s.newLife(facts, i, stop, start, name) {
			return i
		}
		if f.kind == Stop && stop < 0 {
			stop = i
		}
		start = start || f.kind == Start
		if name == "" {
			name = f.what.subscriber
		}
	}
	return len(facts)
}

// newLife reports whether facts[i] cannot be of the life that began with
// facts[0], has its first Stop at stop (-1: none yet), has seen a Start or
// not, and is of the subscriber name.
func (s *sess) newLife(facts []fact, i, stop int, start bool, name string) bool {
	f, p := &facts[i], &facts[i-1]
	switch {
	case s.src.resetBetween(p, f), beganAfter(p, f), f.kind != Stop && ranOut(lastsUntil(facts[:i]), f.at):
		return true
	case name != "" && f.what.subscriber != "" && f.what.subscriber != name:
		return true
	case stop >= 0:
		e := &facts[stop]
		if f.kind == Stop && f.held >= 0 && f.held == e.held && f.what.equal(e.what) {
			return false // a retransmission, however late
		}
		return f.kind == Start && f.at > e.at || f.at > e.at+slack
	case f.kind == Start && start:
		return f.at > facts[0].at+slack
	case f.kind == Start:
		return f.at > facts[0].at+slack // without a Start so far: it began before this one
	}
	return false
}

// lifeClaims appends the claims of one life.
func (s *sess) lifeClaims(dst []claim, l *life) []claim {
	var done LeaseKind
	for { // the kinds that occur, in ascending order
		kind := LeaseKind(0)
		for i := range l.facts {
			for _, lease := range l.facts[i].what.leases {
				if lease.Kind > done && (kind == 0 || lease.Kind < kind) {
					kind = lease.Kind
				}
			}
		}
		if kind == 0 {
			return dst
		}
		dst = s.kindClaims(dst, l, kind)
		done = kind
	}
}

// kindClaims appends the claims of one life on leases of one kind. A fact that
// names no lease of the kind says nothing about it.
func (s *sess) kindClaims(dst []claim, l *life, kind LeaseKind) []claim {
	open := len(dst) // claims from here on were named by the previous fact
	prev := -1       // the previous fact that names leases of the kind
	for i := range l.facts {
		f := &l.facts[i]
		if !f.what.names(kind) {
			continue
		}
		next := len(dst)
		for _, lease := range f.what.leases {
			if lease.Kind != kind {
				continue
			}
			j := slices.IndexFunc(dst[open:next], func(c claim) bool { return c.lease == lease })
			if j >= 0 {
				c := dst[open+j]
				c.last = f.at
				if f.kind == Start && f.flags&factDoubtful == 0 {
					c.from, c.fromInf = c.seen, false // reports of one moment, see slack
				}
				dst = append(dst, c)
				dst[open+j].last = -1 // goes on in the copy
				continue
			}
			dst = append(dst, s.newClaim(l, i, prev, lease))
		}
		dst, open = settle(dst, open, next, f.at)
		prev = i
	}
	for i := open; i < len(dst); i++ {
		s.end(&dst[i], l)
	}
	return dst
}

// settle ends, at the time at, the claims in dst[open:next] that were not named
// again, drops those that go on in a copy, and returns where the open ones start.
func settle(dst []claim, open, next int, at int64) ([]claim, int) {
	w := open
	for i := open; i < next; i++ {
		if dst[i].last < 0 {
			continue
		}
		dst[w] = dst[i]
		dst[w].to, dst[w].toInf = at, true
		w++
	}
	return append(dst[:w], dst[next:]...), w
}

// newClaim begins a claim that facts[i] of l is the first to name; prev is the
// fact before it that named leases of the same kind, or -1.
func (s *sess) newClaim(l *life, i, prev int, lease Lease) claim {
	f := &l.facts[i]
	c := claim{lease: lease, what: f.what, k: s.kept, id: s.id,
		from: f.at, to: session.Forever, seen: f.at, last: f.at, fromInf: true}
	switch {
	case i == 0 && f.kind == Start:
		c.fromInf = f.flags&factDoubtful != 0
	case prev < 0 && f.kind == Start:
		c.fromInf = f.flags&factDoubtful != 0 // an Interim without lease came within slack before it
	case prev < 0 && f.held > 0 && f.flags&factDoubtful == 0 && l.facts[0].kind != Start:
		// After a Start that did not name it the lease came later, nobody
		// knows when; without one, it was most likely there all the time.
		c.from = max(f.at-f.held, l.floor, lastReset(s.src.resets, f.at), 1)
	}
	for j := range l.facts {
		c.what = c.what.fill(l.facts[j].what)
	}
	return c
}

// end settles the end of a claim that the last fact of its kind still names.
func (s *sess) end(c *claim, l *life) {
	stop := slices.IndexFunc(l.facts, func(f fact) bool { return f.kind == Stop })
	last, until := &l.facts[len(l.facts)-1], lastsUntil(l.facts)
	if until != 0 {
		until = max(until, s.forgotten()) // of renewals that are forgotten
	}
	switch {
	case stop >= 0:
		e := &l.facts[stop]
		c.to = max(e.at, c.seen)
		if until != 0 && until < c.to {
			c.to = max(until, c.seen) // the source noticed later that the lease had run out
		}
		// A Stop that does not name the lease leaves open whether it was
		// given up before, one long after its end whether it was renewed.
		c.toInf = e.flags&factDoubtful != 0 || !slices.Contains(e.what.leases, c.lease) || until != 0 && e.at > until+slack
	case until != 0 && until <= max(s.ranTo(), l.ceilOr0()):
		c.to, c.toInf = max(min(until, l.ceil), c.seen), true
	case l.ceil != session.Forever:
		c.to, c.toInf = max(l.ceil, c.seen), true
	case last.flags&factLate != 0:
		c.to, c.toInf = max(last.at, s.forgotten()), true
	}
}

// cut applies what is remembered of sessions that took a prefix over and are
// themselves forgotten.
func (s *sess) cut(claims []claim) {
	for i := range s.facts {
		f := &s.facts[i]
		if f.kind != kindCut {
			continue
		}
		for j := range claims {
			c := &claims[j]
			if (c.open() || c.toInf) && f.at >= c.from && f.at < c.to && c.lease == f.what.leases[0] {
				c.to, c.toInf = f.at, true
			}
		}
	}
}

// names reports whether c says anything of leases of the kind.
func (c *content) names(kind LeaseKind) bool {
	for i := range c.leases {
		if c.leases[i].Kind == kind {
			return true
		}
	}
	return false
}

// fill returns c with the texts that it lacks taken from o.
func (c *content) fill(o *content) *content {
	if c == o || (c.subscriber != "" || o.subscriber == "") && (c.line != "" || o.line == "") &&
		(c.equipment != "" || o.equipment == "") && (c.place != "" || o.place == "") && (c.group != "" || o.group == "") &&
		(c.identity != "" || o.identity == "") {
		return c
	}
	n := *c
	n.rec = ""
	for _, p := range [...]struct {
		to   *string
		from string
	}{{&n.subscriber, o.subscriber}, {&n.line, o.line}, {&n.equipment, o.equipment}, {&n.place, o.place}, {&n.group, o.group}, {&n.identity, o.identity}} {
		if *p.to == "" {
			*p.to = p.from
		}
	}
	return &n
}

// lastReset returns the last restart before at, or 0.
func lastReset(resets []int64, at int64) int64 {
	i, _ := slices.BinarySearch(resets, at)
	if i == 0 {
		return 0
	}
	return resets[i-1]
}
