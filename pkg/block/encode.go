package block

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/edgelog/edgelog/pkg/session"
)

// Columns of a block of sessions. The numbers are stored and never reused.
const (
	colLocal      = 1 // local addresses, sorted, and the rows of each
	colStart      = 2 // start, milliseconds after the row before
	colDuration   = 3 // end less start, milliseconds
	colLocalPort  = 4
	colFar        = 5 // row → entry of colFarBook
	colFarBook    = 6 // remote address, remote port, protocol
	colShape      = 7 // TCP flags, side, remarks, end reason
	colReuse      = 8
	colSubscriber = 9
)

var sessionColumns = [...]byte{colLocal, colStart, colDuration, colLocalPort, colFar, colFarBook, colShape, colReuse, colSubscriber}

// far is the remote side of a session with its protocol.
type far struct {
	wide
	service uint64 // port<<8 | protocol
}

func (f far) compare(x far) int {
	if c := f.wide.compare(x.wide); c != 0 {
		return c
	}
	return cmp.Compare(f.service, x.service)
}

// shape is what remains of a session, in one number.
type shape uint64

func shapeOf(s *session.Session) shape {
	return shape(s.InitiatorTCP)<<32 | shape(s.ResponderTCP)<<24 | shape(s.Local)<<16 | shape(s.Flags)<<8 | shape(s.EndReason)
}

const maxShape = 1<<40 - 1

func (x shape) put(s *session.Session) {
	s.InitiatorTCP, s.ResponderTCP = uint8(x>>32), uint8(x>>24)
	s.Local, s.Flags, s.EndReason = session.Side(x>>16), session.Flags(x>>8), session.EndReason(x)
}

// Encoder encodes blocks one after the other and keeps its buffers. It is not
// safe for use by several goroutines.
type Encoder struct {
	p packer

	locals  dictionary[wide]
	fars    dictionary[far]
	shapes  dictionary[shape]
	names   dictionary[string]
	rows    []row
	sorted  []row
	counts  []uint32
	nums    []uint64
	lens    []uint64
	wides   []wide
	ranks   []uint32
	codes   []byte
	holders []uint64
	book    []far
	hot     int
}

// row is a session on its way into the block.
type row struct {
	start int64 // milliseconds
	index uint32
	local uint32 // entry of locals
}

// NewEncoder returns an Encoder.
func NewEncoder() *Encoder { return &Encoder{p: newPacker()} }

// dictionary numbers distinct values in the order in which they first come.
type dictionary[T comparable] struct {
	index  map[T]uint32
	values []T
	codes  []uint32 // of the rows, in order
}

func (d *dictionary[T]) reset(rows int) {
	if d.index == nil {
		d.index = make(map[T]uint32)
	}
	clear(d.index)
	clear(d.values) // lets go of strings
	d.values = d.values[:0]
	d.codes = grow(d.codes, rows)[:0]
}

func (d *dictionary[T]) number(v T) uint32 {
	n, ok := d.index[v]
	if !ok {
		n = uint32(len(d.values))
		d.values = append(d.values, v)
		d.index[v] = n
	}
	return n
}

func (d *dictionary[T]) add(v T) { d.codes = append(d.codes, d.number(v)) }

var encoders = sync.Pool{New: func() any { return NewEncoder() }}

// EncodeSessions appends a block of the sessions to dst, in an order of its
// own. The error wraps ErrEmpty or ErrTooBig; dst is then returned as it was.
func EncodeSessions(dst []byte, h Header, s []session.Session) ([]byte, error) {
	e := encoders.Get().(*Encoder)
	defer encoders.Put(e)
	return e.Sessions(dst, h, s)
}

// EncodeBindings does for bindings what EncodeSessions does for sessions.
func EncodeBindings(dst []byte, h Header, b []session.Binding) ([]byte, error) {
	e := encoders.Get().(*Encoder)
	defer encoders.Put(e)
	return e.Bindings(dst, h, b)
}

// Sessions is EncodeSessions with the buffers of e.
func (e *Encoder) Sessions(dst []byte, h Header, s []session.Session) ([]byte, error) {
	if err := checkRows(len(s)); err != nil {
		return dst, fmt.Errorf("encode %d sessions: %w", len(s), err)
	}
	h.Kind, h.Count = KindSessions, len(s)
	if err := e.sort(&h, s); err != nil {
		return dst, fmt.Errorf("encode %d sessions: %w", len(s), err)
	}
	out, err := e.begin(dst, &h, sessionColumns[:])
	if err != nil {
		return dst, err
	}
	at := len(out)
	e.p.out = out
	for i, write := range [...]func([]session.Session){
		e.local, func([]session.Session) { e.starts(h.MinStart) }, e.durations, e.localPorts, e.far, e.farBook, e.shape, e.reuse, e.subscriber,
	} {
		write(s)
		at = e.close(len(dst), &h, len(sessionColumns), i, at)
	}
	out, e.p.out = e.p.out, nil
	return out, nil
}

func checkRows(n int) error {
	switch {
	case n == 0:
		return ErrEmpty
	case n > MaxRows:
		return fmt.Errorf("%w: at most %d rows", ErrTooBig, MaxRows)
	}
	return nil
}

// begin writes the header and a directory that names the columns.
func (e *Encoder) begin(dst []byte, h *Header, columns []byte) ([]byte, error) {
	out, err := appendHeader(dst, h, len(columns))
	if err != nil {
		return dst, err
	}
	for i, c := range columns {
		out[len(out)-(len(columns)-i)*columnPart] = c
	}
	return out, nil
}

// close writes the length of the i-th of n columns, which began at byte at of
// the output, into the directory of the block that begins at byte start.
func (e *Encoder) close(start int, h *Header, n, i, at int) int {
	entry := start + headerSize(h, n) - (n-i)*columnPart
	binary.BigEndian.PutUint32(e.p.out[entry+1:], uint32(len(e.p.out)-at))
	return len(e.p.out)
}

// orient returns the end user's side first; the initiator where neither side
// is known to be local.
func orient(s *session.Session) (local, remote *session.Addr, localPort, remotePort uint16) {
	if s.Local == session.SideResponder {
		return &s.Responder, &s.Initiator, s.ResponderPort, s.InitiatorPort
	}
	return &s.Initiator, &s.Responder, s.InitiatorPort, s.ResponderPort
}

// sort fills e.sorted with the rows by local address and start, e.locals with
// the addresses in that order and their counts, and the times of h.
func (e *Encoder) sort(h *Header, s []session.Session) error {
	e.locals.reset(0)
	e.rows = grow(e.rows, len(s))
	h.MinStart, h.MaxEnd = MaxMilli, -MaxMilli
	for i := range s {
		start, end := milli(s[i].Start), milli(s[i].End)
		if !inRange(start) || !inRange(end) {
			return fmt.Errorf("%w: a time of row %d is out of range", ErrTooBig, i)
		}
		if len(s[i].Subscriber) > MaxText {
			return fmt.Errorf("%w: the subscriber of row %d has %d bytes, at most %d", ErrTooBig, i, len(s[i].Subscriber), MaxText)
		}
		h.MinStart, h.MaxEnd = min(h.MinStart, start), max(h.MaxEnd, end)
		local, _, _, _ := orient(&s[i])
		e.rows[i] = row{start: start, index: uint32(i), local: e.locals.number(widen(*local))}
	}
	n := len(e.locals.values)
	byAddr := grow(e.ranks, n)
	e.ranks = byAddr
	for i := range byAddr {
		byAddr[i] = uint32(i)
	}
	slices.SortFunc(byAddr, func(a, b uint32) int { return e.locals.values[a].compare(e.locals.values[b]) })
	e.place(byAddr)
	return nil
}

// place sorts e.rows into e.sorted by counting, then each address by start.
func (e *Encoder) place(byAddr []uint32) {
	n := len(byAddr)
	count := grow(e.counts, 2*n)
	e.counts = count
	clear(count)
	for _, r := range e.rows {
		count[r.local]++
	}
	next := count[n:] // where the next row of an address goes
	sum := uint32(0)
	e.wides, e.nums = grow(e.wides, n), grow(e.nums, n)
	for i, l := range byAddr {
		next[l] = sum
		sum += count[l]
		e.wides[i] = e.locals.values[l]
		e.nums[i] = uint64(count[l])
	}
	e.sorted = grow(e.sorted, len(e.rows))
	for _, r := range e.rows {
		e.sorted[next[r.local]] = r
		next[r.local]++
	}
	for _, l := range byAddr {
		run := e.sorted[next[l]-count[l] : next[l]]
		slices.SortFunc(run, func(a, b row) int {
			if c := cmp.Compare(a.start, b.start); c != 0 {
				return c
			}
			return cmp.Compare(a.index, b.index)
		})
	}
}

func (e *Encoder) local([]session.Session) {
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(e.wides)))
	counts := e.nums
	e.holders = e.p.addrs(e.wides, e.holders)
	e.p.planes(counts)
}

func (e *Encoder) starts(first int64) {
	v := grow(e.nums, len(e.sorted))
	e.nums = v
	last, local := first, uint32(0)
	for i, r := range e.sorted {
		if i == 0 || r.local != local {
			last, local = first, r.local
		}
		v[i] = uint64(r.start - last)
		last = r.start
	}
	e.p.planes(v)
}

func (e *Encoder) durations(s []session.Session) {
	for i, r := range e.sorted {
		e.nums[i] = uint64(milli(s[r.index].End) - r.start) // an end before the start wraps, and wraps back
	}
	e.p.scaled(e.nums)
}

func (e *Encoder) localPorts(s []session.Session) {
	for i, r := range e.sorted {
		_, _, port, _ := orient(&s[r.index])
		e.nums[i] = uint64(port)
	}
	e.p.planes(e.nums)
}

func (e *Encoder) reuse(s []session.Session) {
	for i, r := range e.sorted {
		e.nums[i] = uint64(s[r.index].Reuse)
	}
	e.p.planes(e.nums)
}

func (e *Encoder) shape(s []session.Session) {
	e.shapes.reset(len(s))
	for _, r := range e.sorted {
		e.shapes.add(shapeOf(&s[r.index]))
	}
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(e.shapes.values)))
	e.nums = grow(e.nums, len(e.shapes.values))
	for i, x := range e.shapes.values {
		e.nums[i] = uint64(x)
	}
	e.p.planes(e.nums)
	e.nums = widenCodes(e.nums, e.shapes.codes)
	e.p.planes(e.nums)
}

func widenCodes(dst []uint64, codes []uint32) []uint64 {
	dst = grow(dst, len(codes))
	for i, c := range codes {
		dst[i] = uint64(c)
	}
	return dst
}
