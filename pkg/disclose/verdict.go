package disclose

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// judge says what the candidates are worth. It never says certain when anything
// that is known could name another person.
func (w *who) judge(s *Summary, shared int) (Verdict, string) {
	now := w.persons(func(c *Candidate) bool { return c.overlap })
	near := w.persons(func(*Candidate) bool { return true })
	named := slices.DeleteFunc(slices.Clone(now), func(x string) bool { return x == "" })
	switch {
	case shared > 1:
		return Uncertain, fmt.Sprintf("this address was shared by %s at that time; a source port is needed", counted(shared))
	case !s.Complete():
		return Uncertain, "not all of what is stored could be read, and what is missing may name another"
	case len(near) == 0:
		return NotKnown, "nobody is known to have held it at that time"
	case len(now) == 0:
		return Uncertain, fmt.Sprintf("nobody is known to have held it at that time; %s held it within %s of it, which clocks may differ by", counted(len(near)), w.apart())
	case len(named) == 0:
		return NotKnown, "it is known what held the address, but not whose that was"
	case len(now) > 1 && w.contradiction():
		return Uncertain, "sources contradict each other about who held it"
	case len(now) > 1:
		return Uncertain, "it changed hands within the error of the time"
	case len(near) > 1:
		return Uncertain, fmt.Sprintf("it changed hands within %s of the time asked about, which clocks may differ by", w.apart())
	case shared == 1:
		return Uncertain, "only some of its ports are known to be this subscriber's; a source port is needed"
	case !slices.ContainsFunc(w.all, func(c Candidate) bool { return w.holds(&c) }):
		return Uncertain, "nobody is known to have held it at the very time asked about"
	}
	if weak := w.weaknesses(s); len(weak) > 0 {
		return Likely, strings.Join(weak, "; ")
	}
	return Certain, "log-on and log-off were reported, and nothing known contradicts them"
}

// contradiction reports whether two hold the address at one moment.
func (w *who) contradiction() bool {
	for i := range w.all {
		for j := range w.all[:i] {
			a, b := &w.all[i], &w.all[j]
			if a.Subscriber != b.Subscriber && a.overlap && b.overlap && max(a.From, b.From, w.begin()) < min(a.To, b.To, w.end()+1) {
				return true
			}
		}
	}
	return false
}

// weaknesses are what keeps one person from being named for certain.
func (w *who) weaknesses(s *Summary) []string {
	var out []string
	whole := false
	for i := range w.all {
		c := &w.all[i]
		out = append(out, c.ends()...)
		whole = whole || c.From <= w.begin()-w.slop && c.To > w.end()+w.slop
		for j := range c.Sessions {
			if stored := c.Sessions[j].Subscriber; stored != "" && stored != c.Subscriber {
				out = append(out, "another name was believed when a session was sealed")
			}
		}
	}
	if !whole {
		out = append(out, "he logged on or off within the error of the time and the clocks")
	}
	out = append(out, w.around(s)...)
	return unique(out)
}

// ends says which ends of the links are not known for sure.
func (c *Candidate) ends() []string {
	var out []string
	for i := range c.Links {
		b := &c.Links[i]
		if b.Certainty&session.FromInferred != 0 {
			out = append(out, doubtFrom)
		}
		if b.Certainty&session.ToInferred != 0 {
			out = append(out, doubtTo)
		}
		if b.To == session.Forever && b.Source != session.SourceStatic { // a table says when it changes
			out = append(out, doubtNoEnd)
		}
	}
	return unique(out)
}

const doubtNoEnd = "no log-off is known: it may have been lost"

// around is what was wrong with the recording at that time.
func (w *who) around(s *Summary) []string {
	var out []string
	if !w.clock.Synchronised {
		out = append(out, "the gateway's clock was not synchronised")
	}
	if e := time.Duration(w.clock.MaxErrorMicros) * time.Microsecond; e > time.Second {
		out = append(out, fmt.Sprintf("the gateway's clock may have been wrong by %v", e.Round(time.Millisecond)))
	}
	if s.Coverage == nil {
		return out
	}
	for i := range s.Coverage.Spans {
		g := &s.Coverage.Spans[i]
		if g.From*1e9 > w.end() || g.To*1e9 <= w.begin() {
			continue
		}
		switch g.State {
		case session.CoverMissing:
			out = append(out, "the recording has a gap at that time")
		case session.CoverUnknown:
			out = append(out, "it is not known what was recorded at that time")
		}
	}
	return unique(out)
}

// prove puts the sessions beside a candidate that he had.
func (w *who) prove(c *Candidate) {
	for i := range w.proofs {
		if p := &w.proofs[i].Session; len(c.Sessions) < shownProofs && c.had(p) {
			c.Sessions = append(c.Sessions, *p)
		}
	}
}

// doubt puts beside a candidate what could make him the wrong one.
func (w *who) doubt(c *Candidate, s *Summary) {
	others := w.persons(func(x *Candidate) bool { return x.Subscriber != c.Subscriber })
	var out []string
	for i := range w.all {
		x := &w.all[i]
		if x.Subscriber == c.Subscriber {
			continue
		}
		who := orUnknown(x.Subscriber)
		switch {
		case len(others) > 3: // said once, in the reason
		case max(x.From, c.From) < min(x.To, c.To):
			out = append(out, "at the same time: "+who)
		case x.From >= c.To:
			out = append(out, fmt.Sprintf("passed to %s at %s", who, session.FormatTime(x.From)))
		default:
			out = append(out, fmt.Sprintf("was %s's until %s", who, session.FormatTime(x.To)))
		}
	}
	if !c.overlap {
		out = append(out, fmt.Sprintf("not at that time, but within %s of it", w.apart()))
	}
	for i := range c.Sessions {
		if was := c.Sessions[i].Subscriber; was != "" && was != c.Subscriber {
			out = append(out, "when its session was sealed, believed to be "+was)
		}
	}
	if len(c.Links) > 0 && c.Subscriber == "" {
		out = append(out, "it is not known whose this was")
	}
	c.Doubts = unique(append(append(out, c.ends()...), w.around(s)...))
}

// had reports whether a session began or went on while c held, through the same
// translation if there was one.
func (c *Candidate) had(s *session.Session) bool {
	if s.Start >= c.To || s.End < c.From-1e6 {
		return false
	}
	_, port, ok := s.LocalEnd()
	if !ok || port < c.Links[0].FirstPort || port > c.Links[0].LastPort && c.Links[0].SourceKey != bySession {
		return false
	}
	return s.Inside == (session.Addr{}) || len(c.Links) == 1 || slices.ContainsFunc(c.Links, func(b session.Binding) bool { return b.Via == s.Inside.Netip() })
}

func orUnknown(s string) string {
	if s == "" {
		return "somebody who is not known"
	}
	return s
}

// unique keeps the first of each text.
func unique(list []string) []string {
	out := list[:0:0]
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
