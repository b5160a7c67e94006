package nat

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// TableOptions size a Table. 0 stands for the default of each.
type TableOptions struct {
	// Max is how many translations are remembered, those that have ended
	// included; 96 bytes each, taken when they are needed. 0: 1,048,576.
	Max int

	// FarUnknown: sessions do not tell their far end, and are found by their own.
	FarUnknown bool

	// Keep is how long an ended translation is remembered for sessions that are
	// stored later; nil: 6 minutes.
	Keep func(proto uint8) time.Duration

	// Pieces: translations become access records, see Table.Pieces.
	Pieces bool
	// MaxPieces is how many wait to be taken at most. 0: 1,048,576.
	MaxPieces int
}

// Table remembers translations. Its methods may be called from several
// goroutines.
type Table struct {
	o    TableOptions
	seed maphash.Seed

	mu     sync.Mutex
	chunks [][]entry
	used   uint32   // entries of chunks that were ever in use, and the first, which never is
	free   uint32   // first of a list by next
	heads  []uint32 // by hash of the whole translation
	heads2 []uint32 // by what a session without far end or without ports tells
	mask   uint64
	gone   [classes]fifo // ended ones, the longest ago first
	round  uint32        // of listing
	loss   int64         // since when the kernel's events are not all known, UTC ns; 0: they are
	lossOf int64         // when events of other machines were lost, last
	pieces []Piece
	count  tableCounts
}

// entry is a translation, without pointers. 0 is no entry.
type entry struct {
	hash           uint64 // of the whole translation, keyed: the far end itself is not kept
	from, to       int64  // UTC, ns; to is session.Forever while it goes on
	public, inside session.Addr
	id, round      uint32
	next           uint32 // of the same hash
	next2, prev2   uint32 // of the same second hash
	newer          uint32 // ended after it
	publicPort     uint16
	insidePort     uint16
	fromDoubt      uint16 // see doubtUnit
	toDoubt        uint16
	proto          uint8
	flags          uint8
}

const (
	flagForeign  = 1 << iota // told by another machine: the kernel's table says nothing about it
	flagPiece                // a part of it has become an access record already
	flagListed               // it was met in a listing: its end may not be reported
	flagLostFrom             // others may have had its place before, within the doubt
	flagLostTo               // others may have had its place after, within the doubt
)

// doubtUnit is the unit of doubts, ns.
const doubtUnit = 10e6

func doubtOf(ns int64) uint16 {
	return uint16(min(max(0, (ns+doubtUnit-1)/doubtUnit), 0xffff))
}

// fifo is a list of ended entries.
type fifo struct{ oldest, newest uint32 }

// Classes of protocols whose translations are kept equally long.
const (
	classTCP = iota
	classUDP
	classOther
	classes
)

func classOf(proto uint8) int {
	switch proto {
	case session.TCP:
		return classTCP
	case session.UDP:
		return classUDP
	}
	return classOther
}

const chunkSize = 1 << 13

type tableCounts struct {
	begun, forgotten, early, full, repeated, missedEnds, endOnly uint64
	open, kept                                                   int
	found, unknown, ambiguous                                    uint64
	piecesMade, piecesLost, piecesTaken                          uint64
}

// NewTable returns an empty table.
func NewTable(o TableOptions) *Table {
	if o.Max <= 0 {
		o.Max = 1 << 20
	}
	if o.Keep == nil {
		o.Keep = func(uint8) time.Duration { return 6 * time.Minute }
	}
	if o.MaxPieces <= 0 {
		o.MaxPieces = 1 << 20
	}
	size := 1 << bits.Len(uint(o.Max-1)/2+1)
	return &Table{
		o: o, seed: maphash.MakeSeed(), used: 1,
		heads: make([]uint32, size), heads2: make([]uint32, size), mask: uint64(size - 1),
	}
}

func (t *Table) at(i uint32) *entry { return &t.chunks[i/chunkSize][i%chunkSize] }

// hash is of everything that translates packets of one flow.
func (t *Table) hash(proto uint8, public session.Addr, port uint16, far session.Addr, farPort uint16) uint64 {
	var b [37]byte
	b[0] = proto
	copy(b[1:], public[:])
	copy(b[17:], far[:])
	binary.BigEndian.PutUint16(b[33:], port)
	binary.BigEndian.PutUint16(b[35:], farPort)
	return maphash.Bytes(t.seed, b[:])
}

// hash2 is of what a session tells when it does not tell all; second is false
// when it tells all.
func (t *Table) hash2(proto uint8, public session.Addr, port uint16, far session.Addr) (h uint64, second bool) {
	ports := session.HasPorts(proto)
	switch {
	case t.o.FarUnknown && ports:
		return t.hash(proto, public, port, session.Addr{}, 1), true
	case t.o.FarUnknown:
		return t.hash(proto, public, 0, session.Addr{}, 1), true
	case !ports:
		return t.hash(proto, public, 0, far, 1), true
	}
	return 0, false
}

// apply takes changes into the table, in their order.
func (t *Table) apply(list []change, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		c := &list[i]
		h := t.hash(c.Proto, c.Public, c.PublicPort, c.Far, c.FarPort)
		switch c.kind {
		case began, listed:
			t.begin(c, h, now)
		case ended:
			t.end(c, h, now)
		}
	}
	t.expire(now)
}

// same reports whether e is the translation of c, or what was in its place.
func (e *entry) same(c *change, h uint64) bool {
	return e.hash == h && e.proto == c.Proto && e.publicPort == c.PublicPort && e.public == c.Public
}

// is reports whether e is the very entry that c speaks of.
func (e *entry) is(c *change) bool {
	return e.inside == c.Inside && e.insidePort == c.InsidePort && (e.id == c.ID || e.id == 0 || c.ID == 0)
}

func (t *Table) begin(c *change, h uint64, now int64) {
	for i := t.heads[h&t.mask]; i != 0; {
		e := t.at(i)
		i = e.next
		if !e.same(c, h) {
			continue
		}
		switch {
		case e.to != session.Forever:
			if c.kind == listed && c.ID != 0 && e.id == c.ID && e.is(c) {
				return // the listing was made before the news of its end
			}
		case e.is(c):
			e.round = t.round
			t.refine(e, c)
			t.count.repeated++
			return
		case c.kind == ended:
			t.count.repeated++ // of one that had its place before
			return
		default:
			t.count.missedEnds++
			t.miss(t.index(h, e), e, c)
		}
	}
	i := t.take(now)
	if i == 0 {
		t.count.full++
		return
	}
	e := t.at(i)
	*e = entry{
		hash: h, from: c.at, to: session.Forever, public: c.Public, inside: c.Inside, id: c.ID, round: t.round,
		publicPort: c.PublicPort, insidePort: c.InsidePort, proto: c.Proto, fromDoubt: doubtOf(c.doubt),
	}
	if c.from {
		e.flags |= flagForeign
	}
	if c.kind == listed {
		e.flags |= flagListed
	}
	if c.kind != began && c.start == 0 {
		e.flags |= flagLostFrom
	}
	t.refine(e, c)
	t.link(i, e, c.Far)
	t.count.begun++
	t.count.open++
}

// miss ends an entry whose end was not told, when c takes its place.
func (t *Table) miss(i uint32, e *entry, c *change) {
	doubt := c.doubt
	switch {
	case c.from && t.lossOf > e.from:
		doubt = c.at - e.from
		e.flags |= flagLostTo
	case !c.from && t.loss != 0:
		doubt = max(doubt, c.at-t.loss)
		e.flags |= flagLostTo
	}
	t.close(i, c.at, doubt)
}

// setLoss says since when the kernel's events are not all known; 0: they are.
func (t *Table) setLoss(since int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.loss = since
}

// foreignLoss says that events of another machine were lost.
func (t *Table) foreignLoss(at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lossOf = max(t.lossOf, at)
}

// index returns the number of an entry that is in the list of h.
func (t *Table) index(h uint64, e *entry) uint32 {
	i := t.heads[h&t.mask]
	for t.at(i) != e {
		i = t.at(i).next
	}
	return i
}

// refine takes over the exact time at which a translation began.
func (t *Table) refine(e *entry, c *change) {
	if c.start != 0 && e.flags&flagPiece == 0 {
		e.from, e.fromDoubt = c.start, 0
	}
}

func (t *Table) end(c *change, h uint64, now int64) {
	var known *entry
	for i := t.heads[h&t.mask]; i != 0; i = t.at(i).next {
		e := t.at(i)
		if !e.same(c, h) || !e.is(c) {
			continue
		}
		if e.to == session.Forever {
			t.refine(e, c)
			t.close(i, c.at, c.doubt)
			return
		}
		if known == nil && e.id == c.ID {
			known = e
		}
	}
	if known != nil { // a listing said so already, not when exactly
		t.refine(known, c)
		if c.at < known.to {
			known.to, known.toDoubt = max(c.at, known.from), doubtOf(c.doubt)
		}
		t.count.repeated++
		return
	}
	begin := *c
	if begin.start == 0 {
		begin.doubt = doubtUnit * 0xffff // nobody knows since when
	}
	before := t.count.begun
	if t.begin(&begin, h, now); t.count.begun > before {
		t.count.endOnly++
		t.close(t.heads[h&t.mask], c.at, c.doubt)
	}
}

// close ends an entry. It can then be found for a while.
func (t *Table) close(i uint32, at, doubt int64) {
	e := t.at(i)
	e.to, e.toDoubt, e.newer = max(at, e.from), doubtOf(doubt), 0
	q := &t.gone[classOf(e.proto)]
	if q.newest == 0 {
		q.oldest = i
	} else {
		t.at(q.newest).newer = i
	}
	q.newest = i
	t.count.open--
	t.count.kept++
	if t.o.Pieces {
		t.piece(e, e.to, false)
	}
}

// link puts an entry where it is found.
func (t *Table) link(i uint32, e *entry, far session.Addr) {
	head := &t.heads[e.hash&t.mask]
	e.next, *head = *head, i
	h2, second := t.hash2(e.proto, e.public, e.publicPort, far)
	if !second {
		e.prev2 = i // of itself: not in any list
		return
	}
	head = &t.heads2[h2&t.mask]
	e.next2, *head = *head, i
	if e.next2 != 0 {
		t.at(e.next2).prev2 = i
	}
	e.prev2 = headMark | uint32(h2&t.mask)
}

// headMark says of prev2 that it is the number of a head.
const headMark = 1 << 31

// drop forgets the oldest entry of a class.
func (t *Table) drop(q *fifo) {
	i := q.oldest
	e := t.at(i)
	if q.oldest = e.newer; q.oldest == 0 {
		q.newest = 0
	}
	at := &t.heads[e.hash&t.mask]
	for *at != i {
		at = &t.at(*at).next
	}
	*at = e.next
	if e.prev2 != i {
		if e.prev2&headMark != 0 {
			t.heads2[e.prev2&^headMark] = e.next2
		} else {
			t.at(e.prev2).next2 = e.next2
		}
		if e.next2 != 0 {
			t.at(e.next2).prev2 = e.prev2
		}
	}
	*e = entry{next: t.free}
	t.free = i
	t.count.kept--
}

// expire forgets what has ended long enough ago.
func (t *Table) expire(now int64) {
	for class := range t.gone {
		q := &t.gone[class]
		for q.oldest != 0 && t.at(q.oldest).to < now-int64(t.o.Keep(t.at(q.oldest).proto)) {
			t.drop(q)
			t.count.forgotten++
		}
	}
}

// take returns an unused entry, and forgets one too early if need be; 0 when all
// go on.
func (t *Table) take(now int64) uint32 {
	if t.free == 0 && int(t.used) > t.o.Max {
		var oldest *fifo
		for class := range t.gone {
			if q := &t.gone[class]; q.oldest != 0 && (oldest == nil || t.at(q.oldest).to < t.at(oldest.oldest).to) {
				oldest = q
			}
		}
		if oldest == nil {
			return 0
		}
		t.drop(oldest)
		t.count.early++
	}
	if i := t.free; i != 0 {
		t.free = t.at(i).next
		return i
	}
	if int(t.used) >= len(t.chunks)*chunkSize {
		t.chunks = append(t.chunks, make([]entry, chunkSize))
	}
	t.used++
	return t.used - 1
}
