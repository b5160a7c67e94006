package block

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/edgelog/edgelog/pkg/session"
)

// row is a session on its way into the block: all that the columns need of it,
// so that each session is looked at once. far, local, shape, holder and inside
// are numbers of the table that the row is in.
type row struct {
	start      int64  // milliseconds
	duration   uint64 // milliseconds; an end before the start wraps, and wraps back
	far        uint32
	local      uint32
	shape      uint32
	holder     uint32 // of names
	inside     uint32 // 0 for none, or 1 + of insides
	port       uint16
	insidePort uint16
	reuse      uint8
}

// table is rows with what they point to: each list in the order in which its
// values first came.
type table struct {
	rows    []row
	locals  numbers
	fars    numbers
	shapes  numbers
	insides numbers
	names   dictionary[string]
}

func (t *table) reset() {
	t.rows = t.rows[:0]
	t.locals.reset()
	t.fars.reset()
	t.shapes.reset()
	t.insides.reset()
	t.names.reset()
}

// key is what rows are sorted by.
type key struct {
	start int64
	index uint32 // of the row
	local uint32
}

// holder is who held a local address last.
type holder struct {
	name   string
	number uint32 // of names
}

// read makes a row of each session, and the times of h.
func (e *Encoder) read(h *Header, s []session.Session) error {
	t := &e.t
	t.reset()
	clear(e.held) // lets go of strings
	e.held = e.held[:0]
	t.rows = grow(t.rows, len(s))
	h.MinStart, h.MaxEnd = MaxMilli, -MaxMilli
	for i := range s {
		x := &s[i]
		start, end := milli(x.Start), milli(x.End)
		if !inRange(start) || !inRange(end) {
			return fmt.Errorf("%w: a time of row %d is out of range", ErrTooBig, i)
		}
		if len(x.Subscriber) > MaxText {
			return fmt.Errorf("%w: the subscriber of row %d has %d bytes, at most %d", ErrTooBig, i, len(x.Subscriber), MaxText)
		}
		h.MinStart, h.MaxEnd = min(h.MinStart, start), max(h.MaxEnd, end)
		local, remote, port, service := orient(x)
		r := &t.rows[i]
		*r = row{
			start: start, duration: uint64(end - start), local: t.locals.number(far{wide: widen(*local)}), port: port, reuse: x.Reuse,
			far:   t.fars.number(far{widen(*remote), uint64(service)<<8 | uint64(x.Proto)}),
			shape: t.shapes.number(far{wide: wide{hi: uint64(shapeOf(x))}}),
		}
		r.holder = e.holder(r.local, x.Subscriber)
		if x.Inside != (session.Addr{}) {
			r.inside, r.insidePort = 1+t.insides.number(far{wide: widen(x.Inside)}), x.InsidePort
		}
	}
	return nil
}

// holder numbers the name of who held a local address: mostly the one who held
// it at the row before.
func (e *Encoder) holder(local uint32, name string) uint32 {
	if int(local) == len(e.held) {
		e.held = append(e.held, holder{name, e.t.names.number(name)})
	}
	who := &e.held[local]
	if who.name != name {
		*who = holder{name, e.t.names.number(name)}
	}
	return who.number
}

// take makes the rows that keys name, of a larger table, the encoder's own.
func (e *Encoder) take(h *Header, from *table, keys []key) {
	t := &e.t
	t.reset()
	t.rows = grow(t.rows, len(keys))
	h.Count, h.MinStart, h.MaxEnd = len(keys), MaxMilli, -MaxMilli
	local, remote := newPart(&e.parts[0], &from.locals, &t.locals), newPart(&e.parts[1], &from.fars, &t.fars)
	shape, inside := newPart(&e.parts[2], &from.shapes, &t.shapes), newPart(&e.parts[3], &from.insides, &t.insides)
	e.nameOf = grow(e.nameOf, len(from.names.values))
	clear(e.nameOf)
	for i, k := range keys {
		r := from.rows[k.index]
		r.local, r.far, r.shape = local.number(r.local), remote.number(r.far), shape.number(r.shape)
		if r.inside > 0 {
			r.inside = 1 + inside.number(r.inside-1)
		}
		if n := &e.nameOf[r.holder]; *n == 0 {
			t.names.values = append(t.names.values, from.names.values[r.holder])
			*n = uint32(len(t.names.values))
		}
		r.holder = e.nameOf[r.holder] - 1
		t.rows[i] = r
		h.MinStart, h.MaxEnd = min(h.MinStart, r.start), max(h.MaxEnd, r.start+int64(r.duration))
	}
}

// part numbers anew those values of a list that come.
type part struct {
	from, to *numbers
	known    []uint32 // new number + 1 of each; 0: none yet
}

func newPart(known *[]uint32, from, to *numbers) part {
	*known = grow(*known, len(from.values))
	clear(*known)
	return part{from, to, *known}
}

func (p part) number(n uint32) uint32 {
	if p.known[n] == 0 {
		p.to.values = append(p.to.values, p.from.values[n])
		p.known[n] = uint32(len(p.to.values))
	}
	return p.known[n] - 1
}

// name numbers a text that shares its memory with others,
// which are not to be kept for its sake.
func (t *table) name(s string) uint32 {
	if n, ok := t.names.index[s]; ok {
		return n
	}
	return t.names.number(strings.Clone(s))
}

// sort fills the columns with the rows by local address and start; e.placer.wides
// are the addresses in that order, and e.placer.runs how many rows each has.
func (e *Encoder) sort(first int64) {
	e.placer.place(&e.t)
	n := len(e.t.rows)
	c := &e.col
	c.delta, c.duration, c.port, c.reuse = grow(c.delta, n), grow(c.duration, n), grow(c.port, n), grow(c.reuse, n)
	c.far, c.shape, c.holder = grow(c.far, n), grow(c.shape, n), grow(c.holder, n)
	last, local := first, uint32(0)
	for i, k := range e.placer.keys {
		if i == 0 || k.local != local {
			last, local = first, k.local
		}
		r := &e.t.rows[k.index]
		c.delta[i] = uint64(k.start - last)
		c.duration[i] = r.duration
		c.port[i] = uint64(r.port)
		c.reuse[i] = uint64(r.reuse)
		c.far[i] = r.far
		c.shape[i] = r.shape
		c.holder[i] = r.holder
		last = k.start
	}
}

// placer sorts the rows of a table by local address and start.
type placer struct {
	order  sorter
	counts []uint32
	keys   []key    // of the rows, sorted
	wides  []wide   // the local addresses, sorted
	runs   []uint64 // how many rows each of them has
}

// place sorts the rows into p.keys by counting, then each address by start.
func (p *placer) place(t *table) {
	byAddr := p.order.sort(t.locals.values)
	n := len(byAddr)
	count := grow(p.counts, 2*n)
	p.counts = count
	clear(count)
	for i := range t.rows {
		count[t.rows[i].local]++
	}
	next := count[n:] // where the next row of an address goes
	sum := uint32(0)
	p.wides, p.runs = grow(p.wides, n), grow(p.runs, n)
	for i, l := range byAddr {
		next[l] = sum
		sum += count[l]
		p.wides[i] = t.locals.values[l].wide
		p.runs[i] = uint64(count[l])
	}
	if cap(p.keys) < len(t.rows) {
		p.keys = make([]key, len(t.rows)) // no more: of a merge they are many
	}
	p.keys = p.keys[:len(t.rows)]
	for i := range t.rows {
		r := &t.rows[i]
		p.keys[next[r.local]] = key{r.start, uint32(i), r.local}
		next[r.local]++
	}
	for _, l := range byAddr {
		if count[l] > 1 {
			byStart(p.keys[next[l]-count[l] : next[l]])
		}
	}
}

// byStart sorts keys of one address, which came in the order of their index.
func byStart(run []key) {
	if len(run) > 24 {
		slices.SortFunc(run, func(a, b key) int {
			if c := cmp.Compare(a.start, b.start); c != 0 {
				return c
			}
			return cmp.Compare(a.index, b.index)
		})
		return
	}
	for i := 1; i < len(run); i++ { // stable, so that the index need not be looked at
		k := run[i]
		j := i
		for ; j > 0 && run[j-1].start > k.start; j-- {
			run[j] = run[j-1]
		}
		run[j] = k
	}
}
