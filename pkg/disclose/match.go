package disclose

import (
	"cmp"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// Book answers whose an address was; identity.Reader is one.
type Book interface {
	identity.Bindings
	Holder(a session.Addr, port uint16, ns int64) (session.Binding, bool)
}

// Hit is one session of an answer.
type Hit struct {
	// Session has as its Subscriber what the access records say now.
	session.Session

	// Stored is the subscriber as it was known when the session was sealed.
	Stored string

	// Certainty is that of the binding that gave Subscriber.
	Certainty session.Certainty

	// Doubts says in words why Subscriber may not be the whole truth.
	Doubts []string

	others []string // further subscribers who held the address at the start or later on
}

// Corrected reports whether the access records say something else now than
// when the session was sealed.
func (h *Hit) Corrected() bool { return h.Stored != h.Subscriber }

// Matcher finds the sessions that answer a query.
type Matcher struct {
	query *Query
	book  Book
	since int64 // the book knows bindings from here on, ns; before it, what was sealed holds
	slop  int64 // how far the times of sessions and of access records may be apart, ns
	hits  map[session.ID]Hit
}

// NewMatcher returns a matcher that joins with book, which holds the bindings
// in force since the given time and later ones.
func NewMatcher(q *Query, book Book, since int64) *Matcher {
	m := &Matcher{query: q, book: book, since: since, hits: map[session.ID]Hit{}}
	m.SetClock(block.Clock{Synchronised: true})
	return m
}

// Access records come with whole seconds, and from another clock.
const (
	leastSlop = time.Second
	mostSlop  = 2 * time.Second
)

// SetClock says how the clock stood when the sessions that are added next were
// recorded. Of a clock that was not synchronised nobody knows how wrong it was:
// the most is assumed, and the summary names the clock.
func (m *Matcher) SetClock(c block.Clock) {
	slop := leastSlop + time.Duration(c.MaxErrorMicros)*time.Microsecond
	if !c.Synchronised || slop > mostSlop {
		slop = mostSlop
	}
	m.slop = int64(slop)
}

// Add looks at one session. A session that was written twice counts once.
func (m *Matcher) Add(s *session.Session) {
	q := m.query
	if !m.inWindow(s) || !m.endpointMatches(s) {
		return
	}
	h := Hit{Session: *s, Stored: s.Subscriber}
	m.join(&h)
	if q.Subscriber != "" && h.Subscriber != q.Subscriber && h.Stored != q.Subscriber && !slices.Contains(h.others, q.Subscriber) {
		return
	}
	id := s.ID()
	if old, ok := m.hits[id]; ok && !s.Supersedes(&old.Session) {
		return
	}
	m.hits[id] = h
}

// inWindow reports whether any part of s lies in the window.
func (m *Matcher) inWindow(s *session.Session) bool {
	from := m.query.From - m.query.From%1e6 // sessions are kept in whole milliseconds, fractions cut off
	return s.Start < m.query.To && s.End >= from
}

// endpointMatches reports whether the session has the address that is asked
// for; the end user's may be that before or that behind a translation. A session of which no side is known to be local matches on either.
func (m *Matcher) endpointMatches(s *session.Session) bool {
	q := m.query
	if q.Subscriber != "" {
		return true
	}
	want, side := q.Address, s.LocalEnd
	if q.Remote.IsValid() {
		want, side = q.Remote, s.RemoteEnd
	}
	is := func(a session.Addr, port uint16) bool {
		return a == session.AddrFrom(want) && (q.Port == nil || *q.Port == port)
	}
	if s.Flags&session.LocalOnly != 0 && q.Remote.IsValid() {
		return false // the remote side was never recorded; its zero is no address
	}
	a, port, ok := side()
	if ok && !q.Remote.IsValid() && s.Inside != (session.Addr{}) && is(s.Inside, s.InsidePort) {
		return true
	}
	if ok {
		return is(a, port)
	}
	return is(s.Initiator, s.InitiatorPort) || is(s.Responder, s.ResponderPort)
}

// Hits returns what was found, by start, then by end points.
func (m *Matcher) Hits() []Hit {
	out := make([]Hit, 0, len(m.hits))
	for _, h := range m.hits {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b Hit) int { return compareSessions(&a.Session, &b.Session) })
	return out
}

// compareSessions orders by start, then by end points.
func compareSessions(a, b *session.Session) int {
	return cmp.Or(
		cmp.Compare(a.Start, b.Start),
		cmp.Compare(a.End, b.End),
		slices.Compare(a.Initiator[:], b.Initiator[:]),
		slices.Compare(a.Responder[:], b.Responder[:]),
		cmp.Compare(a.InitiatorPort, b.InitiatorPort),
		cmp.Compare(a.ResponderPort, b.ResponderPort),
		cmp.Compare(a.Proto, b.Proto),
		cmp.Compare(a.Reuse, b.Reuse),
	)
}
