package records

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// Limits of a field.
const (
	maxText    = 1024 // bytes
	maxService = 32
)

// between separates the parties of one field: no number and no unquoted mail address
// holds one.
const between = ';'

// column is what a file may have, and how it is read and written.
type column struct {
	name   string
	needed bool // the file must have it
	filled bool // each line must say it
	calls  bool // not of mail
	read   func(r *Reader, c *session.Communication, f []byte) error
	write  func(c *session.Communication) string
}

// columns in the order in which a Writer writes them. The names are for ever.
var columns = []column{
	column{name: "start", needed: true, filled: true}.moment(func(c *session.Communication) *int64 { return &c.Start }),
	column{name: "end", needed: true}.moment(func(c *session.Communication) *int64 { return &c.End }),
	{name: "service", read: readService, write: func(c *session.Communication) string { return c.Service }},
	{name: "from", needed: true, read: readSender, write: func(c *session.Communication) string { return c.From }},
	column{name: "to", needed: true, filled: true}.parties(func(c *session.Communication) *[]string { return &c.To }),
	column{name: "forwarded"}.parties(func(c *session.Communication) *[]string { return &c.Forwarded }),
	column{name: "subscriber"}.text(func(c *session.Communication) *string { return &c.Subscriber }),
	column{name: "user"}.text(func(c *session.Communication) *string { return &c.User }),
	column{name: "imei", calls: true}.digits(14, 16, func(c *session.Communication) *string { return &c.Equipment }),
	column{name: "imsi", calls: true}.digits(6, 15, func(c *session.Communication) *string { return &c.SIM }),
	column{name: "cell", calls: true}.text(func(c *session.Communication) *string { return &c.Cell }),
	column{name: "cell_end", calls: true}.text(func(c *session.Communication) *string { return &c.CellEnd }),
	column{name: "place", calls: true}.text(func(c *session.Communication) *string { return &c.Place }),
	column{name: "place_end", calls: true}.text(func(c *session.Communication) *string { return &c.PlaceEnd }),
	{name: "delivered", read: readDelivered, write: func(c *session.Communication) string { return c.Delivered.String() }},
	column{name: "record"}.text(func(c *session.Communication) *string { return &c.Record }),
}

func (k column) moment(of func(*session.Communication) *int64) column {
	k.read = func(_ *Reader, c *session.Communication, f []byte) (err error) {
		*of(c), err = parseTime(f)
		return err
	}
	k.write = func(c *session.Communication) string { return session.FormatTime(*of(c)) }
	return k
}

func (k column) parties(of func(*session.Communication) *[]string) column {
	k.read = func(r *Reader, c *session.Communication, f []byte) (err error) {
		*of(c), err = r.parties(f)
		return err
	}
	k.write = func(c *session.Communication) string { return strings.Join(*of(c), string(between)) }
	return k
}

func (k column) text(of func(*session.Communication) *string) column {
	k.read = func(r *Reader, c *session.Communication, f []byte) error {
		if len(f) > maxText {
			return fmt.Errorf("it is longer than %d bytes", maxText)
		}
		*of(c) = r.text(f)
		return nil
	}
	k.write = func(c *session.Communication) string { return *of(c) }
	return k
}

func (k column) digits(least, most int, of func(*session.Communication) *string) column {
	k.read = func(r *Reader, c *session.Communication, f []byte) (err error) {
		*of(c), err = r.digits(f, least, most)
		return err
	}
	k.write = func(c *session.Communication) string { return *of(c) }
	return k
}

// columnsOf returns the columns that files of a kind may have.
func columnsOf(kind session.CommunicationKind) []column {
	out := make([]column, 0, len(columns))
	for _, c := range columns {
		if kind == session.Call || !c.calls {
			out = append(out, c)
		}
	}
	return out
}

// ColumnNames lists the columns that files of a kind may have, for messages.
func ColumnNames(kind session.CommunicationKind) string {
	var names []string
	for _, c := range columnsOf(kind) {
		names = append(names, c.name)
	}
	return strings.Join(names, ", ")
}

func parseTime(f []byte) (int64, error) {
	if len(f) == 0 {
		return 0, errors.New("it is missing")
	}
	t, err := time.Parse(time.RFC3339, string(f))
	if err != nil {
		return 0, errors.New("it is not a time with its zone; write it as 2025-03-01T12:00:00Z or 2025-03-01T13:00:00+01:00")
	}
	if y := t.UTC().Year(); y < 1971 || y > 2200 {
		return 0, errors.New("its year is not one in which anybody called")
	}
	return t.UnixMilli() * 1e6, nil
}

func readService(r *Reader, c *session.Communication, f []byte) error {
	r.form = r.form[:0]
	for _, b := range f {
		if b >= 'A' && b <= 'Z' {
			b |= 0x20
		} else if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '-' && b != '_' && b != '.' {
			return errors.New("it is not one word of a-z, 0-9, '-', '_' and '.'")
		}
		r.form = append(r.form, b)
	}
	if len(f) > maxService {
		return fmt.Errorf("it is longer than %d bytes", maxService)
	}
	c.Service = r.text(r.form)
	return nil
}

// readSender reads the calling number, or the name that a short message has in its
// place, or the sender of a mail.
func readSender(r *Reader, c *session.Communication, f []byte) (err error) {
	switch {
	case r.o.Kind == session.Call:
		c.From, err = r.o.Numbering.ParseSender(string(f))
	case string(f) != "<>": // a message about a message has no sender (RFC 5321 §4.5.5)
		c.From, err = session.ParseMailAddress(string(f))
	}
	return err
}

func readDelivered(_ *Reader, c *session.Communication, f []byte) error {
	var ok bool
	if c.Delivered, ok = session.ParseReceipt(strings.ToLower(string(f))); !ok {
		return errors.New("it is neither yes nor no")
	}
	return nil
}

// parties reads one or more numbers or addresses.
func (r *Reader) parties(f []byte) ([]string, error) {
	if len(f) == 0 {
		return nil, errors.New("it is missing")
	}
	out := make([]string, 0, 1+bytes.Count(f, []byte{between}))
	for more := true; more; {
		var one []byte
		one, f, more = bytes.Cut(f, []byte{between})
		if one = bytes.Trim(one, " "); len(one) == 0 {
			return nil, errors.New("one of them is empty")
		}
		parse := session.ParseMailAddress
		if r.o.Kind == session.Call {
			parse = r.o.Numbering.ParseNumber
		}
		s, err := parse(string(one))
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	if len(out) > session.MaxReceivers {
		return nil, fmt.Errorf("they are more than %d; write several lines", session.MaxReceivers)
	}
	return out, nil
}

// digits reads the number of a device or of a SIM.
func (r *Reader) digits(f []byte, least, most int) (string, error) {
	r.form = r.form[:0]
	for _, b := range f {
		switch {
		case b >= '0' && b <= '9':
			r.form = append(r.form, b)
		case b != ' ' && b != '-':
			return "", errors.New("it is not a row of digits")
		}
	}
	if n := len(r.form); n < least || n > most {
		return "", fmt.Errorf("it has %d digits, and not %d to %d", n, least, most)
	}
	return r.text(r.form), nil
}
