package records

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"unicode/utf8"
)

// MaxLine is how many bytes a line of a file has at most.
const MaxLine = 64 << 10

// Why a line is no row of fields.
var (
	errTooLong  = fmt.Errorf("it is longer than %d bytes", MaxLine)
	errQuote    = errors.New("a quote is not closed, or something follows it: write \" within quotes as \"\"")
	errNotText  = errors.New("it is not UTF-8 text")
	errControls = errors.New("it holds control characters")
)

// lines takes a file apart, and remembers what it was by its hash.
type lines struct {
	in     *bufio.Reader
	sum    hash.Hash
	number int
	reject io.Writer // nil: bad lines are not kept
	raw    []byte    // the line as it was, without its end; valid until the next
	fields [][]byte
	quoted []byte // of fields with quotes in them
}

func newLines(r io.Reader, reject io.Writer) *lines {
	sum := sha256.New()
	return &lines{in: bufio.NewReaderSize(io.TeeReader(r, sum), MaxLine), sum: sum, reject: reject}
}

// next reads a line that is not empty; io.EOF ends the file. After errTooLong the
// next line can be read, and the long one has been rejected.
func (l *lines) next() error {
	for {
		raw, err := l.in.ReadSlice('\n')
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if len(raw) == 0 {
			return io.EOF
		}
		if l.number++; l.number == 1 {
			raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			return l.skip(raw)
		}
		if l.raw = bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r")); len(l.raw) > 0 {
			return nil
		}
	}
}

// skip passes over the rest of a line that is too long.
func (l *lines) skip(part []byte) error {
	for {
		if l.reject != nil {
			if _, err := l.reject.Write(part); err != nil {
				return err
			}
		}
		more, err := l.in.ReadSlice('\n')
		part = more
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err == nil, errors.Is(err, io.EOF):
			if l.reject != nil {
				if _, werr := l.reject.Write(append(bytes.TrimSuffix(bytes.Clone(part), []byte("\n")), '\n')); werr != nil {
					return werr
				}
			}
			return errTooLong
		default:
			return err
		}
	}
}

// refuse keeps the present line among the bad ones.
func (l *lines) refuse() error {
	if l.reject == nil {
		return nil
	}
	_, err := l.reject.Write(append(bytes.Clone(l.raw), '\n'))
	return err
}

// split cuts the present line into fields (RFC 4180, but that a field ends with its
// line), without the blanks around them.
func (l *lines) split(comma byte) error {
	l.fields, l.quoted = l.fields[:0], l.quoted[:0]
	if !utf8.Valid(l.raw) {
		return errNotText
	}
	for rest := l.raw; ; {
		rest = trimBlanks(rest)
		var field []byte
		if len(rest) > 0 && rest[0] == '"' {
			var ok bool
			if field, rest, ok = l.unquote(rest[1:], comma); !ok {
				return errQuote
			}
		} else if at := bytes.IndexByte(rest, comma); at >= 0 {
			field, rest = rest[:at], rest[at:]
		} else {
			field, rest = rest, nil
		}
		field = bytes.Trim(field, " \t")
		for _, c := range field {
			if c < ' ' || c == 0x7f {
				return errControls
			}
		}
		l.fields = append(l.fields, field)
		if len(rest) == 0 {
			return nil
		}
		rest = rest[1:] // the comma
	}
}

// unquote reads a field behind its first quote; rest begins with the comma.
func (l *lines) unquote(b []byte, comma byte) (field, rest []byte, ok bool) {
	begin := len(l.quoted)
	for {
		at := bytes.IndexByte(b, '"')
		if at < 0 {
			return nil, nil, false
		}
		l.quoted = append(l.quoted, b[:at]...)
		b = b[at+1:]
		if len(b) > 0 && b[0] == '"' {
			l.quoted, b = append(l.quoted, '"'), b[1:]
			continue
		}
		b = trimBlanks(b)
		if len(b) > 0 && b[0] != comma {
			return nil, nil, false
		}
		return l.quoted[begin:len(l.quoted):len(l.quoted)], b, true
	}
}

// trimBlanks takes spaces off the beginning. Not tabs: they may separate.
func trimBlanks(b []byte) []byte {
	for len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	return b
}
