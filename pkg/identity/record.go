package identity

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
	"net/netip"
	"strings"

	"github.com/edgelog/edgelog/pkg/session"
)

// A session at rest is one record: a text that is never changed, only replaced.
// The table of bindings points into it, so that each name is in memory once.
//
//	record   id text | n uvarint | n facts
//	fact     kind u8 | flags u8 | at u64 | held varint, if flag 32 is set | until varint, if flag 128 is set | number uvarint
//	         | content, if number is how many contents came before; else it is that content once more
//	content  length of the subscriber uvarint | said | group text | n uvarint | n leases
//	said     subscriber | 6 lengths uvarint | line | equipment | place | identity | via | rule
//	lease    kind u8 | prefix | first u16 | last u16 | via text | rule text, if bit 128 of the kind is set
//	text     length uvarint | bytes
//	prefix   as in codec.go
//
// The id is the key without the part that all sessions of the source share. Via
// and rule in said are those of the first lease; a lease has its own only where
// they differ. Via is the bytes of an address. Numbers are little endian.
const (
	recHeld     = 1 << 5
	ownVia      = 1 << 7
	saidLengths = 6
)

// kept is a session at rest. All but src is guarded by Book.mu.
type kept struct {
	src  *source
	rec  string   // "": forgotten
	seq  uint64   // number of the newest change that is in the log
	wait *waiting // nil: nothing of it ends by itself, and nothing of it was forgotten
	open *sess    // while it is worked on
}

// waiting is what only a session has whose leases end by themselves, or that a
// restart forgot.
type waiting struct {
	until int64 // end of the session as it was before a restart forgot it; 0 when it was not
	now   int64 // leases that ended by themselves until then have ended
	timed bool  // it waits in Book.expiry
}

func newKept(src *source, id string) *kept {
	return &kept{src: src, rec: string(append(appendText(nil, id), 0))}
}

func (k *kept) gone() bool  { return k.rec == "" }
func (k *kept) id() string  { return (&cursor{s: k.rec}).text() }
func (k *kept) key() string { return k.src.prefix + k.id() }

// times returns what k has to wait for, to be written to.
func (k *kept) times() *waiting {
	if k.wait == nil {
		k.wait = new(waiting)
	}
	return k.wait
}

// forgotten is the end of the session as it was before a restart forgot it, or 0.
func (k *kept) forgotten() int64 {
	if k.wait == nil {
		return 0
	}
	return k.wait.until
}

// ranTo is until when leases that ended by themselves have ended.
func (k *kept) ranTo() int64 {
	if k.wait == nil {
		return 0
	}
	return k.wait.now
}

// look returns k with its facts, to be read.
func (k *kept) look() *sess {
	if k.open != nil {
		return k.open
	}
	c := cursor{s: k.rec}
	s := &sess{kept: k, id: c.text()}
	s.facts = c.facts()
	return s
}

// pack brings the record of s up to date.
func (s *sess) pack(buf []byte) []byte {
	if !s.changed {
		return buf
	}
	buf = appendText(buf[:0], s.id)
	buf = binary.AppendUvarint(buf, uint64(len(s.facts)))
	contents := make([]*content, 0, 4)
	for i := range s.facts {
		f := &s.facts[i]
		flags := byte(f.flags)
		if f.held >= 0 {
			flags |= recHeld
		}
		if f.until != 0 {
			flags |= byte(factUntil)
		}
		buf = binary.LittleEndian.AppendUint64(append(buf, byte(f.kind), flags), uint64(f.at))
		if f.held >= 0 {
			buf = binary.AppendVarint(buf, f.held)
		}
		if f.until != 0 {
			buf = binary.AppendVarint(buf, f.until)
		}
		n := indexOf(contents, f.what)
		buf = binary.AppendUvarint(buf, uint64(n))
		if n == len(contents) {
			contents = append(contents, f.what)
			buf = f.what.appendTo(buf)
		}
	}
	s.rec, s.changed = string(buf), false
	for _, c := range contents {
		c.rec = s.rec
	}
	return buf
}

// indexOf returns where c is in list, and its length if it is not.
func indexOf(list []*content, c *content) int {
	for i := range list {
		if list[i] == c {
			return i
		}
	}
	return len(list)
}

// appendTo appends c as it stands in a record, and notes where.
func (c *content) appendTo(b []byte) []byte {
	var first Lease
	if len(c.leases) > 0 {
		first = c.leases[0]
	}
	b = binary.AppendUvarint(b, uint64(len(c.subscriber)))
	c.at = uint32(len(b))
	b = appendText(c.appendSaid(b, &first), c.group)
	b = binary.AppendUvarint(b, uint64(len(c.leases)))
	for i := range c.leases {
		l := &c.leases[i]
		kind := byte(l.Kind)
		if l.Via != first.Via || l.Rule != first.Rule {
			kind |= ownVia
		}
		b = appendPrefix(append(b, kind), l.Prefix)
		b = binary.LittleEndian.AppendUint16(b, l.FirstPort)
		b = binary.LittleEndian.AppendUint16(b, l.LastPort)
		if kind&ownVia != 0 {
			b = appendText(appendText(b, string(l.Via.AsSlice())), l.Rule)
		}
	}
	return b
}

// appendSaid appends what a binding of lease l says.
func (c *content) appendSaid(b []byte, l *Lease) []byte {
	via := l.Via.AsSlice()
	b = append(b, c.subscriber...)
	for _, n := range [saidLengths]int{len(c.line), len(c.equipment), len(c.place), len(c.identity), len(via), len(l.Rule)} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = append(append(append(append(b, c.line...), c.equipment...), c.place...), c.identity...)
	return append(append(b, via...), l.Rule...)
}

// words are what a binding says beside prefix, ports and times.
type words struct {
	subscriber, line, equipment, place, identity, via, rule string
}

// cursor reads a record. Its texts are parts of the record.
type cursor struct {
	s  string
	at int
}

func (c *cursor) u8() byte {
	c.at++
	return c.s[c.at-1]
}

func (c *cursor) u16() uint16 {
	c.at += 2
	return uint16(c.s[c.at-2]) | uint16(c.s[c.at-1])<<8
}

func (c *cursor) u64() (v uint64) {
	for i := range 8 {
		v |= uint64(c.s[c.at+i]) << (8 * i)
	}
	c.at += 8
	return v
}

func (c *cursor) uvarint() (v uint64) {
	for shift := 0; ; shift += 7 {
		b := c.u8()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
}

func (c *cursor) varint() int64 {
	u := c.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (c *cursor) bytes(n int) string {
	c.at += n
	return c.s[c.at-n : c.at]
}

func (c *cursor) text() string { return c.bytes(int(c.uvarint())) }

func (c *cursor) facts() []fact {
	out := make([]fact, c.uvarint())
	contents := make([]*content, 0, 4)
	for i := range out {
		f := &out[i]
		flags := byte(0)
		f.kind, flags, f.at, f.held = Kind(c.u8()), c.u8(), int64(c.u64()), -1
		if flags&recHeld != 0 {
			f.held = c.varint()
		}
		if flags&byte(factUntil) != 0 {
			f.until = c.varint()
		}
		f.flags = factFlags(flags &^ (recHeld | byte(factUntil)))
		n := int(c.uvarint())
		if n == len(contents) {
			contents = append(contents, c.content())
		}
		f.what = contents[n]
	}
	return out
}

func (c *cursor) content() *content {
	n := int(c.uvarint())
	out := &content{rec: c.s, at: uint32(c.at)}
	t := c.said(n)
	out.subscriber, out.line, out.equipment, out.place, out.identity = t.subscriber, t.line, t.equipment, t.place, t.identity
	out.group = c.text()
	out.leases = make([]Lease, c.uvarint())
	for i := range out.leases {
		kind := c.u8()
		l := &out.leases[i]
		*l = Lease{Kind: LeaseKind(kind &^ ownVia), Prefix: c.prefix(), FirstPort: c.u16(), LastPort: c.u16(), Via: addrOf(t.via), Rule: t.rule}
		if kind&ownVia != 0 {
			l.Via, l.Rule = addrOf(c.text()), c.text()
		}
	}
	return out
}

// said reads what a binding says, whose subscriber is n bytes long.
func (c *cursor) said(n int) (t words) {
	t.subscriber = c.bytes(n)
	var lengths [saidLengths]int
	for i := range lengths {
		lengths[i] = int(c.uvarint())
	}
	for i, p := range [saidLengths]*string{&t.line, &t.equipment, &t.place, &t.identity, &t.via, &t.rule} {
		*p = c.bytes(lengths[i])
	}
	return t
}

func (c *cursor) prefix() netip.Prefix {
	a := addrOf(c.bytes(int(c.u8())))
	return netip.PrefixFrom(a, int(c.u8()))
}

// addrOf returns the address of these bytes; not valid when there are none.
func addrOf(s string) netip.Addr {
	switch len(s) {
	case 4:
		return netip.AddrFrom4([4]byte([]byte(s)))
	case 16:
		return netip.AddrFrom16([16]byte([]byte(s)))
	}
	return netip.Addr{}
}

// roll finds the sessions of one source by their id: a hash table that costs
// ten bytes a place, since what it holds has its id in it.
type roll struct {
	slots []*kept  // a power of two of them; a session is at its hash or behind it, with no gap between
	tags  []uint16 // other bits of their hashes: what is passed over is not looked at
	n     int
}

var rollSeed = maphash.MakeSeed()

// home returns the place where the search for an id begins, and its tag.
func (r *roll) home(id string) (int, uint16) {
	h := maphash.String(rollSeed, id)
	return int(h) & (len(r.slots) - 1), uint16(h >> 48)
}

// find returns the session of that id, or nil.
func (r *roll) find(id string) *kept {
	if r.n == 0 {
		return nil
	}
	i, tag := r.home(id)
	for ; ; i = (i + 1) & (len(r.slots) - 1) {
		if k := r.slots[i]; k == nil || r.tags[i] == tag && k.id() == id {
			return k
		}
	}
}

// all visits each session.
func (r *roll) all() iter.Seq[*kept] {
	return func(yield func(*kept) bool) {
		for _, k := range r.slots {
			if k != nil && !yield(k) {
				return
			}
		}
	}
}

// add puts in a session whose id is not there.
func (r *roll) add(k *kept) {
	if r.n >= len(r.slots)/4*3 {
		old := r.slots
		r.slots = make([]*kept, max(2*len(old), 8))
		r.tags = make([]uint16, len(r.slots))
		for _, o := range old {
			if o != nil {
				r.place(o)
			}
		}
	}
	r.place(k)
	r.n++
}

func (r *roll) place(k *kept) {
	i, tag := r.home(k.id())
	for r.slots[i] != nil {
		i = (i + 1) & (len(r.slots) - 1)
	}
	r.slots[i], r.tags[i] = k, tag
}

// remove takes k out, and moves those behind it up that would not be found past
// the gap.
func (r *roll) remove(k *kept) {
	m := len(r.slots) - 1
	i, _ := r.home(k.id())
	for r.slots[i] != k {
		i = (i + 1) & m
	}
	r.slots[i] = nil
	r.n--
	for j := (i + 1) & m; r.slots[j] != nil; j = (j + 1) & m {
		if h, tag := r.home(r.slots[j].id()); (j-h)&m >= (j-i)&m {
			r.slots[i], r.tags[i], r.slots[j] = r.slots[j], tag, nil
			i = j
		}
	}
}

// newSource returns a source without sessions.
func newSource(origin session.Source, name string) *source {
	return &source{origin: origin, name: name, prefix: keyPrefix(origin, name)}
}

// compareKeys is the order of the keys of two sessions.
func compareKeys(a *source, id string, b *source, id2 string) int {
	if a == b {
		return strings.Compare(id, id2)
	}
	return strings.Compare(a.prefix+id, b.prefix+id2)
}
