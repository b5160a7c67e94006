package block

import (
	"encoding/binary"
	"fmt"
)

// Frames appends to dst the parts of a block that are sealed each on its own:
// header and directory, then each column in the order of the directory. They
// are slices of plain. The error wraps ErrDamaged or ErrNewer.
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
			return dst, fmt.Errorf("cut block into frames: %w: column %d is cut short", ErrDamaged, i)
		}
		out = append(out, rest[:size:size])
		rest = rest[size:]
	}
	if len(rest) != 0 {
		return dst, fmt.Errorf("cut block into frames: %w: %d bytes too many", ErrDamaged, len(rest))
	}
	return out, nil
}
