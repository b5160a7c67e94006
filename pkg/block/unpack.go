package block

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// An unpacker takes streams off in, the bytes of one column. After the first
// error it returns zero values; the caller looks at err once at the end.
type unpacker struct {
	zstd  *zstd.Decoder
	in    []byte
	err   error
	bytes []byte
}

func newUnpacker() unpacker {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(2*maxTexts), zstd.WithDecoderMaxWindow(2*maxTexts), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(fmt.Sprintf("zstd refuses constant options: %v", err)) // a programmer's mistake, found by any test
	}
	return unpacker{zstd: z}
}

func (u *unpacker) fail(format string, args ...any) {
	if u.err == nil {
		u.err = fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
	}
}

// begin starts the column that a block must have.
func (u *unpacker) begin(col []byte, what string) {
	if u.err == nil && col == nil {
		u.fail("column %s is missing", what)
	}
	u.in = col
}

// end checks that a column had nothing more to give.
func (u *unpacker) end(what string) {
	if u.err == nil && len(u.in) != 0 {
		u.fail("column %s is %d bytes too long", what, len(u.in))
	}
}

func (u *unpacker) byte() byte {
	if len(u.in) == 0 {
		u.fail("column is cut short")
	}
	if u.err != nil {
		return 0
	}
	b := u.in[0]
	u.in = u.in[1:]
	return b
}

// uvarint returns a number that is at most limit.
func (u *unpacker) uvarint(limit int) int {
	x, n := binary.Uvarint(u.in)
	if n <= 0 {
		u.fail("number is cut short")
	} else if x > uint64(limit) {
		u.fail("number %d is above %d", x, limit)
	}
	if u.err != nil {
		return 0
	}
	u.in = u.in[n:]
	return int(x)
}

// stream returns a stream of least to most bytes; it is valid until the next
// call.
func (u *unpacker) stream(least, most int) []byte {
	mode := u.byte()
	n := u.uvarint(most)
	if u.err == nil && n < least {
		u.fail("stream of %d bytes, at least %d wanted", n, least)
	}
	if u.err != nil {
		return nil
	}
	switch mode {
	case modeRaw:
		return u.take(n)
	case modeSame:
		b := u.byte()
		u.bytes = grow(u.bytes, n)
		for i := range u.bytes {
			u.bytes[i] = b
		}
		return u.bytes
	case modeZstd:
		frame := u.take(u.uvarint(len(u.in)))
		u.bytes = grow(u.bytes, n)
		if u.err != nil {
			return nil
		}
		out, err := u.zstd.DecodeAll(frame, u.bytes[:0:n])
		if err != nil || len(out) != n {
			u.fail("zstd frame does not hold %d bytes", n)
			return nil
		}
		return out
	}
	u.fail("stream of unknown mode %d", mode)
	return nil
}

func (u *unpacker) take(n int) []byte {
	if n > len(u.in) {
		u.fail("stream is cut short")
	}
	if u.err != nil {
		return nil
	}
	b := u.in[:n]
	u.in = u.in[n:]
	return b
}

// planes returns n numbers, none above limit, in dst's array.
func (u *unpacker) planes(dst []uint64, n int, limit uint64) []uint64 {
	dst = grow(dst, n)
	clear(dst)
	count := u.byte()
	if count > 8 {
		u.fail("%d byte planes", count)
	}
	if u.err != nil {
		return dst
	}
	for k := range int(count) {
		raw := u.stream(n, n)
		if u.err != nil {
			return dst
		}
		for i, b := range raw {
			dst[i] |= uint64(b) << (8 * k)
		}
	}
	return u.below(dst, limit)
}

func (u *unpacker) below(v []uint64, limit uint64) []uint64 {
	for _, x := range v {
		if x > limit {
			u.fail("number above %d", limit)
			clear(v)
			break
		}
	}
	return v
}

// scaled returns n numbers, none above limit, in dst's array.
func (u *unpacker) scaled(dst []uint64, n int, limit uint64) []uint64 {
	dst = grow(dst, n)
	clear(dst)
	total := 0
	for i, b := range u.stream(n, n) {
		if b > 64 {
			u.fail("number of %d bits", b)
			b = 0
		}
		dst[i] = uint64(b)
		total += max(int(b)-1, 0)
	}
	size := (total + 7) / 8
	raw := u.stream(size, size)
	if u.err != nil {
		clear(dst)
		return dst
	}
	at := 0 // in bits
	for i, length := range dst {
		if length == 0 {
			continue
		}
		n := int(length) - 1
		dst[i] = 1<<n | bitsAt(raw, at, n)
		at += n
	}
	return u.below(dst, limit)
}

// bitsAt returns n < 64 bits of raw that begin at bit at.
func bitsAt(raw []byte, at, n int) uint64 {
	if n == 0 {
		return 0
	}
	first, shift := at/8, uint(at%8)
	var x uint64
	if first+9 <= len(raw) {
		x = binary.LittleEndian.Uint64(raw[first:])>>shift | uint64(raw[first+8])<<(64-shift)
	} else {
		var tail [16]byte
		copy(tail[:], raw[first:])
		x = binary.LittleEndian.Uint64(tail[:])>>shift | uint64(tail[8])<<(64-shift)
	}
	return x & (1<<n - 1)
}

// texts returns n strings, all in one allocation.
func (u *unpacker) texts(dst []string, lens []uint64, n int) ([]string, []uint64) {
	dst = grow(dst, n)
	clear(dst)
	lens = u.planes(lens, n, MaxText)
	total := 0
	for _, l := range lens {
		total += int(l)
	}
	if total > maxTexts {
		u.fail("%d bytes of text", total)
	}
	if u.err != nil {
		return dst, lens
	}
	var all strings.Builder
	all.Write(u.stream(total, total))
	if u.err != nil {
		return dst, lens
	}
	rest := all.String()
	for i, l := range lens {
		dst[i], rest = rest[:l], rest[l:]
	}
	return dst, lens
}
