package identity

import (
	"cmp"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// fact is one event as its session remembers it.
type fact struct {
	at    int64 // UTC, ns
	held  int64 // ns; -1 when not reported
	until int64 // Event.Until, or that of renewals which this fact stands for; 0: none
	what  *content
	kind  Kind
	flags factFlags
}

type factFlags uint8

const (
	factDoubtful factFlags = 1 << 0 // see Event.Doubtful
	// factLate marks a fact from so long ago that the rest of its session may
	// be forgotten: without a newer fact the session does not count as going on.
	factLate factFlags = 1 << 1
)

// content is what an event says beside its time. Facts share one content when
// they say the same; what it says is never changed.
type content struct {
	subscriber, line, equipment, place, group, identity string
	leases                                              []Lease // normalLeases

	rec string // the record that the content is in; "" as long as it is in none
	at  uint32 // where its said (record.go) begins in rec
}

func (c *content) equal(o *content) bool {
	return c == o || c.subscriber == o.subscriber && c.line == o.line && c.equipment == o.equipment &&
		c.place == o.place && c.group == o.group && c.identity == o.identity && slices.Equal(c.leases, o.leases)
}

// sess is all that is known of one session of a source, while it is worked on.
type sess struct {
	*kept
	id      string
	facts   []fact // compareFact order; at most maxFacts
	changed bool   // the record is not up to date
}

// source is a NAS or another place that sessions come from.
type source struct {
	origin   session.Source
	name     string
	prefix   string  // what the keys of its sessions begin with
	resets   []int64 // Accounting-On and -Off, UTC ns, ascending
	sessions roll
}

// slack is how far apart two reports of the same moment may lie: a NAS that
// sends no Event-Timestamp dates a retransmission by its arrival less a delay
// in whole seconds. ns.
const slack = int64(5e9)

// maxFacts bounds the facts of one session. A source that gives one session id
// to everybody would otherwise make each event slower than the last.
const maxFacts = 512

// compareFact orders facts by time; of one moment Start comes before Interim
// before Stop. The rest only makes the order total.
func compareFact(a, b fact) int {
	if c := cmp.Compare(a.at, b.at); c != 0 {
		return c
	}
	if c := cmp.Compare(factRank[a.kind], factRank[b.kind]); c != 0 {
		return c
	}
	if c := cmp.Or(cmp.Compare(a.held, b.held), cmp.Compare(a.until, b.until)); c != 0 {
		return c
	}
	if c := cmp.Compare(a.flags, b.flags); c != 0 {
		return c
	}
	return compareContent(a.what, b.what)
}

var factRank = [...]uint8{Start: 1, Interim: 2, Stop: 3, kindCut: 4, kindSplit: 5}

func compareContent(a, b *content) int {
	if a == b {
		return 0
	}
	if c := cmp.Or(cmp.Compare(a.subscriber, b.subscriber), cmp.Compare(a.line, b.line),
		cmp.Compare(a.equipment, b.equipment), cmp.Compare(a.place, b.place), cmp.Compare(a.group, b.group),
		cmp.Compare(a.identity, b.identity)); c != 0 {
		return c
	}
	return slices.CompareFunc(a.leases, b.leases, compareLease)
}

// outcome says what adding a fact to a session did.
type outcome uint8

const (
	factKnown   outcome = iota // it was there before
	factQuiet                  // nothing that matters after a restart is new
	factAdded                  // the session has changed
	factCrowded                // the session has changed, and an old fact was pushed out
)

// add puts f into the facts of s. Content that s already has is shared.
func (s *sess) add(f fact) outcome {
	i, found := slices.BinarySearchFunc(s.facts, f, compareFact)
	if found || s.hasSame(f) {
		return factKnown
	}
	for j := range s.facts {
		if s.facts[j].what.equal(f.what) {
			f.what = s.facts[j].what
			break
		}
	}
	if i > 0 && i < len(s.facts) && s.says(&s.facts[i-1], &f, &s.facts[i]) && s.facts[i-1].until >= f.until {
		return factKnown
	}
	s.changed = true
	if s.isQuiet(i, f) {
		if s.facts[i-1].kind == Interim && i >= 2 && s.facts[i-2].what == f.what {
			s.facts[i-1] = f // the news is only that it still goes on
		} else {
			s.facts = append(s.facts, f)
		}
		return factQuiet
	}
	s.facts = slices.Insert(s.facts, i, f)
	s.compress(i)
	if len(s.facts) > maxFacts {
		s.facts = slices.Delete(s.facts, 0, len(s.facts)-maxFacts)
		return factCrowded
	}
	return factAdded
}

// hasSame reports whether s holds f with other flags: whether an event counts
// as late depends on when it came, so a repetition may differ in that alone.
func (s *sess) hasSame(f fact) bool {
	i, _ := slices.BinarySearchFunc(s.facts, f.at, func(g fact, at int64) int { return cmp.Compare(g.at, at) })
	for ; i < len(s.facts) && s.facts[i].at == f.at; i++ {
		g := &s.facts[i]
		if g.kind == f.kind && g.held == f.held && g.until >= f.until && g.flags&^factLate == f.flags&^factLate && g.what.equal(f.what) {
			if f.flags&factLate == 0 && g.flags&factLate != 0 {
				return false // what was thought late is not: let it in
			}
			return true
		}
	}
	return false
}

// isQuiet reports whether f, to stand at i, is an interim update that says
// what the newest fact said already.
func (s *sess) isQuiet(i int, f fact) bool {
	if f.kind != Interim || f.until != 0 || i == 0 || i != len(s.facts) {
		return false
	}
	last := &s.facts[i-1]
	return (last.kind == Start || last.kind == Interim) && last.what == f.what && last.flags == f.flags &&
		!s.src.resetBetween(last, &f) && !beganAfter(last, &f)
}

// compress drops interim updates near i that stand between two others which
// say the same; the first and the last of a row carry all of it.
func (s *sess) compress(i int) {
	for j := min(i+1, len(s.facts)-2); j >= max(i-1, 1); j-- {
		if s.says(&s.facts[j-1], &s.facts[j], &s.facts[j+1]) {
			s.facts[j-1].until = max(s.facts[j-1].until, s.facts[j].until)
			s.facts = slices.Delete(s.facts, j, j+1)
		}
	}
}

// says reports whether a and c together already say what b, between them, says,
// but for how long the lease lasts, which a may take over from b.
func (s *sess) says(a, b, c *fact) bool {
	return b.kind == Interim && c.kind == Interim && (a.kind == Interim || a.kind == Start) &&
		a.until != 0 == (b.until != 0) && !ranOut(a.until, b.at) && !ranOut(max(a.until, b.until), c.at) &&
		a.what == b.what && b.what == c.what && a.flags == b.flags && b.flags == c.flags &&
		!beganAfter(a, b) && !s.src.resetBetween(a, b)
}

// resetBetween reports whether the source restarted between a and b, so that
// they cannot be of one session. A Stop at the very moment of the restart
// belongs to what went before, anything else to what comes after.
func (s *source) resetBetween(a, b *fact) bool {
	for _, r := range s.resets {
		switch {
		case r < a.at, r == a.at && a.kind != Stop:
		case r < b.at, r == b.at && b.kind != Stop:
			return true
		}
	}
	return false
}

// resetAfter returns the first restart that ends what f reports.
func (s *source) resetAfter(f *fact) (int64, bool) {
	for _, r := range s.resets {
		if r > f.at || r == f.at && f.kind == Stop {
			return r, true
		}
	}
	return 0, false
}

// addReset notes a restart. Reports within slack of each other are one
// restart, at the earliest of their times.
func (s *source) addReset(at int64) bool {
	i, found := slices.BinarySearch(s.resets, at)
	if found || i > 0 && at-s.resets[i-1] <= slack {
		return false
	}
	if i < len(s.resets) && s.resets[i]-at <= slack {
		s.resets[i] = at
		return true
	}
	s.resets = slices.Insert(s.resets, i, at)
	return true
}

// beganAfter reports whether b, by its own session time, is of a session that
// began after a: the source has used the session id again.
func beganAfter(a, b *fact) bool {
	return b.held >= 0 && b.at-b.held > a.at+slack
}
