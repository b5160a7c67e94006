package block

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/FastFilter/xorfilter"
	"github.com/klauspost/compress/zstd"
)

// How a stream is stored. The numbers are stored and never reused.
const (
	modeRaw  = 0 // uvarint length, then the bytes
	modeSame = 1 // uvarint length, then the one byte that is repeated
	modeZstd = 2 // uvarint length, uvarint packed length, then a zstd frame
)

// A packer appends streams to out. Its buffers are used again and again.
type packer struct {
	zstd  *zstd.Encoder
	fuse  xorfilter.BinaryFuseBuilder
	out   []byte
	bytes []byte
	frame []byte
}

func newPacker() packer {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithAllLitEntropyCompression(true))
	if err != nil {
		panic(fmt.Sprintf("zstd refuses constant options: %v", err)) // a programmer's mistake, found by any test
	}
	return packer{zstd: z}
}

// stream appends raw in the shortest of the three modes.
func (p *packer) stream(raw []byte) {
	n := uint64(len(raw))
	kind := look(raw)
	if kind == modeSame {
		p.out = append(p.out, modeSame)
		p.out = binary.AppendUvarint(p.out, n)
		p.out = append(p.out, raw[0])
		return
	}
	if kind == modeZstd {
		p.frame = p.zstd.EncodeAll(raw, p.frame[:0])
		if len(p.frame)+3 < len(raw) {
			p.out = append(p.out, modeZstd)
			p.out = binary.AppendUvarint(p.out, n)
			p.out = binary.AppendUvarint(p.out, uint64(len(p.frame)))
			p.out = append(p.out, p.frame...)
			return
		}
	}
	p.out = append(p.out, modeRaw)
	p.out = binary.AppendUvarint(p.out, n)
	p.out = append(p.out, raw...)
}

// look says which mode is worth trying, from the frequencies of the bytes: even
// ones, as of random ports, are not worth zstd's time.
func look(raw []byte) byte {
	if len(raw) < 24 {
		if len(raw) > 1 && same(raw) {
			return modeSame
		}
		return modeRaw
	}
	var count [256]uint32
	for _, b := range raw {
		count[b]++
	}
	if count[raw[0]] == uint32(len(raw)) {
		return modeSame
	}
	n := float64(len(raw))
	size := 0.0 // bits
	for _, c := range count {
		if c > 0 {
			size += float64(c) * math.Log2(n/float64(c))
		}
	}
	if size > 0.99*8*n {
		return modeRaw
	}
	return modeZstd
}

func same(raw []byte) bool {
	for _, b := range raw {
		if b != raw[0] {
			return false
		}
	}
	return true
}

// planes appends numbers as byte planes: one byte with the number of planes
// (0..8), then the lowest bytes of all numbers as one stream, then the next.
func (p *packer) planes(v []uint64) {
	var all uint64
	for _, x := range v {
		all |= x
	}
	n := (bits.Len64(all) + 7) / 8
	p.out = append(p.out, byte(n))
	for k := range n {
		p.bytes = grow(p.bytes, len(v))
		shift := 8 * k
		for i, x := range v {
			p.bytes[i] = byte(x >> shift)
		}
		p.stream(p.bytes)
	}
}

// scaled appends numbers as their lengths in bits, one byte each as one stream,
// and the bits below the highest one, packed without gaps as a second stream.
// It suits numbers of very different sizes, such as durations.
func (p *packer) scaled(v []uint64) {
	p.bytes = grow(p.bytes, len(v))
	for i, x := range v {
		p.bytes[i] = byte(bits.Len64(x))
	}
	p.stream(p.bytes)
	buf := p.bytes[:0]
	var acc uint64 // bits not yet written, lowest first
	var have uint  // how many, always below 8 between numbers
	for _, x := range v {
		n := uint(bits.Len64(x))
		if n < 2 {
			continue // 0 and 1 have nothing below their highest bit
		}
		n--
		x &^= 1 << n
		for n > 0 {
			take := min(n, 56)
			acc |= (x & (1<<take - 1)) << have
			x >>= take
			n -= take
			for have += take; have >= 8; have -= 8 {
				buf = append(buf, byte(acc))
				acc >>= 8
			}
		}
	}
	if have > 0 {
		buf = append(buf, byte(acc))
	}
	p.bytes = buf
	p.stream(buf)
}

// checkTexts reports whether a reader would take so much text in one column.
func checkTexts(list []string) error {
	total := 0
	for _, s := range list {
		total += len(s)
	}
	if total > maxTexts {
		return fmt.Errorf("%w: %d bytes of different texts, at most %d", ErrTooBig, total, maxTexts)
	}
	return nil
}

// texts appends strings: their lengths, then all their bytes as one stream.
func (p *packer) texts(list []string, lens []uint64) []uint64 {
	lens = lens[:0]
	for _, s := range list {
		lens = append(lens, uint64(len(s)))
	}
	p.planes(lens)
	p.bytes = p.bytes[:0]
	for _, s := range list {
		p.bytes = append(p.bytes, s...)
	}
	p.stream(p.bytes)
	return lens
}

// grow returns a slice of n elements, the array of s if it is long enough. What
// is in it is left over from before.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}
