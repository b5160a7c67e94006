package block

import (
	"encoding/binary"

	"github.com/edgelog/edgelog/pkg/session"
)

// zone is how far a set of addresses reaches, IPv4 and others apart.
type zone struct{ v4, v6 reach }

type reach struct {
	n         int // different addresses; 0: there are none, and no ends
	low, high wide
}

func (z *zone) of(w wide) *reach {
	if w.is4() {
		return &z.v4
	}
	return &z.v6
}

func (z *zone) add(w wide) {
	r := z.of(w)
	if r.n == 0 || w.compare(r.low) < 0 {
		r.low = w
	}
	if r.n == 0 || w.compare(r.high) > 0 {
		r.high = w
	}
	r.n++
}

// is reports whether z is the zone of sorted addresses.
func (z *zone) is(list []wide) bool {
	n4 := 0
	for n4 < len(list) && list[n4].is4() {
		n4++
	}
	return z.v4.is(list[:n4]) && z.v6.is(list[n4:])
}

func (r *reach) is(list []wide) bool {
	return r.n == len(list) && (r.n == 0 || r.low == list[0] && r.high == list[r.n-1])
}

// mayHold reports whether an address of the prefix may be in the set.
func (z *zone) mayHold(p *span) bool {
	r := &z.v6
	if p.is4 {
		r = &z.v4
	}
	last := wide{p.is.hi | ^p.mask.hi, p.is.lo | ^p.mask.lo}
	return r.n > 0 && !below(r.high, p.is) && !below(last, r.low)
}

// below compares addresses of one family.
func below(a, b wide) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

func (p *packer) zone(z *zone) {
	for _, r := range []*reach{&z.v4, &z.v6} {
		p.out = binary.AppendUvarint(p.out, uint64(r.n))
		for _, w := range []wide{r.low, r.high} {
			switch {
			case r.n == 0:
			case r == &z.v4:
				p.out = binary.BigEndian.AppendUint32(p.out, uint32(w.lo))
			default:
				p.out = binary.BigEndian.AppendUint64(p.out, w.hi)
				p.out = binary.BigEndian.AppendUint64(p.out, w.lo)
			}
		}
	}
}

func (u *unpacker) zone(z *zone, rows int) {
	*z = zone{}
	for _, r := range []*reach{&z.v4, &z.v6} {
		n := u.uvarint(rows)
		for _, w := range []*wide{&r.low, &r.high} {
			switch {
			case n == 0:
			case r == &z.v4:
				if b := u.take(4); b != nil {
					*w = wide{lo: mapped | uint64(binary.BigEndian.Uint32(b))}
				}
			default:
				if b := u.take(16); b != nil {
					*w = widen(session.Addr(b))
				}
			}
		}
		r.n = n
		if below(r.high, r.low) || r == &z.v6 && n > 0 && (r.low.is4() || r.high.is4()) {
			u.fail("zone ends before it begins")
		}
	}
}

// Flags of the zone column.
const (
	zoneLoose = 1 << 0 // of a row with both ends it is not known which is the end user's
	zoneKnown = zoneLoose
)

// zone writes: flags, the local addresses, the inside ones.
func (e *Encoder) zone() {
	var flags byte
	for _, x := range e.t.shapes.values {
		if shape(x.hi).loose() {
			flags |= zoneLoose
		}
	}
	e.p.out = append(e.p.out, flags)
	for _, set := range []*numbers{&e.t.locals, &e.t.insides} {
		var z zone
		for i := range set.values {
			z.add(set.values[i].wide)
		}
		e.p.zone(&z)
	}
}

// filters writes one filter of the remote addresses and one of the subscribers.
// Nothing is kept for rows without a subscriber: nobody asks for that.
func (e *Encoder) filters() {
	keys := e.filterKeys[:0]
	var last wide
	for i, n := range e.farOrder {
		if w := e.t.fars.values[n].wide; i == 0 || w != last {
			keys = append(keys, w.filterKey())
			last = w
		}
	}
	e.p.filter(keys)
	keys = keys[:0]
	for _, name := range e.t.names.values {
		if name != "" {
			keys = append(keys, filterKey(name))
		}
	}
	e.p.filter(keys)
	e.filterKeys = keys
}

// Head is what a question looks at before it opens anything else of a block of
// sessions.
type Head struct {
	Header

	zoneLocal, zoneInside zone
	loose                 bool // either end of a row may be the end user's
	known                 bool // the block has a zone; old ones have not
	remotes               filter
	subscribers           filter
}

// MayMatch reports whether a session of the block may be one that q asks for.
// No is certain. Where the block has filters, a remote address or a subscriber that
// has no session there gets a yes about once in 256 times; an address of the end
// user's side gets one wherever it lies between those that have some.
func (h *Head) MayMatch(q Query) bool {
	w := window{milli(q.From), milli(q.To)}
	if h.MinStart > w.to || h.MaxEnd < w.from {
		return false
	}
	if q.Subscriber != "" && !h.subscribers.mayHold(filterKey(q.Subscriber)) {
		return false
	}
	local, remote := spanOf(q.Address), spanOf(q.Remote)
	return (local.any || h.mayBeLocal(&local) || h.loose && h.mayBeFar(&local)) &&
		(remote.any || h.mayBeFar(&remote) || h.loose && h.mayBeLocal(&remote))
}

func (h *Head) mayBeLocal(p *span) bool {
	return !h.known || h.zoneLocal.mayHold(p) || h.zoneInside.mayHold(p)
}

// mayBeFar looks one address up; of a longer stretch nothing is known.
func (h *Head) mayBeFar(p *span) bool {
	return p.mask != wide{^uint64(0), ^uint64(0)} || h.remotes.mayHold(p.is.filterKey())
}

// zone reads what Encoder.zone wrote. A block from before them may hold
// anything, and either end of its rows may be the end user's.
func (d *Decoder) zone(s *Sessions) {
	flags := d.u.byte()
	s.loose = flags&zoneLoose != 0 || flags&^byte(zoneKnown) != 0
	d.u.zone(&s.zoneLocal, s.Count)
	d.u.zone(&s.zoneInside, s.Count)
	s.known = true
}

func (d *Decoder) filters(s *Sessions) {
	d.u.filter(&s.remotes)
	d.u.filter(&s.subscribers)
}
