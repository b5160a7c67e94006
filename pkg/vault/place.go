package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"unicode/utf8"
)

// Place says where a sealed block belongs. It is readable without any key and
// cannot be altered without the block refusing to open.
//
//	 offset  size
//	      0     4  "EDGS", or "EDGP" in a part
//	      4     1  format version, 2
//	      5     1  Kind
//	      6     4  Day, two's complement
//	     10     8  Epoch
//	     18     4  Seq
//	     22     8  From, two's complement
//	     30     8  To, two's complement
//	     38     4  Count
//	     42     1  number f of frames, 1..32
//	     43     1  length n of Gateway, 1..255
//	     44     n  Gateway, UTF-8
//	   44+n    16  salt, random
//	   60+n    4f  length of the plaintext of each frame
//	60+n+4f     4  in a part only: which frames are there, frame 0 is bit 0
//	              the frames that are there, one after the other; each is the
//	              ciphertext, as long as its plaintext, and the 16 bytes of the
//	              tag of AES-256-GCM
//
// All numbers are big-endian. The key of the block is HKDF-SHA256 (RFC 5869) of
// the day's key with the salt, its info being the bytes 0 to 60+n+4f as they
// stand in a whole block, 32 bytes long. Frame i is sealed under it with the
// nonce i (96 bits) and no associated data.
type Place struct {
	Gateway string // name of the recording gateway, 1 to 255 bytes of UTF-8
	Kind    uint8  // what is inside; the store numbers the kinds
	Day     int32  // UTC day under which the block is filed, counted from 1970-01-01
	Epoch   uint64 // one start of the agent
	Seq     uint32 // number of the block within (Kind, Day, Epoch)
	From    int64  // earliest time inside, unix milliseconds UTC
	To      int64  // latest time inside, unix milliseconds UTC, included
	Count   uint32 // records inside
}

// MaxFrames is the largest number of frames in one block.
const MaxFrames = 32

const (
	magic       = "EDGS"
	partMagic   = "EDGP"
	version     = 2
	fixedPlace  = 44
	saltSize    = 16
	lengthSize  = 4 // of a frame, in the table
	presentSize = 4 // of the list of frames in a part
	tagSize     = 16
	maxGateway  = 255
)

// MaxOverhead is the largest number of bytes by which a sealed block is longer
// than the plaintext of all its frames.
const MaxOverhead = fixedPlace + maxGateway + saltSize + MaxFrames*(lengthSize+tagSize)

// Errors of places and sealed blocks.
var (
	ErrPlace     = errors.New("place is not valid")
	ErrTruncated = errors.New("sealed data is cut short")
	ErrDamaged   = errors.New("sealed data is damaged or was altered")
	ErrNewer     = errors.New("sealed by a newer version of edgelog")
	ErrOlder     = errors.New("sealed by a version of edgelog from before the first release")
	ErrPart      = errors.New("only a part of a sealed block")
)

// append writes the header of a block: p, the salt and the table for frames.
func (p *Place) append(dst []byte, salt [saltSize]byte, frames [][]byte) ([]byte, error) {
	switch {
	case len(frames) == 0 || len(frames) > MaxFrames:
		return dst, fmt.Errorf("%w: %d frames, a block has 1 to %d", ErrPlace, len(frames), MaxFrames)
	case len(p.Gateway) == 0 || len(p.Gateway) > maxGateway || !utf8.ValidString(p.Gateway):
		return dst, fmt.Errorf("%w: gateway name must be 1 to %d bytes of UTF-8", ErrPlace, maxGateway)
	case p.From > p.To:
		return dst, fmt.Errorf("%w: it ends before it begins", ErrPlace)
	}
	out := append(dst, magic...)
	out = append(out, version, p.Kind)
	out = binary.BigEndian.AppendUint32(out, uint32(p.Day))
	out = binary.BigEndian.AppendUint64(out, p.Epoch)
	out = binary.BigEndian.AppendUint32(out, p.Seq)
	out = binary.BigEndian.AppendUint64(out, uint64(p.From))
	out = binary.BigEndian.AppendUint64(out, uint64(p.To))
	out = binary.BigEndian.AppendUint32(out, p.Count)
	out = append(out, byte(len(frames)), byte(len(p.Gateway)))
	out = append(out, p.Gateway...)
	out = append(out, salt[:]...)
	for i, f := range frames {
		if uint64(len(f)) > math.MaxUint32-tagSize {
			return dst, fmt.Errorf("%w: frame %d has %d bytes", ErrPlace, i, len(f))
		}
		out = binary.BigEndian.AppendUint32(out, uint32(len(f)))
	}
	return out, nil
}

// ParsePlace reads the place of a whole sealed block. It needs no key, and so
// proves nothing: only opening a frame does. The error is ErrTruncated,
// ErrOlder, ErrNewer, ErrDamaged, or ErrPart for less than a whole block.
func ParsePlace(sealed []byte) (Place, error) {
	b, err := parse(sealed)
	if err == nil && b.part {
		return Place{}, fmt.Errorf("read place of a sealed block: %w", ErrPart)
	}
	return b.place, err
}

// Layout returns the place of a sealed block and the length of the plaintext of
// each frame, in bytes. Like ParsePlace it needs no key and proves nothing, but
// a part will do: it has the lengths of absent frames too.
func Layout(sealed []byte) (Place, []int, error) {
	b, err := parse(sealed)
	if err != nil {
		return Place{}, nil, err
	}
	sizes := make([]int, b.frames)
	for i := range sizes {
		sizes[i] = b.size(i)
	}
	return b.place, sizes, nil
}

// parsed is a sealed block, taken apart.
type parsed struct {
	place   Place
	part    bool
	frames  int
	present uint32 // frame 0 is bit 0
	header  []byte // up to the end of the table
	body    []byte // the frames that are there
}

func (b *parsed) salt() []byte {
	end := len(b.header) - b.frames*lengthSize
	return b.header[end-saltSize : end]
}

// size returns the length of the plaintext of frame i.
func (b *parsed) size(i int) int {
	table := b.header[len(b.header)-b.frames*lengthSize:]
	return int(binary.BigEndian.Uint32(table[i*lengthSize:]))
}

func (b *parsed) has(i int) bool { return b.present>>i&1 != 0 }

// each calls visit with the ciphertext and tag of each frame that is there.
func (b *parsed) each(visit func(i int, sealed []byte)) {
	rest := b.body
	for i := range b.frames {
		if b.has(i) {
			n := b.size(i) + tagSize
			visit(i, rest[:n:n])
			rest = rest[n:]
		}
	}
}

func parse(b []byte) (parsed, error) {
	p, err := parseHeader(b)
	if err != nil {
		return parsed{}, fmt.Errorf("read place of a sealed block: %w", err)
	}
	rest := b[len(p.header):]
	p.present = uint32(1<<p.frames - 1)
	if p.part {
		if len(rest) < presentSize {
			return parsed{}, fmt.Errorf("read place of a sealed block: %w", ErrTruncated)
		}
		listed := binary.BigEndian.Uint32(rest)
		if bits.Len32(listed) > p.frames {
			return parsed{}, fmt.Errorf("read place of a sealed block: %w: it lists frames beyond the %d of the block", ErrDamaged, p.frames)
		}
		p.present, rest = listed, rest[presentSize:]
	}
	want := int64(0)
	for i := range p.frames {
		if p.has(i) {
			want += int64(p.size(i)) + tagSize
		}
	}
	switch have := int64(len(rest)); {
	case have < want:
		return parsed{}, fmt.Errorf("read place of a sealed block: %w: %d bytes of frames, %d wanted", ErrTruncated, have, want)
	case have > want:
		return parsed{}, fmt.Errorf("read place of a sealed block: %w: %d bytes too many", ErrDamaged, have-want)
	}
	p.body = rest
	return p, nil
}

// parseHeader reads up to the end of the table.
func parseHeader(b []byte) (p parsed, err error) {
	if len(b) < fixedPlace {
		return p, ErrTruncated
	}
	p.part = string(b[:4]) == partMagic
	switch {
	case !p.part && string(b[:4]) != magic:
		return p, fmt.Errorf("%w: it does not begin with %q", ErrDamaged, magic)
	case b[4] > version:
		return p, fmt.Errorf("%w: format %d, this version reads %d; upgrade edgelog", ErrNewer, b[4], version)
	case b[4] < version:
		return p, fmt.Errorf("%w: format %d, this version reads %d; begin with an empty data directory", ErrOlder, b[4], version)
	}
	n := int(b[43])
	p.frames = int(b[42])
	size := fixedPlace + n + saltSize + p.frames*lengthSize
	switch {
	case p.frames == 0 || p.frames > MaxFrames:
		return p, fmt.Errorf("%w: %d frames", ErrDamaged, p.frames)
	case len(b) < size:
		return p, fmt.Errorf("%w: %d bytes of a header of %d", ErrTruncated, len(b), size)
	}
	p.header = b[:size:size]
	p.place = Place{
		Gateway: string(b[fixedPlace : fixedPlace+n]),
		Kind:    b[5],
		Day:     int32(binary.BigEndian.Uint32(b[6:])),
		Epoch:   binary.BigEndian.Uint64(b[10:]),
		Seq:     binary.BigEndian.Uint32(b[18:]),
		From:    int64(binary.BigEndian.Uint64(b[22:])),
		To:      int64(binary.BigEndian.Uint64(b[30:])),
		Count:   binary.BigEndian.Uint32(b[38:]),
	}
	if n == 0 || !utf8.ValidString(p.place.Gateway) || p.place.From > p.place.To {
		return p, fmt.Errorf("%w: what it says of its place cannot be", ErrDamaged)
	}
	return p, nil
}

// Part appends to dst a sealed block cut down to the frames that are wanted.
// DayKey.Block reads it like a whole one; frames that are not there give
// ErrAbsent. No key is needed. A part can be cut further. The error is that of
// Layout; dst is then returned as it was.
func Part(dst, sealed []byte, want func(frame int) bool) ([]byte, error) {
	b, err := parse(sealed)
	if err != nil {
		return dst, err
	}
	var kept uint32
	out := append(dst, partMagic...)
	out = append(out, b.header[len(partMagic):]...)
	list := len(out)
	out = append(out, make([]byte, presentSize)...)
	b.each(func(i int, frame []byte) {
		if want(i) {
			kept |= 1 << i
			out = append(out, frame...)
		}
	})
	binary.BigEndian.PutUint32(out[list:], kept)
	return out, nil
}
