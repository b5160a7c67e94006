package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Place says where a sealed block belongs. It is readable without any key and
// cannot be altered without the block refusing to open.
//
//	offset  size
//	     0     4  "EDGS"
//	     4     1  format version, 1
//	     5     1  Kind
//	     6     4  Day, two's complement
//	    10     8  Epoch
//	    18     4  Seq
//	    22     8  From, two's complement
//	    30     8  To, two's complement
//	    38     4  Count
//	    42     4  length m of the plaintext
//	    46     1  length n of Gateway, 1..255
//	    47     n  Gateway, UTF-8
//	  47+n    12  nonce
//	  59+n     m  ciphertext
//	59+n+m    16  tag of AES-256-GCM
//
// All numbers are big-endian. Bytes 0 to 47+n are the associated data.
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

const (
	magic       = "EDGS"
	version     = 1
	fixedPlace  = 47
	nonceSize   = 12
	tagSize     = 16
	maxGateway  = 255
	maxOverhead = fixedPlace + maxGateway + nonceSize + tagSize
)

// MaxOverhead is the largest number of bytes by which a sealed block is longer
// than its plaintext.
const MaxOverhead = maxOverhead

// Errors of places and sealed blocks.
var (
	ErrPlace     = errors.New("place is not valid")
	ErrTruncated = errors.New("sealed data is cut short")
	ErrDamaged   = errors.New("sealed data is damaged or was altered")
	ErrNewer     = errors.New("sealed by a newer version of edgelog")
)

// append writes the canonical form of p for a plaintext of size bytes.
func (p *Place) append(dst []byte, size int) ([]byte, error) {
	switch {
	case size < 0 || size > math.MaxUint32:
		return dst, fmt.Errorf("%w: %d bytes do not fit into one block", ErrPlace, size)
	case len(p.Gateway) == 0 || len(p.Gateway) > maxGateway || !utf8.ValidString(p.Gateway):
		return dst, fmt.Errorf("%w: gateway name must be 1 to %d bytes of UTF-8", ErrPlace, maxGateway)
	case p.From > p.To:
		return dst, fmt.Errorf("%w: it ends before it begins", ErrPlace)
	}
	dst = append(dst, magic...)
	dst = append(dst, version, p.Kind)
	dst = binary.BigEndian.AppendUint32(dst, uint32(p.Day))
	dst = binary.BigEndian.AppendUint64(dst, p.Epoch)
	dst = binary.BigEndian.AppendUint32(dst, p.Seq)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.From))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.To))
	dst = binary.BigEndian.AppendUint32(dst, p.Count)
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	dst = append(dst, byte(len(p.Gateway)))
	return append(dst, p.Gateway...), nil
}

// ParsePlace reads the place of a whole sealed block. It needs no key, and so
// proves nothing: only DayKey.Open does. The error is ErrTruncated, ErrNewer or
// ErrDamaged.
func ParsePlace(sealed []byte) (Place, error) {
	p, _, err := parsePlace(sealed)
	return p, err
}

// parsePlace also returns the length of the canonical form.
func parsePlace(b []byte) (p Place, size int, err error) {
	if len(b) < fixedPlace {
		return p, 0, fmt.Errorf("read place of a sealed block: %w", ErrTruncated)
	}
	if string(b[:4]) != magic {
		return p, 0, fmt.Errorf("read place of a sealed block: %w: it does not begin with %q", ErrDamaged, magic)
	}
	if b[4] != version {
		return p, 0, fmt.Errorf("read place of a sealed block: %w: format %d, this version reads %d", ErrNewer, b[4], version)
	}
	n := int(b[46])
	size = fixedPlace + n
	whole := int64(size) + nonceSize + int64(binary.BigEndian.Uint32(b[42:])) + tagSize
	switch {
	case int64(len(b)) < whole:
		return p, 0, fmt.Errorf("read place of a sealed block: %w: %d bytes of %d", ErrTruncated, len(b), whole)
	case int64(len(b)) > whole:
		return p, 0, fmt.Errorf("read place of a sealed block: %w: %d bytes too many", ErrDamaged, int64(len(b))-whole)
	}
	p = Place{
		Gateway: string(b[fixedPlace:size]),
		Kind:    b[5],
		Day:     int32(binary.BigEndian.Uint32(b[6:])),
		Epoch:   binary.BigEndian.Uint64(b[10:]),
		Seq:     binary.BigEndian.Uint32(b[18:]),
		From:    int64(binary.BigEndian.Uint64(b[22:])),
		To:      int64(binary.BigEndian.Uint64(b[30:])),
		Count:   binary.BigEndian.Uint32(b[38:]),
	}
	if n == 0 || !utf8.ValidString(p.Gateway) || p.From > p.To {
		return Place{}, 0, fmt.Errorf("read place of a sealed block: %w", ErrDamaged)
	}
	return p, size, nil
}
