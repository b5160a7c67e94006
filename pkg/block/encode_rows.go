package block

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// row is a session on its way into the block: all that the columns need of it,
// so that each session is looked at once. local, far and shape are numbers in
// the order in which the sessions came.
type row struct {
	start    int64  // milliseconds
	duration uint64 // milliseconds; an end before the start wraps, and wraps back
	far      uint32
	local    uint32
	shape    uint32
	port     uint16
	reuse    uint8
}

// key is what rows are sorted by.
type key struct {
	start int64
	index uint32 // of the row
	local uint32
}

// holder is who held a local address.
type holder struct {
	subscriber string // of the first row that came
	varies     bool   // of another row it is another
}

// read makes a row of each session, and the times of h.
func (e *Encoder) read(h *Header, s []session.Session) error {
	e.rows = grow(e.rows, len(s))
	e.locals.reset()
	e.fars.reset()
	e.shapes.reset()
	clear(e.held) // lets go of strings
	e.held = e.held[:0]
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
		n := e.locals.number(far{wide: widen(*local)})
		if int(n) == len(e.held) {
			e.held = append(e.held, holder{subscriber: x.Subscriber})
		} else if who := &e.held[n]; !who.varies && x.Subscriber != who.subscriber {
			who.varies = true
		}
		e.rows[i] = row{
			start: start, duration: uint64(end - start), local: n, port: port, reuse: x.Reuse,
			far:   e.fars.number(far{widen(*remote), uint64(service)<<8 | uint64(x.Proto)}),
			shape: e.shapes.number(far{wide: wide{hi: uint64(shapeOf(x))}}),
		}
	}
	return nil
}

// sort fills the columns with the rows by local address and start; e.wides are
// the addresses in that order, e.nums how many rows each has, and e.holders is
// left with the number of each.
func (e *Encoder) sort(first int64) {
	byAddr := e.order.sort(e.locals.values)
	e.place(byAddr)
	n := len(e.rows)
	c := &e.col
	c.delta, c.duration, c.port, c.reuse = grow(c.delta, n), grow(c.duration, n), grow(c.port, n), grow(c.reuse, n)
	c.far, c.shape = grow(c.far, n), grow(c.shape, n)
	last, local := first, uint32(0)
	for i, k := range e.keys {
		if i == 0 || k.local != local {
			last, local = first, k.local
		}
		r := &e.rows[k.index]
		c.delta[i] = uint64(k.start - last)
		c.duration[i] = r.duration
		c.port[i] = uint64(r.port)
		c.reuse[i] = uint64(r.reuse)
		c.far[i] = r.far
		c.shape[i] = r.shape
		last = k.start
	}
}

// place sorts the rows into e.keys by counting, then each address by start.
func (e *Encoder) place(byAddr []uint32) {
	n := len(byAddr)
	count := grow(e.counts, 2*n)
	e.counts = count
	clear(count)
	for i := range e.rows {
		count[e.rows[i].local]++
	}
	next := count[n:] // where the next row of an address goes
	sum := uint32(0)
	e.wides, e.nums, e.holders = grow(e.wides, n), grow(e.nums, n), grow(e.holders, n)
	for i, l := range byAddr {
		next[l] = sum
		sum += count[l]
		e.wides[i] = e.locals.values[l].wide
		e.nums[i] = uint64(count[l])
		e.holders[i] = uint64(l)
	}
	e.keys = grow(e.keys, len(e.rows))
	for i := range e.rows {
		r := &e.rows[i]
		e.keys[next[r.local]] = key{r.start, uint32(i), r.local}
		next[r.local]++
	}
	for _, l := range byAddr {
		if count[l] > 1 {
			byStart(e.keys[next[l]-count[l] : next[l]])
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
