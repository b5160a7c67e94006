package block

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// Pick says which bindings of a block are wanted: those for which at least one
// of its conditions holds. The zero Pick wants none.
type Pick struct {
	All bool // every binding

	Addresses []netip.Addr   // the binding's prefix holds one of them; sorted by Compare
	Prefixes  []netip.Prefix // the binding's prefix and one of them overlap
	Via       []netip.Prefix // the binding's Via lies in one of them
	Rules     bool           // the binding has a Rule

	// One of the texts is this one; "" for none.
	Subscriber, Identity, Line, Equipment string
}

func (p *Pick) wantsPrefix(x netip.Prefix) bool {
	if !x.IsValid() {
		return false
	}
	at, _ := slices.BinarySearchFunc(p.Addresses, x.Masked().Addr(), netip.Addr.Compare) // the first that is not before the prefix
	return at < len(p.Addresses) && x.Contains(p.Addresses[at]) || slices.ContainsFunc(p.Prefixes, x.Overlaps)
}

// PickBindings appends to dst the bindings of a block that p wants. Where none
// is wanted, little of the block is unpacked: the addresses, and the texts that
// p asks for.
func (d *Decoder) PickBindings(dst []session.Binding, b []byte, p *Pick) (Header, []session.Binding, error) {
	h, cols, err := readColumns(b, KindBindings)
	if err != nil {
		return Header{}, dst, err
	}
	if p.All {
		return d.Bindings(dst, b)
	}
	d.u.err = nil
	d.hits = grow(d.hits, h.Count)
	clear(d.hits)
	d.hitPrefixes(cols[colPrefix], h.Count, p)
	for column, want := range map[int]string{colTexts: p.Subscriber, colTexts + 1: p.Line, colTexts + 2: p.Equipment, colIdentity: p.Identity} {
		if want != "" {
			d.hitTexts(cols[column], column, h.Count, func(s string) bool { return s == want })
		}
	}
	if len(p.Via) > 0 {
		d.hitTexts(cols[colVia], colVia, h.Count, p.via)
	}
	if p.Rules {
		d.hitTexts(cols[colRule], colRule, h.Count, func(s string) bool { return s != "" })
	}
	d.chosen = d.chosen[:0]
	for row, hit := range d.hits {
		if hit {
			d.chosen = append(d.chosen, uint32(row))
		}
	}
	if d.u.err != nil {
		return Header{}, dst, fmt.Errorf("read block of bindings: %w", d.u.err)
	}
	if len(d.chosen) > 0 {
		if dst, err = d.bindings(dst, &cols, h.Count); err != nil {
			return Header{}, dst, err
		}
	}
	return h, dst, nil
}

// HeadOfBindings is how many frames of a block of bindings, from the first, MayPick
// opens.
const HeadOfBindings = 2

// MayPick reports whether a block of bindings holds a binding whose prefix p
// wants, or may hold one that p asks for in another way; it opens no more of the
// block than its header and its prefixes. The error wraps ErrDamaged, ErrNewer, ErrKind or
// that of frame.
func (d *Decoder) MayPick(frame Frame, p *Pick) (bool, error) {
	if p.All || p.Rules || len(p.Via) > 0 || p.Subscriber+p.Identity+p.Line+p.Equipment != "" {
		return true, nil // the prefixes say nothing of these
	}
	b, err := frame(0)
	if err != nil {
		return false, fmt.Errorf("read block of bindings: %w", err)
	}
	var dir directory
	h, err := dir.read(b, KindBindings)
	if err != nil {
		return false, err
	}
	if dir.frame[colPrefix] == 0 {
		return false, fmt.Errorf("read block of bindings: %w: it has no prefixes", ErrDamaged)
	}
	if b, err = frame(int(dir.frame[colPrefix])); err != nil {
		return false, fmt.Errorf("read block of bindings, prefixes: %w", err)
	}
	d.u.err = nil
	d.hits = grow(d.hits, h.Count)
	clear(d.hits)
	d.hitPrefixes(b, h.Count, p)
	if d.u.err != nil {
		return false, fmt.Errorf("read block of bindings, prefixes: %w", d.u.err)
	}
	return slices.Contains(d.hits, true), nil
}

func (p *Pick) via(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && slices.ContainsFunc(p.Via, func(x netip.Prefix) bool { return x.Contains(a) })
}

// hitPrefixes finds the rows of the column that have a prefix which p wants.
func (d *Decoder) hitPrefixes(col []byte, rows int, p *Pick) {
	if len(p.Addresses)+len(p.Prefixes) == 0 {
		return
	}
	d.column(col, colPrefix, func() {
		n := d.u.uvarint(rows)
		d.wides, d.nums = d.u.addrs(d.wides, d.nums, n)
		d.nums = d.u.planes(d.nums, n, uint64(rows))
		d.lens = d.u.planes(d.lens, rows, noPrefix)
		if d.u.err == nil {
			d.wanted(p, rows)
		}
	})
}

// wanted looks at the unpacked column: d.wides with d.nums rows each, of d.lens
// bits each.
func (d *Decoder) wanted(p *Pick, rows int) {
	row := 0
	for i, count := range d.nums {
		if count > uint64(rows-row) {
			d.u.fail("too many rows of addresses")
			return
		}
		var a netip.Addr
		last, hit := -1, false
		for end := row + int(count); row < end; row++ {
			bits := int(d.lens[row])
			if bits != last {
				if !a.IsValid() {
					a = d.wides[i].addr().Netip()
				}
				x, err := a.Prefix(bits)
				hit, last = bits != noPrefix && err == nil && p.wantsPrefix(x), bits
			}
			d.hits[row] = hit
		}
	}
}

// hitTexts finds the rows of a column of texts that have one which is wanted; a
// block without the column has none.
func (d *Decoder) hitTexts(col []byte, id, rows int, want func(string) bool) {
	if col == nil {
		return
	}
	d.column(col, id, func() {
		d.codes(rows)
		if d.u.err != nil {
			return
		}
		wanted := make([]bool, len(d.names))
		some := false
		for i, name := range d.names {
			wanted[i] = want(name)
			some = some || wanted[i]
		}
		for row := 0; some && row < rows; row++ {
			d.hits[row] = d.hits[row] || wanted[d.nums[row]]
		}
	})
}
