package radius

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"layeh.com/radius/rfc2865"
)

// Permit bounds what a client may say. Without bounds whoever knows one secret
// may speak for any access server and about any address.
type Permit struct {
	// NAS are the access servers that it may speak for: a NAS-Identifier, an
	// address or a prefix of NAS addresses. Where names are listed, a name in a
	// request must be one of them; where addresses are, an address must; and one
	// of the two must be there. A request without both is about its sender. None:
	// any.
	//
	// A request about another access server gets no answer: it is a fault of the
	// configuration, and is sent again once that is mended, or it is a forgery.
	NAS []string

	// Prefixes are those that its sessions may hold addresses of. None: any.
	//
	// An address beyond them is left out and the request answered, so that one of
	// them does not hold up all that a proxy has to say.
	Prefixes []netip.Prefix
}

// permit is a Permit in use.
type permit struct {
	ids      []string
	nas      []netip.Prefix
	prefixes []netip.Prefix
}

func newPermit(p Permit) permit {
	out := permit{}
	for _, s := range p.NAS {
		if a, err := netip.ParseAddr(s); err == nil {
			out.nas = append(out.nas, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		} else if n, err := netip.ParsePrefix(s); err == nil {
			out.nas = append(out.nas, unmap(n))
		} else {
			out.ids = append(out.ids, s)
		}
	}
	for _, n := range p.Prefixes {
		out.prefixes = append(out.prefixes, unmap(n))
	}
	return out
}

// mayName reports whether the client may speak for the access server that the
// request names.
func (r *reader) mayName(from netip.Addr) bool {
	if r.client == nil {
		return true
	}
	p := &r.client.permit
	if len(p.ids)+len(p.nas) == 0 {
		return true
	}
	id, text := r.text(rfc2865.NASIdentifier_Type), r.nasAddress()
	addr, err := netip.ParseAddr(text)
	hasAddr := err == nil
	if id == "" && !hasAddr {
		addr, hasAddr = from, true
	}
	okID := id != "" && slices.Contains(p.ids, id)
	okAddr := hasAddr && slices.ContainsFunc(p.nas, func(n netip.Prefix) bool { return n.Contains(addr.Unmap()) })
	switch {
	case id != "" && len(p.ids) > 0 && !okID:
		return false
	case hasAddr && len(p.nas) > 0 && !okAddr:
		return false
	}
	return okID || okAddr
}

// mayHold reports whether the client's sessions may hold p, and notes it if not.
func (r *reader) mayHold(p netip.Prefix) bool {
	if r.client == nil || len(r.client.permit.prefixes) == 0 {
		return true
	}
	for _, n := range r.client.permit.prefixes {
		if n.Bits() <= p.Bits() && n.Contains(p.Addr()) {
			return true
		}
	}
	r.notes[notePrefix] = true
	return false
}

func (s *Server) foreignNAS(now time.Time, c *client) {
	c.refused.Add(1)
	s.trouble(now, "nas "+c.Name, func() string {
		return fmt.Sprintf("accounting from client %s is dropped: it speaks for an access server that its nas = [...] does not name; add it there, or find out who sends it", c.Name)
	})
}

func (s *Server) foreignPrefix(now time.Time, c *client) {
	c.foreign.Add(1)
	s.trouble(now, "prefix "+c.Name, func() string {
		return fmt.Sprintf("accounting from client %s names an address outside its prefixes = [...], which is left out; add the prefix, or find out why its sessions get such addresses", c.Name)
	})
}
