package recorder

import (
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

// begin goes on from the mark that the last agent left, and says of the time
// since what can be known of it now. c.mu is held.
//
// The programs in the kernel go on without an agent. If the table is still there
// and what was attached still is, everything was seen, and what was refused was
// counted. If one of both is not so, nobody can know.
func (c *coverage) begin(l probe.Losses) {
	c.begun, c.tracks = true, map[string]*track{}
	at := second(l.At)
	m, marked := c.keep.Mark()
	c.remember(at)
	c.through, c.open, c.hour = at, at, at/coverHour*coverHour
	switch {
	case marked && l.Adopted:
		c.through, c.open = m.StoredThrough, m.OldestOpen
	case l.Adopted: // by a version that kept no record
		c.through, c.open = 0, 0
	}
	for i := range l.Uplinks {
		u := &l.Uplinks[i]
		p := slices.IndexFunc(m.Uplinks, func(x store.UplinkMark) bool { return x.Uplink == u.Uplink })
		if p < 0 { // it was none: the present second is not whole
			c.tracks[u.Uplink] = newTrack(u.Uplink, at+1)
			continue
		}
		c.tracks[u.Uplink] = c.goOnFrom(&m, &m.Uplinks[p], u, &l)
		c.hour = min(c.hour, m.Uplinks[p].Until/coverHour*coverHour)
	}
	if marked && !l.Adopted && !m.Drained {
		c.tableLost(&m)
		for _, s := range c.extra {
			c.recall(s)
		}
	}
	c.changed = true
}

// goOnFrom says of the time since a mark what can be known.
func (c *coverage) goOnFrom(m *store.CoverageMark, p *store.UplinkMark, u *probe.Loss, l *probe.Losses) *track {
	at := second(l.At)
	t := newTrack(u.Uplink, p.Until)
	if p.Until > at { // the clock was set back meanwhile
		t.until, t.lived = at, p.Until
	}
	base := session.Span{State: session.CoverMissing, Reasons: session.AgentDown}
	was, known := parseCounters(p.Counters)
	switch {
	case l.Adopted && u.Kept && u.In && u.Out && known:
		base = session.Span{State: session.CoverComplete}
		if c.outside() {
			base = session.Span{State: session.CoverMissing, Reasons: session.OutsideProfile}
		}
	case l.Adopted:
		base.Reasons |= session.AttachUnsure
	case m.Drained:
		base.Reasons = session.AgentStopped
	default:
		base.Reasons |= session.TableLost
	}
	if !c.src.Clock().Synchronised {
		base.Reasons |= session.ClockUnsynced
	}
	if known && l.Adopted && steppedSince(&was, l) {
		base.Reasons |= session.ClockStepped
	}
	t.say(t.until, after(l.At), base)
	if l.Adopted && known {
		c.refusedMeanwhile(t, &was, u, l)
	}
	return t
}

// refusedMeanwhile says what was refused while no agent looked.
func (c *coverage) refusedMeanwhile(t *track, was *lookedAt, u *probe.Loss, l *probe.Losses) {
	s := sampling{lost: since(was.SamplesLost, l.SamplesLost)}
	if len(l.Uplinks) == 1 { // else nobody knows of which the samples are
		s.made = since(was.Sampled, l.Sampled) - min(s.lost, since(was.Sampled, l.Sampled))
	}
	r := c.refusals(&was.Refused, &u.Refused, s)
	if r.State == session.CoverUnknown {
		return
	}
	r.Reasons |= session.AgentDown
	at := second(l.At)
	first, last := t.until, at
	if u.LastRefused > 0 {
		last = min(last, second(u.LastRefused))
		if l.Looked == was.Ticks { // the first one is the first since the mark
			first = max(first, second(u.FirstRefused))
		}
	}
	if first > last {
		first, last = t.until, at
	}
	t.say(first, last+1, r)
}

// steppedSince reports whether the clock was set while no agent looked.
func steppedSince(was *lookedAt, l *probe.Losses) bool {
	return l.Ticks >= was.Ticks && time.Duration(l.At-was.At-int64(l.Ticks-was.Ticks)).Abs() >= clockStep
}

// lookedAt is what a mark says of the counters.
type lookedAt struct {
	Refused              probe.Refusals
	Sampled, SamplesLost uint64
	Ticks                uint64
	At                   int64
}

func parseCounters(n []uint64) (l lookedAt, ok bool) {
	if len(n) < markCounters {
		return l, false
	}
	return lookedAt{
		Refused: probe.Refusals{TableFull: n[markTableFull], HalfOpen: n[markHalfOpen], Contended: n[markContended], FragmentsLost: n[markFragmentsLost]},
		Sampled: n[markSampled], SamplesLost: n[markSamplesLost], Ticks: n[markTicks], At: int64(n[markAt]),
	}, true
}

// tableLost takes back what was said of seconds whose sessions were in the
// table when it was lost: from the last one of which all that had ended was on
// the disk. Of those before it only sessions are without a record that were
// still open; they began after the oldest one of them.
func (c *coverage) tableLost(m *store.CoverageMark) {
	from := int64(0)
	for _, u := range m.Uplinks {
		through := u.Until
		if m.StoredThrough > 0 {
			through = min(m.StoredThrough, u.Until)
		}
		if through < u.Until {
			c.extra = append(c.extra, session.Span{
				Uplink: u.Uplink, From: through, To: u.Until, State: session.CoverMissing, Reasons: session.TableLost,
			})
		}
		oldest := min(m.OldestOpen, through)
		c.extra = append(c.extra, session.Span{Uplink: u.Uplink, From: oldest, To: through, Reasons: session.OpenLost})
		if from == 0 || oldest < from {
			from = oldest
		}
	}
	c.hour = min(c.hour, from/coverHour*coverHour)
	c.evidence.note(ledger.Gap, map[string]string{
		"cause": "table lost", "stored_through": secondText(m.StoredThrough), "oldest_open": secondText(m.OldestOpen),
	})
	c.log.Warn("the session table of the last agent is gone; what it held is lost", "stored_through", secondText(m.StoredThrough), "oldest_open", secondText(m.OldestOpen))
}
