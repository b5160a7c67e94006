package block

import (
	"encoding/binary"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// maxHot is how many entries of the far book have a code of one byte. They are
// the busiest ones; coldCode in their place announces a number in the second
// list.
const (
	maxHot   = 255
	coldCode = 255
)

// far writes which remote side each row has. Entries 0..hot-1 of the book are
// the busiest, busiest first; the others follow sorted.
func (e *Encoder) far() {
	hot := uint32(e.rankFars())
	e.codes = grow(e.codes, len(e.col.far))
	cold := e.nums[:0]
	for i, c := range e.col.far {
		rank := e.ranks[c]
		if rank < hot {
			e.codes[i] = byte(rank)
			continue
		}
		e.codes[i] = coldCode
		cold = append(cold, uint64(rank-hot))
	}
	e.nums = cold
	e.p.stream(e.codes)
	e.p.planes(cold)
}

// rankFars puts the values of e.fars into e.book, sets e.ranks to the place of
// each, and returns how many are hot.
func (e *Encoder) rankFars() int {
	order := e.order.sort(e.fars.values)
	n := len(order)
	e.counts = grow(e.counts, n)
	clear(e.counts)
	for _, c := range e.col.far {
		e.counts[c]++
	}
	e.ranks = grow(e.ranks, n)
	clear(e.ranks)
	e.book = e.book[:0]
	for _, place := range e.busiest(order) {
		c := order[place]
		e.book = append(e.book, e.fars.values[c])
		e.ranks[c] = uint32(len(e.book)) // + 1, to tell them from the others
	}
	e.hot = len(e.book)
	for _, c := range order {
		if e.ranks[c] == 0 {
			e.book = append(e.book, e.fars.values[c])
			e.ranks[c] = uint32(len(e.book))
		}
	}
	for c := range e.ranks {
		e.ranks[c]--
	}
	return e.hot
}

// busiest returns the places in order of the maxHot entries that most rows
// have, the busiest first, and of equal ones the first first. It keeps them in
// a heap with the next one to go on top.
func (e *Encoder) busiest(order []uint32) []uint32 {
	h := e.heap[:0]
	for place, c := range order {
		x := uint64(e.counts[c])<<32 | uint64(^uint32(place))
		if len(h) < maxHot {
			h = append(h, x)
			if len(h) == maxHot {
				slices.Sort(h) // a sorted list is a heap
			}
		} else if x > h[0] {
			h[0] = x
			sink(h)
		}
	}
	slices.Sort(h)
	slices.Reverse(h)
	e.heap = h
	places := grow(e.places, len(h))
	e.places = places
	for i, x := range h {
		places[i] = ^uint32(x)
	}
	return places
}

// sink moves the top of a heap down to where it belongs.
func sink(h []uint64) {
	for i := 0; ; {
		least := 2*i + 1
		if least >= len(h) {
			return
		}
		if least+1 < len(h) && h[least+1] < h[least] {
			least++
		}
		if h[i] <= h[least] {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// farBook writes the entries that far points to: how many there are and how
// many of them are hot; the addresses of the hot ones as they stand, then of
// the others sorted; then ports and protocols of all.
func (e *Encoder) farBook() {
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(e.book)))
	e.p.out = binary.AppendUvarint(e.p.out, uint64(e.hot))
	e.nums = grow(e.nums, e.hot)
	for half := range 2 {
		for i, f := range e.book[:e.hot] {
			e.nums[i] = f.hi
			if half == 1 {
				e.nums[i] = f.lo
			}
		}
		e.p.planes(e.nums)
	}
	e.wides = e.wides[:0]
	for _, f := range e.book[e.hot:] {
		e.wides = append(e.wides, f.wide)
	}
	e.nums = e.p.addrs(e.wides, e.nums)
	e.nums = grow(e.nums, len(e.book))
	for i, f := range e.book {
		e.nums[i] = f.service >> 8
	}
	e.p.planes(e.nums)
	for i, f := range e.book {
		e.nums[i] = f.service & 0xff
	}
	e.p.planes(e.nums)
}

// subscriber writes who held the local address. Names are listed in the order
// in which they first come, so that a new one needs no number. Most addresses
// have one subscriber through the whole block: each address gets one code; the
// rows of an address with codeVaries get one each, in a second list.
func (e *Encoder) subscriber(s []session.Session) {
	e.names.reset()
	varying := e.lens[:0]
	code := func(name string) uint64 {
		known := len(e.names.values)
		n := e.names.number(name)
		if int(n) == known {
			return codeNew
		}
		return uint64(n) + codeFirst
	}
	at := 0
	for i, l := range e.holders { // each number gives way to a code
		who := &e.held[l]
		if !who.varies {
			e.holders[i] = code(who.subscriber)
			for at < len(e.keys) && uint64(e.keys[at].local) == l {
				at++
			}
			continue
		}
		e.holders[i] = codeVaries
		for ; at < len(e.keys) && uint64(e.keys[at].local) == l; at++ {
			varying = append(varying, code(s[e.keys[at].index].Subscriber))
		}
	}
	e.lens = varying
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(e.names.values)))
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(varying)))
	e.p.planes(e.holders)
	e.p.planes(varying)
	e.lens = e.p.texts(e.names.values, varying)
}

// Codes of the subscriber column.
const (
	codeNew    = 0 // the next name of the list, here for the first time
	codeVaries = 1 // of an address: its rows have codes of their own
	codeFirst  = 2 // this and above: entry code-2 of the list
)
