package block

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// Merger makes few large blocks, sorted by local address, of many that are
// sorted by time. Blocks of one kind may be added; of different profiles,
// gateways, providers, or with and without a synchronised clock, they stay
// apart, so that a merged block says nothing of its rows that was not so. It is
// not safe for use by several goroutines.
//
// A row of sessions takes 48 bytes, and each different address, name and far
// end once.
type Merger struct {
	dec    *Decoder
	enc    *Encoder
	kind   Kind
	groups []*group
	rows   int
	twice  int

	buf   []session.Session
	plain []byte
}

// group is what is merged together.
type group struct {
	head Header

	rows    []merged
	locals  numbers
	fars    numbers
	insides numbers
	shapes  numbers
	names   dictionary[string]

	bindings []session.Binding
}

// merged is a session on its way from one block to another. What it shares with
// others is numbered in its group.
type merged struct {
	start, end int64 // milliseconds
	local, far uint32
	inside     uint32 // 0 for none, or 1 + number
	shape      uint32
	name       uint32
	port       uint16
	insidePort uint16
	reuse      uint8
}

// NewMerger returns an empty Merger.
func NewMerger() *Merger { return &Merger{dec: NewDecoder(), enc: NewEncoder()} }

// Len returns the number of rows that were added since the last call of Blocks.
func (m *Merger) Len() int { return m.rows }

// Twice returns how many rows were left out since the beginning because another
// row said the same, or more of the same session (session.ID).
func (m *Merger) Twice() int { return m.twice }

// Add takes a block of sessions or of bindings. The error wraps ErrDamaged,
// ErrNewer or ErrKind.
func (m *Merger) Add(plain []byte) error {
	h, err := ReadHeader(plain)
	if err != nil {
		return err
	}
	if m.rows > 0 && h.Kind != m.kind {
		return fmt.Errorf("merge blocks: %w: %s among %s", ErrKind, h.Kind, m.kind)
	}
	m.kind = h.Kind
	switch h.Kind {
	case KindSessions:
		s, err := m.dec.Sessions(plain)
		if err != nil {
			return err
		}
		m.group(&h).add(s)
	case KindBindings:
		g := m.group(&h)
		if _, g.bindings, err = m.dec.Bindings(g.bindings, plain); err != nil {
			return err
		}
	default:
		return fmt.Errorf("merge blocks: %w: %s", ErrKind, h.Kind)
	}
	m.rows += h.Count
	return nil
}

// group returns the group of blocks with such a header.
func (m *Merger) group(h *Header) *group {
	for _, g := range m.groups {
		x := &g.head
		if x.Profile == h.Profile && x.Gateway == h.Gateway && x.Provider == h.Provider && x.Clock.Synchronised == h.Clock.Synchronised {
			x.Clock.MaxErrorMicros = max(x.Clock.MaxErrorMicros, h.Clock.MaxErrorMicros)
			return g
		}
	}
	g := &group{head: *h}
	for _, t := range []*numbers{&g.locals, &g.fars, &g.insides, &g.shapes} {
		t.reset()
	}
	g.names.reset()
	m.groups = append(m.groups, g)
	return g
}

// add takes the rows of a block.
func (g *group) add(s *Sessions) {
	number := func(n int, to *numbers, value func(int) far) []uint32 {
		out := make([]uint32, n)
		for i := range out {
			out[i] = to.number(value(i))
		}
		return out
	}
	fars := number(len(s.book), &g.fars, func(i int) far { return s.book[i] })
	shapes := number(len(s.shapes), &g.shapes, func(i int) far { return far{wide: wide{hi: uint64(s.shapes[i])}} })
	insides := number(len(s.insides), &g.insides, func(i int) far { return far{wide: s.insides[i]} })
	names := make([]uint32, len(s.names))
	for i, name := range s.names {
		names[i] = g.names.number(name)
	}
	g.rows = slices.Grow(g.rows, s.Count)
	for run, addr := range s.locals {
		local := g.locals.number(far{wide: addr})
		for i := s.firsts[run]; i < s.firsts[run+1]; i++ {
			r := merged{
				start: s.start[i], end: s.end[i], local: local, far: fars[s.far[i]], shape: shapes[s.shape[i]], name: names[s.holder[i]],
				port: s.localPort[i], reuse: s.reuse[i],
			}
			if len(s.inside) > 0 && s.inside[i] != 0 {
				r.inside, r.insidePort = 1+insides[s.inside[i]-1], s.insidePort[i]+s.localPort[i]
			}
			g.rows = append(g.rows, r)
		}
	}
}

// Blocks calls fn with merged blocks of everything that was added, each of at
// most rows rows and size bytes, and forgets it. The block is valid only during
// the call. An error of fn ends it and is returned.
func (m *Merger) Blocks(rows, size int, fn func(h Header, plain []byte) error) error {
	defer func() { m.groups, m.rows = nil, 0 }()
	for _, g := range m.groups {
		if m.kind == KindBindings {
			before := len(g.bindings)
			g.dedupe()
			m.twice += before - len(g.bindings)
			for part := range slices.Chunk(g.bindings, rows) {
				if err := m.emitBindings(g, part, size, fn); err != nil {
					return err
				}
			}
			continue
		}
		before := len(g.rows)
		g.sort()
		m.twice += before - len(g.rows)
		for part := range slices.Chunk(g.rows, rows) {
			if err := m.emitSessions(g, part, size, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Merger) emitSessions(g *group, part []merged, size int, fn func(Header, []byte) error) error {
	m.buf = slices.Grow(m.buf[:0], len(part))
	for i := range part {
		m.buf = append(m.buf, g.session(&part[i]))
	}
	defer clear(m.buf) // lets go of strings
	return m.emit(g, len(part), size, fn, func() (err error) {
		m.plain, err = m.enc.Sessions(m.plain[:0], g.head, m.buf)
		return err
	}, func(from, to int) error { return m.emitSessions(g, part[from:to], size, fn) })
}

func (m *Merger) emitBindings(g *group, part []session.Binding, size int, fn func(Header, []byte) error) error {
	return m.emit(g, len(part), size, fn, func() (err error) {
		m.plain, err = m.enc.Bindings(m.plain[:0], g.head, part)
		return err
	}, func(from, to int) error { return m.emitBindings(g, part[from:to], size, fn) })
}

// emit encodes rows, in two halves if they become too large.
func (m *Merger) emit(_ *group, n, size int, fn func(Header, []byte) error, encode func() error, again func(from, to int) error) error {
	err := encode()
	switch {
	case err != nil && !errors.Is(err, ErrTooBig):
		return err
	case err == nil && len(m.plain) <= size:
		h, err := ReadHeader(m.plain)
		if err != nil {
			return err
		}
		return fn(h, m.plain)
	case n == 1:
		return fmt.Errorf("merge blocks: %w: one row takes more than %d bytes", ErrTooBig, size)
	}
	return errors.Join(again(0, n/2), again(n/2, n))
}

// session makes a row a session again.
func (g *group) session(r *merged) session.Session {
	f := &g.fars.values[r.far]
	out := session.Session{
		Start: r.start * 1e6, End: r.end * 1e6, Proto: uint8(f.service), Reuse: r.reuse, Subscriber: g.names.values[r.name],
	}
	shape(g.shapes.values[r.shape].hi).put(&out)
	local, remote, port := g.locals.values[r.local].addr(), f.addr(), uint16(f.service>>8)
	if out.Local == session.SideResponder {
		out.Responder, out.ResponderPort, out.Initiator, out.InitiatorPort = local, r.port, remote, port
	} else {
		out.Initiator, out.InitiatorPort, out.Responder, out.ResponderPort = local, r.port, remote, port
	}
	if r.inside != 0 {
		out.Inside, out.InsidePort = g.insides.values[r.inside-1].addr(), r.insidePort
	}
	return out
}

// sort puts the rows into the order of local address and start, and leaves out
// those that were written twice.
func (g *group) sort() {
	rank := make([]uint32, len(g.locals.values))
	for i, n := range new(sorter).sort(g.locals.values) {
		rank[n] = uint32(i)
	}
	slices.SortFunc(g.rows, func(a, b merged) int {
		if a.local != b.local {
			return cmp.Compare(rank[a.local], rank[b.local])
		}
		if a.start != b.start {
			return cmp.Compare(a.start, b.start)
		}
		return g.tie(&a, &b)
	})
	g.rows = slices.CompactFunc(g.rows, func(a, b merged) bool {
		return a.local == b.local && a.start == b.start && a.far == b.far && a.port == b.port && a.reuse == b.reuse && g.began(&a) == g.began(&b)
	})
}

// tie orders rows of one address that started in one millisecond: records of one
// session (session.ID) next to each other, the one that says most first.
func (g *group) tie(a, b *merged) int {
	if c := cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(a.port, b.port), cmp.Compare(a.reuse, b.reuse), cmp.Compare(g.began(a), g.began(b))); c != 0 {
		return c
	}
	x, y := g.session(a), g.session(b)
	switch {
	case x.Supersedes(&y):
		return -1
	case y.Supersedes(&x):
		return 1
	}
	return 0
}

// began is 1 where the far end began, 0 otherwise.
func (g *group) began(r *merged) int {
	if session.Side(g.shapes.values[r.shape].hi>>16) == session.SideResponder {
		return 1
	}
	return 0
}

// dedupe sorts the bindings as a block does, and leaves out what is there twice.
func (g *group) dedupe() {
	slices.SortStableFunc(g.bindings, func(a, b session.Binding) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()),
			cmp.Compare(a.FirstPort, b.FirstPort), cmp.Compare(a.From, b.From))
	})
	seen := make(map[session.Binding]bool, len(g.bindings))
	g.bindings = slices.DeleteFunc(g.bindings, func(b session.Binding) bool {
		was := seen[b]
		seen[b] = true
		return was
	})
}
