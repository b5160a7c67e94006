package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Kind says what a block holds. The numbers are stored and never reused.
type Kind uint8

// The kinds. 0 is taken: it marks the books.
const (
	KindSessions  Kind = 1
	KindBindings  Kind = 2 // bindings as they began, changed and ended, on the day on which they did, or at most two days later
	KindRegister  Kind = 3 // a part of an import of subscribers
	KindDirectory Kind = 4 // of such an import, which counts only with it
	KindLate      Kind = 5 // bindings that say something about a time more than two days before the day they are filed under
	KindInForce   Kind = 6 // all bindings in force at the start of the agent or of the day

	// The same, merged from many blocks.
	KindSessionsMerged Kind = 7
	KindBindingsMerged Kind = 8
	KindLateMerged     Kind = 9
	KindInForceMerged  Kind = 10

	// Of a hold, which lies apart from all days (hold.go).
	KindHold         Kind = 11 // why it is held, and how many blocks it has
	KindHoldSessions Kind = 12
	KindHoldBindings Kind = 13

	KindEnds       Kind = 14 // ends of what had been in force for more than two days, on the day on which they became known
	KindEndsMerged Kind = 15

	// Of the provider's own systems, imported, on the day on which they ended. An import
	// comes in blocks as large as merging would make them: they are never merged.
	KindCalls Kind = 16
	KindMail  Kind = 17
)

// fresh reports whether blocks of that kind are put.
func (k Kind) fresh() bool {
	return k >= KindSessions && k <= KindInForce || k == KindEnds || k == KindCalls || k == KindMail
}

// known reports whether this version files blocks of that kind.
func (k Kind) known() bool {
	return k >= KindSessions && k <= KindInForceMerged || k >= KindEnds && k <= KindMail
}

// held reports whether blocks of that kind lie in a hold.
func (k Kind) held() bool { return k >= KindHold && k <= KindHoldBindings }

// merged are the kinds that blocks can be merged to.
var merged = map[Kind]Kind{
	KindSessions: KindSessionsMerged, KindBindings: KindBindingsMerged, KindLate: KindLateMerged, KindInForce: KindInForceMerged,
	KindEnds: KindEndsMerged,
}

// Merged returns the kind of the blocks that blocks of kind k are merged to; ok
// is false where they never are: the pages of a register are named by their
// numbers, and imports are large.
func (k Kind) Merged() (m Kind, ok bool) {
	m, ok = merged[k]
	return m, ok
}

// Of returns what a block of kind k holds: k, or the kind that it was merged
// from.
func (k Kind) Of() Kind {
	for from, to := range merged {
		if k == to {
			return from
		}
	}
	return k
}

// Sizes of what can be put. Badger keeps larger values in a log whose failed
// fsync it does not report, and larger transactions not at all.
const (
	MaxSealed    = 1<<20 - 1                     // bytes of one sealed block
	MaxPlaintext = MaxSealed - vault.MaxOverhead // bytes of a block before it is sealed
	MaxPut       = 2 << 20                       // bytes of all blocks of one Put
)

// Sealed is a block as the vault made it.
type Sealed []byte

// Place returns where the block says that it belongs. Only opening it proves it.
func (s Sealed) Place() (vault.Place, error) { return vault.ParsePlace(s) }

// book counts the blocks of one kind, day and epoch in one database. It is
// written in the same transaction as the blocks, so that one that is gone does
// not go unnoticed.
type book struct {
	first uint32 // number of the first block
	next  uint32 // number behind the last; all between are there
	bytes uint64 // of all blocks
	rows  uint64 // sum of their counts
	from  int64  // earliest From of a block, unix milliseconds
	to    int64  // latest To
}

func (b *book) add(e *entry) {
	if b.next == b.first {
		b.from, b.to = e.from, e.to
	}
	b.next++
	b.bytes += uint64(e.size)
	b.rows += uint64(e.rows)
	b.from, b.to = min(b.from, e.from), max(b.to, e.to)
}

// shelf names a book.
type shelf struct {
	kind  Kind
	day   session.Day
	epoch uint64
}

func shelfOf(p vault.Place) shelf { return shelf{Kind(p.Kind), session.Day(p.Day), p.Epoch} }

// Badger keys, all numbers big-endian:
//
//	block   kind(1)  day(4)  epoch(8)  seq(4)
//	book    0        kind(1) day(4)    epoch(8)	in a fresh database
//
// Days are never negative, so keys sort by time within a kind.
const (
	bookMark     = 0
	blockKeySize = 17
	bookKeySize  = 14
)

// lastDay is 9999-12-31, the last day that can be written as YYYY-MM-DD.
const lastDay = session.Day(2932896)

func (s shelf) prefix(dst []byte) []byte {
	dst = append(dst, byte(s.kind))
	dst = binary.BigEndian.AppendUint32(dst, uint32(s.day))
	return binary.BigEndian.AppendUint64(dst, s.epoch)
}

func (s shelf) blockKey(seq uint32) []byte {
	return binary.BigEndian.AppendUint32(s.prefix(make([]byte, 0, blockKeySize)), seq)
}

func (s shelf) bookKey() []byte { return s.prefix(append(make([]byte, 0, bookKeySize), bookMark)) }

func parseShelf(b []byte) shelf {
	return shelf{Kind(b[0]), session.Day(binary.BigEndian.Uint32(b[1:])), binary.BigEndian.Uint64(b[5:])}
}

// parseSeq returns the number at the end of the key of a block or label.
func parseSeq(key []byte) uint32 { return binary.BigEndian.Uint32(key[len(key)-4:]) }

func (s shelf) String() string {
	return fmt.Sprintf("kind %d, day %s, epoch %d", s.kind, s.day, s.epoch)
}

// A book is stored as:
//
//	 0  1  format version, 2
//	 1  4  first
//	 5  4  next
//	 9  8  bytes
//	17  8  rows
//	25  8  from, two's complement
//	33  8  to, two's complement
//	41  4  crc32c of the book's key and bytes 0 to 41
const (
	bookVersion = 2
	bookSize    = 45
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errBook = errors.New("book is damaged")

func (b *book) encode(key []byte) []byte {
	out := make([]byte, 0, bookSize)
	out = append(out, bookVersion)
	out = binary.BigEndian.AppendUint32(out, b.first)
	out = binary.BigEndian.AppendUint32(out, b.next)
	out = binary.BigEndian.AppendUint64(out, b.bytes)
	out = binary.BigEndian.AppendUint64(out, b.rows)
	out = binary.BigEndian.AppendUint64(out, uint64(b.from))
	out = binary.BigEndian.AppendUint64(out, uint64(b.to))
	return binary.BigEndian.AppendUint32(out, crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, out))
}

func parseBook(key, b []byte) (shelf, book, error) {
	if len(key) != bookKeySize || len(b) != bookSize || b[0] != bookVersion || key[0] != bookMark {
		return shelf{}, book{}, errBook
	}
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, b[:41])
	if binary.BigEndian.Uint32(b[41:]) != sum {
		return shelf{}, book{}, errBook
	}
	return parseShelf(key[1:]), book{
		first: binary.BigEndian.Uint32(b[1:]),
		next:  binary.BigEndian.Uint32(b[5:]),
		bytes: binary.BigEndian.Uint64(b[9:]),
		rows:  binary.BigEndian.Uint64(b[17:]),
		from:  int64(binary.BigEndian.Uint64(b[25:])),
		to:    int64(binary.BigEndian.Uint64(b[33:])),
	}, nil
}
