package records

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// ErrFile is wrapped by every error about a file as a whole: then nothing of it can
// be read.
var ErrFile = errors.New("file of records")

// Options say how a file is read.
type Options struct {
	Kind      session.CommunicationKind // what its lines are
	Numbering session.Numbering         // how numbers are meant that are not international

	// Now is the time of reading: what is said to have ended more than a minute
	// later is refused, since it would be kept too long. Required.
	Now time.Time

	// Reject takes the bad lines as they were, behind the line with the names of the
	// columns; nil: they are not kept.
	Reject io.Writer
}

// LineError is what is wrong with one line. It repeats nothing of it.
type LineError struct {
	Line   int    // of the file, from 1
	Column string // "" where it is the line as a whole
	Why    error
}

func (e *LineError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("line %d: %v", e.Line, e.Why)
	}
	return fmt.Sprintf("line %d, %s: %v", e.Line, e.Column, e.Why)
}

// Unwrap returns why.
func (e *LineError) Unwrap() error { return e.Why }

// Reader reads a file line by line. Its memory does not grow with the file.
type Reader struct {
	o       Options
	lines   *lines
	comma   byte
	columns []*column // of the file, in its order
	names   []string
	form    []byte            // of the field that is being read
	known   map[string]string // texts that come again and again
	last    int64             // what ends later than this is refused, UTC ns
}

// NewReader reads the line with the names of the columns. The error wraps ErrFile, or
// is that of r.
func NewReader(r io.Reader, o Options) (*Reader, error) {
	x := &Reader{o: o, lines: newLines(r, o.Reject), known: map[string]string{}, last: o.Now.Add(session.NearBy).UnixNano()}
	if o.Kind != session.Call && o.Kind != session.Mail {
		return nil, fmt.Errorf("%w: it is not known of what", ErrFile)
	}
	switch err := x.lines.next(); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: it is empty; the first line names the columns: %s", ErrFile, ColumnNames(o.Kind))
	case errors.Is(err, errTooLong):
		return nil, fmt.Errorf("%w: line 1: %w", ErrFile, err)
	case err != nil:
		return nil, err
	}
	x.comma = separator(x.lines.raw)
	if err := x.lines.split(x.comma); err != nil {
		return nil, fmt.Errorf("%w: line 1: %w", ErrFile, err)
	}
	if err := x.header(); err != nil {
		return nil, err
	}
	return x, x.lines.refuse() // the names of the columns stand above what is bad
}

// separator returns what the first line has most of.
func separator(head []byte) byte {
	return slices.MaxFunc([]byte{',', ';', '\t'}, func(a, b byte) int {
		return cmp.Compare(bytes.Count(head, []byte{a}), bytes.Count(head, []byte{b}))
	})
}

// header finds out which column is which.
func (r *Reader) header() error {
	all := columnsOf(r.o.Kind)
	for i, f := range r.lines.fields {
		name := strings.ToLower(string(f))
		at := slices.IndexFunc(all, func(c column) bool { return c.name == name })
		switch {
		case at < 0:
			return fmt.Errorf("%w: line 1: column %d has no name that is known; use %s", ErrFile, i+1, ColumnNames(r.o.Kind))
		case slices.Contains(r.names, name):
			return fmt.Errorf("%w: line 1: column %q is there twice", ErrFile, name)
		}
		r.columns, r.names = append(r.columns, &all[at]), append(r.names, name)
	}
	for i := range all {
		if all[i].needed && !slices.Contains(r.names, all[i].name) {
			return fmt.Errorf("%w: line 1: column %q is missing", ErrFile, all[i].name)
		}
	}
	return nil
}

// Next reads the next line into c, which keeps nothing of before. The error is io.EOF at the
// end; a *LineError for a bad line, behind which Next goes on; or that of the file, or of
// Options.Reject.
func (r *Reader) Next(c *session.Communication) error {
	*c = session.Communication{Kind: r.o.Kind}
	switch err := r.lines.next(); {
	case errors.Is(err, errTooLong):
		return &LineError{Line: r.lines.number, Why: err} // it has been rejected
	case err != nil:
		return err
	}
	bad := r.row(c)
	if bad == nil {
		return nil
	}
	bad.Line = r.lines.number
	if err := r.lines.refuse(); err != nil {
		return err
	}
	return bad
}

func (r *Reader) row(c *session.Communication) *LineError {
	if err := r.lines.split(r.comma); err != nil {
		return &LineError{Why: err}
	}
	if n, want := len(r.lines.fields), len(r.columns); n != want {
		return &LineError{Why: fmt.Errorf("it has %d fields, and the first line names %d", n, want)}
	}
	for i, f := range r.lines.fields {
		if len(f) == 0 && !r.columns[i].filled {
			continue
		}
		if err := r.columns[i].read(r, c, f); err != nil {
			return &LineError{Column: r.names[i], Why: err}
		}
	}
	if c.End == 0 {
		c.End = c.Start
	}
	switch {
	case c.End < c.Start:
		return &LineError{Why: errors.New("it ends before it begins")}
	case c.End > r.last:
		return &LineError{Why: errors.New("it ends in the future; is its zone right, and the clock of this machine?")}
	}
	return nil
}

// Line returns how many lines have been read.
func (r *Reader) Line() int { return r.lines.number }

// Sum returns the SHA-256 of the file, once Next has returned io.EOF.
func (r *Reader) Sum() (sum [32]byte) {
	r.lines.sum.Sum(sum[:0])
	return sum
}

// mostKnown bounds the texts that are remembered.
const mostKnown = 1 << 14

// text returns f as a string, the same one for the same bytes.
func (r *Reader) text(f []byte) string {
	if s, ok := r.known[string(f)]; ok {
		return s
	}
	if len(r.known) >= mostKnown {
		clear(r.known)
	}
	s := string(f)
	r.known[s] = s
	return s
}
