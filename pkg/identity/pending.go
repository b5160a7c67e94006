package identity

import (
	"hash/maphash"
	"iter"
)

// pending are the bindings that the sink is to be given, by bindingKey.
type pending struct {
	m map[uint64]*waiter // by hash; those of one hash in a list
	n int
}

// waiter is the newest version of a binding that the sink is to be given.
type waiter struct {
	b    bound
	next *waiter // of the same hash
	new  bool    // the sink cannot have it
}

func newPending() pending { return pending{m: make(map[uint64]*waiter)} }

// hash is one for all versions of a binding.
func (h *bound) hash() uint64 {
	x := maphash.String(rollSeed, h.id()) ^ h.hi*0xa0761d6478bd642f ^ h.lo*0xe7037ed1a0b428db
	return x ^ uint64(h.from)*0x9e3779b97f4a7c15 ^ (uint64(h.first)<<16|uint64(h.last))*0xd6e8feb86659fd93
}

// get returns what waits of h, or nil.
func (p *pending) get(h *bound) *waiter {
	if p.n == 0 {
		return nil
	}
	v := p.m[h.hash()]
	for v != nil && v.b.key() != h.key() {
		v = v.next
	}
	return v
}

// put has h wait in the place of an earlier version.
func (p *pending) put(h *bound, isNew bool) {
	if v := p.get(h); v != nil {
		v.b, v.new = *h, isNew
		return
	}
	at := h.hash()
	p.m[at] = &waiter{*h, p.m[at], isNew}
	p.n++
}

// drop forgets h.
func (p *pending) drop(h *bound) {
	v := p.get(h)
	if v == nil {
		return
	}
	p.n--
	at := h.hash()
	if p.m[at] == v && v.next == nil {
		delete(p.m, at)
		return
	}
	if p.m[at] == v {
		p.m[at] = v.next
		return
	}
	before := p.m[at]
	for before.next != v {
		before = before.next
	}
	before.next = v.next
}

// all visits what waits.
func (p *pending) all() iter.Seq[*waiter] {
	return func(yield func(*waiter) bool) {
		for _, v := range p.m {
			for ; v != nil; v = v.next {
				if !yield(v) {
					return
				}
			}
		}
	}
}
