package radius

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	codec "layeh.com/radius"
)

// ErrNotDetail is returned for a file that another program wrote.
var ErrNotDetail = errors.New("not a detail file of FreeRADIUS")

// Bounds of a detail file.
const (
	maxDetailLine = 1 << 16 // bytes
	maxDetailPart = 4096    // attributes of an entry: no packet carries more
	maxForeign    = 3       // entries that cannot be read at the begin of a file, after which it is another program's
)

// detail reads the files that the detail module of FreeRADIUS writes: a line
// with the date, or whatever its header = says, then lines of a tab, a name, "="
// and a value, then an empty line.
type detail struct {
	in    *bufio.Reader
	line  int      // of the last one read, from 1
	ahead []byte   // a line that belongs to the next entry
	known bool     // an entry was surely FreeRADIUS's
	held  []*entry // those before it, and it
}

// entry is one packet as a detail file has it.
type entry struct {
	line  int // of its beginning
	attrs codec.Attributes
	at    time.Time  // when FreeRADIUS received it; zero: it does not say
	from  netip.Addr // who sent it; not valid: it does not say
	other bool       // it is no accounting request
	sure  bool       // FreeRADIUS wrote it
	err   error      // why it cannot be read
}

func newDetail(r io.Reader) *detail { return &detail{in: bufio.NewReaderSize(r, maxDetailLine)} }

// next returns an entry, io.EOF after the last one, ErrNotDetail, or an error of
// reading.
func (d *detail) next() (*entry, error) {
	if d.line == 0 {
		if b, _ := d.in.Peek(2); bytes.Equal(b, []byte{0x1f, 0x8b}) { // what cannot be read is seen below
			return nil, fmt.Errorf("%w: it is compressed; unpack it first", ErrNotDetail)
		}
	}
	for !d.known {
		e, err := d.entry()
		switch {
		case errors.Is(err, io.EOF) && len(d.held) > 0:
			return nil, ErrNotDetail
		case err != nil:
			return nil, err
		}
		d.held = append(d.held, e)
		if d.known = e.sure; !d.known && len(d.held) > maxForeign {
			return nil, ErrNotDetail
		}
	}
	if len(d.held) > 0 {
		e := d.held[0]
		d.held = d.held[1:]
		return e, nil
	}
	return d.entry()
}

var (
	errUnfinished = errors.New("it has no Timestamp: it was not written to its end")
	errNoBegin    = errors.New("its beginning is missing")
	errStranger   = errors.New("it is neither a date nor a line of \"Name = value\"")
	errLong       = errors.New("a line is longer than 64 KiB")
)

// read returns the next line without its end; long says that it was cut.
func (d *detail) read() (line []byte, long bool, err error) {
	if d.ahead != nil {
		line, d.ahead = d.ahead, nil
		return line, false, nil
	}
	line, err = d.in.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		long = true
		line, err = d.in.ReadSlice('\n')
	}
	if len(line) > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil {
		return nil, long, err
	}
	d.line++
	return bytes.TrimRight(line, "\r\n"), long, nil
}

// entry reads the lines of one.
func (d *detail) entry() (*entry, error) {
	e, build := &entry{}, &attributes{}
	header, n := false, 0
	fault := func(err error) {
		if e.err == nil {
			e.err = fmt.Errorf("line %d: %w", d.line, err)
		}
	}
	for {
		line, long, err := d.read()
		if err != nil && (!errors.Is(err, io.EOF) || !header && n == 0) {
			return nil, err
		}
		indented := len(line) > 0 && (line[0] == '\t' || line[0] == ' ')
		switch {
		case err != nil, len(bytes.TrimSpace(line)) == 0 && (header || n > 0):
			d.finish(e, build, header, n)
			return e, nil
		case len(bytes.TrimSpace(line)) == 0:
		case long:
			e.line = max(e.line, 1)
			n++
			fault(errLong)
		case !indented && (header || n > 0):
			d.ahead = bytes.Clone(line)
			d.finish(e, build, header, n)
			return e, nil
		case !indented:
			header, e.line = true, d.line
			switch {
			case bytes.Contains(line, []byte(" = ")): // what is left of an attribute
				fault(errNoBegin)
			case !d.known && bytes.IndexByte(line, 0) >= 0:
				fault(errStranger)
			}
		default:
			if n++; n == 1 && !header {
				e.line = d.line
			}
			if n > maxDetailPart {
				fault(errors.New("it has more attributes than a packet"))
				continue
			}
			if err := build.add(e, string(bytes.TrimSpace(line))); err != nil {
				fault(err)
			}
		}
	}
}

// finish completes an entry.
func (d *detail) finish(e *entry, build *attributes, header bool, n int) {
	e.attrs = build.done()
	if _, ok := e.attrs.Lookup(44); !ok && build.unique != "" {
		e.attrs = append(e.attrs, &codec.AVP{Type: 44, Attribute: []byte(build.unique)})
	}
	_, accounting := e.attrs.Lookup(40)
	e.sure = accounting || !e.at.IsZero()
	e.other = e.other || !accounting && !e.at.IsZero()
	switch {
	case e.err != nil:
	case !header:
		e.err = fmt.Errorf("line %d: %w", e.line, errNoBegin)
	case n == 0:
		e.err = fmt.Errorf("line %d: %w", e.line, errStranger)
	case e.at.IsZero():
		e.err = fmt.Errorf("line %d: %w", e.line, errUnfinished)
	}
}

// splitPair cuts `Name = value`. The operators are those of FreeRADIUS.
func splitPair(s string) (name, value string, ok bool) {
	name, rest, ok := strings.Cut(s, " ")
	if !ok || name == "" || strings.ContainsFunc(name, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && !strings.ContainsRune("-._:/", c)
	}) {
		return "", "", false
	}
	rest = strings.TrimLeft(rest, " ")
	for _, op := range [...]string{"= ", ":= ", "+= ", "== "} {
		if v, found := strings.CutPrefix(rest, op); found {
			return name, strings.TrimSpace(v), true
		}
	}
	if rest == "=" || rest == ":=" || rest == "+=" {
		return name, "", true
	}
	return "", "", false
}

// unquote takes a value out of its quotes and undoes the escapes of FreeRADIUS:
// \\ \" \n \r \t and three octal digits. A value without quotes stays.
func unquote(s string) (string, error) {
	if len(s) == 0 || s[0] != '"' && s[0] != '\'' {
		return s, nil
	}
	q := s[0]
	var out strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == q:
			if i != len(s)-1 {
				return "", errors.New("something follows a quoted value")
			}
			return out.String(), nil
		case c != '\\':
			out.WriteByte(c)
		case i+1 == len(s):
			return "", errors.New("a quoted value has no end")
		case i+3 < len(s) && isOctal(s[i+1:i+4]):
			n, _ := strconv.ParseUint(s[i+1:i+4], 8, 8) // three digits, the first at most 3
			out.WriteByte(byte(n))
			i += 3
		default:
			i++
			if at := strings.IndexByte("nrt", s[i]); at >= 0 {
				out.WriteByte("\n\r\t"[at])
			} else {
				out.WriteByte(s[i])
			}
		}
	}
	return "", errors.New("a quoted value has no end")
}

func isOctal(s string) bool {
	return s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' && s[2] <= '7'
}
