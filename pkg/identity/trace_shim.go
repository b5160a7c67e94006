package identity

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// Bindings says who held an address.
type Bindings interface {
	AllOn(a session.Addr, first, last uint16, from, to int64) []session.Binding
}

// AllOn returns all that hold for any of these ports at some moment of from..to.
func (r *Reader) AllOn(a session.Addr, first, last uint16, from, to int64) []session.Binding {
	var out []session.Binding
	addr := a.Netip()
	for _, list := range r.idx.all() {
		for _, b := range list {
			if b.Prefix.Contains(addr) && b.FirstPort <= last && b.LastPort >= first && b.From <= to && (b.To > from || b.From == b.To && b.From >= from) {
				out = append(out, b)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b session.Binding) int {
		return cmp.Or(-cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), cmp.Compare(a.LastPort-a.FirstPort, b.LastPort-b.FirstPort), cmp.Compare(a.From, b.From))
	})
	return out
}

// Chain is how a subscriber held an address.
type Chain struct {
	Links    []session.Binding
	From, To int64
}

// Subscriber names the holder.
func (c *Chain) Subscriber() string { return c.Links[len(c.Links)-1].Subscriber }

// Trace returns all candidates within the window, best first.
func Trace(b Bindings, a session.Addr, first, last uint16, from, to int64) []Chain {
	return trace(b, a, first, last, from, to, 3)
}

func trace(b Bindings, a session.Addr, first, last uint16, from, to int64, depth int) []Chain {
	var out []Chain
	for _, x := range b.AllOn(a, first, last, from, to) {
		f, t := max(x.From, from), min(x.To, to)
		if x.Via != (netip.Addr{}) && depth > 1 {
			inner := trace(b, session.AddrFrom(x.Via), 0, math.MaxUint16, f, t, depth-1)
			for _, c := range inner {
				out = append(out, Chain{Links: append([]session.Binding{x}, c.Links...), From: c.From, To: c.To})
			}
			if len(inner) > 0 {
				continue
			}
		}
		out = append(out, Chain{Links: []session.Binding{x}, From: f, To: t})
	}
	return out
}
