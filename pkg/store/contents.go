package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// entry is what a list of contents says of a block: where it lies, and what it
// says of itself without being opened.
type entry struct {
	shelf shelf
	seq   uint32
	rows  uint32
	size  uint32 // bytes, sealed
	from  int64  // unix milliseconds
	to    int64
}

func entryOf(p *vault.Place, size int) entry {
	return entry{shelf: shelfOf(*p), seq: p.Seq, rows: p.Count, size: uint32(size), from: p.From, to: p.To}
}

func (e *entry) compare(x *entry) int {
	return cmp.Or(e.shelf.compare(x.shelf), cmp.Compare(e.seq, x.seq))
}

// stretch is a stretch of the numbers of a shelf whose blocks were merged.
type stretch struct {
	shelf       shelf
	first, next uint32
	rows        uint64 // in them; twice the same row counts twice
}

// contents is what a run holds, and what it stands for.
type contents struct {
	day     session.Day
	number  uint64 // of the fresh database that it came from
	entries []entry
	merged  []stretch
	lost    []entry // blocks that could not be read when they were to be taken over
}

// The file CONTENTS of a run, numbers big-endian:
//
//	 0   4  "EDGC"
//	 4   1  format version, 1
//	 5   4  day
//	 9   8  number of the run
//	17   4  n, blocks
//	21   4  m, merged stretches
//	25   4  l, lost blocks
//	29 37n  for each block, by kind, epoch, seq: kind(1) epoch(8) seq(4) rows(4) size(4) from(8) to(8)
//	   25m  for each stretch: kind(1) epoch(8) first(4) next(4) rows(8)
//	   37l  for each lost block, as above
//	     4  crc32c of all before it
const (
	contentsMagic   = "EDGC"
	contentsVersion = 1
	contentsHead    = 29
	contentsEntry   = 37
	contentsStretch = 25
)

var errContents = errors.New("list of contents is damaged")

func (c *contents) encode() []byte {
	sortEntries(c.entries)
	sortEntries(c.lost)
	out := make([]byte, 0, contentsHead+(len(c.entries)+len(c.lost))*contentsEntry+len(c.merged)*contentsStretch+4)
	out = append(out, contentsMagic...)
	out = append(out, contentsVersion)
	out = binary.BigEndian.AppendUint32(out, uint32(c.day))
	out = binary.BigEndian.AppendUint64(out, c.number)
	out = binary.BigEndian.AppendUint32(out, uint32(len(c.entries)))
	out = binary.BigEndian.AppendUint32(out, uint32(len(c.merged)))
	out = binary.BigEndian.AppendUint32(out, uint32(len(c.lost)))
	out = appendEntries(out, c.entries)
	for _, m := range c.merged {
		out = append(out, byte(m.shelf.kind))
		out = binary.BigEndian.AppendUint64(out, m.shelf.epoch)
		out = binary.BigEndian.AppendUint32(out, m.first)
		out = binary.BigEndian.AppendUint32(out, m.next)
		out = binary.BigEndian.AppendUint64(out, m.rows)
	}
	out = appendEntries(out, c.lost)
	return binary.BigEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
}

func sortEntries(list []entry) {
	slices.SortFunc(list, func(a, b entry) int { return a.compare(&b) })
}

func appendEntries(out []byte, list []entry) []byte {
	for i := range list {
		e := &list[i]
		out = append(out, byte(e.shelf.kind))
		out = binary.BigEndian.AppendUint64(out, e.shelf.epoch)
		out = binary.BigEndian.AppendUint32(out, e.seq)
		out = binary.BigEndian.AppendUint32(out, e.rows)
		out = binary.BigEndian.AppendUint32(out, e.size)
		out = binary.BigEndian.AppendUint64(out, uint64(e.from))
		out = binary.BigEndian.AppendUint64(out, uint64(e.to))
	}
	return out
}

func parseContents(b []byte) (*contents, error) {
	if len(b) < contentsHead+4 || string(b[:4]) != contentsMagic {
		return nil, errContents
	}
	if b[4] > contentsVersion {
		return nil, fmt.Errorf("%w: contents of format %d, this version reads %d", ErrNewer, b[4], contentsVersion)
	}
	n, m, l := int64(binary.BigEndian.Uint32(b[17:])), int64(binary.BigEndian.Uint32(b[21:])), int64(binary.BigEndian.Uint32(b[25:]))
	body := len(b) - 4
	if b[4] != contentsVersion || int64(body) != contentsHead+(n+l)*contentsEntry+m*contentsStretch ||
		binary.BigEndian.Uint32(b[body:]) != crc32.Checksum(b[:body], castagnoli) {
		return nil, errContents
	}
	c := &contents{day: session.Day(binary.BigEndian.Uint32(b[5:])), number: binary.BigEndian.Uint64(b[9:])}
	at := b[contentsHead:]
	var ok, ok2 bool
	c.entries, ok = parseEntries(at[:n*contentsEntry], c.day)
	at = at[n*contentsEntry:]
	c.merged = make([]stretch, m)
	for i := range c.merged {
		c.merged[i] = stretch{
			shelf: shelf{Kind(at[0]), c.day, binary.BigEndian.Uint64(at[1:])}, first: binary.BigEndian.Uint32(at[9:]),
			next: binary.BigEndian.Uint32(at[13:]), rows: binary.BigEndian.Uint64(at[17:]),
		}
		at = at[contentsStretch:]
	}
	c.lost, ok2 = parseEntries(at[:l*contentsEntry], c.day)
	if !ok || !ok2 {
		return nil, errContents
	}
	return c, nil
}

// parseEntries reads entries; ok is false where they are not sorted, or of no
// known kind.
func parseEntries(b []byte, day session.Day) (list []entry, ok bool) {
	list = make([]entry, len(b)/contentsEntry)
	for i := range list {
		list[i] = entry{
			shelf: shelf{Kind(b[0]), day, binary.BigEndian.Uint64(b[1:])}, seq: binary.BigEndian.Uint32(b[9:]),
			rows: binary.BigEndian.Uint32(b[13:]), size: binary.BigEndian.Uint32(b[17:]),
			from: int64(binary.BigEndian.Uint64(b[21:])), to: int64(binary.BigEndian.Uint64(b[29:])),
		}
		if i > 0 && list[i-1].compare(&list[i]) >= 0 || !list[i].shelf.kind.known() {
			return nil, false
		}
		b = b[contentsEntry:]
	}
	return list, true
}

// books counts the entries, which must be sorted, beside those that were lost;
// ok is false where other numbers are missing.
func books(entries, lost []entry) (out map[shelf]book, ok bool) {
	out = map[shelf]book{}
	for i := range entries {
		e := &entries[i]
		b, seen := out[e.shelf]
		if !seen {
			b = book{first: e.seq, next: e.seq}
		}
		for e.seq > b.next && slices.ContainsFunc(lost, func(x entry) bool { return x.shelf == e.shelf && x.seq == b.next }) {
			b.next++
		}
		if e.seq != b.next {
			return nil, false
		}
		b.add(e)
		out[e.shelf] = b
	}
	return out, true
}
