package nat

import (
	"math"

	"github.com/edgelog/edgelog/pkg/session"
)

// Answer says what Find found.
type Answer uint8

// The answers.
const (
	Unknown   Answer = iota // no translation is known: the address may be the end user's own
	Found                   // exactly one inside address had it
	Ambiguous               // two inside addresses may have had it: it is said of none
)

// slack is how far apart the times of the programs in the kernel, whose clock
// ticks every 1-10 ms, and those of conntrack may be, ns.
const slack = 50e6

// maxLook bounds how many translations are compared with one session.
const maxLook = 4096

// Find returns who had the session's local end inside. It changes nothing of
// the session.
func (t *Table) Find(s *session.Session) (inside session.Addr, port uint16, a Answer) {
	public, publicPort, ok := s.LocalEnd()
	far, farPort, _ := s.RemoteEnd()
	if !ok {
		return inside, 0, Unknown
	}
	x := search{t: t, proto: s.Proto, public: public, port: publicPort, ports: session.HasPorts(s.Proto), from: s.Start, to: max(s.Start, s.End)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count.open+t.count.kept == 0 {
		return inside, 0, Unknown
	}
	if h, second := t.hash2(s.Proto, public, publicPort, far); second {
		for i := t.heads2[h&t.mask]; i != 0 && x.look(t.at(i)); i = t.at(i).next2 {
		}
	} else {
		x.hash = t.hash(s.Proto, public, publicPort, far, farPort)
		for i := t.heads[x.hash&t.mask]; i != 0 && x.look(t.at(i)); i = t.at(i).next {
		}
	}
	inside, port, a = x.answer()
	switch a {
	case Found:
		t.count.found++
	case Ambiguous:
		t.count.ambiguous++
	default:
		t.count.unknown++
	}
	return inside, port, a
}

// search is one question to the table.
type search struct {
	t        *Table
	proto    uint8
	ports    bool
	public   session.Addr
	port     uint16
	hash     uint64 // 0: not told
	from, to int64

	looked  int
	crowded bool
	any     fit // of those that may overlap
	sure    fit // of those, if nothing that was lost can say otherwise
	major   fit // of those that overlap by more than all doubts
	whole   fit // of those that held all the time
}

// fit is an inside end, or more than one.
type fit struct {
	n          int // different inside addresses: 0, 1, 2 for more
	addr       session.Addr
	port       uint16
	otherPorts bool
}

func (f *fit) add(e *entry) {
	switch {
	case f.n == 0:
		f.n, f.addr, f.port = 1, e.inside, e.insidePort
	case f.addr != e.inside:
		f.n = 2
	case f.port != e.insidePort:
		f.otherPorts = true
	}
}

// look compares one entry; it returns false when it has seen enough.
func (x *search) look(e *entry) bool {
	if x.looked++; x.looked > maxLook {
		x.crowded = true
		return false
	}
	if e.proto != x.proto || e.public != x.public || x.ports && e.publicPort != x.port || x.hash != 0 && e.hash != x.hash {
		return true
	}
	// It began between from-early and from, and ended between to-late and to.
	early, late := doubt(e.fromDoubt), doubt(e.toDoubt)
	to := e.to
	if to == session.Forever {
		to -= slack
	}
	if e.from-early > x.to || to+slack < x.from {
		return true
	}
	x.any.add(e)
	if !x.certain(e, late) {
		return true
	}
	x.sure.add(e)
	if over := min(to, x.to) - max(e.from, x.from); over > 2*max(early, late) {
		x.major.add(e)
	}
	if e.from-early <= x.from && x.to <= to+slack {
		x.whole.add(e)
	}
	return true
}

// doubt returns the bound of an error, ns; the greatest stands for any.
func doubt(d uint16) int64 {
	if d == 0xffff {
		return math.MaxInt64 / 4
	}
	return slack + int64(d)*doubtUnit
}

// atOnce is how soon after a translation began its session does: the packet is
// the same.
const atOnce = 2e9

// certain reports whether nobody unknown can have had the place of e during the
// session.
func (x *search) certain(e *entry, late int64) bool {
	open := e.to == session.Forever
	switch {
	case e.flags&flagLostTo != 0 && x.from > e.to-late:
		return false
	case e.flags&flagLostFrom != 0 && x.to < e.from:
		return false
	case open && e.flags&flagForeign == 0 && x.t.loss != 0 && x.from > x.t.loss:
		return false
	case open && e.flags&flagForeign != 0 && e.from < x.t.lossOf && x.from > e.from+atOnce:
		return false
	}
	return true
}

// answer weighs what was seen. Where two inside addresses may overlap with the
// session, one is right only when it held all the time, and the others touch it
// no more than the clocks may be wrong.
func (x *search) answer() (session.Addr, uint16, Answer) {
	f := &x.any
	switch {
	case x.crowded:
		return session.Addr{}, 0, Ambiguous
	case f.n == 0:
		return session.Addr{}, 0, Unknown
	case f.n == 1 && x.sure.n == 0:
		return session.Addr{}, 0, Ambiguous
	case f.n > 1:
		f = &x.major
		if f.n != 1 || x.whole.n != 1 || x.whole.addr != f.addr {
			return session.Addr{}, 0, Ambiguous
		}
	}
	port := f.port
	if f.otherPorts || !x.ports {
		port = 0 // which of them is not known
	}
	return f.addr, port, Found
}
