package ledger

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// Names of files, relative to the ledger's directory. FORMAT.md has the whole
// picture.
const (
	KeyName        = "signer.key"
	PublicKeyName  = "public.key"
	CheckpointName = "checkpoint"

	tileDir   = "tile"
	bundleDir = "entries"
	tmpSuffix = ".new" // a file on its way to be renamed
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight // hashes of a full tile, entries of a full bundle
	maxLevel   = 7               // 256^8 entries is more than an int64 counts

	// bundleLevel stands for bundles of entries where a level is asked for.
	bundleLevel = -1

	// maxBatch is how many entries one checkpoint may add. It bounds what a
	// killed process can leave behind: anything further beyond the checkpoint
	// was once acknowledged.
	maxBatch = tileWidth
)

// tile names one tile or bundle: width hashes (or entries) from number
// n*tileWidth of its level on.
//
// A bundle of width 0 is the empty file that follows a full bundle until the
// next entry comes. With it, each checkpoint needs a file that the next append
// removes; so an old checkpoint that was put back is never taken for the last
// one before a torn batch.
type tile struct {
	level int // bundleLevel for a bundle
	n     int64
	width int // 1..tileWidth; a bundle's may be 0
}

// count returns how many hashes a tree of that size has at the tile's level;
// level 0 and bundles have one for each entry.
func (t tile) count(size int64) int64 {
	return size >> (tileHeight * max(t.level, 0))
}

func (t tile) end() int64 { return t.n*tileWidth + int64(t.width) }

// path returns the name of the tile's file, as C2SP tlog-tiles has it.
func (t tile) path() string {
	p := t.number()
	if t.width < tileWidth {
		p += ".p/" + strconv.Itoa(t.width)
	}
	return p
}

// partials returns the directory that holds the tile's partial versions.
func (t tile) partials() string { return t.number() + ".p" }

// number returns the path up to the width: index 1234067 is x001/x234/067.
func (t tile) number() string {
	level := bundleDir
	if t.level != bundleLevel {
		level = strconv.Itoa(t.level)
	}
	n := fmt.Sprintf("%03d", t.n%1000)
	for rest := t.n / 1000; rest > 0; rest /= 1000 {
		n = fmt.Sprintf("x%03d/%s", rest%1000, n)
	}
	return path.Join(tileDir, level, n)
}

// parseTile is the inverse of tile.path; it accepts nothing that path does not
// produce.
func parseTile(name string) (tile, bool) {
	t := tile{width: tileWidth}
	parts := strings.Split(name, "/")
	if len(parts) < 3 || parts[0] != tileDir {
		return tile{}, false
	}
	t.level = bundleLevel
	if parts[1] != bundleDir {
		l, err := strconv.Atoi(parts[1])
		if err != nil || l < 0 || l > maxLevel {
			return tile{}, false
		}
		t.level = l
	}
	parts = parts[2:]
	if last := len(parts) - 1; last > 0 && strings.HasSuffix(parts[last-1], ".p") {
		w, err := strconv.Atoi(parts[last])
		if err != nil || w < 0 || w >= tileWidth || w == 0 && t.level != bundleLevel {
			return tile{}, false
		}
		t.width = w
		parts[last-1] = strings.TrimSuffix(parts[last-1], ".p")
		parts = parts[:last]
	}
	if len(parts) > 5 { // 10^15 tiles
		return tile{}, false
	}
	for _, p := range parts {
		d, err := strconv.Atoi(strings.TrimPrefix(p, "x"))
		if err != nil || d < 0 || d > 999 {
			return tile{}, false
		}
		t.n = t.n*1000 + int64(d)
	}
	return t, t.path() == name
}

// standing is what a file is to a checkpoint.
type standing int

const (
	needed     standing = iota // the checkpoint covers it and nothing wider does
	superseded                 // a wider tile of the same checkpoint holds it too
	torn                       // beyond the checkpoint, by no more than one batch
	beyond                     // further beyond: the checkpoint is older than the tiles
)

// standingOf judges a tile by the size of the tree.
func (t tile) standingOf(size int64) standing {
	have := t.count(size)
	switch {
	case t.end() <= have && t.width == tileWidth, t.end() == have:
		return needed
	case t.end() < have:
		return superseded
	case t.end() <= t.count(size+maxBatch):
		return torn
	}
	return beyond
}

// growing returns the partial tiles and the partial bundle of a tree of that
// size, bundle first. Levels that hold only full tiles have none; there is
// always a bundle.
func growing(size int64) []tile {
	var out []tile
	for level := bundleLevel; level <= maxLevel; level++ {
		t := tile{level: level}
		have := t.count(size)
		t.n, t.width = have/tileWidth, int(have%tileWidth)
		if t.width > 0 || level == bundleLevel {
			out = append(out, t)
		}
	}
	return out
}
