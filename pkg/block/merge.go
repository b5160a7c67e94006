package block

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// MergeOptions bound the blocks that a Merger makes.
type MergeOptions struct {
	MaxRows  int // at most MaxRows of the package; 0 means 65,536
	MaxBytes int // of a block before it is sealed; 0 means no bound
}

const (
	mergedRows   = 1 << 16
	cutTolerance = 8 // a block may be an eighth short for the sake of a whole address
)

// Merger makes blocks that are sorted by address out of blocks that were written
// as time went by. It is not safe for use by several goroutines.
//
// Sessions take 48 bytes a row in memory, 16 more while they are sorted, and
// what their addresses and texts take, each once.
type Merger struct {
	o          MergeOptions
	d          *Decoder
	e          *Encoder
	placer     placer
	groups     []*group
	duplicates int
	numbered   [5][]uint32 // new numbers of what a block lists
	plain      []byte
}

// group is what may stand in one block together.
type group struct {
	header   Header
	table    table             // of sessions
	bindings []session.Binding // of bindings
}

// NewMerger returns a Merger that holds nothing.
func NewMerger(o MergeOptions) *Merger {
	if o.MaxRows <= 0 || o.MaxRows > MaxRows {
		o.MaxRows = mergedRows
	}
	return &Merger{o: o, d: NewDecoder(), e: NewEncoder()}
}

// Reset lets go of what was added.
func (m *Merger) Reset() { m.groups, m.duplicates = nil, 0 }

// Duplicates returns how many rows Blocks has left out, since they were there
// twice.
func (m *Merger) Duplicates() int { return m.duplicates }

// Rows returns how many rows were added.
func (m *Merger) Rows() int {
	n := 0
	for _, g := range m.groups {
		n += len(g.table.rows) + len(g.bindings)
	}
	return n
}

// Add takes the rows of a block of sessions or of bindings. The error wraps
// ErrDamaged, ErrNewer, or ErrKind for other blocks; nothing is added then.
func (m *Merger) Add(plain []byte) error {
	h, err := ReadHeader(plain)
	if err != nil {
		return err
	}
	switch h.Kind {
	case KindSessions:
		s, err := m.d.Sessions(plain)
		if err != nil {
			return err
		}
		m.addSessions(m.group(h), s)
		return nil
	case KindBindings:
		h, list, err := m.d.Bindings(nil, plain)
		if err != nil {
			return err
		}
		g := m.group(h)
		g.bindings = append(g.bindings, list...)
		return nil
	}
	return fmt.Errorf("merge block of %s: %w", h.Kind, ErrKind)
}

// group returns the group for blocks with this header, which joins it: the
// error of the clock of merged rows is the worst of theirs. Rows that were
// recorded while it was synchronised stay apart from others.
func (m *Merger) group(h Header) *group {
	for _, g := range m.groups {
		x := &g.header
		if x.Kind == h.Kind && x.Profile == h.Profile && x.Gateway == h.Gateway && x.Provider == h.Provider && x.Clock.Synchronised == h.Clock.Synchronised {
			x.Clock.MaxErrorMicros = max(x.Clock.MaxErrorMicros, h.Clock.MaxErrorMicros)
			return g
		}
	}
	g := &group{header: h}
	g.table.reset()
	m.groups = append(m.groups, g)
	return g
}

// addSessions looks each value of the block's lists up once, and not once a row.
func (m *Merger) addSessions(g *group, s *Sessions) {
	t := &g.table
	locals := renumber(&m.numbered[0], s.locals, func(w wide) uint32 { return t.locals.number(far{wide: w}) })
	fars := renumber(&m.numbered[1], s.book, t.fars.number)
	shapes := renumber(&m.numbered[2], s.shapes, func(x shape) uint32 { return t.shapes.number(far{wide: wide{hi: uint64(x)}}) })
	insides := renumber(&m.numbered[3], s.insides, func(w wide) uint32 { return t.insides.number(far{wide: w}) })
	names := renumber(&m.numbered[4], s.names, t.name)
	for run := range s.locals {
		for i := s.firsts[run]; i < s.firsts[run+1]; i++ {
			r := row{
				start: s.start[i], duration: uint64(s.end[i] - s.start[i]), local: locals[run], far: fars[s.far[i]],
				shape: shapes[s.shape[i]], holder: names[s.holder[i]], port: s.localPort[i], reuse: s.reuse[i],
			}
			if len(s.inside) > 0 && s.inside[i] > 0 {
				r.inside, r.insidePort = 1+insides[s.inside[i]-1], s.insidePort[i]+s.localPort[i]
			}
			t.rows = append(t.rows, r)
		}
	}
}

func renumber[T any](dst *[]uint32, list []T, number func(T) uint32) []uint32 {
	*dst = grow(*dst, len(list))
	for i, x := range list {
		(*dst)[i] = number(x)
	}
	return *dst
}

// Blocks calls yield with each merged block, groups one after the other: those
// of one kind, profile, gateway, provider and state of the clock. Sessions are sorted by local
// address, then start, over all blocks of their group; bindings as Bindings has
// it. What session.ID calls the same record is written once, as session.Session
// has it which supersedes the other, and so is a binding that is the same in
// everything. plain is good until yield returns. An error of yield ends it.
//
// Two records of one session of which the border changed in between, so that
// another end is the local one, are not recognised: who reads them does.
func (m *Merger) Blocks(yield func(h Header, plain []byte) error) error {
	m.duplicates = 0
	for _, g := range m.groups {
		var err error
		if g.header.Kind == KindBindings {
			err = m.bindings(g, yield)
		} else {
			err = m.sessions(g, yield)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *Merger) sessions(g *group, yield func(Header, []byte) error) error {
	m.placer.place(&g.table)
	keys := m.once(&g.table, m.placer.keys)
	for len(keys) > 0 {
		n := m.cut(len(keys), func(i int) bool { return keys[i].local != keys[i-1].local })
		if err := m.emit(g.header, n, func(h *Header, from, to int) (err error) {
			m.e.take(h, &g.table, keys[from:to])
			m.plain, err = m.e.write(m.plain[:0], h)
			return err
		}, yield); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// emit encodes rows 0..n, in halves where they take more than MaxBytes or
// than fits into one block.
func (m *Merger) emit(h Header, n int, encode func(h *Header, from, to int) error, yield func(Header, []byte) error) error {
	var part func(from, to int) error
	part = func(from, to int) error {
		out := h
		err := encode(&out, from, to)
		half := (to - from) / 2
		large := errors.Is(err, ErrTooBig) || m.o.MaxBytes > 0 && len(m.plain) > m.o.MaxBytes
		if err != nil && (!large || half == 0) {
			return fmt.Errorf("merge %d rows of %s: %w", to-from, h.Kind, err)
		}
		if large && half > 0 {
			if err := part(from, from+half); err != nil {
				return err
			}
			return part(from+half, to)
		}
		out.Count = to - from
		return yield(out, m.plain)
	}
	return part(0, n)
}

// cut says how many of n rows the next block takes. Blocks are of about the
// same size; one is a little shorter where that keeps an address together.
func (m *Merger) cut(n int, begins func(row int) bool) int {
	blocks := (n + m.o.MaxRows - 1) / m.o.MaxRows
	if blocks == 1 {
		return n
	}
	least := (n + blocks - 1) / blocks
	most := min(least+least/cutTolerance, m.o.MaxRows)
	for i := most; i > least-least/cutTolerance && i < n; i-- {
		if begins(i) {
			return i
		}
	}
	return least
}

// once leaves out of sorted keys what is another record of the same session.
func (m *Merger) once(t *table, keys []key) []key {
	out := keys[:0]
	for at := 0; at < len(keys); {
		end := at + 1
		for end < len(keys) && keys[end].local == keys[at].local && keys[end].start == keys[at].start {
			end++
		}
		run := keys[at:end]
		at = end
		if len(run) > 1 {
			slices.SortFunc(run, func(a, b key) int { return compareRows(&t.rows[a.index], &t.rows[b.index], t) })
		}
		for i, k := range run {
			if i+1 < len(run) && sameSession(&t.rows[k.index], &t.rows[run[i+1].index], t) {
				m.duplicates++ // the next one supersedes it
				continue
			}
			out = append(out, k)
		}
	}
	return out
}

// compareRows orders rows of one address and start: of one session the one that
// says most comes last.
func compareRows(a, b *row, t *table) int {
	x, y := t.shape(a), t.shape(b)
	return cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(a.port, b.port), cmp.Compare(x.initiator(), y.initiator()), cmp.Compare(a.reuse, b.reuse),
		cmp.Compare(y.open(), x.open()), cmp.Compare(int64(a.duration), int64(b.duration)), cmp.Compare(x, y))
}

func sameSession(a, b *row, t *table) bool {
	return a.far == b.far && a.port == b.port && a.reuse == b.reuse && t.shape(a).initiator() == t.shape(b).initiator()
}

func (t *table) shape(r *row) shape { return shape(t.shapes.values[r.shape].hi) }

// initiator is 1 where the local side is the initiator.
func (x shape) initiator() uint8 {
	if session.Side(x>>16) == session.SideResponder {
		return 0
	}
	return 1
}

func (x shape) open() session.Flags { return session.Flags(x>>8) & session.Open }

func (m *Merger) bindings(g *group, yield func(Header, []byte) error) error {
	list := make([]session.Binding, 0, len(g.bindings))
	seen := make(map[session.Binding]bool, len(g.bindings))
	for _, b := range g.bindings {
		if seen[b] {
			m.duplicates++
			continue
		}
		seen[b] = true
		list = append(list, b)
	}
	var h Header
	rows, err := sortBindings(&h, list)
	if err != nil {
		return fmt.Errorf("merge %d bindings: %w", len(list), err)
	}
	sorted := make([]session.Binding, len(list))
	for i, r := range rows {
		sorted[i] = list[r.index]
	}
	for len(sorted) > 0 {
		n := m.cut(len(sorted), func(i int) bool { return sorted[i].Prefix != sorted[i-1].Prefix })
		if err := m.emit(g.header, n, func(h *Header, from, to int) (err error) {
			if m.plain, err = m.e.Bindings(m.plain[:0], *h, sorted[from:to]); err == nil {
				*h, err = ReadHeader(m.plain)
			}
			return err
		}, yield); err != nil {
			return err
		}
		sorted = sorted[n:]
	}
	return nil
}
