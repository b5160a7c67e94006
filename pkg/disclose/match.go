package disclose

import (
	"cmp"
	"math"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// Book answers whose an address was; identity.Reader is one.
type Book interface {
	At(a session.Addr, port uint16, ns int64) (*session.Binding, bool)
	AllAt(a session.Addr, port uint16, from, to int64) []session.Binding
}

// Hit is one session of an answer.
type Hit struct {
	// Session has as its Subscriber what the access records say now.
	session.Session

	// Stored is the subscriber as it was known when the session was sealed.
	Stored string

	// Certainty is that of the binding that gave Subscriber.
	Certainty session.Certainty
}

// Corrected reports whether the access records say something else now than
// when the session was sealed.
func (h *Hit) Corrected() bool { return h.Stored != h.Subscriber }

// Matcher finds the sessions that answer a query.
type Matcher struct {
	query *Query
	book  Book
	since int64 // the book knows bindings from here on, ns; before it, what was sealed holds
	hits  map[session.ID]Hit
}

// NewMatcher returns a matcher that joins with book, which holds the bindings
// in force since the given time and later ones.
func NewMatcher(q *Query, book Book, since int64) *Matcher {
	return &Matcher{query: q, book: book, since: since, hits: map[session.ID]Hit{}}
}

// Add looks at one session. A session that was written twice counts once.
func (m *Matcher) Add(s *session.Session) {
	q := m.query
	from := q.From - q.From%1e6 // sessions are kept in whole milliseconds, fractions cut off
	if s.Start >= q.To || s.End < from || !m.endpointMatches(s) {
		return
	}
	h := Hit{Session: *s, Stored: s.Subscriber}
	m.join(&h)
	if q.Subscriber != "" && h.Subscriber != q.Subscriber && h.Stored != q.Subscriber {
		return
	}
	id := s.ID()
	if old, ok := m.hits[id]; ok && !s.Supersedes(&old.Session) {
		return
	}
	m.hits[id] = h
}

// join asks the book again. Where it knows the address at other times but not
// at this one, nobody is known to have had it; where it knows nothing of the
// address at all, what was sealed is the best that is known.
func (m *Matcher) join(h *Hit) {
	a, port, ok := h.LocalEnd()
	if !ok || h.Start < m.since {
		return
	}
	// Start has lost its fraction of a millisecond. Where the address changed
	// hands within that millisecond, what was sealed decides: it was joined with
	// the whole time.
	b, found := m.book.At(a, port, h.Start)
	if late, ok := m.book.At(a, port, h.Start+1e6-1); ok && (!found || late.Subscriber == h.Stored) {
		b, found = late, true
	}
	switch {
	case found:
		h.Subscriber, h.Certainty = b.Subscriber, b.Certainty
	case len(m.book.AllAt(a, port, math.MinInt64, math.MaxInt64)) > 0:
		h.Subscriber = ""
	}
}

// endpointMatches reports whether the session has the address that is asked
// for. A session of which no side is known to be local matches on either.
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
	slices.SortFunc(out, func(a, b Hit) int {
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
	})
	return out
}
