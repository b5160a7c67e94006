package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"

	"github.com/edgelog/edgelog/pkg/vault"
)

// zoneFrames is how many frames of a block of sessions say which addresses it may
// have: header and directory, and the zone (pkg/block/FORMAT.md).
const zoneFrames = 2

// zonesKey is where a run keeps these frames of all its blocks of sessions
// together, so that a question about one address reads them at once and not one
// block after the other. They are parts of the sealed blocks (vault.Part), as
// sealed as those; one that is not here is read where its block lies. The value is,
// for each part, its length(4, big-endian) and itself.
var zonesKey = []byte{254}

const zonesStream = 254 // of the stream writer: no kind has this number

// keepZone remembers the zone of a block that is put.
func (w *runWriter) keepZone(e *entry, b Sealed) {
	if e.shelf.kind.Of() != KindSessions || len(b) <= smallBlock || len(w.zones) > MaxSealed/2 {
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

// writeZones adds them to the run, when all blocks are there.
func (w *runWriter) writeZones() error {
	if len(w.zones) == 0 {
		return nil
	}
	w.buf.Reset()
	badger.KVToBuffer(&pb.KV{Key: zonesKey, Value: w.zones, Version: 1, StreamId: zonesStream}, w.buf)
	return w.out.Write(w.buf)
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
func (s *Store) zone(list *zoneList, l *located) (part []byte, err error) {
	if !l.in.run {
		return nil, nil
	}
	if list.of != l.in {
		list.of, list.parts = l.in, map[entryName][]byte{}
		err := s.shelves.with(l.in, func(db *badger.DB) error {
			return get(db, zonesKey, func(v []byte) error { return list.read(append([]byte(nil), v...)) })
		})
		if err != nil && !errors.Is(err, errLost) {
			return nil, err
		}
	}
	return list.parts[entryName{l.shelf, l.seq}], nil
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
