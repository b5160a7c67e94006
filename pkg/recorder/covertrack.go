package recorder

import (
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/session"
)

// clockStep is how far the clock must jump for its seconds to be marked.
const clockStep = 500 * time.Millisecond

// gapEnd is how many seconds must be complete again for a gap to be over.
const gapEnd = 5

// track is what is known of one uplink and not kept yet.
type track struct {
	uplink  string
	until   int64            // the first second that is not decided
	pending session.Timeline // said of seconds from until on
	lived   int64            // the clock was set back: seconds before this one come a second time
	ready   []session.Span   // decided, to be kept

	gap   *session.Span // going on; its State and Reasons are all that it had
	quiet int64         // seconds since it was last not complete

	total session.CoverTotal // since the start of this agent
	last  session.Span       // the last that was decided
	since int64              // it has been like that from here on
}

func newTrack(uplink string, until int64) *track {
	return &track{uplink: uplink, until: until, total: session.CoverTotal{Uplink: uplink}}
}

// say adds to what is said of seconds from ≤ s < to that are not decided.
func (t *track) say(from, to int64, s session.Span) {
	s.Uplink, s.From, s.To = t.uplink, max(from, t.until), to
	if s.From < t.lived && s.From < s.To {
		again := s
		again.To = min(s.To, t.lived)
		again.Reasons |= session.ClockStepped
		t.pending = t.pending.Add(again)
		s.From, s.Refused, s.Sampled = again.To, 0, 0
	}
	t.pending = t.pending.Add(s)
}

// observe says of the time between two looks, [c.prev.At, l.At), what they know.
// c.mu is held.
func (c *coverage) observe(t *track, p, u *probe.Loss, l *probe.Losses, s sampling) {
	passed := int64(l.Ticks - c.prev.Ticks)
	from, end := second(c.prev.At), c.prev.At+passed
	base := c.attached(p, u)
	if step := time.Duration(l.At - end); step.Abs() >= clockStep {
		base.Reasons |= session.ClockStepped
		t.say(from, after(end), base)
		from = second(l.At - passed)
		if step > 0 { // no packet has a time in between
			t.say(after(end), from, session.Span{State: session.CoverMissing, Reasons: session.ClockStepped})
		} else {
			c.decide(t, after(end))
			t.lived, t.until = max(t.lived, after(end)), from
		}
	}
	t.say(from, after(l.At), base)
	if r := c.refusals(&p.Refused, &u.Refused, s); r.State != session.CoverUnknown {
		first, last := from, second(l.At)
		if u.FirstRefused > 0 {
			first, last = max(first, second(u.FirstRefused)), min(last, second(u.LastRefused))
		}
		if first > last { // the clock was set between
			first, last = from, second(l.At)
		}
		t.say(first, last+1, r)
	}
}

// after is the first UTC second that begins at a time, in ns, or after it.
func after(ns int64) int64 { return second(ns-1) + 1 }

// attached says what two looks at the attachment know of the time between them.
func (c *coverage) attached(p, u *probe.Loss) session.Span {
	s := session.Span{State: session.CoverComplete}
	if !c.src.Clock().Synchronised {
		s.Reasons |= session.ClockUnsynced
	}
	s.Reasons |= notWatched(p) | notWatched(u)
	if u.Breaks != p.Breaks && s.Reasons&(session.LinkMissing|session.NotWatchedIn|session.NotWatchedOut) == 0 {
		s.Reasons |= session.AttachUnsure
	}
	if c.outside() {
		s.Reasons |= session.OutsideProfile
	}
	if s.Reasons&^session.ClockUnsynced != 0 {
		s.State = session.CoverMissing
	}
	return s
}

func notWatched(u *probe.Loss) (r session.CoverReasons) {
	switch {
	case !u.Present:
		return session.LinkMissing
	case !u.In:
		r = session.NotWatchedIn
	}
	if !u.Out {
		r |= session.NotWatchedOut
	}
	return r
}

// refusals says what was refused between two readings of the counters; the
// state is unknown when nothing was.
func (c *coverage) refusals(was, is *probe.Refusals, s sampling) session.Span {
	var out session.Span
	full, half := since(was.TableFull, is.TableFull), since(was.HalfOpen, is.HalfOpen)
	contended, fragments := since(was.Contended, is.Contended), since(was.FragmentsLost, is.FragmentsLost)
	for _, r := range []struct {
		n      uint64
		reason session.CoverReasons
		state  session.Cover
	}{
		{full, session.TableFull, session.CoverSampled},
		{half, session.HalfOpenShare, session.CoverSampled},
		{contended, session.Contended, session.CoverMissing},
		{fragments, session.FragmentsLost, session.CoverMissing},
		{s.lost, session.SamplesLost, session.CoverMissing},
	} {
		if r.n > 0 {
			out.State, out.Reasons = max(out.State, r.state), out.Reasons|r.reason
		}
	}
	out.Refused, out.Sampled = full+half+contended+fragments, s.made
	if out.State != session.CoverUnknown && c.stalled() {
		out.Reasons |= session.StoreStalled
	}
	if out.State == session.CoverUnknown && s.made > 0 { // of what an earlier look had counted
		out.State = session.CoverSampled
	}
	return out
}

// decide closes all seconds before at. What is already known to be wrong with
// later ones is kept too: it gets no better.
func (c *coverage) decide(t *track, at int64) {
	var out session.Timeline
	out, t.pending = t.pending.Split(at)
	for _, s := range out {
		t.total = plus(t.total, session.Sum(t.uplink, []session.Span{s}))
		c.toKeep(t, s)
		c.recall(s)
		c.follow(t, s)
	}
	t.until = max(t.until, at)
	rest := make(session.Timeline, len(t.pending))
	for i, s := range t.pending {
		if s.State > session.CoverComplete && s.Refused+s.Sampled > 0 {
			c.toKeep(t, s)
			c.recall(s)
			t.total.Refused += s.Refused
			t.total.Samples += s.Sampled
			if t.gap != nil {
				t.gap.Refused += s.Refused
				t.gap.Sampled += s.Sampled
			} else {
				c.openGap(t, s)
			}
			s.Refused, s.Sampled = 0, 0
		}
		rest[i] = s
	}
	t.pending = rest
}

func plus(a, b session.CoverTotal) session.CoverTotal {
	a.Seconds += b.Seconds
	a.Complete += b.Complete
	a.Sampled += b.Sampled
	a.Missing += b.Missing
	a.Unknown += b.Unknown
	a.OpenLost += b.OpenLost
	a.Doubtful += b.Doubtful
	a.Refused += b.Refused
	a.Samples += b.Samples
	return a
}

// toKeep puts a span among those that are ready, with the one before it where
// the two say the same.
func (c *coverage) toKeep(t *track, s session.Span) {
	if s.State != t.last.State || s.Reasons != t.last.Reasons || s.State > session.CoverComplete {
		c.changed = true
	}
	if n := len(t.ready); n > 0 {
		if last := &t.ready[n-1]; last.To == s.From && last.State == s.State && last.Reasons == s.Reasons {
			last.To = s.To
			last.Refused += s.Refused
			last.Sampled += s.Sampled
			return
		}
	}
	t.ready = append(t.ready, s)
}

// follow watches for the beginning and the end of a gap.
func (c *coverage) follow(t *track, s session.Span) {
	if s.State != t.last.State || s.Reasons != t.last.Reasons {
		t.since = s.From
	}
	defer func() { t.last = s }()
	if s.State == session.CoverComplete || s.Reasons&session.OutsideProfile != 0 {
		if t.quiet += s.Seconds(); t.gap != nil && t.quiet >= gapEnd {
			c.endGap(t)
		}
		return
	}
	t.quiet = 0
	if t.gap == nil {
		c.openGap(t, s)
		return
	}
	g := t.gap
	g.State, g.Reasons, g.To = max(g.State, s.State), g.Reasons|s.Reasons, max(g.To, s.To)
	g.Refused += s.Refused
	g.Sampled += s.Sampled
}

func (c *coverage) openGap(t *track, s session.Span) {
	t.gap, t.quiet = &s, 0
	c.log.Warn("not everything is recorded", "uplink", t.uplink, "from", secondText(s.From), "state", s.State.String(),
		"reasons", strings.Join(s.Reasons.Words(), ", "))
}

// endGap puts a gap that is over into the journal and the ledger.
func (c *coverage) endGap(t *track) {
	g := t.gap
	if g == nil {
		return
	}
	t.gap = nil
	c.log.Info("a gap is over", "uplink", t.uplink, "from", secondText(g.From), "to", secondText(g.To), "state", g.State.String(),
		"reasons", strings.Join(g.Reasons.Words(), ", "), "refused_packets", g.Refused, "samples", g.Sampled)
	c.evidence.note(ledger.Gap, map[string]string{
		"cause": "coverage", "uplink": t.uplink, "from": secondText(g.From), "to": secondText(g.To), "state": g.State.String(),
		"reasons": strings.Join(g.Reasons.Names(), " "), "refused_packets": itoa(g.Refused), "samples": itoa(g.Sampled),
	})
}
