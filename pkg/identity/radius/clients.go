package radius

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/gaissmai/bart"
)

// Client is a NAS or a proxy, or a network of them, that shares a secret with
// the server.
type Client struct {
	Name   string       // for statistics; "" is the prefix
	Prefix netip.Prefix // source addresses; the longest prefix of all clients counts
	Secret []byte

	// RequireMessageAuthenticator drops accounting requests without a
	// Message-Authenticator (RFC 2869 §5.14). One that is there is always
	// verified.
	RequireMessageAuthenticator bool

	Permit Permit // what it may say; the zero value: anything
}

// ErrClient is returned for a list of clients that cannot be used.
var ErrClient = errors.New("radius client")

// client is a Client in use, with its counters.
type client struct {
	Client
	received         atomic.Uint64
	answered         atomic.Uint64
	badAuthenticator atomic.Uint64
	refused          atomic.Uint64 // for an access server that it may not name
	foreign          atomic.Uint64 // with an address that its sessions may not hold
	clock            clockCheck
	permit           permit
}

// follow goes on with the counters of old.
func (c *client) follow(old *client) {
	c.received.Store(old.received.Load())
	c.answered.Store(old.answered.Load())
	c.badAuthenticator.Store(old.badAuthenticator.Load())
	c.refused.Store(old.refused.Load())
	c.foreign.Store(old.foreign.Load())
}

type clients struct {
	table bart.Table[*client]
	list  []*client
}

// SetClients replaces the clients. Requests that are being worked on keep the
// secret they came with. On an error, which names the client but not its
// secret, nothing changes.
func (s *Server) SetClients(list []Client) error {
	s.setMu.Lock()
	defer s.setMu.Unlock()
	old := s.clients.Load()
	next := &clients{}
	for _, c := range list {
		if !c.Prefix.IsValid() {
			return fmt.Errorf("%w %q: its address or prefix is not valid", ErrClient, c.Name)
		}
		c.Prefix = unmap(c.Prefix)
		if c.Name == "" {
			c.Name = c.Prefix.String()
		}
		if len(c.Secret) == 0 {
			return fmt.Errorf("%w %q: it has no secret; without one anybody could name any subscriber", ErrClient, c.Name)
		}
		if _, ok := next.table.Get(c.Prefix); ok {
			return fmt.Errorf("%w %q: another client has the same prefix %s", ErrClient, c.Name, c.Prefix)
		}
		n := &client{Client: c, permit: newPermit(c.Permit)}
		if old != nil {
			if o, ok := old.table.Get(c.Prefix); ok && o.Name == c.Name {
				n.follow(o)
			}
		}
		next.table.Insert(c.Prefix, n)
		next.list = append(next.list, n)
	}
	s.clients.Store(next)
	return nil
}

func unmap(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked()
	}
	return p.Masked()
}

// client returns the client that a comes from, or nil.
func (s *Server) client(a netip.Addr) *client {
	c, _ := s.clients.Load().table.Lookup(a.WithZone(""))
	return c
}
