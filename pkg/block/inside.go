package block

import (
	"encoding/binary"
)

// inside writes who the local end was translated from: how many different
// inside addresses there are, the addresses, and for each row 0 for none or 1 +
// which.
func (e *Encoder) inside() {
	order := e.order.sort(e.t.insides.values)
	e.ranks = grow(e.ranks, len(order))
	e.wides = e.wides[:0]
	for rank, n := range order {
		e.ranks[n] = uint32(rank)
		e.wides = append(e.wides, e.t.insides.values[n].wide)
	}
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(e.wides)))
	e.nums = e.p.addrs(e.wides, e.nums)
	e.nums = grow(e.nums, len(e.placer.keys))
	for i, k := range e.placer.keys {
		e.nums[i] = 0
		if n := e.t.rows[k.index].inside; n > 0 {
			e.nums[i] = 1 + uint64(e.ranks[n-1])
		}
	}
	e.p.planes(e.nums)
}

// insidePort writes the inside port less the local one: translators like to
// keep it.
func (e *Encoder) insidePort() {
	e.nums = grow(e.nums, len(e.placer.keys))
	for i, k := range e.placer.keys {
		e.nums[i] = 0
		if r := &e.t.rows[k.index]; r.inside > 0 {
			e.nums[i] = uint64(r.insidePort - r.port)
		}
	}
	e.p.planes(e.nums)
}

func (d *Decoder) inside(s *Sessions) {
	n := d.u.uvarint(s.Count)
	s.insides, d.nums = d.u.addrs(s.insides, d.nums, n)
	d.nums = d.u.planes(d.nums, s.Count, uint64(n))
	s.inside = narrow(s.inside, d.nums)
	for _, w := range s.insides {
		if w == (wide{}) {
			d.u.fail("an inside address that is none")
		}
	}
	if s.known && d.u.err == nil && !s.zoneInside.is(s.insides) {
		d.u.fail("the zone is not that of the inside addresses")
	}
}

func (d *Decoder) insidePort(s *Sessions) {
	d.nums = d.u.planes(d.nums, s.Count, 0xffff)
	s.insidePort = narrow(s.insidePort, d.nums)
	for i, x := range d.nums {
		if x != 0 && s.inside[i] == 0 {
			d.u.fail("an inside port without an address")
			break
		}
	}
}

// insideOf returns the inside end of row i; ok is false when it has none.
func (s *Sessions) insideOf(i int) (w wide, port uint16, ok bool) {
	if len(s.inside) == 0 || s.inside[i] == 0 {
		return wide{}, 0, false
	}
	return s.insides[s.inside[i]-1], s.insidePort[i] + s.localPort[i], true
}
