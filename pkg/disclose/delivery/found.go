package delivery

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/session"
)

// The kinds of an answer; the files of an answer are named after them.
const (
	kindSessions = "sessions"
	kindWho      = "who"
	kindAccess   = "access"

	kindCommunications = "communications"
)

// found is an answer, cut to the hits that are delivered.
type found struct {
	kind      string
	all       int  // hits
	delivered int  // of them
	more      bool // there may be more than all

	summary *disclose.Summary
	names   []disclose.Name // of the subscribers of what is delivered

	sessions *disclose.Answer
	who      *disclose.WhoAnswer
	access   *disclose.AccessAnswer

	communications *disclose.CommunicationsAnswer
}

// errAnswer is returned for an input without exactly one answer.
var errAnswer = errors.New("a package holds exactly one answer")

// take cuts the answer of an input to its hit limit. The input is not changed.
func take(in *Input) (*found, error) {
	limit := in.Request.Task.MaxHits
	n := 0
	for _, there := range []bool{in.Sessions != nil, in.Who != nil, in.Access != nil, in.Communications != nil} {
		if there {
			n++
		}
	}
	ask := in.Request.Task.Query.Ask
	switch {
	case n != 1:
		return nil, errAnswer
	case in.Sessions != nil && ask == "":
		return takeSessions(in.Sessions, limit), nil
	case in.Who != nil && ask == disclose.WantWho && in.Who.Query != nil:
		return takeWho(in.Who, limit), nil
	case in.Access != nil && ask == disclose.WantAccess && in.Access.Query != nil:
		return takeAccess(in.Access, limit), nil
	case in.Communications != nil && ask == disclose.WantCommunications && in.Communications.Query != nil:
		return takeCommunications(in.Communications, limit), nil
	}
	return nil, fmt.Errorf("%w, of the kind that its request asks for", errAnswer)
}

func takeSessions(a *disclose.Answer, limit int) *found {
	c := &disclose.Answer{Hits: a.Hits[:min(limit, len(a.Hits))]}
	c.Names = namesOf(a.Names, len(c.Hits), func(i int) (string, int64) { return c.Hits[i].Subscriber, c.Hits[i].Start })
	return &found{
		kind: kindSessions, all: len(a.Hits), delivered: len(c.Hits), more: a.Summary.Limited,
		summary: &a.Summary, names: c.Names, sessions: c,
	}
}

func takeWho(a *disclose.WhoAnswer, limit int) *found {
	c := *a
	c.Candidates = a.Candidates[:min(limit, len(a.Candidates))]
	c.Left = a.Left + len(a.Candidates) - len(c.Candidates)
	f := &found{kind: kindWho, all: len(a.Candidates) + a.Left, delivered: len(c.Candidates), summary: &a.Summary, who: &c}
	for i := range c.Candidates {
		if n := c.Candidates[i].Name; n != nil && !slices.Contains(f.names, *n) {
			f.names = append(f.names, *n)
		}
	}
	return f
}

func takeAccess(a *disclose.AccessAnswer, limit int) *found {
	c := &disclose.AccessAnswer{Query: a.Query, Records: a.Records[:min(limit, len(a.Records))]}
	c.Names = namesOf(a.Names, len(c.Records), func(i int) (string, int64) { return c.Records[i].Subscriber, max(c.Records[i].From, a.Query.From) })
	return &found{kind: kindAccess, all: len(a.Records), delivered: len(c.Records), summary: &a.Summary, names: c.Names, access: c}
}

func takeCommunications(a *disclose.CommunicationsAnswer, limit int) *found {
	c := &disclose.CommunicationsAnswer{Query: a.Query, Communications: a.Communications[:min(limit, len(a.Communications))], Imports: a.Imports}
	c.Names = namesOf(a.Names, len(c.Communications), func(i int) (string, int64) { return c.Communications[i].Subscriber, c.Communications[i].Start })
	return &found{
		kind: kindCommunications, all: len(a.Communications), delivered: len(c.Communications), more: a.Summary.Limited,
		summary: &a.Summary, names: c.Names, communications: c,
	}
}

// namesOf keeps the names of what is delivered, each once: who is beyond the
// limit is not named. of returns whose a row is, and as of when.
func namesOf(list []disclose.Name, rows int, of func(i int) (subscriber string, at int64)) []disclose.Name {
	by := map[string][]int{}
	for i := range list {
		by[list[i].Subscriber] = append(by[list[i].Subscriber], i)
	}
	used := make([]bool, len(list))
	for row := range rows {
		who, at := of(row)
		for _, i := range by[who] {
			if list[i].From <= at && at < list[i].To {
				used[i] = true
				break
			}
		}
	}
	var out []disclose.Name
	for i, n := range list {
		if used[i] {
			out = append(out, n)
		}
	}
	return out
}

// noun is what a hit is called.
func (f *found) noun(n int) string {
	one, many := "session", "sessions"
	switch f.kind {
	case kindWho:
		one, many = "candidate", "candidates"
	case kindAccess:
		one, many = "access record", "access records"
	case kindCommunications:
		one, many = "communication", "communications"
	}
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (f *found) csv(w io.Writer) error {
	switch f.kind {
	case kindWho:
		return f.who.WriteCSV(w)
	case kindAccess:
		return f.access.WriteCSV(w)
	case kindCommunications:
		return f.communications.WriteCSV(w)
	}
	return f.sessions.WriteCSV(w)
}

func (f *found) jsonLines(w io.Writer) error {
	switch f.kind {
	case kindWho:
		return f.who.WriteJSONLines(w)
	case kindAccess:
		return f.access.WriteJSONLines(w)
	case kindCommunications:
		return f.communications.WriteJSONLines(w)
	}
	return f.sessions.WriteJSONLines(w)
}

// ipfix writes sessions as flows and access records as their intervals; of
// candidates both, each once.
func (f *found) ipfix(w io.Writer, at int64) error {
	x := newIPFIX(w, at, f.summary.Gateway)
	var r record
	add := func(fill func()) error {
		fill()
		return x.add(&r)
	}
	err := f.each(
		func(s *session.Session, _ *disclose.Hit) error { return add(func() { sessionRecord(&r, s) }) },
		func(b *session.Binding, subscriber string, _ []string) error {
			return add(func() { bindingRecord(&r, b, subscriber) })
		})
	if err != nil {
		return err
	}
	return x.finish()
}

// each calls one of the two for each record, in the order of the answer. hit is
// nil for a session beside a candidate.
func (f *found) each(
	ofSession func(s *session.Session, hit *disclose.Hit) error,
	ofBinding func(b *session.Binding, subscriber string, doubts []string) error,
) error {
	switch f.kind {
	case kindSessions:
		for i := range f.sessions.Hits {
			if err := ofSession(&f.sessions.Hits[i].Session, &f.sessions.Hits[i]); err != nil {
				return err
			}
		}
	case kindAccess:
		for i := range f.access.Records {
			r := &f.access.Records[i]
			if err := ofBinding(&r.Binding, r.Subscriber, r.Doubts); err != nil {
				return err
			}
		}
	case kindWho:
		seen := map[session.ID]bool{}
		for i := range f.who.Candidates {
			c := &f.who.Candidates[i]
			for j := range c.Links {
				if err := ofBinding(&c.Links[j], c.Subscriber, c.Doubts); err != nil {
					return err
				}
			}
			for j := range c.Sessions {
				if id := c.Sessions[j].ID(); !seen[id] {
					seen[id] = true
					if err := ofSession(&c.Sessions[j], nil); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// xml writes the names, and then the records.
func (f *found) xml(w io.Writer, r *disclose.Request, complete bool) error {
	x := newXML(w, r, f.summary.Provider, complete)
	for i := range f.names {
		x.subscriber(&f.names[i], f.service())
	}
	if f.communications != nil {
		for i := range f.communications.Communications {
			x.communication(&f.communications.Communications[i])
		}
		return x.finish()
	}
	err := f.each(
		func(s *session.Session, hit *disclose.Hit) error {
			x.session(s, func(p *pairs) {
				if hit == nil {
					return
				}
				if hit.Corrected() {
					p.add("SubscriberWhenSealed", orNone(hit.Stored))
				}
				p.add("SubscriberFromInferred", yes(hit.Certainty&session.FromInferred != 0))
				p.add("SubscriberToInferred", yes(hit.Certainty&session.ToInferred != 0))
				p.add("Doubts", strings.Join(hit.Doubts, ", "))
			})
			return nil
		},
		func(b *session.Binding, subscriber string, doubts []string) error {
			x.binding(b, subscriber, func(p *pairs) { p.add("Doubts", strings.Join(doubts, ", ")) })
			return nil
		})
	if err != nil {
		return err
	}
	return x.finish()
}

// service is that which the subscribers of the answer have.
func (f *found) service() xmlService {
	c := f.communications
	switch {
	case c == nil:
		return networkAccess
	case slices.ContainsFunc(c.Communications, func(c session.Communication) bool { return c.Kind == session.Call }):
		return telephony
	}
	return message
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
