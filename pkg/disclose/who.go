package disclose

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// Verdict says what an answer to who held an address is worth.
type Verdict string

// The verdicts.
const (
	Certain   Verdict = "certain"   // nothing known could name another person
	Likely    Verdict = "likely"    // one person is known, but what names him is not all reported
	Uncertain Verdict = "uncertain" // it may have been another person
	NotKnown  Verdict = "not known" // nobody is known
)

// WhoAnswer says who held an address.
type WhoAnswer struct {
	Query      *Query
	Verdict    Verdict
	Reason     string      // why it is no better, or why it is certain
	Candidates []Candidate // best first; at most shownCandidates
	Persons    int         // different subscribers among all candidates
	Shared     int         // where no port was given: how many subscribers shared the address then; else 0
	Left       int         // candidates that are not among Candidates
	Proofs     int         // sessions of the address and port in the window, whether shown or not
	Summary    Summary
}

// Candidate is one way in which somebody held the address.
type Candidate struct {
	Subscriber string // "" when it is not known who held the last link
	Name       *Name  // of the subscriber at that time; nil where the register has none

	// Links lead from the address to the subscriber; each holds for all of
	// From..To, but for the last one they say who holds the next.
	Links    []session.Binding
	From, To int64 // while all links hold, UTC, ns; To is session.Forever while in force

	Sessions []session.Session // that had the address and port while he held it
	Doubts   []string          // what could make it wrong, the worst first

	overlap bool // holds at some time of the question, not only near it
}

// Limits of what is shown.
const (
	shownCandidates = 20
	shownProofs     = 100 // of a candidate
)

// who answers a question of who held an address.
func (r *reader) who(ctx context.Context) (*WhoAnswer, error) {
	q := r.q
	if err := r.bindingsOf(ctx, block.Pick{Addresses: []netip.Addr{q.Address}}, nil); err != nil {
		return nil, err
	}
	proofs, err := r.sessionsOf(ctx)
	if err != nil {
		return nil, err
	}
	if inside := insideOf(proofs); len(inside) > 0 {
		if err := r.bindingsOf(ctx, block.Pick{Addresses: inside}, nil); err != nil {
			return nil, err
		}
	}
	w := newWho(q, identity.NewReader(r.bindings, r.begin.trust()), proofs, r.clock)
	a := w.answer(&r.sum)
	r.sum.Records = len(a.Candidates) + a.Left
	return a, r.nameCandidates(ctx, a)
}

// insideOf returns the addresses behind the translations of sessions.
func insideOf(proofs []proof) []netip.Addr {
	seen := map[netip.Addr]bool{}
	for i := range proofs {
		if in := proofs[i].Inside; in != (session.Addr{}) {
			seen[in.Netip()] = true
		}
	}
	out := make([]netip.Addr, 0, len(seen))
	for a := range seen {
		out = append(out, a)
	}
	return out
}

// who works out an answer from what was read.
type who struct {
	q      *Query
	book   *identity.Reader
	proofs []proof
	clock  block.Clock // the worst that an access record or session of the answer was recorded with
	slop   int64       // how far clocks may be apart, ns
	all    []Candidate
}

func newWho(q *Query, book *identity.Reader, proofs []proof, c block.Clock) *who {
	w := &who{q: q, book: book, proofs: proofs, clock: c}
	for i := range proofs {
		w.clock.Synchronised = w.clock.Synchronised && proofs[i].clock.Synchronised
		w.clock.MaxErrorMicros = max(w.clock.MaxErrorMicros, proofs[i].clock.MaxErrorMicros)
	}
	m := Matcher{}
	m.SetClock(w.clock)
	w.slop = m.slop
	return w
}

// ports returns the ports that are asked about.
func (w *who) ports() (first, last uint16) {
	if w.q.Port != nil {
		return *w.q.Port, *w.q.Port
	}
	return 0, math.MaxUint16
}

// begin and end of the time that is asked about, both included.
func (w *who) begin() int64 { return w.q.At - w.q.Error }
func (w *who) end() int64   { return w.q.At + w.q.Error }

// answer finds the candidates and judges them.
func (w *who) answer(s *Summary) *WhoAnswer {
	w.candidates()
	for i := range w.all {
		w.prove(&w.all[i])
	}
	a := &WhoAnswer{Query: w.q, Proofs: len(w.proofs), Persons: len(w.persons(func(*Candidate) bool { return true }))}
	if w.q.Port == nil {
		a.Shared = w.shared()
	}
	a.Verdict, a.Reason = w.judge(s, a.Shared)
	for i := range w.all {
		w.doubt(&w.all[i], s)
	}
	if len(w.all) > shownCandidates {
		a.Left = len(w.all) - shownCandidates
		w.all = w.all[:shownCandidates]
	}
	a.Candidates = w.all
	return a
}

// candidates are the bindings of the address, and the translations that sessions
// went through.
func (w *who) candidates() {
	first, last := w.ports()
	from, to := w.begin()-w.slop, w.end()+w.slop
	chains := identity.Trace(w.book, session.AddrFrom(w.q.Address), first, last, from, to)
	for i := range w.proofs {
		chains = append(chains, w.translated(&w.proofs[i].Session)...)
	}
	for _, c := range chains {
		x := Candidate{Subscriber: c.Subscriber(), Links: c.Links, From: c.Links[0].From, To: c.Links[0].To}
		for i := range c.Links {
			x.From, x.To = max(x.From, c.Links[i].From), min(x.To, c.Links[i].To)
		}
		if end := &c.Links[len(c.Links)-1]; end.Via.IsValid() || end.Rule != "" { // for the time that nobody holds what it names
			x.From, x.To = max(x.From, c.From), min(x.To, c.To)
		}
		x.overlap = x.From <= w.end() && x.To > w.begin()
		w.add(x)
	}
	w.all = slices.DeleteFunc(w.all, func(c Candidate) bool { return w.hidden(&c) })
	slices.SortStableFunc(w.all, func(a, b Candidate) int {
		return cmp.Or(rank(b.overlap)-rank(a.overlap), rank(w.holds(&b))-rank(w.holds(&a)))
	})
}

func rank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// add takes a candidate, unless the same is there: sessions through one
// translation say the same again.
func (w *who) add(x Candidate) {
	for i := range w.all {
		c := &w.all[i]
		if c.Subscriber == x.Subscriber && len(c.Links) == len(x.Links) && slices.EqualFunc(c.Links[1:], x.Links[1:], sameHold) &&
			(sameHold(c.Links[0], x.Links[0]) || c.Links[0].SourceKey == bySession && x.Links[0].SourceKey == bySession) {
			c.From, c.To = min(c.From, x.From), max(c.To, x.To)
			c.overlap = c.overlap || x.overlap
			return
		}
	}
	w.all = append(w.all, x)
}

func sameHold(a, b session.Binding) bool {
	return a.Prefix == b.Prefix && a.FirstPort == b.FirstPort && a.LastPort == b.LastPort && a.From == b.From && a.SourceKey == b.SourceKey
}

// bySession is the key of a link that a session record itself is.
const bySession = "session record"

// translated returns the chains behind the translation of a session. They name
// its end user while it lasted.
func (w *who) translated(s *session.Session) []identity.Chain {
	if s.Inside == (session.Addr{}) {
		return nil
	}
	a, port, _ := s.LocalEnd()
	link := session.Binding{
		Prefix: block.Exactly(a.Netip()), FirstPort: port, LastPort: port, From: s.Start, To: max(s.End, s.Start) + 1e6,
		Via: s.Inside.Netip(), Source: session.SourceNAT, SourceName: "translation of the session", SourceKey: bySession,
	}
	if !session.HasPorts(s.Proto) {
		link.LastPort = math.MaxUint16
	}
	inner := identity.Trace(w.book, s.Inside, s.InsidePort, s.InsidePort, max(s.Start, w.begin()-w.slop), min(s.End, w.end()+w.slop))
	if len(inner) == 0 {
		return []identity.Chain{{Links: []session.Binding{link}, From: link.From, To: link.To}}
	}
	for i := range inner {
		inner[i].Links = append([]session.Binding{link}, inner[i].Links...)
	}
	return inner
}

// holds reports whether c held at the very time that is asked about.
func (w *who) holds(c *Candidate) bool { return c.From <= w.q.At && c.To > w.q.At }

// hidden reports whether another binding says more exactly whose the address was
// for as long as c could matter: the address itself within a delegated prefix, a
// block of ports within a whole address.
func (w *who) hidden(c *Candidate) bool {
	from, to := max(c.From, w.begin()-w.slop), min(c.To-1, w.end()+w.slop)
	b := &c.Links[0]
	return slices.ContainsFunc(w.all, func(x Candidate) bool {
		n := &x.Links[0]
		if x.From > from || x.To <= to {
			return false
		}
		if n.Prefix.Bits() != b.Prefix.Bits() {
			return n.Prefix.Bits() > b.Prefix.Bits() && (w.q.Port != nil || n.FirstPort <= b.FirstPort && n.LastPort >= b.LastPort)
		}
		return w.q.Port != nil && n.LastPort-n.FirstPort < b.LastPort-b.FirstPort
	})
}

// persons returns the different subscribers of candidates; one who is not known
// is somebody.
func (w *who) persons(of func(*Candidate) bool) []string {
	var out []string
	for i := range w.all {
		if c := &w.all[i]; of(c) {
			out = append(out, c.Subscriber)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// shared returns how many subscribers held a part of the ports of the address,
// or were translated to it, at the time; 0 when nobody held only a part.
func (w *who) shared() int {
	part := false
	n := len(w.persons(func(c *Candidate) bool {
		b := &c.Links[0]
		p := c.overlap && (b.FirstPort > 0 || b.LastPort < math.MaxUint16 || b.SourceKey == bySession)
		part = part || p
		return p
	}))
	if !part {
		return 0
	}
	return n
}

// counted prints a number of people.
func counted(n int) string {
	if n == 1 {
		return "1 subscriber"
	}
	return fmt.Sprintf("%d subscribers", n)
}

// apart prints how far clocks may be apart.
func (w *who) apart() string { return time.Duration(w.slop).Round(time.Millisecond).String() }
