package ledger

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Entries returns the entries with from ≤ index < to. Each is checked against
// the signed tree before it is returned.
//
// Errors: ErrRange, a *BrokenError, or that of ctx.
func (l *Ledger) Entries(ctx context.Context, from, to int64) ([]Record, error) {
	return l.view().entries(ctx, from, to)
}

// view is a ledger as its checkpoint says it is, whoever appends meanwhile.
type view struct {
	state
	src    source
	verify note.Verifier
}

func (l *Ledger) view() *view {
	return &view{state: l.snapshot(), src: l.disk, verify: l.signer.verify}
}

// hashes returns what reads hashes of the tree, checked against the signed root.
func (w *view) hashes() tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: w.checkpoint.Size, Hash: w.checkpoint.Root}, tiles{w.src, w.edge})
}

func (w *view) entries(ctx context.Context, from, to int64) ([]Record, error) {
	if from < 0 || from > to || to > w.checkpoint.Size {
		return nil, fmt.Errorf("read entries %d to %d: %w: the ledger has %d", from, to, ErrRange, w.checkpoint.Size)
	}
	var out []Record
	for next := from; next < to; {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read entries: %w", err)
		}
		end := min(to, next-next%tileWidth+tileWidth)
		records, err := w.bundleEntries(next, end)
		if err != nil {
			return nil, fmt.Errorf("read entries %d to %d: %w", next, end, err)
		}
		out = append(out, records...)
		next = end
	}
	return out, nil
}

// bundleEntries returns entries of one bundle.
func (w *view) bundleEntries(from, to int64) ([]Record, error) {
	t := w.bundleOf(from)
	entries, err := w.bundle(t)
	if err != nil {
		return nil, err
	}
	indexes := make([]int64, 0, to-from)
	for i := from; i < to; i++ {
		indexes = append(indexes, tlog.StoredHashIndex(0, i))
	}
	hashes, err := w.hashes().ReadHashes(indexes)
	if err != nil {
		return nil, broken(tileDir, "the tiles above entries %d to %d do not give the signed root: %v", from, to, err)
	}
	out := make([]Record, 0, to-from)
	for k, h := range hashes {
		i := from + int64(k)
		data := entries[i%tileWidth]
		if tlog.RecordHash(data) != h {
			return nil, &BrokenError{File: t.path(), Entry: i, Reason: "it is not the entry that was signed"}
		}
		r, err := parseRecord(i, data)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// bundleOf returns the bundle that holds an entry.
func (w *view) bundleOf(index int64) tile {
	n := index / tileWidth
	return tile{bundleLevel, n, int(min(tileWidth, w.checkpoint.Size-n*tileWidth))}
}

// bundle returns the entries of a bundle: the growing one from memory, since
// its file is replaced by each append.
func (w *view) bundle(t tile) ([][]byte, error) {
	data := w.edge.bundle
	if t.width == tileWidth {
		var err error
		if data, err = w.src.read(t.path()); err != nil {
			return nil, err
		}
	}
	entries, err := splitBundle(data, t.width)
	if err != nil {
		return nil, broken(t.path(), "%v", err)
	}
	return entries, nil
}

// tiles implements tlog.TileReader: full tiles from the source, growing ones
// from memory.
type tiles struct {
	src  source
	edge *frontier
}

// Height returns the height of a tile, C2SP tlog-tiles' 8.
func (r tiles) Height() int { return tileHeight }

// SaveTiles does nothing: the tiles are kept already.
func (r tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// ReadTiles returns the hashes of each tile.
func (r tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(want))
	for i, w := range want {
		t := tile{w.L, w.N, w.W}
		if t.width < tileWidth {
			out[i] = r.edge.levels[t.level][:t.width*hashSize]
			continue
		}
		data, err := r.src.read(t.path())
		if err != nil {
			return nil, err
		}
		if len(data) != tileWidth*hashSize {
			return nil, broken(t.path(), "it has %d bytes instead of %d", len(data), tileWidth*hashSize)
		}
		out[i] = data
	}
	return out, nil
}
