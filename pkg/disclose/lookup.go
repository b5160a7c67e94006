package disclose

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// MostHits is how many sessions an answer holds at most. One that would be
// longer says so; ask for a shorter window then.
const MostHits = 200_000

// sessions answers a question about sessions.
func (r *reader) sessions(ctx context.Context) (a *Answer, err error) {
	a = &Answer{}
	if a.Hits, err = r.lookup(ctx); err != nil {
		return nil, err
	}
	r.sum.Records = len(a.Hits)
	a.Names, err = r.namesOf(ctx, a.moments())
	return a, err
}

// lookup finds the sessions that are asked for, and then whose they were. What is
// in memory grows with the answer, not with the window:
//
//  1. Of a subscriber, the access records say which prefixes he had.
//  2. The sessions with these, or with the address that is asked for, are read.
//  3. For the addresses that their end users had, the access records are read,
//     some addresses at a time, and each session is joined with them.
func (r *reader) lookup(ctx context.Context) ([]Hit, error) {
	r.rows = []block.Query{r.q.rows()}
	if r.q.Subscriber != "" {
		if err := r.accessOf(ctx); err != nil {
			return nil, err
		}
		r.rows = r.heldBy()
		if r.q.Ask == WantHold {
			r.namedBy = append(r.namedBy, r.bindings...)
		}
	}
	found, err := r.sessionsOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.judge(); err != nil {
		return nil, err
	}
	var hits []Hit
	for len(found) > 0 {
		some, addresses := withUsers(found)
		users := userPorts{}
		for i := range found[:some] {
			users.add(&found[i].Session)
		}
		r.bindings = nil
		clear(r.late)
		clear(r.sought)
		if err := r.bindingsOf(ctx, block.Pick{Addresses: addresses}, users); err != nil {
			return nil, err
		}
		if r.q.Ask == WantHold {
			r.namedBy = append(r.namedBy, r.bindings...)
		}
		m := NewMatcher(r.q, identity.NewReader(r.bindings, r.begin.trust()), r.q.BindingsSince().Start().UnixNano())
		for i := range found[:some] {
			m.SetClock(found[i].clock)
			m.Add(&found[i].Session)
		}
		hits = append(hits, m.Hits()...)
		found = found[some:]
	}
	return hits, nil
}

// mostRows is how many questions of its own each block is asked at most; with
// more, every row of it is looked at.
const mostRows = 64

// heldBy returns what to ask a block for the sessions of a subscriber: those
// with a prefix that he is known to have had, and those that were sealed under
// his id.
func (r *reader) heldBy() []block.Query {
	list, _ := distinct(r.bindings, nil)
	book := identity.NewReader(list, r.begin.trust())
	base := r.q.rows()
	sealed := base
	sealed.Subscriber = r.q.Subscriber
	out := []block.Query{sealed}
	seen := map[netip.Prefix]bool{}
	rules := rulesOf(list)
	for i := range list {
		b := &list[i]
		if !b.Prefix.IsValid() || seen[b.Prefix] || !r.about(b, r.holder(book, b)) {
			continue
		}
		seen[b.Prefix] = true
		of := base
		of.Address = b.Prefix
		out = append(out, of)
		for _, rule := range rules {
			if a, _, _, ok := rule.Outside(b.Prefix.Addr()); ok && !seen[block.Exactly(a)] {
				seen[block.Exactly(a)] = true
				of.Address = block.Exactly(a)
				out = append(out, of)
			}
		}
	}
	if len(out) > mostRows {
		r.held = seen
		return []block.Query{base}
	}
	return out
}

// mayBeHis reports whether a session can be one of the subscriber who is asked for:
// what was sealed names him, or an end of it is of a prefix that he held.
func (r *reader) mayBeHis(s *session.Session) bool {
	if s.Subscriber == r.q.Subscriber {
		return true
	}
	for _, end := range [...]session.Addr{s.Initiator, s.Responder, s.Inside} {
		a := end.Netip()
		for bits := a.BitLen(); bits >= 0; bits-- {
			if p, err := a.Prefix(bits); err == nil && r.held[p] {
				return true
			}
		}
	}
	return false
}

// rulesOf returns the translations that bindings are of, each once.
func rulesOf(list []session.Binding) []identity.Rule {
	seen := map[string]bool{"": true}
	var out []identity.Rule
	for i := range list {
		if text := list[i].Rule; !seen[text] {
			seen[text] = true
			if rule, err := identity.ParseRule(text); err == nil {
				out = append(out, rule)
			}
		}
	}
	return out
}

// withUsers returns how many of the sessions are to be joined at once, and the
// addresses that their end users had.
func withUsers(found []proof) (n int, addresses []netip.Addr) {
	seen := map[session.Addr]bool{}
	for n = range found {
		a, _, ok := found[n].UserEnd()
		if !ok || seen[a] {
			continue
		}
		if len(seen) == joinedAtOnce {
			return n, addresses
		}
		seen[a] = true
		addresses = append(addresses, a.Netip())
	}
	return len(found), addresses
}

// joinedAtOnce is for how many addresses access records are in memory at a time.
const joinedAtOnce = 1 << 14

// judge says, when the sessions were read, whether they can be an answer.
func (r *reader) judge() error {
	if r.sum.SessionBlocks == 0 && r.sum.Failed == 0 {
		r.far = r.begin.Profile == session.ProfileSession.String()
		r.sum.Profiles = []string{r.begin.Profile}
	}
	if r.q.Remote.IsValid() && !r.far && r.sum.Failed == 0 {
		return fmt.Errorf("%w: profile %q records no remote address; ask with --address or --subscriber",
			ErrNothingCan, strings.Join(r.sum.Profiles, `" and "`))
	}
	return nil
}

// sessionsOf reads the sessions that are asked for, by start. One that was
// written twice counts once.
func (r *reader) sessionsOf(ctx context.Context) ([]proof, error) {
	found := map[session.ID]proof{}
	m := Matcher{query: r.q}
	r.wanted = func(s *session.Session, c block.Clock) {
		if !m.inWindow(s) || !m.endpointMatches(s) || r.q.Proto != 0 && s.Proto != r.q.Proto {
			return
		}
		if r.held != nil && !r.mayBeHis(s) {
			return
		}
		r.kept = true
		id := s.ID()
		old, ok := found[id]
		switch {
		case !ok && len(found) >= MostHits:
			r.sum.Limited = true
		case !ok:
			found[id] = proof{*s, c, r.from}
		default:
			hold := min(old.hold, r.from) // 0 as soon as it was found anywhere else
			if s.Supersedes(&old.Session) {
				old = proof{Session: *s, clock: c}
			}
			old.hold = hold
			found[id] = old
		}
	}
	if err := r.headsFirst(ctx, moreSessions); err != nil {
		return nil, err
	}
	for _, p := range found {
		r.sum.needs(p.hold)
	}
	out := make([]proof, 0, len(found))
	for _, p := range found {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b proof) int { return compareSessions(&a.Session, &b.Session) })
	return out, nil
}
