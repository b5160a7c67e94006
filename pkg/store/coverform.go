package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// The file of one day of coverage; FORMAT.md draws it.
const (
	coverMagic   = "EDGV"
	coverVersion = 1
	coverHead    = 13 // bytes before the first frame
	frameBounds  = 8  // bytes of a frame beside its payload
	daySeconds   = 24 * 3600
)

// Limits that a reader holds a frame to.
const (
	maxUplinkName = 255
	maxCounters   = 64
)

var errCover = errors.New("coverage record is damaged")

// CoverageMark says where the record of coverage goes on after a restart.
type CoverageMark struct {
	Seq           uint64 // of marks; Coverage.Add gives it
	StoredThrough int64  // UTC seconds: every session that ended before it was on the disk; 0: not known
	OldestOpen    int64  // UTC seconds: every session that began before it was on the disk; 0: not known
	Drained       bool   // the programs were taken away: nothing was in the table any more
	Uplinks       []UplinkMark
}

// UplinkMark is where the record of one uplink ends.
type UplinkMark struct {
	Uplink   string
	Until    int64    // UTC seconds: the first that was not decided yet
	Counters []uint64 // of the kernel, as they were then; whoever adds a mark knows their order
}

func (m *CoverageMark) clone() CoverageMark {
	out := *m
	out.Uplinks = slices.Clone(m.Uplinks)
	for i := range out.Uplinks {
		out.Uplinks[i].Counters = slices.Clone(out.Uplinks[i].Counters)
	}
	return out
}

// coverDay is what one file says.
type coverDay struct {
	lines  map[string]session.Timeline
	mark   *CoverageMark
	frames int
	size   int64 // bytes that could be understood
	bad    error // why nothing behind them could
	torn   bool  // what is behind them looks like a write that was broken off
}

func (d *coverDay) timelines() []session.Timeline {
	out := make([]session.Timeline, 0, len(d.lines))
	for _, t := range d.lines {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b session.Timeline) int { return cmp.Compare(a[0].Uplink, b[0].Uplink) })
	return out
}

// say adds spans that lie in the day.
func (d *coverDay) say(spans []session.Span) {
	for _, s := range spans {
		if t := d.lines[s.Uplink].Add(s); len(t) > 0 {
			d.lines[s.Uplink] = t
		}
	}
}

func (d *coverDay) clone() *coverDay {
	out := *d
	out.lines = make(map[string]session.Timeline, len(d.lines))
	for name, t := range d.lines {
		out.lines[name] = t // never changed in place
	}
	return &out
}

func encodeCoverHead(day session.Day) []byte {
	b := append(make([]byte, 0, coverHead), coverMagic...)
	b = append(b, coverVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(day))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// encodeFrame appends a frame. The spans are given by uplink and lie in the
// day; m may be nil.
func encodeFrame(b []byte, day session.Day, lines [][]session.Span, m *CoverageMark) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = appendSpans(b, int64(day)*daySeconds, lines)
	if m == nil {
		b = append(b, 0)
	} else {
		b = appendMark(append(b, 1), m)
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

func appendSpans(b []byte, base int64, lines [][]session.Span) []byte {
	b = binary.AppendUvarint(b, uint64(len(lines)))
	for _, spans := range lines {
		name := spans[0].Uplink
		b = append(b, byte(len(name)))
		b = append(b, name...)
		b = binary.AppendUvarint(b, uint64(len(spans)))
		at := base
		for i := range spans {
			s := &spans[i]
			b = binary.AppendUvarint(b, uint64(s.From-at))
			b = binary.AppendUvarint(b, uint64(s.To-s.From))
			b = append(b, byte(s.State))
			b = binary.AppendUvarint(b, uint64(s.Reasons))
			b = binary.AppendUvarint(b, s.Refused)
			b = binary.AppendUvarint(b, s.Sampled)
			at = s.To
		}
	}
	return b
}

func appendMark(b []byte, m *CoverageMark) []byte {
	b = binary.AppendUvarint(b, m.Seq)
	b = binary.AppendUvarint(b, uint64(m.StoredThrough))
	b = binary.AppendUvarint(b, uint64(m.OldestOpen))
	drained := byte(0)
	if m.Drained {
		drained = 1
	}
	b = append(b, drained)
	b = binary.AppendUvarint(b, uint64(len(m.Uplinks)))
	for _, u := range m.Uplinks {
		b = append(append(b, byte(len(u.Uplink))), u.Uplink...)
		b = binary.AppendUvarint(b, uint64(u.Until))
		b = binary.AppendUvarint(b, uint64(len(u.Counters)))
		for _, n := range u.Counters {
			b = binary.AppendUvarint(b, n)
		}
	}
	return b
}

// decodeCover reads a day's file. An error means that not even its head is one
// of that day; what is wrong behind it is in the day's bad.
func decodeCover(day session.Day, b []byte) (*coverDay, error) {
	d := &coverDay{lines: map[string]session.Timeline{}}
	if len(b) < coverHead || string(b[:4]) != coverMagic {
		return nil, fmt.Errorf("%w: it does not begin like one", errCover)
	}
	if b[4] != coverVersion {
		return nil, fmt.Errorf("%w: coverage format %d, this version reads %d; upgrade edgelog", ErrNewer, b[4], coverVersion)
	}
	if string(b[:coverHead]) != string(encodeCoverHead(day)) {
		return nil, fmt.Errorf("%w: its head is not that of %s", errCover, day)
	}
	d.size = coverHead
	for rest := b[coverHead:]; len(rest) > 0; {
		n, err := d.frame(day, rest)
		if err != nil {
			// A write that was broken off leaves less than a frame, a frame that
			// nothing follows, or room that was never written.
			end := frameEnd(rest)
			d.bad, d.torn = err, end >= len(rest) || !slices.ContainsFunc(rest, func(c byte) bool { return c != 0 })
			return d, nil
		}
		rest = rest[n:]
		d.size += int64(n)
		d.frames++
	}
	return d, nil
}

// frameEnd is where the frame at the beginning of b says that it ends.
func frameEnd(b []byte) int {
	if len(b) < 4 {
		return math.MaxInt
	}
	return int(binary.BigEndian.Uint32(b)) + frameBounds
}

// frame takes in the frame at the beginning of b, all of it or nothing, and
// returns its length.
func (d *coverDay) frame(day session.Day, b []byte) (int, error) {
	end := frameEnd(b)
	if end > len(b) {
		return 0, fmt.Errorf("%w: cut off", errCover)
	}
	if binary.BigEndian.Uint32(b[end-4:]) != crc32.Checksum(b[:end-4], castagnoli) {
		return 0, fmt.Errorf("%w: checksum", errCover)
	}
	r := coverReader{b: b[4 : end-4]}
	spans := r.spans(int64(day) * daySeconds)
	mark := r.mark()
	if r.bad || len(r.b) > 0 {
		return 0, fmt.Errorf("%w: it contradicts itself", errCover)
	}
	d.say(spans)
	if mark != nil && (d.mark == nil || mark.Seq >= d.mark.Seq) {
		d.mark = mark
	}
	return end, nil
}

// coverReader reads numbers until one is not there; then bad is set and all
// others are 0.
type coverReader struct {
	b   []byte
	bad bool
}

func (r *coverReader) number(most uint64) uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > most {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *coverReader) byte(most byte) byte {
	if len(r.b) == 0 || r.b[0] > most {
		r.bad, r.b = true, nil
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *coverReader) name() string {
	n := int(r.byte(maxUplinkName))
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *coverReader) spans(base int64) (out []session.Span) {
	for range r.number(math.MaxUint64) {
		name := r.name()
		at := base
		for range r.number(daySeconds) {
			left := uint64(base + daySeconds - at)
			s := session.Span{Uplink: name, From: at + int64(r.number(left))}
			s.To = s.From + int64(r.number(uint64(base+daySeconds-s.From)))
			s.State = session.Cover(r.byte(byte(session.CoverMissing)))
			s.Reasons = session.CoverReasons(r.number(math.MaxUint32))
			s.Refused, s.Sampled = r.number(math.MaxUint64), r.number(math.MaxUint64)
			if r.bad || s.From == s.To {
				r.bad = true
				return nil
			}
			out = append(out, s)
			at = s.To
		}
		if r.bad {
			return nil
		}
	}
	return out
}

func (r *coverReader) mark() *CoverageMark {
	if r.byte(1) == 0 {
		return nil
	}
	m := &CoverageMark{Seq: r.number(math.MaxUint64), StoredThrough: int64(r.number(math.MaxInt64)), OldestOpen: int64(r.number(math.MaxInt64))}
	m.Drained = r.byte(1) == 1
	for range r.number(math.MaxUint64) {
		u := UplinkMark{Uplink: r.name(), Until: int64(r.number(math.MaxInt64))}
		for range r.number(maxCounters) {
			u.Counters = append(u.Counters, r.number(math.MaxUint64))
		}
		if r.bad {
			return nil
		}
		m.Uplinks = append(m.Uplinks, u)
	}
	return m
}
