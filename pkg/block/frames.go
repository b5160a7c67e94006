package block

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Frame gives frame i of a block: 0 is header and directory, i the i-th column
// of the directory. What it gives is used until the next call.
type Frame func(i int) ([]byte, error)

// Heads is how many frames of a block of sessions, from the first, a question
// opens to see whether the block may have an answer. For one about an end user's
// address ZoneHeads will do.
const (
	Heads     = 3
	ZoneHeads = 2
)

// Frames cuts a block into the frames in which it is sealed, and appends them
// to dst: header and directory, then each column. They lie one behind the other
// in plain. The error wraps ErrDamaged or ErrNewer.
func Frames(dst [][]byte, plain []byte) ([][]byte, error) {
	_, n, at, err := readHeader(plain)
	if err != nil {
		return dst, err
	}
	end := at + n*columnPart
	out := append(dst, plain[:end:end])
	rest := plain[end:]
	for i := range n {
		size := binary.BigEndian.Uint32(plain[at+i*columnPart+1:])
		if uint64(size) > uint64(len(rest)) {
			return dst, fmt.Errorf("cut block into frames: %w: column %d of %d is cut short", ErrDamaged, i+1, n)
		}
		out = append(out, rest[:size:size])
		rest = rest[size:]
	}
	if len(rest) != 0 {
		return dst, fmt.Errorf("cut block into frames: %w: %d bytes too many", ErrDamaged, len(rest))
	}
	return out, nil
}

// unsealed gives the frames of a block that is there as a whole.
func unsealed(plain []byte) Frame {
	frames, err := Frames(nil, plain)
	return func(i int) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		if i >= len(frames) {
			return nil, errNoFrame
		}
		return frames[i], nil
	}
}

var errNoFrame = errors.New("block has no such frame")

// directory says in which frame each column of a block lies.
type directory struct {
	frame [256]uint8  // 0: there is no such column
	size  [256]uint32 // bytes
}

// read reads frame 0 of a block.
func (d *directory) read(b []byte, kind Kind) (Header, error) {
	h, n, at, err := readHeader(b)
	if err != nil {
		return h, err
	}
	if h.Kind != kind {
		return h, fmt.Errorf("read block of %s: %w: %s", kind, ErrKind, h.Kind)
	}
	if extra := len(b) - at - n*columnPart; extra != 0 {
		return h, fmt.Errorf("read block of %s: %w: its first frame is %d bytes too long", kind, ErrDamaged, extra)
	}
	*d = directory{}
	for i := range n {
		entry := b[at+i*columnPart:]
		id := entry[0]
		if d.frame[id] != 0 {
			return h, fmt.Errorf("read block of %s: %w: column %d is there twice", kind, ErrDamaged, id)
		}
		d.frame[id], d.size[id] = uint8(i+1), binary.BigEndian.Uint32(entry[1:])
	}
	return h, nil
}
