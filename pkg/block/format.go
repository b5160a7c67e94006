package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/edgelog/edgelog/pkg/session"
)

// Kind says what a block holds. The numbers are stored and never reused.
type Kind uint8

// The kinds.
const (
	KindSessions  Kind = 1
	KindBindings  Kind = 2
	KindRegister  Kind = 3
	KindDirectory Kind = 4 // of a register

	KindCommunications Kind = 5
)

// String returns the name of the kind.
func (k Kind) String() string {
	switch k {
	case KindSessions:
		return "sessions"
	case KindBindings:
		return "bindings"
	case KindRegister:
		return "subscribers"
	case KindDirectory:
		return "directory"
	case KindCommunications:
		return "communications"
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// Version is the format version that this package writes.
const Version = 1

// Limits of one block. They bound the memory that reading any bytes can take.
const (
	MaxRows    = 1 << 17 // sessions or bindings
	MaxText    = 4096    // bytes of one subscriber id or other text
	maxTexts   = 16 << 20
	maxColumns = 64
	maxName    = 255
)

// Errors of this package.
var (
	ErrDamaged = errors.New("block is damaged")
	ErrNewer   = errors.New("block was written by a newer version of edgelog")
	ErrKind    = errors.New("block holds something else")
	ErrTooBig  = errors.New("too much for one block")
	ErrEmpty   = errors.New("nothing to encode")
)

// Clock is the state of the gateway's clock while a block was recorded.
type Clock struct {
	Synchronised   bool   // synchronised all the time (adjtimex without STA_UNSYNC)
	MaxErrorMicros uint32 // worst maxerror, microseconds
}

// Header stands at the beginning of each block. Encoders take Profile, Gateway,
// Provider and Clock from it and work out the rest themselves.
type Header struct {
	Version  uint8
	Kind     Kind
	Profile  session.Profile
	Gateway  string // up to 255 bytes of UTF-8
	Provider string // up to 255 bytes of UTF-8
	Clock    Clock

	Count    int   // rows
	MinStart int64 // earliest Start or From, unix milliseconds UTC
	MaxEnd   int64 // latest End or To, unix milliseconds UTC, rounded up for bindings; MaxMilli when one is in force for ever
}

// MaxMilli is the latest time in milliseconds that is also a time in
// nanoseconds; it stands for session.Forever.
const MaxMilli = int64(math.MaxInt64) / 1_000_000

const (
	magic      = "EDGB"
	fixedPart  = 36 // bytes before the names
	columnPart = 5  // bytes of a directory entry
	clockSync  = 1 << 0
)

// appendHeader writes the header and a directory of n columns to be filled in.
func appendHeader(dst []byte, h *Header, n int) ([]byte, error) {
	for what, s := range map[string]string{"gateway": h.Gateway, "provider": h.Provider} {
		if len(s) > maxName || !utf8.ValidString(s) {
			return dst, fmt.Errorf("encode block: %s name %q is not up to %d bytes of UTF-8", what, s, maxName)
		}
	}
	var flags byte
	if h.Clock.Synchronised {
		flags |= clockSync
	}
	dst = append(dst, magic...)
	dst = append(dst, Version, byte(h.Kind), byte(h.Profile), flags)
	dst = binary.BigEndian.AppendUint32(dst, h.Clock.MaxErrorMicros)
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.Count))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.MinStart))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.MaxEnd))
	dst = append(dst, byte(n), 0, byte(len(h.Gateway)), byte(len(h.Provider)))
	dst = append(dst, h.Gateway...)
	dst = append(dst, h.Provider...)
	return append(dst, make([]byte, n*columnPart)...), nil
}

// headerSize is the length of header and directory of n columns.
func headerSize(h *Header, n int) int {
	return fixedPart + len(h.Gateway) + len(h.Provider) + n*columnPart
}

// ReadHeader reads the header of a block and nothing more. The error wraps
// ErrDamaged or ErrNewer.
func ReadHeader(b []byte) (Header, error) {
	h, _, _, err := readHeader(b)
	return h, err
}

// readHeader also returns the number of columns and where the directory begins.
func readHeader(b []byte) (h Header, columns, at int, err error) {
	if len(b) < fixedPart || string(b[:4]) != magic {
		return h, 0, 0, fmt.Errorf("read block header: %w: it does not begin like a block", ErrDamaged)
	}
	if b[4] != Version {
		return h, 0, 0, fmt.Errorf("read block header: %w: format %d, this version reads %d", ErrNewer, b[4], Version)
	}
	h = Header{
		Version: b[4], Kind: Kind(b[5]), Profile: session.Profile(b[6]),
		Clock:    Clock{Synchronised: b[7]&clockSync != 0, MaxErrorMicros: binary.BigEndian.Uint32(b[8:])},
		Count:    int(binary.BigEndian.Uint32(b[12:])),
		MinStart: int64(binary.BigEndian.Uint64(b[16:])),
		MaxEnd:   int64(binary.BigEndian.Uint64(b[24:])),
	}
	columns = int(b[32])
	g, p := int(b[34]), int(b[35])
	at = fixedPart + g + p
	switch {
	case h.Count < 1 || h.Count > MaxRows:
		return Header{}, 0, 0, fmt.Errorf("read block header: %w: %d rows", ErrDamaged, h.Count)
	case columns > maxColumns || len(b) < at+columns*columnPart:
		return Header{}, 0, 0, fmt.Errorf("read block header: %w: it is cut short", ErrDamaged)
	case !inRange(h.MinStart) || !inRange(h.MaxEnd):
		return Header{}, 0, 0, fmt.Errorf("read block header: %w: time out of range", ErrDamaged)
	}
	h.Gateway, h.Provider = string(b[fixedPart:fixedPart+g]), string(b[fixedPart+g:at])
	if !utf8.ValidString(h.Gateway) || !utf8.ValidString(h.Provider) {
		return Header{}, 0, 0, fmt.Errorf("read block header: %w: name is not UTF-8", ErrDamaged)
	}
	return h, columns, at, nil
}

// readColumns returns the bytes of each column by its number. Numbers that this
// version does not know are let pass: later versions add columns.
func readColumns(b []byte, kind Kind) (h Header, cols [256][]byte, err error) {
	h, n, at, err := readHeader(b)
	if err != nil {
		return h, cols, err
	}
	if h.Kind != kind {
		return h, cols, fmt.Errorf("read block of %s: %w: %s", kind, ErrKind, h.Kind)
	}
	rest := b[at+n*columnPart:]
	for i := range n {
		entry := b[at+i*columnPart:]
		id, size := entry[0], binary.BigEndian.Uint32(entry[1:])
		if uint64(size) > uint64(len(rest)) {
			return h, cols, fmt.Errorf("read block of %s: %w: column %d is cut short", kind, ErrDamaged, id)
		}
		if cols[id] != nil {
			return h, cols, fmt.Errorf("read block of %s: %w: column %d is there twice", kind, ErrDamaged, id)
		}
		cols[id] = rest[:size:size]
		rest = rest[size:]
	}
	if len(rest) != 0 {
		return h, cols, fmt.Errorf("read block of %s: %w: %d bytes too many", kind, ErrDamaged, len(rest))
	}
	return h, cols, nil
}

// inRange reports whether a time in milliseconds is also one in nanoseconds.
func inRange(ms int64) bool { return ms >= -MaxMilli && ms <= MaxMilli }

// milli cuts ns to whole milliseconds, downwards.
func milli(ns int64) int64 {
	ms := ns / 1e6
	if ns%1e6 < 0 {
		ms--
	}
	return ms
}
