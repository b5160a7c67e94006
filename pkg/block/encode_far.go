package block

import (
	"encoding/binary"
	"slices"
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
	hot := uint32(e.hot)
	e.codes = grow(e.codes, len(e.col.far))
	cold := e.nums[:0]
	for i, c := range e.col.far {
		rank := e.farRanks[c]
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

// rankFars puts the values of the table's fars into e.book, e.hot of them first,
// sets e.farRanks to the place of each, and e.farOrder to their order.
func (e *Encoder) rankFars() {
	e.farOrder = e.order.sort(e.t.fars.values)
	order := e.farOrder
	n := len(order)
	e.counts = grow(e.counts, n)
	clear(e.counts)
	for _, c := range e.col.far {
		e.counts[c]++
	}
	ranks := grow(e.farRanks, n)
	e.farRanks = ranks
	clear(ranks)
	e.book = e.book[:0]
	for _, place := range e.busiest(order) {
		c := order[place]
		e.book = append(e.book, e.t.fars.values[c])
		ranks[c] = uint32(len(e.book)) // + 1, to tell them from the others
	}
	e.hot = len(e.book)
	for _, c := range order {
		if ranks[c] == 0 {
			e.book = append(e.book, e.t.fars.values[c])
			ranks[c] = uint32(len(e.book))
		}
	}
	for c := range ranks {
		ranks[c]--
	}
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
func (e *Encoder) subscriber() {
	known := grow(e.ranks, len(e.t.names.values)) // the code of each name; codeNew as long as it has not come
	e.ranks = known
	clear(known)
	clear(e.list) // lets go of strings
	names, varying := e.list[:0], e.lens[:0]
	code := func(holder uint32) uint64 {
		if c := known[holder]; c != codeNew {
			return uint64(c)
		}
		known[holder] = uint32(len(names)) + codeFirst
		names = append(names, e.t.names.values[holder])
		return codeNew
	}
	e.nums = grow(e.nums, len(e.placer.runs))
	at := 0
	for i, n := range e.placer.runs {
		run := e.col.holder[at : at+int(n)]
		at += len(run)
		if !slices.ContainsFunc(run, func(h uint32) bool { return h != run[0] }) {
			e.nums[i] = code(run[0])
			continue
		}
		e.nums[i] = codeVaries
		for _, h := range run {
			varying = append(varying, code(h))
		}
	}
	e.list, e.lens = names, varying
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(names)))
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(varying)))
	e.p.planes(e.nums)
	e.p.planes(varying)
	e.lens = e.p.texts(names, varying)
}

// Codes of the subscriber column.
const (
	codeNew    = 0 // the next name of the list, here for the first time
	codeVaries = 1 // of an address: its rows have codes of their own
	codeFirst  = 2 // this and above: entry code-2 of the list
)
