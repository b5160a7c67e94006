package identity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// The records of log and snapshot. A frame (frame.go) holds any number of them.
//
//	session  1 | origin u8 | source text | key text | n uvarint | n facts
//	reset    2 | origin u8 | source text | at varint
//	handed   3 | n uvarint: the sink has all changes before this record but the last n
//	binding  4 | a binding that the sink does not have yet
//	ended    5 | hash u64 | until varint: a session that is over and left out
//	end      6 | n uvarint: the snapshot is complete and had n records before this
//	binding  7 | as 4, then identity text | via text | rule text
//	touch    8 | origin u8 | source text | key text: what a session holds has ended by itself
//
//	fact     kind u8 | flags u8 | at varint | held varint, -1 none | until varint, if flag 128 is set | same u8 | content, unless same is 1
//	content  5 texts | n uvarint | n leases; if same is 2: | identity text | n times: via text | rule text
//	lease    kind u8 | prefix | first u16 | last u16
//	text     length uvarint | bytes
//	prefix   address bytes u8 (4 or 16) | address | bits u8
//
// Numbers are little endian. "same" is 1 when the content is that of the fact
// before it. Via is an address as text, "" for none. What has neither identity,
// via, rule nor until is written as it was before there were any.
const (
	recSession byte = 1
	recReset   byte = 2
	recHanded  byte = 3
	recBinding byte = 4
	recEnded   byte = 5
	recEnd     byte = 6
	recVia     byte = 7
	recTouch   byte = 8
)

// factUntil is set in the stored flags of a fact that has an until.
const factUntil factFlags = 1 << 7

const (
	contentSame byte = 1
	contentMore byte = 2
)

// errRecord is the cause when bytes that a key of ours sealed do not decode.
var errRecord = errors.New("not a record of this version")

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendPrefix(b []byte, p netip.Prefix) []byte {
	a := p.Addr().AsSlice()
	b = append(b, byte(len(a)))
	b = append(b, a...)
	return append(b, byte(p.Bits()))
}

func appendSession(b []byte, s *sess, facts []fact) []byte {
	b = append(b, recSession, byte(s.src.origin))
	b = appendText(b, s.src.name)
	b = appendText(b, s.src.prefix+s.id)
	b = binary.AppendUvarint(b, uint64(len(facts)))
	var before *content
	for i := range facts {
		f := &facts[i]
		flags := f.flags
		if f.until != 0 {
			flags |= factUntil
		}
		b = append(b, byte(f.kind), byte(flags))
		b = binary.AppendVarint(b, f.at)
		b = binary.AppendVarint(b, f.held)
		if f.until != 0 {
			b = binary.AppendVarint(b, f.until)
		}
		switch {
		case f.what == before:
			b = append(b, contentSame)
			continue
		case f.what.hasMore():
			b = appendMore(appendContent(append(b, contentMore), f.what), f.what)
		default:
			b = appendContent(append(b, 0), f.what)
		}
		before = f.what
	}
	return b
}

// hasMore reports whether c has what the first form of content cannot hold.
func (c *content) hasMore() bool {
	return c.identity != "" || slices.ContainsFunc(c.leases, func(l Lease) bool { return l.Via.IsValid() || l.Rule != "" })
}

func appendMore(b []byte, c *content) []byte {
	b = appendText(b, c.identity)
	for _, l := range c.leases {
		b = appendText(appendVia(b, l.Via), l.Rule)
	}
	return b
}

func appendVia(b []byte, via netip.Addr) []byte {
	if !via.IsValid() {
		return appendText(b, "")
	}
	return appendText(b, via.String())
}

func appendTouch(b []byte, s *sess) []byte {
	b = append(b, recTouch, byte(s.src.origin))
	return appendText(appendText(b, s.src.name), s.src.prefix+s.id)
}

func appendContent(b []byte, c *content) []byte {
	for _, s := range [...]string{c.subscriber, c.line, c.equipment, c.place, c.group} {
		b = appendText(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(c.leases)))
	for _, l := range c.leases {
		b = append(b, byte(l.Kind))
		b = appendPrefix(b, l.Prefix)
		b = binary.LittleEndian.AppendUint16(b, l.FirstPort)
		b = binary.LittleEndian.AppendUint16(b, l.LastPort)
	}
	return b
}

func appendReset(b []byte, origin session.Source, name string, at int64) []byte {
	b = append(b, recReset, byte(origin))
	b = appendText(b, name)
	return binary.AppendVarint(b, at)
}

func appendBinding(b []byte, x *session.Binding) []byte {
	kind := recBinding
	if x.Identity != "" || x.Rule != "" || x.Via.IsValid() {
		kind = recVia
	}
	b = append(b, kind, byte(x.Source), byte(x.Certainty))
	b = appendPrefix(b, x.Prefix)
	b = binary.LittleEndian.AppendUint16(b, x.FirstPort)
	b = binary.LittleEndian.AppendUint16(b, x.LastPort)
	b = binary.AppendVarint(b, x.From)
	b = binary.AppendVarint(b, x.To)
	for _, s := range [...]string{x.Subscriber, x.Line, x.Equipment, x.Place, x.SourceName, x.SourceKey} {
		b = appendText(b, s)
	}
	if kind == recVia {
		b = appendText(appendVia(appendText(b, x.Identity), x.Via), x.Rule)
	}
	return b
}

func appendEnded(b []byte, hash uint64, until int64) []byte {
	b = append(b, recEnded)
	b = binary.LittleEndian.AppendUint64(b, hash)
	return binary.AppendVarint(b, until)
}

// decoder reads records from the plain text of one frame. After the first
// error everything it returns is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", errRecord, what)
	}
	d.b = nil
}

func (d *decoder) u8() byte {
	if len(d.b) < 1 {
		d.fail("it ends too early")
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) u16() uint16 {
	if len(d.b) < 2 {
		d.fail("it ends too early")
		return 0
	}
	v := binary.LittleEndian.Uint16(d.b)
	d.b = d.b[2:]
	return v
}

func (d *decoder) u64() uint64 {
	if len(d.b) < 8 {
		d.fail("it ends too early")
		return 0
	}
	v := binary.LittleEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("a number is broken")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("a number is broken")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text() string {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail("a text is longer than the record")
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) prefix() netip.Prefix {
	n := int(d.u8())
	if n != 4 && n != 16 || len(d.b) < n {
		d.fail("an address is broken")
		return netip.Prefix{}
	}
	a, _ := netip.AddrFromSlice(d.b[:n])
	d.b = d.b[n:]
	p := netip.PrefixFrom(a, int(d.u8()))
	if !p.IsValid() || p != normalPrefix(p) {
		d.fail("a prefix is not valid or not in its one form")
	}
	return p
}

// count reads the number of things that follow, each of at least size bytes.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail("a count is larger than the record")
		return 0
	}
	return int(n)
}

func (d *decoder) facts() []fact {
	n := d.count(5)
	facts := make([]fact, 0, n)
	var before *content
	for range n {
		f := fact{kind: Kind(d.u8()), flags: factFlags(d.u8()), at: d.varint(), held: d.varint()}
		if f.flags&factUntil != 0 {
			f.flags &^= factUntil
			if f.until = d.varint(); f.until <= 0 || f.until > maxTime {
				d.fail("the end of a lease is broken")
			}
		}
		switch same := d.u8(); same {
		case 0:
			before = d.content()
		case contentMore:
			if before = d.content(); before != nil {
				d.more(before)
			}
		case contentSame:
		default:
			d.fail("a content is of an unknown form")
		}
		f.what = before
		switch {
		case d.err != nil:
			return nil
		case f.what == nil, f.flags&^(factDoubtful|factLate) != 0, f.kind < Start, f.kind > kindSplit, f.kind == NASOn, f.kind == NASOff,
			f.at <= 0, f.at > maxTime, f.held < -1, f.held > maxTime, isOurs(f) && len(f.what.leases) != 1:
			d.fail("a fact is broken")
			return nil
		}
		facts = append(facts, f)
	}
	return facts
}

func (d *decoder) content() *content {
	c := &content{subscriber: d.text(), line: d.text(), equipment: d.text(), place: d.text(), group: d.text()}
	n := d.count(11)
	for range n {
		l := Lease{Kind: LeaseKind(d.u8()), Prefix: d.prefix(), FirstPort: d.u16(), LastPort: d.u16()}
		if d.err == nil && (l.FirstPort > l.LastPort || l.Kind == 0 || l.Kind >= ownVia) {
			d.fail("a lease is broken")
		}
		if d.err != nil {
			return nil
		}
		c.leases = append(c.leases, l)
	}
	return c
}

// more reads what appendMore wrote.
func (d *decoder) more(c *content) {
	c.identity = d.text()
	for i := range c.leases {
		c.leases[i].Via, c.leases[i].Rule = d.via(), d.text()
	}
}

func (d *decoder) via() netip.Addr {
	s := d.text()
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		d.fail("an address is broken")
	}
	return a
}

func (d *decoder) binding(kind byte) session.Binding {
	b := session.Binding{Source: session.Source(d.u8()), Certainty: session.Certainty(d.u8()), Prefix: d.prefix(),
		FirstPort: d.u16(), LastPort: d.u16(), From: d.varint(), To: d.varint()}
	for _, s := range [...]*string{&b.Subscriber, &b.Line, &b.Equipment, &b.Place, &b.SourceName, &b.SourceKey} {
		*s = d.text()
	}
	if kind == recVia {
		b.Identity, b.Via, b.Rule = d.text(), d.via(), d.text()
	}
	return b
}
