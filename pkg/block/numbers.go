package block

import (
	"cmp"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// numbers numbers distinct values in the order in which they first come: a map
// from far to its number for a block of sessions, where it is asked several
// times for each.
type numbers struct {
	values []far
	slots  []uint64 // upper half of a value's hash | its number + 1; 0: free
	seed   uint64   // so that nobody outside can choose what collides
}

const minNumbers = 1 << 10 // slots, a power of two

func (t *numbers) reset() {
	if t.slots == nil {
		t.slots = make([]uint64, minNumbers)
		t.seed = rand.Uint64()
	}
	t.values = t.values[:0]
	clear(t.slots)
}

func (t *numbers) hash(v *far) uint64 {
	a, b := bits.Mul64(v.hi^t.seed, v.lo^0x9e3779b97f4a7c15)
	c, d := bits.Mul64(a^b^v.service, 0xd6e8feb86659fd93^t.seed)
	// A factor of 0 would make all values with that other half one.
	return c ^ d ^ bits.RotateLeft64(v.hi, 29)*0xa0761d6478bd642f ^ v.lo*0xe7037ed1a0b428db
}

func (t *numbers) number(v far) uint32 {
	h := t.hash(&v)
	h ^= h >> 32
	mask := uint64(len(t.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		x := t.slots[i]
		if x == 0 {
			n := uint32(len(t.values))
			t.values = append(t.values, v)
			t.slots[i] = h>>32<<32 | uint64(n+1)
			if len(t.values) > len(t.slots)/2 {
				t.double()
			}
			return n
		}
		if x>>32 == h>>32 && t.values[uint32(x)-1] == v {
			return uint32(x) - 1
		}
	}
}

func (t *numbers) double() {
	t.slots = make([]uint64, 2*len(t.slots))
	mask := uint64(len(t.slots) - 1)
	for n := range t.values {
		h := t.hash(&t.values[n])
		h ^= h >> 32
		i := h & mask
		for t.slots[i] != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = h>>32<<32 | uint64(n+1)
	}
}

// sorter puts values in order: of addresses as wide.compare has it, then by
// port, then by protocol.
type sorter struct {
	order []uint32
	v4    [2][]item
	v6    []item6
}

// item is an IPv4 address with port and protocol, in one number.
type item struct {
	key uint64
	n   uint32
}

// item6 is any other address.
type item6 struct {
	far
	n uint32
}

// sort returns the numbers of values in their order, which are good until the
// next call.
func (s *sorter) sort(values []far) []uint32 {
	s.v4[0], s.v6 = s.v4[0][:0], s.v6[:0]
	for i := range values {
		v := &values[i]
		if v.is4() {
			s.v4[0] = append(s.v4[0], item{v.lo<<32 | v.service, uint32(i)})
		} else {
			s.v6 = append(s.v6, item6{*v, uint32(i)})
		}
	}
	s.order = s.order[:0]
	for _, x := range s.radix() {
		s.order = append(s.order, x.n)
	}
	slices.SortFunc(s.v6, func(a, b item6) int {
		return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo), cmp.Compare(a.service, b.service))
	})
	for i := range s.v6 {
		s.order = append(s.order, s.v6[i].n)
	}
	return s.order
}

// radix sorts the IPv4 items by the bytes of their keys that are not the same
// in all of them, the lowest first.
func (s *sorter) radix() []item {
	from := s.v4[0]
	if len(from) < 2 {
		return from
	}
	s.v4[1] = grow(s.v4[1], len(from))
	to := s.v4[1]
	var differ uint64
	for i := range from {
		differ |= from[i].key ^ from[0].key
	}
	for shift := 0; shift < 64; shift += 8 {
		if differ>>shift&0xff == 0 {
			continue
		}
		var next [256]uint32
		for i := range from {
			next[uint8(from[i].key>>shift)]++
		}
		sum := uint32(0)
		for i, n := range next {
			next[i] = sum
			sum += n
		}
		for i := range from {
			at := &next[uint8(from[i].key>>shift)]
			to[*at] = from[i]
			*at++
		}
		from, to = to, from
	}
	return from
}
