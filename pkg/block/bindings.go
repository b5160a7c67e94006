package block

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// Columns of a block of bindings. The numbers are stored and never reused.
const (
	colPrefix     = 1 // addresses, sorted, the rows of each, and the bits of each row
	colPorts      = 2
	colFrom       = 3
	colTo         = 4
	colHow        = 5  // source and certainty
	colTexts      = 10 // this and the next five: the texts in the order of textsOf
	textColumns   = 6
	colIdentity   = 16 // this and the next two are left out where no row has any
	colVia        = 17 // addresses, as texts
	colRule       = 18
	bindColumns   = 5 + textColumns
	noPrefix      = 255     // bits of a binding that has no prefix
	farthest      = 1 << 62 // nanoseconds; no time but Forever lies beyond
	secondsFactor = 1e9
)

// textsOf returns the texts of b in the order of their columns.
func textsOf(b *session.Binding) [textColumns]*string {
	return [...]*string{&b.Subscriber, &b.Line, &b.Equipment, &b.Place, &b.SourceName, &b.SourceKey}
}

// moreTexts are the columns that came later, in the order of their numbers.
var moreTexts = [...]struct {
	column byte
	of     func(*session.Binding) string
	set    func(b *session.Binding, s string) error
}{
	{colIdentity, func(b *session.Binding) string { return b.Identity }, func(b *session.Binding, s string) error { b.Identity = s; return nil }},
	{colVia, viaText, setVia},
	{colRule, func(b *session.Binding) string { return b.Rule }, func(b *session.Binding, s string) error { b.Rule = s; return nil }},
}

func viaText(b *session.Binding) string {
	if !b.Via.IsValid() {
		return ""
	}
	return b.Via.WithZone("").String()
}

func setVia(b *session.Binding, s string) (err error) {
	if s != "" {
		b.Via, err = netip.ParseAddr(s)
	}
	return err
}

// bindingRow is a binding on its way into the block.
type bindingRow struct {
	addr  wide
	bits  uint8
	index int
}

// Bindings is EncodeBindings with the buffers of e.
func (e *Encoder) Bindings(dst []byte, h Header, b []session.Binding) ([]byte, error) {
	if err := checkRows(len(b)); err != nil {
		return dst, fmt.Errorf("encode %d bindings: %w", len(b), err)
	}
	h.Kind, h.Count = KindBindings, len(b)
	rows, err := sortBindings(&h, b)
	if err != nil {
		return dst, fmt.Errorf("encode %d bindings: %w", len(b), err)
	}
	columns := append(make([]byte, 0, bindColumns+len(moreTexts)), colPrefix, colPorts, colFrom, colTo, colHow)
	for i := range textColumns {
		columns = append(columns, byte(colTexts+i))
	}
	for _, m := range moreTexts {
		if slices.ContainsFunc(b, func(x session.Binding) bool { return m.of(&x) != "" }) {
			columns = append(columns, m.column)
		}
	}
	out, err := e.begin(dst, &h, columns)
	if err != nil {
		return dst, err
	}
	at := len(out)
	e.p.out, e.err = out, nil
	unit := unitOf(b)
	for i, write := range [...]func(){
		func() { e.prefixes(rows) },
		func() { e.ports(rows, b) },
		func() { e.froms(rows, b, unit) },
		func() { e.tos(rows, b, unit) },
		func() { e.how(rows, b) },
	} {
		write()
		at = e.close(len(dst), &h, len(columns), i, at)
	}
	for i := range textColumns {
		e.text(rows, b, func(x *session.Binding) string { return *textsOf(x)[i] })
		at = e.close(len(dst), &h, len(columns), 5+i, at)
	}
	for i, column := range columns[bindColumns:] {
		e.text(rows, b, moreTexts[column-colIdentity].of)
		at = e.close(len(dst), &h, len(columns), bindColumns+i, at)
	}
	out, e.p.out = e.p.out, nil
	if e.err != nil {
		return dst, fmt.Errorf("encode %d bindings: %w", len(b), e.err)
	}
	return out, nil
}

func sortBindings(h *Header, b []session.Binding) ([]bindingRow, error) {
	rows := make([]bindingRow, len(b))
	h.MinStart, h.MaxEnd = MaxMilli, -MaxMilli
	for i := range b {
		x := &b[i]
		if x.From <= -farthest || x.From >= farthest || (x.To <= -farthest || x.To >= farthest) && x.To != session.Forever {
			return nil, fmt.Errorf("%w: a time of row %d is out of range", ErrTooBig, i)
		}
		total := max(len(x.Identity), len(x.Rule))
		for _, t := range textsOf(x) {
			total = max(total, len(*t))
		}
		if total > MaxText {
			return nil, fmt.Errorf("%w: a text of row %d has %d bytes, at most %d", ErrTooBig, i, total, MaxText)
		}
		end := MaxMilli
		if x.To != session.Forever {
			end = -milli(-x.To)
		}
		h.MinStart, h.MaxEnd = min(h.MinStart, milli(x.From)), max(h.MaxEnd, end)
		rows[i] = bindingRow{bits: noPrefix, index: i}
		if p := x.Prefix.Masked(); p.IsValid() {
			bits := p.Bits()
			if p.Addr().Is4In6() {
				bits -= 96
			}
			rows[i].addr, rows[i].bits = widen(session.AddrFrom(p.Addr())), uint8(bits)
		}
	}
	slices.SortStableFunc(rows, func(x, y bindingRow) int {
		return cmp.Or(x.addr.compare(y.addr), cmp.Compare(x.bits, y.bits),
			cmp.Compare(b[x.index].FirstPort, b[y.index].FirstPort), cmp.Compare(b[x.index].From, b[y.index].From))
	})
	return rows, nil
}

// unitOf returns the coarsest of second, millisecond and nanosecond in which
// all times are whole: most sources know only seconds.
func unitOf(b []session.Binding) int64 {
	unit := int64(secondsFactor)
	for i := range b {
		for _, t := range [...]int64{b[i].From, b[i].To} {
			for t != session.Forever && t%unit != 0 {
				if unit = unit / 1e3; unit == 1e6 { // next: milliseconds
					continue
				}
				unit = 1
			}
		}
	}
	return unit
}

func (e *Encoder) prefixes(rows []bindingRow) {
	e.wides, e.nums = e.wides[:0], e.nums[:0]
	for i, r := range rows {
		if i == 0 || r.addr != rows[i-1].addr {
			e.wides, e.nums = append(e.wides, r.addr), append(e.nums, 0)
		}
		e.nums[len(e.nums)-1]++
	}
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(e.wides)))
	e.lens = e.p.addrs(e.wides, e.lens)
	e.p.planes(e.nums)
	e.each(rows, func(r bindingRow) uint64 { return uint64(r.bits) })
}

// each writes one number for each row as planes.
func (e *Encoder) each(rows []bindingRow, number func(bindingRow) uint64) {
	e.nums = grow(e.nums, len(rows))
	for i, r := range rows {
		e.nums[i] = number(r)
	}
	e.p.planes(e.nums)
}

func (e *Encoder) ports(rows []bindingRow, b []session.Binding) {
	e.each(rows, func(r bindingRow) uint64 { return uint64(b[r.index].FirstPort) })
	e.each(rows, func(r bindingRow) uint64 { return uint64(b[r.index].LastPort) })
}

// froms writes the unit of both time columns, the earliest From in it, and how
// much later the others are.
func (e *Encoder) froms(rows []bindingRow, b []session.Binding, unit int64) {
	first := b[0].From
	for i := range b {
		first = min(first, b[i].From)
	}
	e.p.out = binary.AppendUvarint(e.p.out, uint64(unit))
	e.p.out = binary.BigEndian.AppendUint64(e.p.out, uint64(first))
	e.each(rows, func(r bindingRow) uint64 { return uint64((b[r.index].From - first) / unit) })
}

// tos writes 0 for Forever, or else one more than the zigzag form of To less
// From in the unit.
func (e *Encoder) tos(rows []bindingRow, b []session.Binding, unit int64) {
	e.nums = grow(e.nums, len(rows))
	for i, r := range rows {
		x := &b[r.index]
		if e.nums[i] = 0; x.To != session.Forever {
			d := (x.To - x.From) / unit
			e.nums[i] = uint64(d<<1) ^ uint64(d>>63) + 1
		}
	}
	e.p.scaled(e.nums)
}

func (e *Encoder) how(rows []bindingRow, b []session.Binding) {
	e.each(rows, func(r bindingRow) uint64 { return uint64(b[r.index].Source) })
	e.each(rows, func(r bindingRow) uint64 { return uint64(b[r.index].Certainty) })
}

// text writes a code for each row - 0 for a text that comes here for the first
// time, or else one more than its place in the list - and the list.
func (e *Encoder) text(rows []bindingRow, b []session.Binding, of func(*session.Binding) string) {
	e.names.reset()
	e.each(rows, func(r bindingRow) uint64 {
		known := len(e.names.values)
		n := int(e.names.number(of(&b[r.index])))
		if n == known {
			return 0
		}
		return uint64(n) + 1
	})
	e.err = cmp.Or(e.err, checkTexts(e.names.values))
	e.p.out = binary.AppendUvarint(e.p.out, uint64(len(e.names.values)))
	e.lens = e.p.texts(e.names.values, e.lens)
}

// DecodeBindings returns what EncodeBindings was given, sorted by address,
// prefixes masked. The error wraps ErrDamaged, ErrNewer or ErrKind.
func DecodeBindings(b []byte) (Header, []session.Binding, error) {
	d := decoders.Get().(*Decoder)
	defer decoders.Put(d)
	return d.Bindings(nil, b)
}

// Bindings appends the bindings of a block to dst.
func (d *Decoder) Bindings(dst []session.Binding, b []byte) (Header, []session.Binding, error) {
	h, cols, err := readColumns(b, KindBindings)
	if err != nil {
		return Header{}, dst, err
	}
	d.u.err = nil
	d.chosen = grow(d.chosen, h.Count)
	for i := range d.chosen {
		d.chosen[i] = uint32(i)
	}
	if dst, err = d.bindings(dst, &cols, h.Count); err != nil {
		return Header{}, dst, err
	}
	return h, dst, nil
}

// bindings appends the chosen rows to dst.
func (d *Decoder) bindings(dst []session.Binding, cols *[256][]byte, rows int) ([]session.Binding, error) {
	all := slices.Grow(dst, len(d.chosen))[:len(dst)+len(d.chosen)]
	out := all[len(dst):]
	clear(out)
	unit := int64(1)
	d.column(cols[colPrefix], colPrefix, func() { d.prefixes(out, rows) })
	d.column(cols[colPorts], colPorts, func() { d.ports(out, rows) })
	d.column(cols[colHow], colHow, func() { d.how(out, rows) })
	d.column(cols[colFrom], colFrom, func() { unit = d.froms(out, rows) })
	d.column(cols[colTo], colTo, func() { d.tos(out, rows, unit) })
	for i := range textColumns {
		d.column(cols[colTexts+i], colTexts+i, func() {
			d.text(out, rows, func(b *session.Binding, s string) error { *textsOf(b)[i] = s; return nil })
		})
	}
	for _, m := range moreTexts {
		if col := cols[m.column]; col != nil {
			d.column(col, int(m.column), func() { d.text(out, rows, m.set) })
		}
	}
	if d.u.err != nil {
		return dst, fmt.Errorf("read block of bindings: %w", d.u.err)
	}
	return all, nil
}

func (d *Decoder) column(col []byte, id int, read func()) {
	what := fmt.Sprintf("number %d", id)
	d.u.begin(col, what)
	read()
	d.u.end(what)
}

func (d *Decoder) prefixes(out []session.Binding, rows int) {
	n := d.u.uvarint(rows)
	d.wides, d.nums = d.u.addrs(d.wides, d.nums, n)
	d.nums = d.u.planes(d.nums, n, uint64(rows))
	d.lens = d.u.planes(d.lens, rows, noPrefix)
	if d.u.err != nil {
		return
	}
	row, at := 0, 0 // at: of the chosen
	for i, count := range d.nums {
		if count > uint64(rows-row) {
			d.u.fail("too many rows of addresses")
			return
		}
		end := row + int(count)
		for a := d.wides[i].addr(); at < len(out) && int(d.chosen[at]) < end; at++ {
			bits := int(d.lens[d.chosen[at]])
			if bits == noPrefix {
				continue
			}
			p, err := a.Netip().Prefix(bits)
			if err != nil {
				d.u.fail("prefix of %d bits", bits)
				return
			}
			out[at].Prefix = p
		}
		row = end
	}
	if row != rows {
		d.u.fail("%d rows of addresses instead of %d", row, rows)
	}
}

func (d *Decoder) ports(out []session.Binding, rows int) {
	d.nums = d.u.planes(d.nums, rows, 0xffff)
	d.lens = d.u.planes(d.lens, rows, 0xffff)
	for i := range out {
		out[i].FirstPort, out[i].LastPort = uint16(d.nums[d.chosen[i]]), uint16(d.lens[d.chosen[i]])
	}
}

func (d *Decoder) froms(out []session.Binding, rows int) int64 {
	unit := int64(d.u.uvarint(secondsFactor))
	raw := d.u.take(8)
	if d.u.err != nil {
		return 1
	}
	first := int64(binary.BigEndian.Uint64(raw))
	if first <= -farthest || first >= farthest || unit != 1 && unit != 1e6 && unit != secondsFactor {
		d.u.fail("time out of range")
		return 1
	}
	d.nums = d.u.planes(d.nums, rows, uint64(farthest*2-1)/uint64(unit))
	if d.u.err != nil {
		return 1
	}
	for i := range out {
		out[i].From = first + int64(d.nums[d.chosen[i]])*unit // below 2^62 + 2^63: wraps to a negative time, caught here
		if out[i].From < first || out[i].From >= farthest {
			d.u.fail("time out of range")
			return 1
		}
	}
	return unit
}

func (d *Decoder) tos(out []session.Binding, rows int, unit int64) {
	d.nums = d.u.scaled(d.nums, rows, 1<<64-1)
	if d.u.err != nil {
		return
	}
	for i := range out {
		x := d.nums[d.chosen[i]]
		if x == 0 {
			out[i].To = session.Forever
			continue
		}
		x--
		diff := int64(x>>1) ^ -int64(x&1)
		if diff > (farthest-1-out[i].From)/unit || diff < (1-farthest-out[i].From)/unit {
			d.u.fail("time out of range")
			return
		}
		out[i].To = out[i].From + diff*unit
	}
}

func (d *Decoder) how(out []session.Binding, rows int) {
	d.nums = d.u.planes(d.nums, rows, 0xff)
	d.lens = d.u.planes(d.lens, rows, 0xff)
	for i := range out {
		out[i].Source, out[i].Certainty = session.Source(d.nums[d.chosen[i]]), session.Certainty(d.lens[d.chosen[i]])
	}
}

// codes reads a column of texts: into d.names the texts, into d.nums which of
// them each row has.
func (d *Decoder) codes(rows int) {
	d.nums = d.u.planes(d.nums, rows, uint64(rows))
	n := d.u.uvarint(rows)
	d.names, d.lens = d.u.texts(d.names, d.lens, n)
	next := uint64(0)
	for i, c := range d.nums {
		if c == 0 {
			next++
			c = next
		}
		if c > next || next > uint64(n) {
			d.u.fail("text %d of %d", c, n)
			return
		}
		d.nums[i] = c - 1
	}
	if next != uint64(n) {
		d.u.fail("texts that no row has")
	}
}

func (d *Decoder) text(out []session.Binding, rows int, set func(*session.Binding, string) error) {
	d.codes(rows)
	if d.u.err != nil {
		return
	}
	for i := range out {
		if c := d.nums[d.chosen[i]]; set(&out[i], d.names[c]) != nil {
			d.u.fail("text %d is not an address", c)
			return
		}
	}
}
