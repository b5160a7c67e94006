package disclose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// most bounds how many addresses behind others are followed at once: more do
// not lie behind one address and port, and without a port that many subscribers
// are an answer by themselves.
const most = 4096

// more asks the agent for more blocks of the open reading.
func (r *reader) more(ctx context.Context, what string) error {
	return r.fetch(ctx, strings.NewReplacer("{id}", r.begin.ID, "{what}", what).Replace(PathMore))
}

func (r *reader) fetch(ctx context.Context, path string) error {
	body, err := send(ctx, r.client, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	return r.take(body)
}

// take reads the frames that the agent answers with, to their end.
func (r *reader) take(body io.ReadCloser) error {
	defer body.Close() //nolint:errcheck // only read
	f := newFrameReader(body)
	for {
		k, payload, err := f.next()
		switch {
		case errors.Is(err, errFrame), err == nil && (k == frameBegin || k == frameCoverage):
			return errFrame
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("%w: %w", ErrCut, err)
		case err != nil:
			return fmt.Errorf("ask the agent: %w", err)
		}
		done, err := r.frame(k, payload, f.end)
		if done && r.keyring.wrong() {
			return ErrWrongIdentity
		}
		if done || err != nil {
			return err
		}
	}
}

// steps is how many bindings may stand between an address and its subscriber.
const steps = 3

// bindingsOf reads the bindings that p wants, those of what they lead to, and so
// on, and then the ends that are missing.
func (r *reader) bindingsOf(ctx context.Context, p block.Pick, users userPorts) error {
	known := map[netip.Addr]bool{}
	for _, a := range p.Addresses {
		known[a] = true
	}
	for range steps {
		slices.SortFunc(p.Addresses, netip.Addr.Compare)
		before := len(r.bindings)
		r.pick = p
		if err := r.more(ctx, moreBindings); err != nil {
			return err
		}
		r.again = true
		p = block.Pick{}
		for i := before; i < len(r.bindings); i++ {
			for _, a := range behind(&r.bindings[i], r.q, users) {
				if !known[a] { // not more than there are bindings, or sessions, in memory
					known[a] = true
					p.Addresses = append(p.Addresses, a)
				}
			}
		}
		if len(p.Addresses) == 0 {
			break
		}
	}
	return r.ends(ctx)
}

// userPorts are the ports that the end users of sessions had, by address.
type userPorts map[netip.Addr]map[uint16]bool

func (u userPorts) add(s *session.Session) {
	a, port, ok := s.UserEnd()
	if !ok {
		return
	}
	if u[a.Netip()] == nil {
		u[a.Netip()] = map[uint16]bool{}
	}
	u[a.Netip()][port] = true
}

// behind returns the addresses whose holder holds b: by a rule, those that it
// means for the users, or where there are none for what is asked about. Of a
// rule without a port that are many: not more than can be followed.
func behind(b *session.Binding, q *Query, users userPorts) []netip.Addr {
	if b.Via.IsValid() {
		return []netip.Addr{b.Via}
	}
	rule, err := identity.ParseRule(b.Rule)
	if b.Rule == "" || err != nil {
		return nil
	}
	var out []netip.Addr
	for user, ports := range users {
		if !b.Prefix.Contains(user) {
			continue
		}
		for port := range ports {
			if a, ok := rule.Inside(user, port); ok {
				out = append(out, a)
			}
		}
	}
	if users != nil || !q.Address.IsValid() {
		return out
	}
	first, last := 0, math.MaxUint16
	if q.Port != nil {
		first, last = int(*q.Port), int(*q.Port)
	}
	for port := first; port <= last && len(out) < most; port++ {
		if a, ok := rule.Inside(q.Address, uint16(port)); ok && (len(out) == 0 || out[len(out)-1] != a) {
			out = append(out, a)
		}
	}
	return out
}

// proof is a session that was read for an answer about an address, with the
// clock as it stood when it was recorded.
type proof struct {
	session.Session
	clock block.Clock
	hold  uint64 // the only place where it was found; 0: it is not that of a hold
}
