package block

import (
	"encoding/binary"
	"fmt"
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

	// Only where a row has an inside end.
	colInside     = 10 // the end user's own address behind a translation
	colInsidePort = 11

	// In front of all others: what a question looks at first.
	colZone   = 12 // how far the local addresses reach
	colFilter = 13 // which remote addresses and subscribers there may be
)

var sessionColumns = [...]byte{colZone, colFilter, colLocal, colStart, colDuration, colLocalPort, colFar, colFarBook, colShape, colReuse, colSubscriber, colInside, colInsidePort}

const insideColumns = 2 // of them, the last ones

// far is the remote side of a session with its protocol.
type far struct {
	wide
	service uint64 // port<<8 | protocol
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

// loose reports whether either end may be the end user's: both were recorded, and
// which is the local one is not known.
func (x shape) loose() bool {
	side := session.Side(x >> 16)
	return side != session.SideInitiator && side != session.SideResponder && session.Flags(x>>8)&session.LocalOnly == 0
}

// Encoder encodes blocks one after the other and keeps its buffers. It is not
// safe for use by several goroutines.
type Encoder struct {
	p packer

	t      table
	held   []holder // of locals
	placer placer

	// Columns, in the order of the placer's keys.
	col struct {
		delta, duration, port, reuse []uint64
		far, shape, holder           []uint32
	}

	order    sorter
	counts   []uint32
	nums     []uint64
	lens     []uint64
	wides    []wide
	ranks    []uint32
	codes    []byte
	names    dictionary[string] // of a column of a block of bindings
	err      error              // of such a column
	list     []string
	book     []far
	farOrder []uint32 // the fars, sorted
	farRanks []uint32 // the entry of the book of each
	hot      int
	heap     []uint64
	places   []uint32

	filterKeys []uint64
	parts      [4][]uint32
	nameOf     []uint32
}

// NewEncoder returns an Encoder.
func NewEncoder() *Encoder { return &Encoder{p: newPacker()} }

// dictionary numbers distinct values in the order in which they first come.
type dictionary[T comparable] struct {
	index  map[T]uint32
	values []T
}

func (d *dictionary[T]) reset() {
	if d.index == nil {
		d.index = make(map[T]uint32)
	}
	clear(d.index)
	clear(d.values) // lets go of strings
	d.values = d.values[:0]
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
	h.Count = len(s)
	if err := e.read(&h, s); err != nil {
		return dst, fmt.Errorf("encode %d sessions: %w", len(s), err)
	}
	return e.write(dst, &h)
}

// write appends a block of the rows in e.t.
func (e *Encoder) write(dst []byte, h *Header) ([]byte, error) {
	h.Kind = KindSessions
	if err := checkTexts(e.t.names.values); err != nil {
		return dst, fmt.Errorf("encode %d sessions: %w", h.Count, err)
	}
	e.sort(h.MinStart)
	e.rankFars()
	columns := sessionColumns[:]
	if len(e.t.insides.values) == 0 {
		columns = columns[:len(columns)-insideColumns]
	}
	out, err := e.begin(dst, h, columns)
	if err != nil {
		return dst, err
	}
	at := len(out)
	e.p.out = out
	write := [...]func(){
		e.zone, e.filters,
		e.local, func() { e.p.planes(e.col.delta) }, func() { e.p.scaled(e.col.duration) }, func() { e.p.planes(e.col.port) },
		e.far, e.farBook, e.shape, func() { e.p.planes(e.col.reuse) }, e.subscriber,
		e.inside, e.insidePort,
	}
	for i := range columns {
		write[i]()
		at = e.close(len(dst), h, len(columns), i, at)
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

func (e *Encoder) local() {
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(e.placer.wides)))
	e.lens = e.p.addrs(e.placer.wides, e.lens)
	e.p.planes(e.placer.runs)
}

// shape writes what sorts of session there are, in the order in which they
// first come, and of which sort each row is.
func (e *Encoder) shape() {
	e.nums = e.nums[:0]
	e.ranks = grow(e.ranks, len(e.t.shapes.values))
	clear(e.ranks)
	for i, x := range e.col.shape {
		if e.ranks[x] == 0 {
			e.nums = append(e.nums, e.t.shapes.values[x].hi)
			e.ranks[x] = uint32(len(e.nums)) // number + 1
		}
		e.col.shape[i] = e.ranks[x] - 1
	}
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(e.nums)))
	e.p.planes(e.nums)
	e.nums = grow(e.nums, len(e.col.shape))
	for i, x := range e.col.shape {
		e.nums[i] = uint64(x)
	}
	e.p.planes(e.nums)
}
