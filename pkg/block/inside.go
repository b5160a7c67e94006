package block

import (
	"encoding/binary"
	"fmt"

	"github.com/edgelog/edgelog/pkg/session"
)

// hasInside reports whether a session was seen from behind a translation.
func hasInside(s []session.Session) bool {
	for i := range s {
		if s[i].Inside != (session.Addr{}) {
			return true
		}
	}
	return false
}

// inside writes who the local end was translated from: how many different
// inside addresses there are, the addresses, and for each row 0 for none or 1 +
// which.
func (e *Encoder) inside(s []session.Session) {
	e.fars.reset()
	e.col.inside = grow(e.col.inside, len(e.keys))
	for i, k := range e.keys {
		e.col.inside[i] = 0
		if a := s[k.index].Inside; a != (session.Addr{}) {
			e.col.inside[i] = 1 + e.fars.number(far{wide: widen(a)})
		}
	}
	order := e.order.sort(e.fars.values)
	e.ranks = grow(e.ranks, len(order))
	e.wides = e.wides[:0]
	for rank, n := range order {
		e.ranks[n] = uint32(rank)
		e.wides = append(e.wides, e.fars.values[n].wide)
	}
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(e.wides)))
	e.nums = e.p.addrs(e.wides, e.nums)
	e.nums = grow(e.nums, len(e.keys))
	for i, n := range e.col.inside {
		e.nums[i] = 0
		if n > 0 {
			e.nums[i] = 1 + uint64(e.ranks[n-1])
		}
	}
	e.p.planes(e.nums)
}

// insidePort writes the inside port less the local one: translators like to
// keep it.
func (e *Encoder) insidePort(s []session.Session) {
	e.nums = grow(e.nums, len(e.keys))
	for i, k := range e.keys {
		e.nums[i] = 0
		if x := &s[k.index]; x.Inside != (session.Addr{}) {
			e.nums[i] = uint64(x.InsidePort - e.rows[k.index].port)
		}
	}
	e.p.planes(e.nums)
}

// inside reads both columns, where there are any.
func (d *Decoder) inside(s *Sessions, addrs, ports []byte) error {
	s.inside, s.insides = s.inside[:0], s.insides[:0]
	if addrs == nil && ports == nil {
		return nil
	}
	d.u.begin(addrs, "inside")
	n := d.u.uvarint(s.Count)
	s.insides, d.nums = d.u.addrs(s.insides, d.nums, n)
	d.nums = d.u.planes(d.nums, s.Count, uint64(n))
	s.inside = narrow(s.inside, d.nums)
	for _, w := range s.insides {
		if w == (wide{}) {
			d.u.fail("an inside address that is none")
		}
	}
	d.u.end("inside")
	if d.u.err == nil {
		d.u.begin(ports, "inside port")
		d.nums = d.u.planes(d.nums, s.Count, 0xffff)
		s.insidePort = narrow(s.insidePort, d.nums)
		for i, x := range d.nums {
			if x != 0 && s.inside[i] == 0 {
				d.u.fail("an inside port without an address")
				break
			}
		}
		d.u.end("inside port")
	}
	if d.u.err != nil {
		return fmt.Errorf("read block of sessions, inside: %w", d.u.err)
	}
	return nil
}

// insideOf returns the inside end of row i; ok is false when it has none.
func (s *Sessions) insideOf(i int) (w wide, port uint16, ok bool) {
	if len(s.inside) == 0 || s.inside[i] == 0 {
		return wide{}, 0, false
	}
	return s.insides[s.inside[i]-1], s.insidePort[i] + s.localPort[i], true
}
