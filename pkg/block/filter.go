package block

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"github.com/FastFilter/xorfilter"
)

// How a filter is stored. The numbers are stored and never reused.
const (
	filterNone = 0 // anything may be there
	filterFuse = 1 // BinaryFuse8
)

// minFiltered is how many different keys a filter is worth its bytes for: what
// it would spare to read is not much larger below.
const minFiltered = 16

const (
	fuseFixed      = 10 // bytes before the fingerprints: seed, length of a segment, and at least 1 of their number
	maxSegmentBits = 18
)

// filterKey is FNV-1a, 64 bits, of the bytes of an address or text.
func filterKey[T string | []byte](b T) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(b) {
		h = (h ^ uint64(b[i])) * 1099511628211
	}
	return h
}

func (w wide) filterKey() uint64 {
	a := w.addr()
	return filterKey(a[:])
}

// filter appends a filter of keys, which should be different, and are changed and
// moved about. The library tries the same seeds each time, and whoever is recorded
// chooses the addresses: without a salt he could choose some that no seed fits, and
// each try takes as long as the first.
func (p *packer) filter(keys []uint64) {
	if len(keys) < minFiltered {
		p.out = append(p.out, filterNone, 0)
		return
	}
	salt := rand.Uint64()
	for i := range keys {
		keys[i] += salt
	}
	f, err := xorfilter.BuildBinaryFuse[uint8](&p.fuse, keys)
	if err != nil { // improbable beyond reason, and no harm
		p.out = append(p.out, filterNone, 0)
		return
	}
	p.out = append(p.out, filterFuse)
	p.bytes = binary.BigEndian.AppendUint64(p.bytes[:0], f.Seed+salt) // a reader adds it to the key
	p.bytes = append(p.bytes, byte(bits.TrailingZeros32(f.SegmentLength)))
	p.bytes = binary.AppendUvarint(p.bytes, uint64(f.SegmentCount))
	p.bytes = append(p.bytes, f.Fingerprints...)
	p.out = binary.AppendUvarint(p.out, uint64(len(p.bytes)))
	p.out = append(p.out, p.bytes...)
}

// filter is what a block says of a set of keys without listing them.
type filter struct {
	some bool // false: anything may be in it
	fuse xorfilter.BinaryFuse[uint8]
}

func (f *filter) mayHold(key uint64) bool { return !f.some || f.fuse.Contains(key) }

// filter reads what packer.filter wrote, or what a later version did in its
// place: then anything may be in it.
func (u *unpacker) filter(f *filter) {
	f.some = false
	kind := u.byte()
	b := u.take(u.uvarint(len(u.in)))
	if u.err != nil || kind != filterFuse {
		if kind == filterNone && len(b) > 0 {
			u.fail("a filter that is none has %d bytes", len(b))
		}
		return
	}
	if len(b) < fuseFixed || b[8] > maxSegmentBits {
		u.fail("filter is cut short")
		return
	}
	length := uint32(1) << b[8]
	count, n := binary.Uvarint(b[9:])
	rest := b[9+max(n, 0):]
	if n <= 0 || count == 0 || count > uint64(len(rest)) || (count+2)*uint64(length) != uint64(len(rest)) {
		u.fail("filter of %d segments has %d bytes", count, len(rest))
		return
	}
	f.some = true
	f.fuse = xorfilter.BinaryFuse[uint8]{
		Seed: binary.BigEndian.Uint64(b), SegmentLength: length, SegmentLengthMask: length - 1,
		SegmentCount: uint32(count), SegmentCountLength: uint32(count) * length,
		Fingerprints: append(f.fuse.Fingerprints[:0], rest...),
	}
}
