package block

import (
	"cmp"
	"encoding/binary"

	"github.com/edgelog/edgelog/pkg/session"
)

// wide is an address as two numbers, high half first; it compares and hashes
// faster than 16 bytes.
type wide struct{ hi, lo uint64 }

const mapped = 0xffff << 32 // low half of ::ffff:0.0.0.0

func widen(a session.Addr) wide {
	return wide{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}
}

func (w wide) addr() (a session.Addr) {
	binary.BigEndian.PutUint64(a[:8], w.hi)
	binary.BigEndian.PutUint64(a[8:], w.lo)
	return a
}

func (w wide) is4() bool { return w.hi == 0 && w.lo>>32 == 0xffff }

// compare puts IPv4 addresses before all others.
func (w wide) compare(x wide) int {
	if a, b := w.is4(), x.is4(); a != b {
		if a {
			return -1
		}
		return 1
	}
	if c := cmp.Compare(w.hi, x.hi); c != 0 {
		return c
	}
	return cmp.Compare(w.lo, x.lo)
}

// addrs appends addresses sorted by compare: how many are IPv4 (one number in
// planes form), those as differences to the one before, and of the others the
// 16 bytes as 16 streams, the most significant first.
func (p *packer) addrs(list []wide, tmp []uint64) []uint64 {
	n4 := 0
	for n4 < len(list) && list[n4].is4() {
		n4++
	}
	p.out = binary.AppendUvarint(p.out, uint64(n4))
	tmp = grow(tmp, n4)
	last := uint64(0)
	for i, a := range list[:n4] {
		ip := a.lo & 0xffffffff
		tmp[i] = ip - last
		last = ip
	}
	p.planes(tmp)
	rest := list[n4:]
	if len(rest) == 0 {
		return tmp
	}
	for k := range 16 {
		p.bytes = grow(p.bytes, len(rest))
		for i, a := range rest {
			half := a.hi
			if k >= 8 {
				half = a.lo
			}
			p.bytes[i] = byte(half >> (56 - 8*(k%8)))
		}
		p.stream(p.bytes)
	}
	return tmp
}

// addrs returns n addresses.
func (u *unpacker) addrs(dst []wide, tmp []uint64, n int) ([]wide, []uint64) {
	dst = grow(dst, n)
	clear(dst)
	n4 := u.uvarint(n)
	tmp = u.planes(tmp, n4, 0xffffffff)
	ip := uint64(0)
	for i, d := range tmp {
		ip += d
		if ip > 0xffffffff {
			u.fail("address out of range")
			return dst, tmp
		}
		dst[i].lo = mapped | ip
	}
	rest := dst[n4:]
	if len(rest) == 0 {
		return dst, tmp
	}
	for k := range 16 {
		raw := u.stream(len(rest), len(rest))
		if u.err != nil {
			return dst, tmp
		}
		for i, b := range raw {
			x := uint64(b) << (56 - 8*(k%8))
			if k < 8 {
				rest[i].hi |= x
			} else {
				rest[i].lo |= x
			}
		}
	}
	return dst, tmp
}
