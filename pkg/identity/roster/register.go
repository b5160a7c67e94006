package roster

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/edgelog/edgelog/pkg/session"
)

// ErrRegister is wrapped by every error about a file of subscribers.
var ErrRegister = errors.New("register of subscribers")

// Subscriber is a row of the register: who a subscriber was, from From until just
// before To.
type Subscriber struct {
	ID       string // the provider's id, as the access records have it
	Name     string
	Address  string
	Services string

	From int64 // UTC, nanoseconds since 1970; 0: since the import holds
	To   int64 // UTC, nanoseconds since 1970; session.Forever: until another import says otherwise

	line int // of the file
}

// maxSubscribers of one file, and maxName bytes of a field of it.
const (
	maxSubscribers = 16 << 20
	maxName        = 1024
)

var registerColumns = map[string]func(s *Subscriber, field string) error{
	"id":       func(s *Subscriber, f string) error { s.ID = f; return nil },
	"name":     func(s *Subscriber, f string) error { s.Name = f; return nil },
	"address":  func(s *Subscriber, f string) error { s.Address = f; return nil },
	"services": func(s *Subscriber, f string) error { s.Services = f; return nil },
	"valid_from": func(s *Subscriber, f string) error {
		t, err := parseTime(f)
		if err == nil && !t.IsZero() {
			s.From = t.UnixNano()
		}
		return err
	},
	"valid_to": func(s *Subscriber, f string) error {
		t, err := parseTime(f)
		if err == nil && !t.IsZero() {
			s.To = t.UnixNano()
		}
		return err
	},
}

const registerColumnNames = "id, name, address, services, valid_from, valid_to"

// ParseRegister reads a file of subscribers: CSV with a header, columns in any
// order, separated by comma or semicolon. It returns the rows by id and From. The
// error wraps ErrRegister, names line and column, and repeats nothing of the file;
// then there are no rows.
func ParseRegister(r io.Reader) ([]Subscriber, error) {
	c := reader(bufio.NewReaderSize(r, 1<<16))
	names, err := c.Read()
	if err != nil {
		return nil, registerError(err)
	}
	if err := checkColumns(names); err != nil {
		return nil, err
	}
	var rows []Subscriber
	for {
		fields, err := c.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, registerError(err)
		}
		if len(rows) == maxSubscribers {
			return nil, fmt.Errorf("%w: more than %d rows; import it in parts, with --partial", ErrRegister, maxSubscribers)
		}
		s := Subscriber{To: session.Forever}
		for i, f := range fields {
			line, column := c.FieldPos(i)
			f = strings.TrimSpace(f)
			if err = registerColumns[names[i]](&s, f); err == nil && len(f) > maxName {
				err = fmt.Errorf("it is longer than %d bytes", maxName)
			}
			if err != nil {
				return nil, fmt.Errorf("%w: line %d, column %d (%s): %w", ErrRegister, line, column, names[i], err)
			}
			s.line = line
		}
		switch {
		case s.ID == "":
			return nil, fmt.Errorf("%w: line %d: the id is missing", ErrRegister, s.line)
		case s.From >= s.To:
			return nil, fmt.Errorf("%w: line %d: it ends before it begins", ErrRegister, s.line)
		}
		rows = append(rows, s)
	}
	if err := order(rows); err != nil {
		return nil, err
	}
	return rows, nil
}

// order sorts rows, and refuses two of one id at one time.
func order(rows []Subscriber) error {
	slices.SortStableFunc(rows, func(a, b Subscriber) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.From, b.From)) })
	for i := 1; i < len(rows); i++ {
		if a, b := &rows[i-1], &rows[i]; a.ID == b.ID && b.From < a.To {
			return fmt.Errorf("%w: lines %d and %d are about one id at the same time; end the one where the other begins, or leave one out",
				ErrRegister, min(a.line, b.line), max(a.line, b.line))
		}
	}
	return nil
}

func registerError(err error) error {
	var p *csv.ParseError
	switch {
	case errors.As(err, &p):
		return fmt.Errorf("%w: line %d, column %d: %w", ErrRegister, p.Line, p.Column, p.Err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it is empty; the first line names the columns: %s", ErrRegister, registerColumnNames)
	}
	return fmt.Errorf("%w: %w", ErrRegister, err)
}

func checkColumns(names []string) error {
	for i := range names {
		names[i] = strings.ToLower(strings.TrimSpace(names[i]))
		if registerColumns[names[i]] == nil {
			return fmt.Errorf("%w: line 1: column %d has no name that is known; use %s", ErrRegister, i+1, registerColumnNames)
		}
		if slices.Contains(names[:i], names[i]) {
			return fmt.Errorf("%w: line 1: column %q is there twice", ErrRegister, names[i])
		}
	}
	for _, need := range []string{"id", "name"} {
		if !slices.Contains(names, need) {
			return fmt.Errorf("%w: line 1: column %q is missing", ErrRegister, need)
		}
	}
	return nil
}
