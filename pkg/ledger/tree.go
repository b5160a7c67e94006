package ledger

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// frontier is the growing right edge of the tree: for each level of tiles the
// hashes of the tile that is not full yet, and the bundle that is not full
// yet. It is all that is needed to append and to compute the root.
//
// A frontier that was published is never changed: next returns a copy to work
// on. The copy shares memory with the original, and appends behind its end;
// so only one copy may be worked on at a time.
type frontier struct {
	size   int64
	levels [maxLevel + 1][]byte
	bundle []byte

	scratch []byte // of addBundle
}

// file is a full or partial tile or bundle with its contents.
type file struct {
	tile
	data []byte
}

func (f *frontier) next() *frontier {
	c := *f
	return &c
}

// ReadHashes implements tlog.HashReader for the hashes in the growing tiles:
// those that tlog asks for to append a record or to compute the root.
func (f *frontier) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		t := tlog.TileForIndex(tileHeight, x)
		data := f.levels[t.L]
		if have := f.size >> (tileHeight * t.L); t.N != have/tileWidth || t.W*hashSize > len(data) {
			return nil, fmt.Errorf("hash %d is not at the edge of a tree of %d entries", x, f.size)
		}
		h, err := tlog.HashFromTile(t, data[:t.W*hashSize], x)
		if err != nil {
			return nil, fmt.Errorf("read hash %d: %w", x, err)
		}
		out[i] = h
	}
	return out, nil
}

// add appends one encoded entry, and appends to full the tiles and the bundle
// that it fills.
func (f *frontier) add(entry []byte, full []file) ([]file, error) {
	hashes, err := tlog.StoredHashes(f.size, entry, f)
	if err != nil {
		return full, fmt.Errorf("hash entry %d: %w", f.size, err)
	}
	number := f.size / tileWidth
	f.bundle = appendBundle(f.bundle, entry)
	if f.size%tileWidth == tileWidth-1 {
		full = append(full, file{tile{bundleLevel, number, tileWidth}, f.bundle})
		f.bundle = nil // not [:0]: the memory is shared with the frontier before
	}
	// hashes[i] is the root of the 2^i entries that end here.
	for height := 0; height < len(hashes); height += tileHeight {
		level := height / tileHeight
		f.levels[level] = append(f.levels[level], hashes[height][:]...)
		if len(f.levels[level]) == tileWidth*hashSize {
			full = append(full, file{tile{level, number, tileWidth}, f.levels[level]})
			f.levels[level] = nil
		}
		number /= tileWidth
	}
	f.size++
	return full, nil
}

// addBundle is add for all entries of a full bundle, at the end of a tree of
// full bundles; the bundle itself is not among full. It hashes each node once.
func (f *frontier) addBundle(entries [][]byte, full []file) []file {
	number := f.size / tileWidth
	hashes := make([]byte, 0, tileWidth*hashSize)
	for _, e := range entries {
		f.scratch = append(append(f.scratch[:0], 0), e...) // RFC 6962 §2.1: MTH({d}) = SHA-256(0x00 || d)
		h := sha256.Sum256(f.scratch)
		hashes = append(hashes, h[:]...)
	}
	f.size += tileWidth
	for level := 0; ; level++ {
		full = append(full, file{tile{level, number, tileWidth}, hashes})
		if level == maxLevel {
			return full
		}
		root := rootOfTile(hashes)
		f.levels[level+1] = append(f.levels[level+1], root[:]...)
		if len(f.levels[level+1]) < tileWidth*hashSize {
			return full
		}
		hashes, f.levels[level+1] = f.levels[level+1], nil
		number /= tileWidth
	}
}

// rootOfTile returns the root of a full tile.
func rootOfTile(hashes []byte) [hashSize]byte {
	var nodes [tileWidth / 2 * hashSize]byte
	var pair [1 + 2*hashSize]byte
	pair[0] = 1 // RFC 6962 §2.1: SHA-256(0x01 || left || right)
	for n := tileWidth / 2; n > 0; n /= 2 {
		for i := range n {
			copy(pair[1:], hashes[i*2*hashSize:(i+1)*2*hashSize])
			h := sha256.Sum256(pair[:])
			copy(nodes[i*hashSize:], h[:]) // behind what is still to be read: 2i ≥ i
		}
		hashes = nodes[:n*hashSize]
	}
	return [hashSize]byte(nodes[:hashSize])
}

// partial returns the growing tiles and the growing bundle as files.
func (f *frontier) partial() []file {
	var out []file
	for _, t := range growing(f.size) {
		data := f.bundle
		if t.level != bundleLevel {
			data = f.levels[t.level]
		}
		out = append(out, file{t, data})
	}
	return out
}

// root returns the root of the tree (RFC 6962 §2.1; of no entries, the hash of
// nothing).
func (f *frontier) root() (tlog.Hash, error) {
	h, err := tlog.TreeHash(f.size, f)
	if err != nil {
		return h, fmt.Errorf("compute the root of %d entries: %w", f.size, err)
	}
	return h, nil
}

// changed returns the growing tiles and bundle that are not those of old.
func (f *frontier) changed(old *frontier) []file {
	before := growing(old.size)
	return slices.DeleteFunc(f.partial(), func(p file) bool { return slices.Contains(before, p.tile) })
}
