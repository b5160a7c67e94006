package records

import (
	"bufio"
	"io"
	"strings"

	"github.com/edgelog/edgelog/pkg/session"
)

// Writer writes communications as a file that a Reader of the same kind reads as they
// are, with every column and all forms unique: the same communications always give the same bytes.
type Writer struct {
	out     *bufio.Writer
	columns []column
}

// NewWriter writes the line with the names of the columns. Errors are those of w, and
// come at the latest with Flush.
func NewWriter(w io.Writer, kind session.CommunicationKind) *Writer {
	x := &Writer{out: bufio.NewWriterSize(w, 1<<16), columns: columnsOf(kind)}
	for i := range x.columns {
		_ = x.field(i, x.columns[i].name) // Flush tells
	}
	return x
}

// Write writes one line.
func (w *Writer) Write(c *session.Communication) (err error) {
	for i := range w.columns {
		err = w.field(i, w.columns[i].write(c))
	}
	return err
}

// Flush writes out what is in memory.
func (w *Writer) Flush() error { return w.out.Flush() }

// field writes one field, and what ends it. An error stays: the last one tells.
func (w *Writer) field(i int, s string) error {
	if strings.ContainsAny(s, "\",") || s != strings.Trim(s, " \t") {
		s = `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
	}
	_, _ = w.out.WriteString(s)
	end := byte(',')
	if i == len(w.columns)-1 {
		end = '\n'
	}
	return w.out.WriteByte(end)
}
