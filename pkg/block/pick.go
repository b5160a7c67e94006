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

	// One of the texts is this one; "" for none.
	Subscriber, Identity, Line, Equipment string
}

// Wants reports whether b is wanted.
func (p *Pick) Wants(b *session.Binding) bool {
	return p.All || p.wantsPrefix(b.Prefix) ||
		p.Subscriber != "" && b.Subscriber == p.Subscriber || p.Identity != "" && b.Identity == p.Identity ||
		p.Line != "" && b.Line == p.Line || p.Equipment != "" && b.Equipment == p.Equipment ||
		b.Via.IsValid() && slices.ContainsFunc(p.Via, func(x netip.Prefix) bool { return x.Contains(b.Via) })
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
	if !p.All {
		d.u.err = nil
		some := d.somePrefix(cols[colPrefix], h.Count, p)
		for column, want := range map[int]string{colTexts: p.Subscriber, colTexts + 1: p.Line, colTexts + 2: p.Equipment, colIdentity: p.Identity} {
			some = some || want != "" && d.someText(cols[column], column, h.Count, func(s string) bool { return s == want })
		}
		some = some || len(p.Via) > 0 && d.someText(cols[colVia], colVia, h.Count, p.via)
		if d.u.err != nil {
			return Header{}, dst, fmt.Errorf("read block of bindings: %w", d.u.err)
		}
		if !some {
			return h, dst, nil
		}
	}
	all := d.rows[:0]
	_, all, err = d.Bindings(all, b)
	if err != nil {
		return Header{}, dst, err
	}
	for i := range all {
		if p.Wants(&all[i]) {
			dst = append(dst, all[i])
		}
	}
	clear(all) // lets go of strings
	d.rows = all[:0]
	return h, dst, nil
}

func (p *Pick) via(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && slices.ContainsFunc(p.Via, func(x netip.Prefix) bool { return x.Contains(a) })
}

// somePrefix reports whether a row of the column has a prefix that p wants.
func (d *Decoder) somePrefix(col []byte, rows int, p *Pick) (some bool) {
	if len(p.Addresses)+len(p.Prefixes) == 0 {
		return false
	}
	d.column(col, colPrefix, func() {
		n := d.u.uvarint(rows)
		d.wides, d.nums = d.u.addrs(d.wides, d.nums, n)
		d.nums = d.u.planes(d.nums, n, uint64(rows))
		d.lens = d.u.planes(d.lens, rows, noPrefix)
		if d.u.err != nil {
			return
		}
		some = d.wanted(p, rows)
	})
	return some
}

// wanted looks at the unpacked column: d.wides with d.nums rows each, of d.lens
// bits each.
func (d *Decoder) wanted(p *Pick, rows int) bool {
	row := 0
	for i, count := range d.nums {
		if count > uint64(rows-row) {
			return true // damaged: the one who unpacks it all says so
		}
		var a netip.Addr
		last := -1
		for _, bits := range d.lens[row : row+int(count)] {
			if int(bits) == last || bits == noPrefix {
				continue
			}
			if last = int(bits); !a.IsValid() {
				a = d.wides[i].addr().Netip()
			}
			if x, err := a.Prefix(int(bits)); err != nil || p.wantsPrefix(x) {
				return true
			}
		}
		row += int(count)
	}
	return false
}

// someText reports whether a column of texts has one that is wanted; a block
// without the column has none.
func (d *Decoder) someText(col []byte, id, rows int, want func(string) bool) (some bool) {
	if col == nil {
		return false
	}
	d.column(col, id, func() {
		d.nums = d.u.planes(d.nums, rows, uint64(rows))
		n := d.u.uvarint(rows)
		d.names, d.lens = d.u.texts(d.names, d.lens, n)
		some = d.u.err == nil && slices.ContainsFunc(d.names[:n], want)
	})
	return some
}
