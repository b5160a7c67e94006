package block

import (
	"fmt"
	"sync"

	"github.com/edgelog/edgelog/pkg/session"
)

// Decoder reads blocks one after the other and keeps its buffers. It is not
// safe for use by several goroutines.
type Decoder struct {
	u        unpacker
	sessions Sessions
	names    []string
	nums     []uint64
	lens     []uint64
	wides    []wide
	hits     []bool   // rows of a block that is picked from: wanted
	chosen   []uint32 // rows of a block of bindings that are unpacked, ascending

	communications Communications
}

// NewDecoder returns a Decoder.
func NewDecoder() *Decoder { return &Decoder{u: newUnpacker()} }

// Sessions is a block of sessions, sorted by local address and start. Its
// columns are unpacked when they are needed.
type Sessions struct {
	Head
	dir   directory
	frame Frame
	d     *Decoder
	there uint32 // which columns are unpacked

	locals    []wide
	firsts    []int // row at which each of locals begins, and the number of rows
	start     []int64
	end       []int64 // milliseconds, like start
	localPort []uint16
	far       []uint32
	book      []far
	hot       int
	shape     []uint32
	shapes    []shape
	reuse     []uint8
	holder    []uint32
	names     []string

	inside     []uint32 // 0 for none, or 1 + entry of insides; empty when no row has one
	insidePort []uint16 // less localPort
	insides    []wide

	found []place // rows that a question has not ruled out yet
}

var decoders = sync.Pool{New: func() any { return NewDecoder() }}

// DecodeSessions returns what EncodeSessions was given, sorted by local address
// and start, with times in whole milliseconds. The error wraps ErrDamaged,
// ErrNewer or ErrKind.
func DecodeSessions(b []byte) (Header, []session.Session, error) {
	d := decoders.Get().(*Decoder)
	defer decoders.Put(d)
	s, err := d.Sessions(b)
	if err != nil {
		return Header{}, nil, err
	}
	return s.Header, s.Append(make([]session.Session, 0, s.Len())), nil
}

// Sessions unpacks a whole block. The result is valid until the next call.
func (d *Decoder) Sessions(b []byte) (*Sessions, error) {
	s, err := d.Look(unsealed(b))
	if err != nil {
		return nil, err
	}
	return s, s.need(everything...)
}

// Look reads no more of a block of sessions than its Head, so that MayMatch can
// be asked; Match opens more as it needs it. Where frame gives nil for the filter
// anything may be there. The result is valid until the next
// call, and uses frame until then. The error wraps ErrDamaged, ErrNewer, ErrKind
// or that of frame.
func (d *Decoder) Look(frame Frame) (*Sessions, error) {
	s := &d.sessions
	b, err := frame(0)
	if err != nil {
		return nil, fmt.Errorf("read block of sessions: %w", err)
	}
	h, err := s.dir.read(b, KindSessions)
	if err != nil {
		return nil, err
	}
	s.frame, s.d, s.there = frame, d, 0
	s.Header, s.known, s.loose = h, false, true
	s.remotes.some, s.subscribers.some = false, false
	s.inside, s.insides, s.insidePort = s.inside[:0], s.insides[:0], s.insidePort[:0]
	if err := s.need(colZone, colFilter); err != nil {
		return nil, err
	}
	return s, nil
}

// sessionReaders has what unpacks each column.
var sessionReaders = [...]struct {
	what string
	read func(*Decoder, *Sessions)
	may  bool // be missing
}{
	colLocal: {"local address", (*Decoder).local, false}, colStart: {"start", (*Decoder).starts, false},
	colDuration: {"duration", (*Decoder).durations, false}, colLocalPort: {"local port", (*Decoder).localPorts, false},
	colFarBook: {"remote book", (*Decoder).farBook, false}, colFar: {"remote side", (*Decoder).far, false},
	colShape: {"shape", (*Decoder).shape, false}, colReuse: {"reuse", (*Decoder).reuse, false},
	colSubscriber: {"subscriber", (*Decoder).subscriber, false},
	colInside:     {"inside", (*Decoder).inside, true}, colInsidePort: {"inside port", (*Decoder).insidePort, true},
	colZone: {"zone", (*Decoder).zone, true}, colFilter: {"filter", (*Decoder).filters, true},
}

// everything is all columns of a block, each behind those that it needs.
var everything = []byte{colLocal, colStart, colDuration, colLocalPort, colFarBook, colFar, colShape, colReuse, colSubscriber, colInside, colInsidePort}

func (s *Sessions) has(column byte) bool { return s.dir.frame[column] != 0 }

// need unpacks columns, in this order, that are not yet. Start and subscriber
// need local, duration needs start, far needs the book, and the inside port the
// inside address.
func (s *Sessions) need(columns ...byte) error {
	for _, c := range columns {
		if s.there>>c&1 != 0 {
			continue
		}
		r := &sessionReaders[c]
		s.d.u.err = nil
		if !s.has(c) {
			if !r.may || c == colInside && s.has(colInsidePort) || c == colInsidePort && s.has(colInside) {
				return fmt.Errorf("read block of sessions: %w: column %s is missing", ErrDamaged, r.what)
			}
			s.there |= 1 << c
			continue
		}
		b, err := s.frame(int(s.dir.frame[c]))
		if err != nil {
			return fmt.Errorf("read block of sessions, %s: %w", r.what, err)
		}
		if b == nil && c == colFilter {
			s.there |= 1 << c
			continue
		}
		if len(b) != int(s.dir.size[c]) {
			return fmt.Errorf("read block of sessions, %s: %w: %d bytes instead of %d", r.what, ErrDamaged, len(b), s.dir.size[c])
		}
		s.d.u.begin(b, r.what)
		r.read(s.d, s)
		s.d.u.end(r.what)
		if err := s.d.u.err; err != nil {
			return fmt.Errorf("read block of sessions, %s: %w", r.what, err)
		}
		s.there |= 1 << c
	}
	return nil
}

func (d *Decoder) local(s *Sessions) {
	n := d.u.uvarint(s.Count)
	s.locals, d.nums = d.u.addrs(s.locals, d.nums, n)
	d.nums = d.u.planes(d.nums, n, uint64(s.Count))
	s.firsts = grow(s.firsts, n+1)
	s.firsts[0] = 0
	for i, c := range d.nums {
		s.firsts[i+1] = s.firsts[i] + int(c)
	}
	if d.u.err == nil && s.firsts[n] != s.Count {
		d.u.fail("%d rows of addresses instead of %d", s.firsts[n], s.Count)
	}
	if s.known && d.u.err == nil && !s.zoneLocal.is(s.locals) {
		d.u.fail("the zone is not that of the addresses")
	}
}

func (d *Decoder) starts(s *Sessions) {
	d.nums = d.u.planes(d.nums, s.Count, uint64(2*MaxMilli))
	s.start = grow(s.start, s.Count)
	if d.u.err != nil {
		return
	}
	for run := range s.locals {
		last := s.MinStart
		for i := s.firsts[run]; i < s.firsts[run+1]; i++ {
			last += int64(d.nums[i]) // both terms are far from overflow: below 2^44 each
			if last > MaxMilli {
				d.u.fail("time out of range")
				return
			}
			s.start[i] = last
		}
	}
}

func (d *Decoder) durations(s *Sessions) {
	d.nums = d.u.scaled(d.nums, s.Count, 1<<64-1)
	s.end = grow(s.end, s.Count)
	if d.u.err != nil {
		return
	}
	for i, dur := range d.nums {
		end := s.start[i] + int64(dur) // wraps for an end before the start
		if end < -MaxMilli || end > s.MaxEnd {
			d.u.fail("time out of range")
			return
		}
		s.end[i] = end
	}
}

func (d *Decoder) localPorts(s *Sessions) {
	d.nums = d.u.planes(d.nums, s.Count, 0xffff)
	s.localPort = narrow(s.localPort, d.nums)
}

func (d *Decoder) reuse(s *Sessions) {
	d.nums = d.u.planes(d.nums, s.Count, 0xff)
	s.reuse = narrow(s.reuse, d.nums)
}

func narrow[T uint8 | uint16 | uint32](dst []T, from []uint64) []T {
	dst = grow(dst, len(from))
	for i, x := range from {
		dst[i] = T(x)
	}
	return dst
}

func (d *Decoder) farBook(s *Sessions) {
	n := d.u.uvarint(s.Count)
	hot := d.u.uvarint(min(n, maxHot))
	s.book = grow(s.book, n)
	for half := range 2 {
		d.nums = d.u.planes(d.nums, hot, 1<<64-1)
		for i, x := range d.nums {
			if half == 0 {
				s.book[i].hi = x
			} else {
				s.book[i].lo = x
			}
		}
	}
	d.wides, d.nums = d.u.addrs(d.wides, d.nums, n-hot)
	for i, w := range d.wides {
		s.book[hot+i].wide = w
	}
	d.nums = d.u.planes(d.nums, n, 0xffff)
	for i, x := range d.nums {
		s.book[i].service = x << 8
	}
	d.nums = d.u.planes(d.nums, n, 0xff)
	for i, x := range d.nums {
		s.book[i].service |= x
	}
	s.hot = hot
}

func (d *Decoder) far(s *Sessions) {
	s.far = grow(s.far, s.Count)
	cold := 0
	for i, c := range d.u.stream(s.Count, s.Count) {
		s.far[i] = uint32(c)
		if c == coldCode {
			cold++
		} else if int(c) >= s.hot {
			d.u.fail("remote side %d of %d", c, s.hot)
		}
	}
	limit := len(s.book) - s.hot
	if d.u.err == nil && cold > 0 && limit == 0 {
		d.u.fail("remote side that is not in the book")
	}
	d.nums = d.u.planes(d.nums, cold, uint64(max(limit-1, 0)))
	if d.u.err != nil {
		return
	}
	rest := d.nums
	for i, c := range s.far {
		if c == coldCode {
			s.far[i] = uint32(s.hot) + uint32(rest[0])
			rest = rest[1:]
		}
	}
}

func (d *Decoder) shape(s *Sessions) {
	n := d.u.uvarint(s.Count)
	d.nums = d.u.planes(d.nums, n, maxShape)
	s.shapes = grow(s.shapes, n)
	for i, x := range d.nums {
		s.shapes[i] = shape(x)
	}
	if d.u.err == nil && n == 0 {
		d.u.fail("no shapes")
	}
	d.nums = d.u.planes(d.nums, s.Count, uint64(max(n-1, 0)))
	s.shape = narrow(s.shape, d.nums)
}

func (d *Decoder) subscriber(s *Sessions) {
	n := d.u.uvarint(s.Count)
	varying := d.u.uvarint(s.Count)
	limit := uint64(n + codeFirst - 1)
	d.nums = d.u.planes(d.nums, len(s.locals), limit)
	d.lens = d.u.planes(d.lens, varying, limit)
	s.holder = grow(s.holder, s.Count)
	next, rest := 0, d.lens
	code := func(c uint64) uint32 {
		switch {
		case c == codeNew && next < n:
			next++
			return uint32(next - 1)
		case c >= codeFirst && int(c) < next+codeFirst:
			return uint32(c - codeFirst)
		}
		d.u.fail("subscriber %d of %d", c, next)
		return 0
	}
	for run, c := range d.nums {
		rows := s.holder[s.firsts[run]:s.firsts[run+1]]
		switch {
		case d.u.err != nil:
			return
		case c != codeVaries:
			h := code(c)
			for i := range rows {
				rows[i] = h
			}
		case len(rest) < len(rows):
			d.u.fail("subscribers are missing")
		default:
			for i := range rows {
				rows[i] = code(rest[i])
			}
			rest = rest[len(rows):]
		}
	}
	if d.u.err == nil && (len(rest) != 0 || next != n) {
		d.u.fail("subscribers that no row has")
	}
	s.names, d.lens = d.u.texts(s.names, d.lens, n)
}

// Len returns the number of sessions.
func (s *Sessions) Len() int { return s.Count }

// Append appends all sessions of a block that Decoder.Sessions has unpacked to
// dst.
func (s *Sessions) Append(dst []session.Session) []session.Session {
	for run := range s.locals {
		for i := s.firsts[run]; i < s.firsts[run+1]; i++ {
			dst = append(dst, s.at(run, i))
		}
	}
	return dst
}

// at returns row i, whose local address is entry run.
func (s *Sessions) at(run, i int) session.Session {
	f := &s.book[s.far[i]]
	out := session.Session{
		Start: s.start[i] * 1e6, End: s.end[i] * 1e6,
		Proto: uint8(f.service), Reuse: s.reuse[i], Subscriber: s.names[s.holder[i]],
	}
	s.shapes[s.shape[i]].put(&out)
	local, remote, port := s.locals[run].addr(), f.addr(), uint16(f.service>>8)
	if out.Local == session.SideResponder {
		out.Responder, out.ResponderPort, out.Initiator, out.InitiatorPort = local, s.localPort[i], remote, port
	} else {
		out.Initiator, out.InitiatorPort, out.Responder, out.ResponderPort = local, s.localPort[i], remote, port
	}
	if w, port, ok := s.insideOf(i); ok {
		out.Inside, out.InsidePort = w.addr(), port
	}
	return out
}
