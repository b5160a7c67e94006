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
)

// known reports whether this version files blocks of that kind.
func (k Kind) known() bool { return k >= KindSessions && k <= KindInForce }

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

// book counts the blocks of one kind, day and epoch. It is written in the same
// transaction as the blocks, so that one that is gone does not go unnoticed.
type book struct {
	next  uint32 // number of the next block; all below are there
	bytes uint64 // of all blocks
	rows  uint64 // sum of their counts
	from  int64  // earliest From of a block, unix milliseconds
	to    int64  // latest To
}

func (b *book) add(p vault.Place, size int) {
	if b.next == 0 {
		b.from, b.to = p.From, p.To
	}
	b.next++
	b.bytes += uint64(size)
	b.rows += uint64(p.Count)
	b.from, b.to = min(b.from, p.From), max(b.to, p.To)
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
//	book    0        kind(1) day(4)    epoch(8)
//	label   255      kind(1) day(4)    epoch(8)  seq(4)
//
// Days are never negative, so keys sort by time within a kind.
const (
	bookMark     = 0
	labelMark    = 255
	blockKeySize = 17
	bookKeySize  = 14
	labelKeySize = 18
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

func (s shelf) labelKey(seq uint32) []byte {
	key := s.prefix(append(make([]byte, 0, labelKeySize), labelMark))
	return binary.BigEndian.AppendUint32(key, seq)
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
//	 0  1  format version, 1
//	 1  4  next
//	 5  8  bytes
//	13  8  rows
//	21  8  from, two's complement
//	29  8  to, two's complement
//	37  4  crc32c of the book's key and bytes 0 to 37
const (
	bookVersion = 1
	bookSize    = 41
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errBook = errors.New("book is damaged")

func (b *book) encode(key []byte) []byte {
	out := make([]byte, 0, bookSize)
	out = append(out, bookVersion)
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
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, b[:37])
	if binary.BigEndian.Uint32(b[37:]) != sum {
		return shelf{}, book{}, errBook
	}
	return parseShelf(key[1:]), book{
		next:  binary.BigEndian.Uint32(b[1:]),
		bytes: binary.BigEndian.Uint64(b[5:]),
		rows:  binary.BigEndian.Uint64(b[13:]),
		from:  int64(binary.BigEndian.Uint64(b[21:])),
		to:    int64(binary.BigEndian.Uint64(b[29:])),
	}, nil
}

// label repeats the time range of a block, so that one out of the window asked
// for need not be read. It is stored as from(8), to(8) and the crc32c(4) of its
// key and those; one that is damaged is as good as none.
type label struct{ from, to int64 }

const labelSize = 20

func (l label) encode(key []byte) []byte {
	out := make([]byte, 0, labelSize)
	out = binary.BigEndian.AppendUint64(out, uint64(l.from))
	out = binary.BigEndian.AppendUint64(out, uint64(l.to))
	return binary.BigEndian.AppendUint32(out, crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, out))
}

func parseLabel(key, b []byte) (label, bool) {
	if len(b) != labelSize {
		return label{}, false
	}
	l := label{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))}
	return l, binary.BigEndian.Uint32(b[16:]) == crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, b[:16])
}
