package block

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// Subscriber is a row of the register: who a subscriber was, from From until just
// before To.
type Subscriber struct {
	ID       string // the provider's id, as the access records have it
	Name     string
	Address  string
	Services string

	From int64 // UTC, nanoseconds since 1970; 0: since the import holds
	To   int64 // UTC, nanoseconds since 1970, not included; session.Forever: until another import says otherwise
}

// Directory says what an import of subscribers holds: it is cut into pages of
// rows sorted by id and From, one block each.
type Directory struct {
	Imported int64    // when it was imported, UTC, nanoseconds since 1970
	From     int64    // from when on it holds, the same; rows without a From begin then
	Partial  bool     // subscribers who are not in it stay as they were; else they ended at From
	Rows     uint64   // of all pages
	File     [32]byte // SHA-256 of the file that was imported
	First    []string // the id of the first row of each page
}

// Columns of a block of a register and of a directory. The numbers are stored
// and never reused.
const (
	colID       = 1 // and the next three: texts
	colValid    = 5 // from and to
	colPages    = 1 // first ids
	colImport   = 2
	importBytes = 1 + 8 + 8 + 8 + 32
)

var registerTexts = [...]func(*Subscriber) *string{
	func(s *Subscriber) *string { return &s.ID }, func(s *Subscriber) *string { return &s.Name },
	func(s *Subscriber) *string { return &s.Address }, func(s *Subscriber) *string { return &s.Services },
}

// CompareSubscribers orders rows of a register by id, then From.
func CompareSubscribers(a, b Subscriber) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.From, b.From))
}

// Register appends a block of rows, which must be in the order of
// CompareSubscribers. The error wraps ErrEmpty or ErrTooBig; dst is then
// returned as it was.
func (e *Encoder) Register(dst []byte, h Header, rows []Subscriber) ([]byte, error) {
	if err := checkRows(len(rows)); err != nil {
		return dst, fmt.Errorf("encode %d subscribers: %w", len(rows), err)
	}
	h.Kind, h.Count, h.MinStart, h.MaxEnd = KindRegister, len(rows), MaxMilli, 0
	for i := range rows {
		r := &rows[i]
		if r.From < 0 || r.From >= farthest || r.To != session.Forever && (r.To < r.From || r.To >= farthest) {
			return dst, fmt.Errorf("encode %d subscribers: %w: a time of row %d is out of range", len(rows), ErrTooBig, i)
		}
		if i > 0 && CompareSubscribers(rows[i-1], *r) > 0 {
			return dst, fmt.Errorf("encode %d subscribers: %w: row %d is out of order", len(rows), ErrTooBig, i)
		}
		for _, text := range registerTexts {
			if n := len(*text(r)); n > MaxText {
				return dst, fmt.Errorf("encode %d subscribers: %w: a text of row %d has %d bytes, at most %d", len(rows), ErrTooBig, i, n, MaxText)
			}
		}
		h.MinStart, h.MaxEnd = min(h.MinStart, milli(r.From)), max(h.MaxEnd, milli(r.To))
	}
	out, err := e.begin(dst, &h, []byte{colID, colID + 1, colID + 2, colID + 3, colValid})
	if err != nil {
		return dst, err
	}
	at := len(out)
	e.p.out = out
	texts := make([]string, len(rows))
	for column, text := range registerTexts {
		for i := range rows {
			texts[i] = *text(&rows[i])
		}
		e.lens = e.p.texts(texts, e.lens)
		at = e.close(len(dst), &h, len(registerTexts)+1, column, at)
	}
	e.nums = grow(e.nums, len(rows))
	for i := range rows {
		e.nums[i] = uint64(rows[i].From)
	}
	e.p.planes(e.nums)
	for i := range rows {
		if e.nums[i] = 0; rows[i].To != session.Forever {
			e.nums[i] = uint64(rows[i].To-rows[i].From) + 1
		}
	}
	e.p.scaled(e.nums)
	e.close(len(dst), &h, len(registerTexts)+1, len(registerTexts), at)
	out, e.p.out = e.p.out, nil
	return out, nil
}

// Directory appends the directory of an import. The error wraps ErrEmpty or
// ErrTooBig; dst is then returned as it was.
func (e *Encoder) Directory(dst []byte, h Header, d *Directory) ([]byte, error) {
	if err := checkRows(len(d.First)); err != nil {
		return dst, fmt.Errorf("encode directory of %d pages: %w", len(d.First), err)
	}
	if d.From < 0 || d.From >= farthest || d.Imported < 0 || d.Imported >= farthest {
		return dst, fmt.Errorf("encode directory: %w: a time is out of range", ErrTooBig)
	}
	for _, id := range d.First {
		if len(id) > MaxText {
			return dst, fmt.Errorf("encode directory: %w: an id has %d bytes, at most %d", ErrTooBig, len(id), MaxText)
		}
	}
	h.Kind, h.Count, h.MinStart, h.MaxEnd = KindDirectory, len(d.First), milli(d.From), milli(max(d.From, d.Imported))
	out, err := e.begin(dst, &h, []byte{colPages, colImport})
	if err != nil {
		return dst, err
	}
	at := len(out)
	e.p.out = out
	e.lens = e.p.texts(d.First, e.lens)
	at = e.close(len(dst), &h, 2, 0, at)
	var partial byte
	if d.Partial {
		partial = 1
	}
	e.p.out = append(e.p.out, partial)
	for _, n := range [...]uint64{uint64(d.Imported), uint64(d.From), d.Rows} {
		e.p.out = binary.BigEndian.AppendUint64(e.p.out, n)
	}
	e.p.out = append(e.p.out, d.File[:]...)
	e.close(len(dst), &h, 2, 1, at)
	out, e.p.out = e.p.out, nil
	return out, nil
}

// Register returns the rows of a block. The error wraps ErrDamaged, ErrNewer or
// ErrKind.
func (d *Decoder) Register(b []byte) ([]Subscriber, error) {
	h, cols, err := readColumns(b, KindRegister)
	if err != nil {
		return nil, err
	}
	d.u.err = nil
	out := make([]Subscriber, h.Count)
	for column, text := range registerTexts {
		d.column(cols[colID+column], colID+column, func() {
			d.names, d.lens = d.u.texts(d.names, d.lens, len(out))
			for i := range out {
				*text(&out[i]) = d.names[i]
			}
		})
	}
	d.column(cols[colValid], colValid, func() {
		d.nums = d.u.planes(d.nums, len(out), farthest-1)
		for i, x := range d.nums {
			out[i].From, out[i].To = int64(x), session.Forever
		}
		d.nums = d.u.scaled(d.nums, len(out), farthest)
		for i, x := range d.nums {
			if x == 0 {
				continue
			}
			if out[i].To = out[i].From + int64(x) - 1; out[i].To >= farthest {
				d.u.fail("time out of range")
				return
			}
		}
	})
	if d.u.err == nil && !slices.IsSortedFunc(out, CompareSubscribers) {
		d.u.fail("rows are out of order")
	}
	if d.u.err != nil {
		return nil, fmt.Errorf("read block of subscribers: %w", d.u.err)
	}
	return out, nil
}

// Directory returns a directory. The error is that of Register.
func (d *Decoder) Directory(b []byte) (*Directory, error) {
	h, cols, err := readColumns(b, KindDirectory)
	if err != nil {
		return nil, err
	}
	d.u.err = nil
	out := new(Directory)
	d.column(cols[colPages], colPages, func() {
		d.names, d.lens = d.u.texts(d.names, d.lens, h.Count)
		out.First = slices.Clone(d.names)
	})
	d.column(cols[colImport], colImport, func() {
		raw := d.u.take(importBytes)
		if d.u.err != nil {
			return
		}
		out.Partial = raw[0] == 1
		imported, from := binary.BigEndian.Uint64(raw[1:]), binary.BigEndian.Uint64(raw[9:])
		if raw[0] > 1 || imported >= farthest || from >= farthest {
			d.u.fail("import out of range")
			return
		}
		out.Imported, out.From, out.Rows = int64(imported), int64(from), binary.BigEndian.Uint64(raw[17:])
		copy(out.File[:], raw[25:])
	})
	if d.u.err == nil && !slices.IsSorted(out.First) {
		d.u.fail("pages are out of order")
	}
	if d.u.err != nil {
		return nil, fmt.Errorf("read directory of subscribers: %w", d.u.err)
	}
	return out, nil
}

// Pages returns the first page and the one behind the last that may hold rows of
// the subscriber id.
func (d *Directory) Pages(id string) (from, to int) {
	to, _ = slices.BinarySearchFunc(d.First, id, func(first, id string) int {
		if first <= id {
			return -1
		}
		return 1
	})
	from = to
	for from > 0 {
		if from--; d.First[from] < id {
			break
		}
	}
	return from, to
}
