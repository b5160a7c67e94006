package identity

import (
	"cmp"
	"encoding/binary"
	"net/netip"

	"github.com/edgelog/edgelog/pkg/session"
)

// bound is a binding as the table keeps it, in 72 bytes: what a look-up compares,
// and where the record (record.go) has the rest. It is never changed.
type bound struct {
	hi, lo   uint64 // the prefix in mapped form, see split
	from, to int64
	rec      string // begins with the id of the session; said is in it at the place at
	k        *kept  // the session; only its src may be read without Book.mu
	at       uint32
	name     uint32 // length of the subscriber
	first    uint16
	last     uint16
	n        uint8 // length of the prefix in mapped form
	flags    uint8 // session.Certainty, and leads
}

// leads is set in the flags of a binding that has a via or a rule.
const leads = 1 << 7

func (h *bound) certainty() session.Certainty { return session.Certainty(h.flags &^ leads) }
func (h *bound) subscriber() string           { return h.rec[h.at : h.at+h.name] }
func (h *bound) id() string                   { return (&cursor{s: h.rec}).text() }
func (h *bound) said() words                  { return (&cursor{h.rec, int(h.at)}).said(int(h.name)) }
func (h *bound) prefix() netip.Prefix         { return prefixOf(h.hi, h.lo, h.n) }

// covers reports whether h holds for a port at ns.
func (h *bound) covers(port uint16, ns int64) bool {
	return ns >= h.from && ns < h.to && port >= h.first && port <= h.last
}

// binding is h written out.
func (h *bound) binding() session.Binding {
	t := h.said()
	return session.Binding{
		Prefix: h.prefix(), FirstPort: h.first, LastPort: h.last, From: h.from, To: h.to,
		Subscriber: t.subscriber, Line: t.line, Equipment: t.equipment, Place: t.place,
		Identity: t.identity, Via: addrOf(t.via), Rule: t.rule,
		Source: h.k.src.origin, SourceName: h.k.src.name, SourceKey: h.k.src.prefix + h.id(), Certainty: h.certainty(),
	}
}

// Hold is a binding that At found. It is not changed by what comes later.
type Hold struct{ h *bound }

// Subscriber is that of the binding.
func (h Hold) Subscriber() string { return h.h.subscriber() }

// Binding is the whole binding. It is put together when it is asked for.
func (h Hold) Binding() session.Binding { return h.h.binding() }

// prefixOf is the reverse of split.
func prefixOf(hi, lo uint64, n uint8) netip.Prefix {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:8], hi)
	binary.BigEndian.PutUint64(a[8:], lo)
	if n >= 96 && hi == 0 && lo>>32 == 0xffff {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(a[12:])), int(n)-96)
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), int(n))
}

// bound is the binding that c has become.
func (c *claim) bound() bound {
	h := bound{from: c.from, to: c.to, k: c.k, first: c.lease.FirstPort, last: c.lease.LastPort, name: uint32(len(c.what.subscriber))}
	h.hi, h.lo, h.n = split(c.lease.Prefix)
	w := c.what
	h.rec, h.at = w.rec, w.at
	if w.rec == "" || w.leases[0].Via != c.lease.Via || w.leases[0].Rule != c.lease.Rule {
		b := appendText(make([]byte, 0, 128), c.id)
		h.at = uint32(len(b))
		h.rec = string(w.appendSaid(b, &c.lease))
	}
	if c.fromInf {
		h.flags |= uint8(session.FromInferred)
	}
	if c.toInf {
		h.flags |= uint8(session.ToInferred)
	}
	if c.lease.Via.IsValid() || c.lease.Rule != "" {
		h.flags |= leads
	}
	return h
}

// boundOf is the reverse of binding, for a binding without a session.
func boundOf(k *kept, b *session.Binding) bound {
	c := claim{
		lease: Lease{Prefix: b.Prefix, FirstPort: b.FirstPort, LastPort: b.LastPort, Via: b.Via, Rule: b.Rule},
		what:  &content{subscriber: b.Subscriber, line: b.Line, equipment: b.Equipment, place: b.Place, identity: b.Identity},
		k:     k, id: b.SourceKey, from: b.From, to: b.To,
		fromInf: b.Certainty&session.FromInferred != 0, toInf: b.Certainty&session.ToInferred != 0,
	}
	return c.bound()
}

// bindingKey names one binding: what is handed over twice under one key is one
// binding, and the later version holds. Of two subscribers that one session named
// at one moment, the first held for no time at all; he has to be told of, too, or
// what was handed over of him would stay.
type bindingKey struct {
	src         *source
	id          string
	subscriber  string
	rest        string // via and rule; "" for none
	hi, lo      uint64
	from        int64
	first, last uint16
	n           uint8
}

func (h *bound) key() bindingKey {
	k := bindingKey{src: h.k.src, id: h.id(), subscriber: h.subscriber(), hi: h.hi, lo: h.lo, from: h.from, first: h.first, last: h.last, n: h.n}
	if h.flags&leads != 0 {
		t := h.said()
		k.rest = string(rune(len(t.via))) + t.via + t.rule
	}
	return k
}

// same reports whether a and b say the same.
func (h *bound) same(o *bound) bool {
	return h.from == o.from && h.to == o.to && h.first == o.first && h.last == o.last && h.flags == o.flags &&
		h.name == o.name && h.hi == o.hi && h.lo == o.lo && h.n == o.n && h.k.src == o.k.src &&
		(h.at == o.at && h.rec == o.rec || h.id() == o.id() && h.said() == o.said())
}

// compareBinding is the order of bindings within one prefix: by start. The rest
// only makes it total.
func compareBinding(a, b *bound) int {
	if c := cmp.Or(cmp.Compare(a.from, b.from), compareKeys(a.k.src, a.id(), b.k.src, b.id()),
		cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last), cmp.Compare(a.to, b.to),
		cmp.Compare(a.subscriber(), b.subscriber()), cmp.Compare(a.certainty(), b.certainty())); c != 0 || (a.flags|b.flags)&leads == 0 {
		return c
	}
	t, u := a.said(), b.said()
	return cmp.Or(addrOf(t.via).Compare(addrOf(u.via)), cmp.Compare(t.rule, u.rule))
}
