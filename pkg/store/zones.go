package store

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"github.com/edgelog/edgelog/pkg/vault"
)

// zoneFrames is how many frames of a block of sessions say which addresses it may
// have: header and directory, and the zone (pkg/block/FORMAT.md).
const zoneFrames = 2

// zonesFile is where a run keeps these frames of all its blocks of sessions
// together, so that a question about one address reads one small file, and opens
// the databases of those runs alone that may have an answer. They are parts of the
// sealed blocks (vault.Part), as sealed as those; one that is not here is read where
// its block lies. The file holds, for each part, its length(4, big-endian) and
// itself.
const zonesFile = "ZONES"

// keepZone remembers the zone of a block that is put.
func (w *runWriter) keepZone(e *entry, b Sealed) {
	if e.shelf.kind.Of() != KindSessions || len(b) <= smallBlock {
		return
	}
	at := len(w.zones)
	out, err := vault.Part(binary.BigEndian.AppendUint32(w.zones, 0), b, func(i int) bool { return i < zoneFrames })
	if err != nil {
		return // whoever reads the block says so
	}
	binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4))
	w.zones = out
}

// zoneList has the zones of one run.
type zoneList struct {
	of    *database
	parts map[entryName][]byte
}

type entryName struct {
	shelf shelf
	seq   uint32
}

// zone returns the zone of a block of a run, nil where the run does not have it
// apart.
func (list *zoneList) zone(l *located) []byte {
	if !l.in.run {
		return nil
	}
	if list.of != l.in {
		list.of, list.parts = l.in, map[entryName][]byte{}
		b, err := os.ReadFile(filepath.Join(l.in.dir, zonesFile))
		if err != nil {
			return nil // it has none, or goes just now
		}
		if list.read(b) != nil {
			clear(list.parts) // the blocks themselves are asked
		}
	}
	return list.parts[entryName{l.shelf, l.seq}]
}

func (list *zoneList) read(b []byte) error {
	for len(b) > 0 {
		if len(b) < 4 || int64(binary.BigEndian.Uint32(b)) > int64(len(b)-4) {
			return fmt.Errorf("%w: the zones of a run are cut short", ErrDamaged)
		}
		part := b[4 : 4+binary.BigEndian.Uint32(b)]
		b = b[4+len(part):]
		p, _, err := vault.Layout(part)
		if err != nil {
			return err
		}
		list.parts[entryName{shelfOf(p), p.Seq}] = part
	}
	return nil
}
