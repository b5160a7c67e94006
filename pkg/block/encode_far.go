package block

import (
	"cmp"
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
func (e *Encoder) far(s []session.Session) {
	e.fars.reset(len(s))
	for _, r := range e.sorted {
		x := &s[r.index]
		_, remote, _, port := orient(x)
		e.fars.add(far{widen(*remote), uint64(port)<<8 | uint64(x.Proto)})
	}
	hot := e.rankFars()
	e.codes = grow(e.codes, len(s))
	cold := e.nums[:0]
	for i, c := range e.fars.codes {
		rank := e.ranks[c]
		if rank < uint32(hot) {
			e.codes[i] = byte(rank)
			continue
		}
		e.codes[i] = coldCode
		cold = append(cold, uint64(rank)-uint64(hot))
	}
	e.nums = cold
	e.p.stream(e.codes)
	e.p.planes(cold)
}

// rankFars reorders the values of e.fars as the book has them, sets e.ranks to
// the new number of each old one, and returns how many are hot.
func (e *Encoder) rankFars() int {
	n := len(e.fars.values)
	count := grow(e.counts, 2*n)
	e.counts = count
	clear(count)
	for _, c := range e.fars.codes {
		count[c]++
	}
	order := count[n:]
	for i := range order {
		order[i] = uint32(i)
	}
	byValue := func(a, b uint32) int { return e.fars.values[a].compare(e.fars.values[b]) }
	slices.SortFunc(order, func(a, b uint32) int {
		if c := cmp.Compare(count[b], count[a]); c != 0 {
			return c
		}
		return byValue(a, b)
	})
	hot := min(n, maxHot)
	slices.SortFunc(order[hot:], byValue)
	e.ranks = grow(e.ranks, n)
	e.book = e.book[:0]
	for rank, old := range order {
		e.ranks[old] = uint32(rank)
		e.book = append(e.book, e.fars.values[old])
	}
	e.hot = hot
	return hot
}

// farBook writes the entries that far points to: how many there are and how
// many of them are hot; the addresses of the hot ones as they stand, then of
// the others sorted; then ports and protocols of all.
func (e *Encoder) farBook([]session.Session) {
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
	e.names.reset(0)
	holders, varying := e.holders[:0], e.lens[:0]
	code := func(name string) uint64 {
		known := len(e.names.values)
		n := e.names.number(name)
		if int(n) == known {
			return codeNew
		}
		return uint64(n) + codeFirst
	}
	for at := 0; at < len(e.sorted); {
		first := s[e.sorted[at].index].Subscriber
		end, varies := at+1, false
		for ; end < len(e.sorted) && e.sorted[end].local == e.sorted[at].local; end++ {
			varies = varies || s[e.sorted[end].index].Subscriber != first
		}
		if !varies {
			holders = append(holders, code(first))
		} else {
			holders = append(holders, codeVaries)
			for _, r := range e.sorted[at:end] {
				varying = append(varying, code(s[r.index].Subscriber))
			}
		}
		at = end
	}
	e.holders, e.lens = holders, varying
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(e.names.values)))
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(varying)))
	e.p.planes(holders)
	e.p.planes(varying)
	e.lens = e.p.texts(e.names.values, varying)
}

// Codes of the subscriber column.
const (
	codeNew    = 0 // the next name of the list, here for the first time
	codeVaries = 1 // of an address: its rows have codes of their own
	codeFirst  = 2 // this and above: entry code-2 of the list
)
